# Everything on one page. Snakemake's own HTML report needs a finished workflow, so no rule can make it:
# georecon.jobs.launch calls `snakemake --report` after a run that left a summary (results/<edition>/report/report.html).


report: "../reports/captions/workflow.rst"


rule summary:
    input:
        tables=expand(f"{TABLE}.json", table=TABLES),
        figures=expand(f"{FIGURE}.png", figure=FIGURES),
        records=of(values.run_records),
    output:
        markdown=f"{REPORT}/summary.md",
        html=shown(
            f"{REPORT}/summary.html",
            "Summary",
            "summary",
            labels={"what": "all tables and figures"},
        ),
        claims=f"{REPORT}/claims.json",
        runs=shown(
            f"{REPORT}/runs.csv",
            "Summary",
            "runs",
            labels={"what": "runs behind the tables"},
        ),
        pages=[
            shown(
                f"{REPORT}/tables/{name}.html",
                "Tables",
                "page",
                subcategory="as a page",
                labels={"table": name},
            )
            for name in TABLES
        ],
        record=f"{RECORDS}/summary/summary.json",
    log:
        f"{LOGS}/summary.log",
    conda:
        ENVIRONMENT
    resources:
        **limits.small_job(3000, minutes=15),
    params:
        expected=EXPECTED,
        banner=banner(experiments),
        code=code_digest("summary"),
    script:
        "../workflow/scripts/summary.py"


# what the edition took; where Snakemake runs, for Slurm's books are not to be had on every node
rule cost:
    input:
        tables=expand(f"{TABLE}.json", table=TABLES),
        records=of(values.run_records),
    output:
        cost=f"{REPORT}/cost.json",
        record=f"{RECORDS}/cost/cost.json",
    log:
        f"{LOGS}/cost.log",
    conda:
        ENVIRONMENT
    params:
        edition=EDITION,
        code=code_digest("cost"),
    script:
        "../workflow/scripts/cost.py"


# The web report of a finished edition, with the audit's verdicts if there was one by then. The audit is no input:
# nothing here asks for one, and a page is not made again because of one (`web` shows the newest at any time).
rule site:
    input:
        tables=expand(f"{TABLE}.json", table=TABLES),
        figures=expand(f"{FIGURE}.png", figure=FIGURES),
        records=of(values.run_records),
        cost=rules.cost.output.cost,
    output:
        page=f"{REPORT}/index.html",
        record=f"{RECORDS}/site/site.json",
    log:
        f"{LOGS}/site.log",
    conda:
        ENVIRONMENT
    resources:
        **limits.small_job(3000, minutes=30),
    params:
        plan=of(partial(site_plan, experiments, FIGURES, PUBLISHED)),
        expected=EXPECTED,
        code=code_digest("site"),
    script:
        "../workflow/scripts/site.py"


# the same page of whatever there is now; without declared outputs it runs beside another Snakemake
rule web:
    log:
        f"{LOGS}/web.log",
    conda:
        ENVIRONMENT
    params:
        plan=of(partial(site_plan, experiments, FIGURES, PUBLISHED)),
        expected=EXPECTED,
        page=f"{REPORT}/state.html",
    message:
        f"the state of the {EDITION} edition as a page"
    script:
        "../workflow/scripts/web.py"


rule report:
    input:
        rules.summary.output,
        rules.site.output,
        rules.figures.input,
