# one notebook a figure, run by papermill; reports/notebooks says which there are


rule figure:
    input:
        figure_inputs,
    output:
        **figure_outputs(),
    log:
        f"logs/{EDITION}/figure/{{figure}}.log",
    conda:
        ENVIRONMENT
    resources:
        **small_job(3000, 30),
    params:
        edition=EDITION,
        spec=figure_settings,
        notebook=figure_notebook,
        code=code_digest("figure", "georecon.reporting.figures.draw"),
    script:
        "../workflow/scripts/figure.py"


rule figures:
    input:
        all_figures("pdf"),
