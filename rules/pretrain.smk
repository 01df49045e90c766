# one encoder per method, variant and seed


rule pretrain:
    input:
        store=pretrain_store,
        split=pretrain_split,
    output:
        **files(paths.PRETRAIN, "encoder.safetensors", "metrics.csv", "run.json"),
    log:
        f"logs/{EDITION}/pretrain/{{method}}/seed{{seed}}.log",
    priority: 10
    conda:
        ENVIRONMENT
    resources:
        **gpu_job(1440),
    params:
        settings=pretrain_settings,
        state=here(paths.STATE),
    script:
        "../workflow/scripts/pretrain.py"
