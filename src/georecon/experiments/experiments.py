"""Everything that an edition runs, put together from its parts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from georecon.experiments.config import config_json, config_of, load_config
from georecon.experiments.data import Data
from georecon.experiments.methods import Methods
from georecon.experiments.runs import Runs
from georecon.experiments.sections import Config
from georecon.experiments.tables import Tables
from georecon.keys import Json


class Experiments:
    """What an edition runs, as a function of its resolved configuration.

    Attributes:
        config: the configuration.
        methods: methods and variants.
        data: datasets, stores and splits.
        runs: folders and settings of pre-training, fine-tuning and smoothness.
        tables: rows, columns and cells.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.methods = Methods(config)
        self.data = Data(config)
        self.runs = Runs(config, self.methods, self.data)
        self.tables = Tables(config, self.methods, self.data, self.runs)

    @classmethod
    def load(cls, folder: Path, overrides: Mapping[str, Any]) -> Experiments:
        """Of the configuration in a folder (:func:`georecon.experiments.config.load_config`)."""
        return cls(load_config(folder, overrides))

    @classmethod
    def from_json(cls, document: Json) -> Experiments:
        """Of what :meth:`as_json` gave.

        Raises:
            ConfigError: it is not a configuration.
        """
        return cls(config_of(document))

    def as_json(self) -> Json:
        """The resolved configuration, for a rule's parameters."""
        return config_json(self.config)

    @property
    def edition(self) -> str:
        """Name of the edition."""
        return self.config.edition

    @property
    def place(self) -> str:
        """Folder of its results, in ``results``."""
        return self.runs.place

    def published(self) -> Experiments:
        """The same without what is made again: where the edition's own results lie."""
        return Experiments(replace(self.config, cell=None, depth=None))
