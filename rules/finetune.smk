# one model per target, method and seed


rule finetune:
    input:
        unpack(encoder_input),
        store=store_manifest,
        split=finetune_split,
    output:
        **files(
            paths.FINETUNE,
            "model.safetensors",
            "outputs.safetensors",
            "curve.csv",
            "run.json",
        ),
    log:
        f"logs/{EDITION}/finetune/{{dataset}}/{{target}}/{{method}}/seed{{seed}}.log",
    conda:
        ENVIRONMENT
    resources:
        **gpu_job(1440),
    params:
        settings=finetune_settings,
        state=here(paths.STATE),
    script:
        "../workflow/scripts/finetune.py"
