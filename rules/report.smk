# Everything on one page. Snakemake's own HTML report needs a finished workflow, so no rule can make it:
# georecon.jobs.launch calls `snakemake --report` after a run that left a summary (results/<edition>/report/report.html).


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
    resources:
        **small_job(3000, 15),
    params:
        expected=report_expected(),
        banner=report_banner(),
        code=code_digest("summary"),
    script:
        "../workflow/scripts/summary.py"


# the web report of a finished edition; with the audit's verdicts once there is an audit
rule site:
    input:
        tables=all_tables("json"),
        figures=all_figures("png"),
        records=report_records(),
        audit=[file for file in [audit_file()] if os.path.exists(file)],
    output:
        page=f"{here(paths.REPORT)}/index.html",
        record=result_record("site", "site"),
    log:
        f"logs/{EDITION}/site.log",
    conda:
        ENVIRONMENT
    resources:
        **small_job(3000, 30),
    params:
        plan=web_plan,
        expected=report_expected(),
        code=code_digest("site"),
    script:
        "../workflow/scripts/site.py"


# the same page of whatever there is now; without declared outputs it runs beside another Snakemake
rule web:
    log:
        f"logs/{EDITION}/web.log",
    conda:
        ENVIRONMENT
    params:
        plan=web_plan,
        expected=report_expected(),
        page=f"{here(paths.REPORT)}/state.html",
    script:
        "../workflow/scripts/web.py"


rule report:
    input:
        rules.summary.output,
        rules.site.output,
        rules.figures.input,
