"""What rules ask of the experiments: files, settings and numbers, by the names of wildcards.

A rule names the function that gives a value, ``settings=of(experiments.runs.finetune_settings)``;
the function takes what it needs from the job's wildcards because its parameters are called like
them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from georecon import paths
from georecon.data.cards import card_source, computed_files
from georecon.data.raw.lock import download_mb, identity, own_path
from georecon.errors import ConfigError
from georecon.experiments.experiments import Experiments
from georecon.experiments.settings import SplitPlan
from georecon.experiments.trial import TrialJob, trial_files, trial_jobs
from georecon.keys import Json, as_json

READING, FIRST_ENCODER, FIRST_RUN, SIMULATION, ENCODER = 40, 30, 20, 15, 10
"""Priorities of jobs for Snakemake's scheduler; all others have 0."""
RuleFunction = Callable[[Mapping[str, str]], Any]
"""What Snakemake takes in place of a value: a function of the job's wildcards."""


def of(function: Callable[..., Any], file: str | None = None) -> RuleFunction:
    """Let a rule call a function with the wildcards that its parameters are called like.

    Args:
        function: a parameter annotated ``int`` gets a whole number; one that may be None gets that
            where the job has no such wildcard.
        file: pattern of a path in which ``{}`` stands for what the function returns.

    Returns:
        A function of wildcards; it raises ConfigError for a job without a wildcard it needs. What
        has a method ``as_json`` is given as that: parameters of rules are plain values.
    """
    parameters = list(inspect.signature(function).parameters.values())
    name: str = getattr(function, "func", function).__name__  # of a partial: its function's

    def value(wildcards: Mapping[str, str]) -> Any:
        given = {p.name: _argument(name, p, wildcards.get(p.name)) for p in parameters}
        found = function(**given)
        found = found.as_json() if hasattr(found, "as_json") else found
        return found if file is None else file.format(found)

    # not functools.wraps: Snakemake asks the signature which arguments to give
    value.__name__ = value.__qualname__ = name
    return value


def _argument(asker: str, parameter: inspect.Parameter, text: str | None) -> str | int | None:
    kind = getattr(parameter.annotation, "__name__", str(parameter.annotation))
    if text is not None:
        return int(text) if kind == "int" else str(text)
    if kind.endswith("None"):
        return None
    raise ConfigError(f"{asker} needs the wildcard {parameter.name!r}; there is none")


class _FirstTable(NamedTuple):
    """The edition's first table, and what it needs: encoders (method, seed), folders of runs."""

    name: str
    encoders: frozenset[tuple[str, int]]
    runs: frozenset[str]


