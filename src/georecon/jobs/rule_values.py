"""What rules ask of the experiments: files, settings and numbers, by the names of wildcards.

A rule names the function that gives a value, ``settings=of(experiments.finetune_settings)``; the
function takes what it needs from the job's wildcards because its parameters are called like them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from georecon import paths
from georecon.data.raw.lock import download_mb, identity
from georecon.errors import ConfigError
from georecon.experiments.cells import Experiments, cell_files

RuleFunction = Callable[[Mapping[str, str]], Any]
"""What Snakemake takes in place of a value: a function of the job's wildcards."""


def of(function: Callable[..., Any], file: str | None = None) -> RuleFunction:
    """Let a rule call a function with the wildcards that its parameters are called like.

    Args:
        function: a parameter annotated ``int`` gets a whole number; one that may be None gets that
            where the job has no such wildcard.
        file: pattern of a path in which ``{}`` stands for what the function returns.

    Returns:
        A function of wildcards; it raises ConfigError for a job without a wildcard it needs.
    """
    parameters = list(inspect.signature(function).parameters.values())
    name: str = getattr(function, "func", function).__name__  # of a partial: its function's

    def value(wildcards: Mapping[str, str]) -> Any:
        given = {p.name: _argument(name, p, wildcards.get(p.name)) for p in parameters}
        found = function(**given)
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
        names = self.experiments.raw_names(dataset, target)
        return [f"{paths.RAW}/{dataset}/{name}" for name in names]

    def raw_identity(self, dataset: str, file: str) -> dict[str, Any]:
        """Which file a fetch job brings, not from where: a new address fetches nothing again."""
        return identity(self.experiments.card_file(dataset, file))

    def raw_megabytes(self, dataset: str, file: str) -> int:
        """Disk space of a raw file [MB]."""
        return download_mb(self.experiments.card_file(dataset, file))

    def raw_download(self, dataset: str, file: str) -> str:
        """Size and source of a raw file; a resource of its rule, because a dry run shows those."""
        return self.experiments.download_words(dataset, file)

    def reader_threads(self, dataset: str) -> int:
        """Two where an SDF file is read, to decompress it and to parse it; else one."""
        sources = self.experiments.reading_card(dataset)["sources"].values()
        return 2 if any(source["reader"] == "sdf" for source in sources) else 1

    def split_plan(self, dataset: str, split: str) -> dict[str, Any]:
        """How a split is made."""
        return self.experiments.split_plan(dataset, split)

    def split_store(self, dataset: str, split: str) -> str:
        """Folder of the store whose rows a split names."""
        return str(self.split_plan(dataset, split)["store"])

    def split_inputs(self, dataset: str, split: str) -> list[str]:
        """Lists of rows, and the test sets that pre-training must not see."""
        plan = self.split_plan(dataset, split)
        lists = {file["name"] for file in plan.get("indices", {}).values()}
        tests = plan.get("tests", [])
        stores = dict.fromkeys(f"{entry['store']}/manifest.json" for entry in tests)
        files = [f"{paths.RAW}/{dataset}/{name}" for name in lists]
        return [*files, *stores, *(entry["split"] for entry in tests)]

    # ---- models ----------------------------------------------------------------------------------

    def encoder(self, method: str) -> dict[str, str]:
        """The file ``encoder`` that a method starts from; nothing for one from scratch."""
        if not self.experiments.is_pretrained(method):
            return {}
        return {"encoder": f"{self.experiments.pretrain_folder(method)}/encoder.safetensors"}

    def smoothness_store(self) -> str:
        """Folder of the store whose molecules smoothness is estimated on."""
        return self.experiments.store(*self._smoothness_place())

    def smoothness_split(self) -> str:
        """Split of the molecules that smoothness is estimated on."""
        return self.experiments.split(*self._smoothness_place())

    def _smoothness_place(self) -> tuple[str, str]:
        dataset = self.experiments.dataset_of(self.experiments.config["smoothness"]["set"])
        return dataset, self.experiments.targets(dataset)[0]

    def label_unit(self, dataset: str, target: str) -> str:
        """Unit of a target's stored labels."""
        return str(self.experiments.card(dataset)["targets"][target]["unit"])

    # ---- tables and pages ------------------------------------------------------------------------

    def tables(self) -> list[str]:
        """Names of the edition's tables."""
        return list(self.experiments.config["tables"])

    def run_records(self) -> list[str]:
        """Records of all runs that the tables are made of, each once."""
        files = [f for name in self.tables() for f in self.experiments.table_files(name)]
        return list(dict.fromkeys(f"{file.rsplit('/', 1)[0]}/run.json" for file in files))

    def cell_files(self) -> list[str]:
        """Files of the one cell that is made again; none where none is asked for."""
        cell = self.experiments.config.get("cell")
        return cell_files(self.experiments, cell) if cell else []
