# Helpers of all rules: paths, inputs and settings as functions of wildcards. No path is typed twice.
import os

from georecon import paths
from georecon.data.raw.lock import download_mb, identity
from georecon.reporting.figures.inputs import (
    figure_files,
    figure_names,
    figure_spec,
    notebook_digest,
)
from georecon.records.code import code_digest
from georecon.reporting.expected import load_expected
from georecon.reporting.summary import banner
from georecon.experiments.cells import cell_files
from georecon.reporting.web.plan import site_plan

EDITION = experiments.place  # of a cell that is made again: a folder of its own
ENVIRONMENT = "../envs/georecon.yaml"
MANIFEST = "manifest.json"
GPU = experiments.config["gpus"]
NOTEBOOKS = ROOT / "reports" / "notebooks"
FIGURES = figure_names(NOTEBOOKS)


def here(pattern):
    """Pattern of georecon.paths with this edition filled in and the other wildcards kept."""
    return pattern.replace("{edition}", EDITION)


def manifest(store):
    """The file that stands for a store in the DAG: small, so judged by its content."""
    return f"{store}/{MANIFEST}"


def record(stage, name):
    """Record of a job whose outputs share a folder with those of others."""
    return f"{paths.RECORD.format(stage=stage)}/{name}.json"


def result_record(stage, name):
    """The same, for jobs of one edition."""
    return f"{here(paths.RESULT_RECORD).format(stage=stage)}/{name}.json"


def raw_file(dataset, name):
    return f"{paths.RAW}/{dataset}/{name}"


def raw_files(wildcards):
    target = wildcards.get("target")
    return [
        raw_file(wildcards.dataset, name)
        for name in experiments.raw_names(wildcards.dataset, target)
    ]


def raw_identity(wildcards):
    """Which file a fetch job brings, not from where: a new address fetches nothing again."""
    return identity(experiments.card_file(wildcards.dataset, wildcards.file))


def raw_megabytes(wildcards):
    return download_mb(experiments.card_file(wildcards.dataset, wildcards.file))


def raw_download(wildcards):
    """Size and source of a raw file; a resource, because a dry run shows those."""
    return experiments.download_words(wildcards.dataset, wildcards.file)


def reading_card(wildcards):
    return experiments.reading_card(wildcards.dataset)


def reader_threads(wildcards):
    """Two where an SDF file is read, one process to decompress and one to parse; else one."""
    sources = experiments.reading_card(wildcards.dataset)["sources"].values()
    return 2 if any(source["reader"] == "sdf" for source in sources) else 1


def split_plan(wildcards):
    return experiments.split_plan(wildcards.dataset, wildcards.split)


def split_store(wildcards):
    return manifest(split_plan(wildcards)["store"])


def split_inputs(wildcards):
    """Lists of rows, and the test sets that pre-training must not see."""
    plan = split_plan(wildcards)
    lists = {file["name"] for file in plan.get("indices", {}).values()}
    tests = plan.get("tests", [])
    stores = dict.fromkeys(manifest(entry["store"]) for entry in tests)
    splits = [entry["split"] for entry in tests]
    return [raw_file(wildcards.dataset, name) for name in lists] + [*stores, *splits]


def raw_folder(wildcards):
    return f"{paths.RAW}/{wildcards.dataset}"


def store_manifest(wildcards):
    return manifest(experiments.store(wildcards.dataset, wildcards.target))


def pretrain_store(wildcards):
    return manifest(experiments.pretrain_store())


def pretrain_split(wildcards):
    return experiments.pretrain_split()


def finetune_split(wildcards):
    return experiments.split(wildcards.dataset, wildcards.target)


def encoder_input(wildcards):
    """Encoder that a method starts from; none for scratch."""
    if not experiments.is_pretrained(wildcards.method):
        return {}
    return {
        "encoder": f"{experiments.pretrain_folder(wildcards.method)}/encoder.safetensors"
    }


def smoothness_store(wildcards):
    dataset = experiments.dataset_of(experiments.config["smoothness"]["set"])
    return manifest(experiments.store(dataset, experiments.targets(dataset)[0]))


def smoothness_split(wildcards):
    dataset = experiments.dataset_of(experiments.config["smoothness"]["set"])
    return experiments.split(dataset, experiments.targets(dataset)[0])


def pretrain_settings(wildcards):
    return experiments.pretrain_settings(wildcards.method, int(wildcards.seed))


def finetune_settings(wildcards):
    w = wildcards
    return experiments.finetune_settings(w.dataset, w.target, w.method, int(w.seed))


def smoothness_settings(wildcards):
    return experiments.smoothness_settings(wildcards.method, int(wildcards.seed))


def label_unit(wildcards):
    return experiments.card(wildcards.dataset)["targets"][wildcards.target]["unit"]


def table_files(wildcards):
    return experiments.table_files(wildcards.table)


