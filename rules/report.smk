# Everything on one page. Snakemake's own HTML report needs a finished workflow, so no rule can make it:
# georecon.launch calls `snakemake --report` after a run that left a summary (results/<edition>/report/report.html).


report: "../reports/captions/workflow.rst"


rule summary:
    input:
        tables=all_tables("json"),
        figures=all_figures("png"),
        records=report_records(),
    output:
        **summary_outputs(),
    log:
        f"logs/{EDITION}/summary.log",
    conda:
        ENVIRONMENT
    params:
        expected=report_expected(),
        banner=report_banner(),
        code=code_digest("summary"),
    script:
        "../workflow/scripts/summary.py"


rule report:
    input:
        rules.summary.output,
        rules.figures.input,
