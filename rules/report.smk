# Everything on one page. Snakemake's own HTML report needs a finished workflow, so no rule can make it:
# georecon.launch calls `snakemake --report` after a run that left a summary (results/<edition>/report/report.html).


report: "../reports/captions/workflow.rst"


rule summary:
    input:
        tables=[
            f"{here(paths.TABLE).format(table=name)}.json"
            for name in experiments.config["tables"]
        ],
        figures=[f"{here(paths.FIGURE).format(figure=name)}.png" for name in FIGURES],
        records=report_records(),
    output:
        markdown=here(f"{paths.REPORT}/summary.md"),
        html=report(
            here(f"{paths.REPORT}/summary.html"),
            category="Summary",
            labels={"what": "all tables and figures"},
            caption="../reports/captions/summary.rst",
        ),
        runs=report(
            here(f"{paths.REPORT}/runs.csv"),
            category="Summary",
            labels={"what": "runs behind the tables"},
            caption="../reports/captions/runs.rst",
        ),
        pages=[
            report(
                here(f"{paths.REPORT}/tables/{name}.html"),
                category="Tables",
                subcategory="as a page",
                labels={"table": name},
                caption="../reports/captions/page.rst",
            )
            for name in experiments.config["tables"]
        ],
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
