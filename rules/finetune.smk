# one model per target, method and seed


rule finetune:
    input:
        unpack(encoder_input),
        store=store_manifest,
        split=finetune_split,
    output:
        model=here(f"{paths.FINETUNE}/model.safetensors"),
        outputs=here(f"{paths.FINETUNE}/outputs.safetensors"),
        curve=here(f"{paths.FINETUNE}/curve.csv"),
        run=here(f"{paths.FINETUNE}/run.json"),
    log:
        f"logs/{EDITION}/finetune/{{dataset}}/{{target}}/{{method}}/seed{{seed}}.log",
    conda:
        ENVIRONMENT
    resources:
        mem_mb=memory(4000),
        runtime=minutes(1440),
        gpu=GPU,
    params:
        settings=finetune_settings,
        state=here(paths.STATE),
    script:
        "../workflow/scripts/finetune.py"
