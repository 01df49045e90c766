"""GeoRecon (arXiv 2506.13174), reproduced: library behind the Snakemake workflow.

The modules beside the folders are the ground: any folder may import them, they import none.
"""

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """``georecon.load``: imports torch, so only when it is asked for."""
    if name == "load":
        from importlib import import_module

        return import_module("georecon.library.models").load
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
