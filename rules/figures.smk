# one notebook a figure, run by papermill; reports/notebooks says which there are


rule figure:
    input:
        figure_inputs,
    output:
        pdf=here(f"{paths.FIGURE}.pdf"),
        png=report(
            here(f"{paths.FIGURE}.png"),
            category="Figures",
            labels={"figure": "{figure}"},
            caption="../reports/captions/figure.rst",
        ),
        notebook=here(f"{paths.NOTEBOOK}.ipynb"),
        html=report(
            here(f"{paths.NOTEBOOK}.html"),
            category="Notebooks",
            labels={"notebook": "{figure}"},
            caption="../reports/captions/notebook.rst",
        ),
    log:
        f"logs/{EDITION}/figure/{{figure}}.log",
    conda:
        ENVIRONMENT
    params:
        edition=EDITION,
        spec=figure_settings,
        notebook=figure_notebook,
        code=code_digest("figure"),
    script:
        "../workflow/scripts/figure.py"


rule figures:
    input:
        [f"{here(paths.FIGURE).format(figure=name)}.pdf" for name in FIGURES],
