"""GeoRecon (arXiv 2506.13174), reproduced: library behind the Snakemake workflow.

The modules beside the folders are the ground: any folder may import them, they import none.
"""

__version__ = "0.1.0"
