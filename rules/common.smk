# What several rules share. Paths are patterns of georecon.paths with this edition filled in; values that depend on
# wildcards are named where they are used: settings=of(experiments.runs.finetune_settings).
from functools import partial

from georecon import paths
from georecon.jobs.job_limits import JobLimits
from georecon.jobs.rule_values import FIRST_RUN, READING, SIMULATION, RuleValues, of
from georecon.records.code import code_digest
from georecon.reporting.figures.inputs import figure_names, figure_spec, notebook_digest
from georecon.reporting.expected import load_expected
from georecon.reporting.published_rows import check_published, published_json
from georecon.reporting.summary import banner
from georecon.reporting.web.plan import site_plan

EDITION = experiments.place  # of a cell that is made again: a folder of its own
ENVIRONMENT = "../envs/georecon.yaml"
NOTEBOOKS = ROOT / "reports" / "notebooks"
FIGURES = figure_names(experiments, NOTEBOOKS)
TABLES = experiments.tables.names()
EXPECTED = load_expected(ROOT / "reports" / "expected")
PUBLISHED = ROOT / "reports" / "published"

values = RuleValues(experiments)
limits = JobLimits(SITE, experiments.config.gpus)


def here(pattern):
    """Pattern of georecon.paths with this edition filled in and the other wildcards kept."""
    return pattern.replace("{edition}", EDITION)


RESULTS = here(paths.RESULTS)
PRETRAIN = here(paths.PRETRAIN)  # .../pretrain/{method}/seed{seed}
ENCODER = here(paths.ENCODER)  # .../encoders/{method}
FINETUNE = here(paths.FINETUNE)  # .../finetune/{part}/{target}/{method}/seed{seed}
SMOOTHNESS = here(paths.SMOOTHNESS)  # .../smoothness/{method}/seed{seed}
NVE = here(paths.NVE)  # .../nve/{part}/{target}/{method}/seed{seed}
TABLE = here(paths.TABLE)  # .../tables/{table}
FIGURE = here(paths.FIGURE)  # .../figures/{figure}
NOTEBOOK = here(paths.NOTEBOOK)  # .../notebooks/{figure}
REPORT = here(paths.REPORT)
RECORDS = here(paths.RESULT_RECORDS)
BENCHMARKS = here(paths.BENCHMARKS)
LOGS = f"logs/{EDITION}"


def figure_inputs(figure):
    """Files that a figure's notebook reads."""
    return figure_spec(experiments, figure).files()


def shown(path, category, caption, **options):
    """An output that Snakemake's report shows, with the text of reports/captions/<caption>.rst."""
    return report(
        path, category=category, caption=f"../reports/captions/{caption}.rst", **options
    )
