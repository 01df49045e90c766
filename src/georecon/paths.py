"""Where everything lies, relative to the working folder; wildcards are Snakemake's."""

from __future__ import annotations

RAW = "resources/raw"
STORE = "resources/store/{dataset}"
"""Store of a set of molecules; force sets have one store a molecule: ``STORE/{target}``."""
SPLIT = "resources/splits/{dataset}/{split}.npz"

RESULTS = "results/{edition}"
STATE = RESULTS + "/state"
PRETRAIN = RESULTS + "/pretrain/{method}/seed{seed}"
FINETUNE = RESULTS + "/finetune/{part}/{target}/{method}/seed{seed}"
SMOOTHNESS = RESULTS + "/smoothness/{method}/seed{seed}"
LEAK = RESULTS + "/leaks/{dataset}/{split}.json"
TABLE = RESULTS + "/tables/{table}"
FIGURE = RESULTS + "/figures/{figure}"
NOTEBOOK = RESULTS + "/notebooks/{figure}"
REPORT = RESULTS + "/report"

RECORDS = "resources/records"
"""Records of jobs whose outputs share a folder, by stage; runs have theirs beside their outputs."""
RECORD = RECORDS + "/{stage}"
RESULT_RECORDS = RESULTS + "/records"
RESULT_RECORD = RESULT_RECORDS + "/{stage}"
BENCHMARKS = RESULTS + "/benchmarks"
"""What Snakemake measured of each training, evaluation and figure job: seconds, memory, CPU."""
AUDIT = RESULTS + "/audit"
BUNDLE = RESULTS + "/bundle/georecon-{edition}.zip"