def table_leaks(wildcards):
    return experiments.table_leaks(wildcards.table)


def table_spec(wildcards):
    return experiments.table_spec(wildcards.table)


def files(folder, *names):
    """Output files of a folder pattern, each called by its name up to the dot."""
    return {name.partition(".")[0]: f"{here(folder)}/{name}" for name in names}


def all_tables(suffix):
    stem = here(paths.TABLE)
    return [
        f"{stem.format(table=name)}.{suffix}" for name in experiments.config["tables"]
    ]


def all_figures(suffix):
    stem = here(paths.FIGURE)
    return [f"{stem.format(figure=name)}.{suffix}" for name in FIGURES]


def shown(path, category, caption, **options):
    """An output that Snakemake's report shows, with the text of reports/captions/<caption>.rst."""
    return report(
        path, category=category, caption=f"../reports/captions/{caption}.rst", **options
    )


def table_outputs():
    stem, labels = here(paths.TABLE), {"table": "{table}"}
    csv = shown(f"{stem}.csv", "Tables", "table", subcategory="as CSV", labels=labels)
    return {
        "csv": csv,
        "markdown": f"{stem}.md",
        "latex": f"{stem}.tex",
        "json": f"{stem}.json",
        "record": result_record("table", "{table}"),
    }


def figure_outputs():
    figure, notebook = here(paths.FIGURE), here(paths.NOTEBOOK)
    return {
        "pdf": f"{figure}.pdf",
        "png": shown(
            f"{figure}.png", "Figures", "figure", labels={"figure": "{figure}"}
        ),
        "notebook": f"{notebook}.ipynb",
        "html": shown(
            f"{notebook}.html", "Notebooks", "notebook", labels={"notebook": "{figure}"}
        ),
        "record": result_record("figure", "{figure}"),
    }


def summary_outputs():
    folder = here(paths.REPORT)
    what = {"html": "all tables and figures", "runs": "runs behind the tables"}
    pages = [
        shown(
            f"{folder}/tables/{name}.html",
            "Tables",
            "page",
            subcategory="as a page",
            labels={"table": name},
        )
        for name in experiments.config["tables"]
    ]
    return {
        "markdown": f"{folder}/summary.md",
        "html": shown(
            f"{folder}/summary.html",
            "Summary",
            "summary",
            labels={"what": what["html"]},
        ),
        "runs": shown(
            f"{folder}/runs.csv", "Summary", "runs", labels={"what": what["runs"]}
        ),
        "pages": pages,
        "record": result_record("summary", "summary"),
    }


def gpu_job(base):
    """Resources of a training job: GPUs of the edition, memory, time growing with the attempt."""
    longest = SITE.gpu if GPU else SITE.cpu
    return {
        "mem_mb": memory(8000),
        "runtime": minutes(base, longest),
        "gpu": GPU,
    }


def cpu_job(megabytes, base):
    """Resources of a job without a GPU; both grow with the attempt."""
    return {"mem_mb": memory(megabytes), "runtime": minutes(base, SITE.cpu)}


def small_job(megabytes, base):
    """The same for jobs that a profile may put in one group: few of a group run at a time.

    A group's limit is the sum over its rounds, at most eight, and must fit the site as well.
    """
    longest = SITE.cpu and SITE.cpu / 8
    return {"mem_mb": memory(megabytes), "runtime": minutes(base, longest), "small": 1}


def minutes(base, longest):
    """Run time limit of a job [minutes], growing with the attempt up to the site's longest."""

    def limit(wildcards, attempt):
        return int(min(base * attempt, longest or base * attempt))

    return limit


def memory(base):
    """Memory of a job [MB], growing with the attempt."""

    def limit(wildcards, attempt):
        return base * attempt

    return limit


def figure_settings(wildcards):
    return figure_spec(experiments, wildcards.figure)


def figure_inputs(wildcards):
    return figure_files(figure_settings(wildcards))


def figure_notebook(wildcards):
    return notebook_digest(NOTEBOOKS, wildcards.figure)


def report_records():
    """Records of all runs that the tables are made of."""
    files = [
        file
        for name in experiments.config["tables"]
        for file in experiments.table_files(name)
    ]
    return list(dict.fromkeys(f"{file.rsplit('/', 1)[0]}/run.json" for file in files))


def rerun_files(wildcards):
    """Files of the cell that is made again."""
    cell = experiments.config.get("cell")
    return cell_files(experiments, cell) if cell else []


def everything(*inputs):
    """Inputs of the target `all`; only the cell's where one cell is made again."""
    return rerun_files if experiments.config.get("cell") else list(inputs)


def report_expected():
    return load_expected(ROOT / "reports" / "expected")


def web_plan(wildcards):
    return site_plan(experiments, FIGURES)


def audit_file():
    return f"{here(paths.AUDIT)}/audit.json"


def report_banner():
    return banner(experiments)
