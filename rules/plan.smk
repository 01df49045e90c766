# What a run would cost, and what is running now. Neither has an output; both run where Snakemake runs.


rule plan:
    log:
        f"{LOGS}/plan.log",
    conda:
        ENVIRONMENT
    params:
        config=experiments.as_json(),
        rates=str(ROOT / "benchmarks" / "results"),
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
