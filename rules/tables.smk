# metrics to tables; a target rule table_<name> for each


rule table:
    input:
        files=of(experiments.tables.files),
        leaks=of(experiments.tables.leaks),
        trajectories=of(experiments.tables.trajectories),
    output:
        csv=shown(
            f"{TABLE}.csv",
            "Tables",
            "table",
            subcategory="as CSV",
            labels={"table": "{table}"},
        ),
        markdown=f"{TABLE}.md",
        latex=f"{TABLE}.tex",
        json=f"{TABLE}.json",
        record=f"{RECORDS}/table/{{table}}.json",
    log:
        f"{LOGS}/table/{{table}}.log",
    priority: of(values.table_priority)
    conda:
        ENVIRONMENT
    resources:
        **limits.small_job(2000, minutes=15),
    params:
        spec=of(experiments.tables.spec),
        published=of(partial(published_json, experiments, PUBLISHED)),
        code=code_digest("table"),
    script:
        "../workflow/scripts/table.py"


for name in TABLES:

    rule:
        name:
            f"table_{name}"
        input:
            multiext(TABLE.format(table=name), ".csv", ".md", ".tex", ".json"),


rule tables:
    input:
        expand(f"{TABLE}.json", table=TABLES),
