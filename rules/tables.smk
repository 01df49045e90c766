# metrics to tables; a target rule table_<name> for each


rule table:
    input:
        files=table_files,
        leaks=table_leaks,
    output:
        csv=report(
            here(f"{paths.TABLE}.csv"),
            category="Tables",
            subcategory="as CSV",
            labels={"table": "{table}"},
            caption="../reports/captions/table.rst",
        ),
        markdown=here(f"{paths.TABLE}.md"),
        latex=here(f"{paths.TABLE}.tex"),
        json=here(f"{paths.TABLE}.json"),
    log:
        f"logs/{EDITION}/table/{{table}}.log",
    conda:
        ENVIRONMENT
    params:
        spec=table_spec,
        code=code_digest("table"),
    script:
        "../workflow/scripts/table.py"


for name in experiments.config["tables"]:

    rule:
        name:
            f"table_{name}"
        input:
            multiext(
                here(paths.TABLE).format(table=name), ".csv", ".md", ".tex", ".json"
            ),


rule tables:
    input:
        [
            f"{here(paths.TABLE).format(table=name)}.json"
            for name in experiments.config["tables"]
        ],
