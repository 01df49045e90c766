# raw files -> stores -> splits -> leak reports


# what `xtb` computes is not fetched: a constraint and no `ruleorder`, which a module could not take without both rules
rule fetch:
    input:
        of(values.own_file),
    output:
        file=f"{paths.RAW}/{{dataset}}/{{file}}",
        record=f"{paths.RECORDS}/fetch/{{dataset}}/{{file}}.json",
    log:
        "logs/fetch/{dataset}/{file}.log",
    wildcard_constraints:
        file=rf"(?!(?:{values.computed_names()})\.(?:json|npz)$)[^/]+",
    priority: READING
    conda:
        ENVIRONMENT
    resources:
        disk_mb=of(values.raw_megabytes),
        download=of(values.raw_download),
    params:
        file=of(values.raw_identity),
    script:
        "../workflow/scripts/fetch.py"


rule xtb:
    output:
        npz=f"{paths.RAW}/{{dataset}}/{{trajectory}}.npz",
        provenance=f"{paths.RAW}/{{dataset}}/{{trajectory}}.json",
        record=f"{paths.RECORDS}/xtb/{{dataset}}/{{trajectory}}.json",
    log:
        "logs/xtb/{dataset}/{trajectory}.log",
    wildcard_constraints:
        trajectory=values.computed_names(),
    priority: SIMULATION
    conda:
        ENVIRONMENT
    resources:
        **limits.cpu_job(2000, minutes=240),
    params:
        simulation=of(values.simulation),
        code=code_digest("xtb"),
    script:
        "../workflow/scripts/xtb.py"


rule preprocess:
    input:
        of(values.raw_files),
    output:
        manifest=f"{paths.STORE}/manifest.json",
        record=f"{paths.RECORDS}/preprocess/{{dataset}}.json",
    log:
        "logs/preprocess/{dataset}.log",
    priority: READING
    conda:
        ENVIRONMENT
    threads: of(values.reader_threads)
    resources:
        **limits.cpu_job(2000, minutes=120),
    params:
        card=of(experiments.data.reading_card),
        code=code_digest("preprocess"),
    script:
        "../workflow/scripts/preprocess.py"


# the store of one molecule, of a dataset that has one each
use rule preprocess as preprocess_target with:
    output:
        manifest=f"{paths.STORE}/{{target}}/manifest.json",
        record=f"{paths.RECORDS}/preprocess/{{dataset}}/{{target}}.json",
    log:
        "logs/preprocess/{dataset}/{target}.log",
    resources:
        **limits.small_job(2000, minutes=30),


rule split:
    input:
        store=of(values.split_store, "{}/manifest.json"),
        others=of(values.split_inputs),
    output:
        split=paths.SPLIT,
        sidecar=paths.SPLIT.replace(".npz", ".json"),
        record=f"{paths.RECORDS}/split/{{dataset}}/{{split}}.json",
    log:
        "logs/split/{dataset}/{split}.log",
    priority: READING
    conda:
        ENVIRONMENT
    resources:
        **limits.small_job(2000, minutes=30),
    params:
        plan=of(values.split_plan),
        raw=f"{paths.RAW}/{{dataset}}",
        code=code_digest("split"),
    script:
        "../workflow/scripts/split.py"


rule leak:
    input:
        store=of(values.split_store, "{}/manifest.json"),
        split=paths.SPLIT,
        pretrain_store=of(experiments.data.pretrain_store, "{}/manifest.json"),
        pretrain_split=of(experiments.data.pretrain_split),
    output:
        report=here(paths.LEAK),
        record=f"{RECORDS}/leak/{{dataset}}/{{split}}.json",
    log:
        f"{LOGS}/leak/{{dataset}}/{{split}}.log",
    # a second each, and the first table waits for its own
    priority: FIRST_RUN
    conda:
        ENVIRONMENT
    resources:
        **limits.small_job(2000, minutes=60),
    params:
        code=code_digest("leak"),
    script:
        "../workflow/scripts/leak.py"
