# metrics to tables; a target rule table_<name> for each


rule table:
    input:
        files=table_files,
        leaks=table_leaks,
    output:
        **table_outputs(),
    log:
        f"logs/{EDITION}/table/{{table}}.log",
    conda:
        ENVIRONMENT
    resources:
        **small_job(2000, 15),
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
        all_tables("json"),