class RuleValues:
    """What rules need besides the experiments' own methods.

    Args:
        experiments: of the edition.
    """

    def __init__(self, experiments: Experiments) -> None:
        self.experiments = experiments

    # ---- data ------------------------------------------------------------------------------------

    def raw_files(self, dataset: str, target: str | None) -> list[str]:
        """Raw files that a store is made from."""
        names = self.experiments.data.raw_names(dataset, target)
        return [f"{paths.RAW}/{dataset}/{name}" for name in names]

    def own_file(self, dataset: str, file: str) -> list[str]:
        """The user's own file that a raw file is a copy of: a changed one is fetched anew.

        Raises:
            ConfigError: it is not there; Snakemake would be content with an earlier copy.
        """
        local = self.experiments.data.raw_file(dataset, file).local
        if not local:
            return []
        path = own_path(local)
        if not path.is_file():
            raise ConfigError(f"datasets.{dataset}: local: {local} ({file}) is not there")
        return [str(path)]

    def raw_identity(self, dataset: str, file: str) -> dict[str, str | int]:
        """Which file a fetch job brings, not from where: a new address fetches nothing again."""
        return identity(self.experiments.data.card_file(dataset, file))

    def raw_megabytes(self, dataset: str, file: str) -> int:
        """Disk space of a raw file [MB]."""
        return download_mb(self.experiments.data.card_file(dataset, file))

    def raw_download(self, dataset: str, file: str) -> str:
        """Size and source of a raw file; a resource of its rule, because a dry run shows those."""
        return self.experiments.data.download_words(dataset, file)

    def reader_threads(self, dataset: str) -> int:
        """Two where an SDF file is read, to decompress it and to parse it; else one."""
        _, source = card_source(self.experiments.data.card(dataset))
        return 2 if source.reader == "sdf" else 1

    def computed_names(self) -> str:
        """Regular expression of the names of all files that are computed."""
        cards = self.experiments.config.datasets.values()
        names = sorted({name for card in cards for name in computed_files(card)})
        return "|".join(map(re.escape, names)) or "(?!)"

    def simulation(self, dataset: str, trajectory: str) -> Json:
        """How a computed file is made."""
        found: Json = as_json(self.experiments.data.simulation(dataset, trajectory))
        return found

    def split_plan(self, dataset: str, split: str) -> SplitPlan:
        """How a split is made."""
        return self.experiments.data.split_plan(dataset, split)

    def split_store(self, dataset: str, split: str) -> str:
        """Folder of the store whose rows a split names."""
        return self.split_plan(dataset, split).store

    def split_inputs(self, dataset: str, split: str) -> list[str]:
        """Lists of rows, and the test sets that pre-training must not see."""
        plan = self.split_plan(dataset, split)
        lists = {rows.name for rows in plan.indices.values()}
        stores = dict.fromkeys(f"{test.store}/manifest.json" for test in plan.tests)
        files = [f"{paths.RAW}/{dataset}/{name}" for name in lists]
        return [*files, *stores, *(test.split for test in plan.tests)]

    # ---- models ----------------------------------------------------------------------------------

    def encoder(self, method: str, seed: int) -> dict[str, str]:
        """The file ``encoder`` of its seed that a run starts from; nothing for one from scratch."""
        file = self.experiments.runs.encoder_path(method, seed)
        return {} if file is None else {"encoder": file}

    def finetune_store(self, part: str, target: str) -> str:
        """Folder of the store with a target's labels."""
        return self.experiments.data.store(self.experiments.data.dataset_of(part), target)

    def smoothness_store(self) -> str:
        """Folder of the store whose molecules smoothness is estimated on."""
        return self.finetune_store(*self._smoothness_place())

    def smoothness_split(self) -> str:
        """Split of the molecules that smoothness is estimated on."""
        return self.experiments.data.test_split(*self._smoothness_place())

    def _smoothness_place(self) -> tuple[str, str]:
        part = self.experiments.config.smoothness.set
        return part, self.experiments.data.targets(self.experiments.data.dataset_of(part))[0]

    def label_unit(self, part: str, target: str) -> str:
        """Unit of a target's stored labels."""
        data = self.experiments.data
        return data.card(data.dataset_of(part)).target(target).unit

    # ---- what comes first ------------------------------------------------------------------------

    @cached_property
    def _first(self) -> _FirstTable:
        tables = self.experiments.tables
        if not tables.names():
            return _FirstTable("", frozenset(), frozenset())
        name = tables.names()[0]
        encoders = {(row.method, k) for row in tables.rows(name) for k in tables.seeds(name)}
        runs = {file.rsplit("/", 1)[0] for file in tables.files(name)}
        return _FirstTable(name, frozenset(encoders), frozenset(runs))

    def pretrain_priority(self, method: str, seed: int) -> int:
        """Encoders of the first table, then the others; fine-tuning of other tables waits."""
        return FIRST_ENCODER if (method, seed) in self._first.encoders else ENCODER

    def finetune_priority(self, part: str, target: str, method: str, seed: int) -> int:
        """Runs of the first table go before encoders of others, so that it is there early."""
        folder = self.experiments.runs.finetune_folder(part, target, method, seed)
        return FIRST_RUN if folder in self._first.runs else 0

    def table_priority(self, table: str) -> int:
        """The first table as soon as it can be written."""
        return FIRST_RUN if table == self._first.name else 0

    # ---- tables and pages ------------------------------------------------------------------------

    def tables(self) -> list[str]:
        """Names of the edition's tables."""
        return self.experiments.tables.names()

    def run_records(self) -> list[str]:
        """Records of all runs that the tables are made of, each once."""
        return self.experiments.tables.run_records()

    def cell_files(self) -> list[str]:
        """Files of the cells that are made again; none where none is asked for."""
        tables = self.experiments.tables
        return [file for cell in tables.again() for file in tables.named_cell(cell)[0].all_files()]

    def drawn_files(self) -> list[str]:
        """The same where an audit asks for cells to be trained again."""
        return self.cell_files() if self.experiments.config.depth == "rerun" else []

    # ---- the trial -------------------------------------------------------------------------------

    def trial_files(self) -> list[str]:
        """What the trial measures: a file for each kind of training."""
        return trial_files(self.experiments)

    def trial_job(self, kind: str) -> TrialJob:
        """How a kind of training is measured.

        Raises:
            ConfigError: the edition has no such kind.
        """
        if kind not in self._trial_jobs:
            raise ConfigError(
                f"edition {self.experiments.edition!r} has no training of kind {kind}"
            )
        return self._trial_jobs[kind]

    @cached_property
    def _trial_jobs(self) -> dict[str, TrialJob]:
        return trial_jobs(self.experiments)
