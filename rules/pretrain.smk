# one encoder per method, variant and seed


rule pretrain:
    input:
        store=pretrain_store,
        split=pretrain_split,
    output:
        encoder=here(f"{paths.PRETRAIN}/encoder.safetensors"),
        metrics=here(f"{paths.PRETRAIN}/metrics.csv"),
        run=here(f"{paths.PRETRAIN}/run.json"),
    params:
        settings=pretrain_settings,
        state=here(paths.STATE),
    log:
        f"logs/{EDITION}/pretrain/{{method}}/seed{{seed}}.log",
    conda:
        ENVIRONMENT
    priority: 10
    resources:
        mem_mb=memory(4000),
        runtime=minutes(1440),
        gpu=GPU,
    script:
        "../workflow/scripts/pretrain.py"
