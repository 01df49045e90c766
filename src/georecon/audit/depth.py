"""How deep an audit goes."""

from __future__ import annotations

from dataclasses import dataclass

from georecon.experiments.sections import Config

RECORDS, WEIGHTS, RERUN = "records", "weights", "rerun"
PACKAGES = ("torch", "numpy")
"""Packages that bits depend on: only runs of the same versions are compared to the bit."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Depth:
    """What an audit is asked to do.

    Attributes:
        name: "records", "weights" or "rerun"; each does what those before it do.
        sample: cells that are recomputed or trained again; None: all from weights, one by training.
        seed: what decides which; the reviewer's.
        full: read every file again, also those that are as an earlier audit found them.
    """

    name: str = RECORDS
    sample: int | None = None
    seed: int = 0
    full: bool = False

    @classmethod
    def of(cls, config: Config) -> Depth:
        """What a configuration asks for."""
        return cls(
            name=config.depth or RECORDS,
            sample=config.sample,
            seed=config.sample_seed or 0,
            full=bool(config.full),
        )
