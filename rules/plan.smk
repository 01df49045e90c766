# What a run would cost, and what is running now. Without outputs, where Snakemake runs; but for the trial, whose jobs
# run where trainings do.


# one short training of every kind that the edition has; `plan` reads what it measured
rule trial:
    input:
        of(values.trial_files),


rule measure:
    output:
        paths.TRIAL,
    log:
        "logs/measure/{kind}.log",
    conda:
        ENVIRONMENT
    resources:
        **limits.gpu_job(minutes=30),
    params:
        settings=of(values.trial_job),
    script:
        "../workflow/scripts/measure.py"


rule plan:
    log:
        f"{LOGS}/plan.log",
    conda:
        ENVIRONMENT
    params:
        config=experiments.as_json(),
    script:
        "../workflow/scripts/plan.py"


rule doctor:
    log:
        "logs/doctor.log",
    conda:
        ENVIRONMENT
    params:
        config=experiments.as_json(),
    script:
        "../workflow/scripts/doctor.py"


rule watch:
    log:
        "logs/watch.log",
    conda:
        ENVIRONMENT
    script:
        "../workflow/scripts/watch.py"
