# raw files -> stores -> splits -> leak reports


ruleorder: xmd17 > fetch


rule fetch:
    output:
        file=raw_file("{dataset}", "{file}"),
        record=record("fetch", "{dataset}/{file}"),
    log:
        "logs/fetch/{dataset}/{file}.log",
    wildcard_constraints:
        file="[^/]+",
    conda:
        ENVIRONMENT
    resources:
        disk_mb=raw_megabytes,
        download=raw_download,
    params:
        file=raw_identity,
    script:
        "../workflow/scripts/fetch.py"


rule xmd17:
    output:
        npz=raw_file("xmd17", "xmd17_{target}.npz"),
        provenance=raw_file("xmd17", "xmd17_{target}.json"),
        record=record("xmd17", "{target}"),
    log:
        "logs/xmd17/{target}.log",
    conda:
        ENVIRONMENT
    resources:
        **cpu_job(2000, 240),
    params:
        simulation=experiments.card("xmd17")["simulation"],
        code=code_digest("xmd17"),
    script:
        "../workflow/scripts/xmd17.py"


rule preprocess:
    input:
        raw_files,
    output:
        manifest=f"{paths.STORE}/manifest.json",
        record=record("preprocess", "{dataset}"),
    log:
        "logs/preprocess/{dataset}.log",
    conda:
        ENVIRONMENT
    threads: reader_threads
    resources:
        **cpu_job(8000, 720),
    params:
        card=reading_card,
        code=code_digest("preprocess"),
    script:
        "../workflow/scripts/preprocess.py"


use rule preprocess as preprocess_target with:
    output:
        manifest=f"{paths.STORE}/{{target}}/manifest.json",
        record=record("preprocess", "{dataset}/{target}"),
    log:
        "logs/preprocess/{dataset}/{target}.log",
    resources:
        **small_job(8000, 60),


rule split:
    input:
        store=split_store,
        others=split_inputs,
    output:
        split=paths.SPLIT,
        sidecar=paths.SPLIT.replace(".npz", ".json"),
        record=record("split", "{dataset}/{split}"),
    log:
        "logs/split/{dataset}/{split}.log",
    conda:
        ENVIRONMENT
    resources:
        **small_job(4000, 60),
    params:
        plan=split_plan,
        raw=raw_folder,
        code=code_digest("split"),
    script:
        "../workflow/scripts/split.py"


rule leak:
    input:
        store=split_store,
        split=paths.SPLIT,
        pretrain_store=pretrain_store,
        pretrain_split=pretrain_split,
    output:
        report=here(paths.LEAK),
        record=result_record("leak", "{dataset}/{split}"),
    log:
        f"logs/{EDITION}/leak/{{dataset}}/{{split}}.log",
    conda:
        ENVIRONMENT
    resources:
        **small_job(4000, 120),
    params:
        code=code_digest("leak"),
    script:
        "../workflow/scripts/leak.py"
