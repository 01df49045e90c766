# Every number followed home and computed again; results as one file that anybody can verify. These rules have no
# output: what was verified once is verified again each time.


rule audit:
    input:
        # with depth=rerun: runs of the drawn cells, in a folder of their own
        values.drawn_files(),
    log:
        f"{LOGS}/audit.log",
    conda:
        ENVIRONMENT
    params:
        config=experiments.as_json(),
        expected=EXPECTED,
    message:
        f"every file of the {EDITION} edition hashed, every cell computed again"
    script:
        "../workflow/scripts/audit.py"


rule bundle:
    log:
        f"{LOGS}/bundle.log",
    conda:
        ENVIRONMENT
    params:
        file=here(paths.BUNDLE),
        config=experiments.as_json(),
        expected=EXPECTED,
    message:
        f"audit of the {EDITION} edition, then {here(paths.BUNDLE)}"
    script:
        "../workflow/scripts/bundle.py"


rule verify_bundle:
    log:
        "logs/verify_bundle.log",
    conda:
        ENVIRONMENT
    params:
        config=experiments.as_json(),
    script:
        "../workflow/scripts/verify_bundle.py"


rule rerun:
    input:
        values.cell_files(),
    log:
        f"{LOGS}/rerun.log",
    conda:
        ENVIRONMENT
    params:
        folder=here(paths.RESULTS),
        config=experiments.as_json(),
    script:
        "../workflow/scripts/rerun.py"
