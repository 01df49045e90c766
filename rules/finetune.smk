# one model per target, method and seed


rule finetune:
    input:
        unpack(of(values.encoder)),
        store=of(values.finetune_store, "{}/manifest.json"),
        split=of(experiments.data.split),
    output:
        model=f"{FINETUNE}/model.safetensors",
        outputs=f"{FINETUNE}/outputs.safetensors",
        curve=f"{FINETUNE}/curve.csv",
        run=f"{FINETUNE}/run.json",
    log:
        f"{LOGS}/finetune/{{part}}/{{target}}/{{method}}/seed{{seed}}.log",
    benchmark:
        f"{BENCHMARKS}/finetune/{{part}}/{{target}}/{{method}}/seed{{seed}}.tsv"
    priority: of(values.finetune_priority)
    conda:
        ENVIRONMENT
    resources:
        **limits.gpu_job(minutes=1440),
    params:
        settings=of(experiments.runs.finetune_settings),
        state=here(paths.STATE),
    script:
        "../workflow/scripts/finetune.py"
