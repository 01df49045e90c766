"""GeoRecon (arXiv 2506.13174), reproduced: library behind the Snakemake workflow.

The modules beside the folders are the ground: any folder may import them, they import none.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from georecon.library.models import Encoder, Model

__version__ = "0.1.0"


def load(path: str | Path) -> Encoder | Model:
    """A ready encoder or fine-tuned model from its file (:mod:`georecon.library.models`).

    Args:
        path: ``encoder.safetensors`` or ``model.safetensors`` of a run; ``bundle.zip::member`` for
            one in a bundle.

    Raises:
        CheckpointError: no such file, or not one of this project, or of another version.
    """
    from importlib import import_module  # by name: this file is imported with every module

    found: Encoder | Model = import_module("georecon.library.models").load(path)
    return found
