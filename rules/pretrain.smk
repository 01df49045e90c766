# one encoder per method, variant and seed


rule pretrain:
    input:
        store=of(experiments.data.pretrain_store, "{}/manifest.json"),
        split=of(experiments.data.pretrain_split),
    output:
        encoder=f"{PRETRAIN}/encoder.safetensors",
        objective=f"{PRETRAIN}/objective.safetensors",
        metrics=f"{PRETRAIN}/metrics.csv",
        run=f"{PRETRAIN}/run.json",
    log:
        f"{LOGS}/pretrain/{{method}}/seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/pretrain/{{method}}/seed{{seed}}.tsv"
    priority: of(values.pretrain_priority)
    conda:
        ENVIRONMENT
    resources:
        **limits.gpu_job(minutes=1440),
    params:
        settings=of(experiments.runs.pretrain_settings),
        state=here(paths.STATE),
    script:
        "../workflow/scripts/pretrain.py"


# an encoder that was pre-trained elsewhere, for all seeds
rule import_encoder:
    input:
        raw=of(experiments.runs.encoder_raw),
    output:
        encoder=f"{ENCODER}/encoder.safetensors",
        run=f"{ENCODER}/run.json",
    log:
        f"{LOGS}/import_encoder/{{method}}.log",
    priority: 10
    conda:
        ENVIRONMENT
    resources:
        **limits.small_job(4000, minutes=15),
    params:
        settings=of(experiments.runs.encoder_settings),
    script:
        "../workflow/scripts/import_encoder.py"
