"""GeoRecon (arXiv 2506.13174), reproduced: library behind the Snakemake workflow."""

__version__ = "0.1.0"
