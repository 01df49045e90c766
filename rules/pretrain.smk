# one encoder per method, variant and seed


rule pretrain:
    input:
        store=pretrain_store,
        split=pretrain_split,
    output:
        encoder=here(f"{paths.PRETRAIN}/encoder.safetensors"),
        metrics=here(f"{paths.PRETRAIN}/metrics.csv"),
        run=here(f"{paths.PRETRAIN}/run.json"),
    log:
        f"logs/{EDITION}/pretrain/{{method}}/seed{{seed}}.log",
    priority: 10
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(4000),
        runtime=minutes(1440),
        gpu=GPU,
    params:
        settings=pretrain_settings,
        state=here(paths.STATE),
    script:
        "../workflow/scripts/pretrain.py"
