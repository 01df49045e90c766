# test predictions to errors; encoders to smoothness estimates


rule evaluate:
    input:
        outputs=here(f"{paths.FINETUNE}/outputs.safetensors"),
        split=finetune_split,
    output:
        predictions=here(f"{paths.FINETUNE}/predictions.parquet"),
        metrics=here(f"{paths.FINETUNE}/metrics.json"),
        run=here(f"{paths.FINETUNE}/evaluate.run.json"),
    log:
        f"logs/{EDITION}/evaluate/{{dataset}}/{{target}}/{{method}}/seed{{seed}}.log",
    conda:
        ENVIRONMENT
    resources:
        **small_job(3000, 15),
    params:
        unit=label_unit,
        code=code_digest("evaluate"),
    script:
        "../workflow/scripts/evaluate.py"


rule smoothness:
    input:
        unpack(encoder_input),
        store=smoothness_store,
        split=smoothness_split,
    output:
        **files(paths.SMOOTHNESS, "metrics.json", "run.json"),
    log:
        f"logs/{EDITION}/smoothness/{{method}}/seed{{seed}}.log",
    conda:
        ENVIRONMENT
    resources:
        **gpu_job(120),
    params:
        settings=smoothness_settings,
    script:
        "../workflow/scripts/smoothness.py"
