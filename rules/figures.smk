# one notebook a figure, run by papermill; reports/notebooks says which there are


rule figure:
    input:
        of(figure_inputs),
    output:
        pdf=f"{FIGURE}.pdf",
        png=shown(f"{FIGURE}.png", "Figures", "figure", labels={"figure": "{figure}"}),
        notebook=f"{NOTEBOOK}.ipynb",
        html=shown(
            f"{NOTEBOOK}.html",
            "Notebooks",
            "notebook",
            labels={"notebook": "{figure}"},
        ),
        record=f"{RECORDS}/figure/{{figure}}.json",
    log:
        f"{LOGS}/figure/{{figure}}.log",
    benchmark:
        f"{BENCHMARKS}/figure/{{figure}}.tsv"
    conda:
        ENVIRONMENT
    resources:
        **limits.small_job(3000, minutes=30),
    params:
        edition=EDITION,
        spec=of(partial(figure_spec, experiments)),
        notebook=of(partial(notebook_digest, NOTEBOOKS)),
        code=code_digest("figure", "georecon.reporting.figures.shared"),
    script:
        "../workflow/scripts/figure.py"


rule figures:
    input:
        expand(f"{FIGURE}.pdf", figure=FIGURES),
