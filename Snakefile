# One paper, one DAG: raw data to every table and figure. `snakemake --list-target-rules` lists the targets.
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.14")


configfile: "config/config.yaml"


if not hasattr(workflow.current_basedir, "__fspath__"):
    sys.exit('georecon: as a module from a repository, name path="workflow/Snakefile"')
ROOT = Path(workflow.current_basedir)
sys.path.insert(0, str(ROOT / "src"))

from georecon.jobs import snakemake_private
from georecon.jobs.gpus import refuse_start
from georecon.jobs.slurm import (
    explain_jobs,
    refuse_beside_jobs,
    use_site_file,
    watch_stuck,
)
from georecon.jobs.snakefile import prepare, refuse_unknown_targets

MAIN = snakemake_private.is_main(workflow)

# Merges edition and overrides, refuses a bad configuration, lets the scripts import src/ without an install.
option = snakemake_private.config_option(workflow)
files = snakemake_private.given_files(workflow)
experiments = prepare(ROOT, config, option, files, main=MAIN)
SITE = use_site_file(ROOT)
explained = MAIN and explain_jobs(Path.cwd())


wildcard_constraints:
    dataset="[A-Za-z0-9_]+",
    part="[A-Za-z0-9_]+",
    edition="[a-z0-9_]+",
    target="[A-Za-z0-9_-]+",
    method="[a-z0-9_.]+",
    seed=r"\d+",
    kind="(pretrain|finetune)-[0-9a-f]+",
    split="[A-Za-z0-9_-]+",
    table="|".join(experiments.tables.names()),
    figure="[a-z_]+",


onstart:
    snakemake_private.lift_start_limit(workflow)
    if MAIN and experiments.config.start_from:
        from georecon.audit.start import start  # here: it imports much

        start(experiments, Path.cwd())
    if MAIN and snakemake_private.submits(workflow):
        refuse_beside_jobs(Path.cwd(), explained=explained)
        if not snakemake_private.brings_environments(workflow):
            refuse_start(experiments.config.gpus)
        watch_stuck(Path.cwd())


# on the login node of a cluster; fetch, because compute nodes often have no network
localrules:
    all,
    fetch,
    tables,
    figures,
    report,
    audit,
    bundle,
    verify_bundle,
    rerun,
    cost,
    web,
    trial,
    plan,
    watch,
    doctor,


include: "rules/common.smk"
include: "rules/data.smk"
include: "rules/pretrain.smk"
include: "rules/finetune.smk"
include: "rules/evaluate.smk"
include: "rules/tables.smk"
include: "rules/figures.smk"
include: "rules/report.smk"
include: "rules/audit.smk"
include: "rules/plan.smk"


rule all:
    default_target: True
    input:
        # one cell alone where one is made again
        values.cell_files()
        or [rules.tables.input, rules.figures.input, rules.report.input],


if MAIN:
    check_published(experiments, PUBLISHED)
if MAIN and snakemake_private.is_whole(workflow):
    refuse_unknown_targets(snakemake_private.unknown_targets(workflow, sys.argv))
