# metrics to tables; a target rule table_<name> for each


rule table:
    input:
        files=table_files,
        leaks=table_leaks,
    output:
        csv=here(f"{paths.TABLE}.csv"),
        markdown=here(f"{paths.TABLE}.md"),
        latex=here(f"{paths.TABLE}.tex"),
        json=report(
            here(f"{paths.TABLE}.json"),
            category="Tables",
            labels={"table": "{table}"},
            caption="../reports/captions/table.rst",
        ),
    params:
        spec=table_spec,
        code=code_digest("table"),
    log:
        f"logs/{EDITION}/table/{{table}}.log",
    conda:
        ENVIRONMENT
    script:
        "../workflow/scripts/table.py"


for name in experiments.config["tables"]:

    rule:
        name:
            f"table_{name}"
        input:
            multiext(here(paths.TABLE).format(table=name), ".csv", ".md", ".tex", ".json"),


rule tables:
    input:
        [f"{here(paths.TABLE).format(table=name)}.json" for name in experiments.config["tables"]],
