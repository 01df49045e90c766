"""An encoder from a file, checked and written as pre-training would write it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from georecon.errors import CheckpointError
from georecon.experiments.settings import EncoderFileSettings
from georecon.keys import Json, from_json
from georecon.models.encoder_file import save_encoder
from georecon.models.foreign_encoder import read_encoder


def import_encoder(settings: Json, file: Path, output: Path, say: Callable[[str], None]) -> None:
    """Read an encoder from a file of any known layout; write ``encoder.safetensors``.

    Args:
        settings: of ``EncoderFileSettings``, as JSON.
        file: the raw file.
        output: file to write.
        say: takes one line.

    Raises:
        CheckpointError: the file holds no encoder of this edition's sizes; names method and file.
    """
    run = from_json(EncoderFileSettings, settings)
    try:
        encoder, layout = read_encoder(file, run.encoder)
    except CheckpointError as error:
        raise CheckpointError(f"methods.{run.method}.encoder_file: {error}") from None
    save_encoder(output, encoder, method=run.method)
    say(f"{file.name}: {layout}, as encoder of {run.method}")
