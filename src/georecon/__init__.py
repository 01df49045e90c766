"""GeoRecon (arXiv 2506.13174), reproduced: library behind the Snakemake workflow.

The modules beside the folders are the ground: any folder may import them, they import none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

__version__ = "0.1.0"


def load(path: str | Path) -> Any:
    """A ready ``Encoder`` or fine-tuned ``Model`` of :mod:`georecon.library.models` from its file.

    Args:
        path: ``encoder.safetensors`` or ``model.safetensors`` of a run; ``bundle.zip::member`` for
            one in a bundle.

    Raises:
        CheckpointError: no such file, or not one of this project, or of another version.
    """
    from importlib import import_module  # by name: this file is imported with every module

    return import_module("georecon.library.models").load(path)
