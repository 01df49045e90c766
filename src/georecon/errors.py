"""Errors that a user can act on: each names the file, record or key and what is allowed."""

from __future__ import annotations

from pathlib import Path


class GeoreconError(Exception):
    """Base of all errors this package raises on bad input; the message is meant for the user."""


class ConfigError(GeoreconError):
    """A configuration value is missing, unknown or impossible."""


class DataError(GeoreconError):
    """A raw file or one record in it cannot be used.

    Args:
        file: the file at fault.
        record: record within the file (molecule id, row or frame), or None for the file itself.
        reason: what is wrong and what would be right.
    """

    def __init__(self, file: str | Path, record: str | int | None, reason: str) -> None:
        self.file, self.record, self.reason = str(file), record, reason
        where = f"{file}" if record is None else f"{file}, record {record}"
        super().__init__(f"{where}: {reason}")


class FetchError(GeoreconError):
    """A raw file could not be had; the message says which one and how to supply it by hand."""


class CheckpointError(GeoreconError):
    """A checkpoint is damaged, of another version or of another model."""


class TrainingError(GeoreconError):
    """Training cannot go on (non-finite loss or gradient); names the step and molecule ids."""
