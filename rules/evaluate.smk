# test predictions to errors; encoders to smoothness estimates; force models to dynamics at constant energy


rule evaluate:
    input:
        outputs=f"{FINETUNE}/outputs.safetensors",
        store=of(values.finetune_store, "{}/manifest.json"),
        split=of(experiments.data.split),
    output:
        predictions=f"{FINETUNE}/predictions.parquet",
        metrics=f"{FINETUNE}/metrics.json",
        run=f"{FINETUNE}/evaluate.run.json",
    log:
        f"{LOGS}/evaluate/{{part}}/{{target}}/{{method}}/seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/evaluate/{{part}}/{{target}}/{{method}}/seed{{seed}}.tsv"
    priority: of(values.finetune_priority)
    conda:
        ENVIRONMENT
    resources:
        **limits.small_job(1000, minutes=15),
    params:
        unit=of(values.label_unit),
        code=code_digest("evaluate"),
    script:
        "../workflow/scripts/evaluate.py"


rule smoothness:
    input:
        unpack(of(values.encoder)),
        store=of(values.smoothness_store, "{}/manifest.json"),
        split=of(values.smoothness_split),
    output:
        metrics=f"{SMOOTHNESS}/metrics.json",
        run=f"{SMOOTHNESS}/run.json",
    log:
        f"{LOGS}/smoothness/{{method}}/seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/smoothness/{{method}}/seed{{seed}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        **limits.gpu_job(minutes=120),
    params:
        settings=of(experiments.runs.smoothness_settings),
    script:
        "../workflow/scripts/smoothness.py"


rule nve:
    input:
        model=f"{FINETUNE}/model.safetensors",
        store=of(values.finetune_store, "{}/manifest.json"),
        split=of(experiments.data.split),
    output:
        metrics=f"{NVE}/metrics.json",
        curve=f"{NVE}/curve.csv",
        run=f"{NVE}/run.json",
    log:
        f"{LOGS}/nve/{{part}}/{{target}}/{{method}}/seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/nve/{{part}}/{{target}}/{{method}}/seed{{seed}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        **limits.gpu_job(minutes=240),
    params:
        settings=of(experiments.runs.nve_settings),
    script:
        "../workflow/scripts/nve.py"
