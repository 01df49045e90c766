"""Which runs an edition has, where they lie and with which settings.

Everything here is a function of the resolved configuration; the Snakefile, the tables and the plan
all ask here, so that they cannot disagree.
"""

from __future__ import annotations

from typing import Any

from georecon import paths
from georecon.data.cards import ALL, card_source, missing_file, parts, source_files
from georecon.data.elements import ATOMIC_NUMBER
from georecon.data.raw.lock import download_words
from georecon.errors import ConfigError
from georecon.experiments.config import merge
from georecon.records.code import code_digest


class Runs:
    """Runs of one resolved configuration."""

    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        self.edition: str = config["edition"]
        # a cell that is made again has its own results folder: georecon.audit.rerun
        again = f"/rerun/{config['cell']}" if config.get("cell") else ""
        self.place = self.edition + again

    # ---- methods -----------------------------------------------------------------------------

    def methods(self) -> list[str]:
        """Methods that get a row in tables of all methods, in the order of methods.yaml."""
        return [name for name, entry in self.config["methods"].items() if "of" not in entry]

    def variants(self) -> dict[str, dict[str, Any]]:
        """Ablation variants by name, ``<method>__<sweep><value>``, and what they change."""
        found: dict[str, dict[str, Any]] = {}
        for table in self.config["tables"].values():
            sweep = table["rows"].get("sweep")
            for value in sweep["values"] if sweep else []:
                name = self.variant(sweep, value)
                if name != sweep["method"]:
                    found[name] = {"method": sweep["method"], sweep["parameter"]: value}
        return found

    def variant(self, sweep: dict[str, Any], value: Any) -> str:
        """Name of a sweep's run; the method itself where the value is the method's own."""
        method: str = sweep["method"]
        own = self.config["methods"][method]["params"][sweep["parameter"]]
        return method if value == own else f"{method}__{sweep['name']}{value}"

    def method(self, name: str) -> dict[str, Any]:
        """Entry of a method or variant: label and, unless from scratch, objective and params."""
        variant = dict(self.variants().get(name, {"method": name}))
        base = variant.pop("method")
        if base not in self.config["methods"]:
            known = [*self.config["methods"], *self.variants()]
            raise ConfigError(f"method is {name!r}; allowed: {', '.join(known)}")
        entry: dict[str, Any] = self.config["methods"][base]
        if "of" in entry:
            entry = merge(self.config["methods"][entry["of"]], entry)
        return entry | {"params": {**entry.get("params", {}), **variant}}

    def is_pretrained(self, method: str) -> bool:
        """Whether the method has a pre-trained encoder."""
        entry = self.method(method)
        return "objective" in entry

    # ---- datasets ----------------------------------------------------------------------------

    def dataset_of(self, set_name: str) -> str:
        """Dataset that plays a part ("property", "force", …) in this edition."""
        dataset: str = self.config["sets"][set_name]["dataset"]
        return dataset

    def card(self, dataset: str) -> dict[str, Any]:
        """Dataset card."""
        card: dict[str, Any] = self.config["datasets"][dataset]
        return card

    def set_of(self, dataset: str) -> str:
        """Part that a fine-tuning dataset plays."""
        for name, entry in self.config["sets"].items():
            if name != "pretrain" and entry["dataset"] == dataset:
                return str(name)
        raise ConfigError(f"dataset {dataset!r} plays no part in edition {self.edition!r}")

    def targets(self, dataset: str) -> list[str]:
        """Targets of a dataset: properties, or molecules of a force set."""
        return list(self.card(dataset)["targets"])

    def has_forces(self, dataset: str) -> bool:
        """Whether the dataset is a force set: one store a molecule, energies and forces."""
        return self.card(dataset)["kind"] == "forces"

    def reading_card(self, dataset: str) -> dict[str, Any]:
        """The part of a card that its store depends on: no recipes, titles or addresses."""
        card = self.card(dataset)
        source, entry = card_source(card)
        files = {
            role: {key: value for key, value in file.items() if key != "urls"}
            for role, file in entry["files"].items()
        }
        names = (
            "name",
            "store_per_file",
            "expected_molecules",
            "units",
            "ranges",
            "outliers",
            "kind",
            "default_source",
        )
        reading = {name: card[name] for name in names}
        reading["sources"] = {source: {**entry, "files": files}}
        labels = {name: {"label": target["label"]} for name, target in card["targets"].items()}
        return reading | {"targets": labels}

    def raw_names(self, dataset: str, target: str | None) -> list[str]:
        """Names of the raw files that a store is made from."""
        files = source_files(self.card(dataset), target)
        return list(dict.fromkeys(file["name"] for file in files.values()))

    def parts(self, dataset: str, target: str) -> dict[str, str | None]:
        """Test parts of a target that has several, each with why its file is missing, or None.

        All have a reason where the training file is missing.
        """
        card = self.card(dataset)
        split = parts(card, target)
        if split is None:
            return {}
        no_train = missing_file(card, split["train"])
        return {name: no_train or missing_file(card, role) for name, role in split["test"].items()}

    def card_file(self, dataset: str, name: str) -> dict[str, Any]:
        """Entry of a raw file in its dataset card."""
        _, source = card_source(self.card(dataset))
        for file in source["files"].values():
            if file["name"] == name:
                return dict(file)
        names = ", ".join(file["name"] for file in source["files"].values())
        raise ConfigError(f"dataset {dataset} has no raw file {name!r}; allowed: {names}")

    def download_words(self, dataset: str, name: str) -> str:
        """Size and source of a raw file, for a plan."""
        return download_words(self.card_file(dataset, name), self.config.get("mirror"))

    def store(self, dataset: str, target: str) -> str:
        """Folder of the store that holds a target's labels."""
        base = paths.STORE.format(dataset=dataset)
        return f"{base}/{target}" if self.card(dataset)["store_per_file"] else base

    def pretrain_store(self) -> str:
        """Folder of the store that pre-training reads: every file of its dataset."""
        return self.store(self.dataset_of("pretrain"), ALL)

    def split(self, dataset: str, target: str) -> str:
        """Split file of a target."""
        name = self.config["finetune"][self.set_of(dataset)]["split"]["name"]
        name = f"{target}_{name}" if self.card(dataset)["store_per_file"] else name
        return paths.SPLIT.format(dataset=dataset, split=name)

    def pretrain_split(self) -> str:
        """Split file of the pre-training set; what it leaves out depends on the edition."""
        name = f"pretrain_{self.edition}"
        return paths.SPLIT.format(dataset=self.dataset_of("pretrain"), split=name)

    def split_sizes(self, dataset: str, target: str) -> dict[str, Any]:
        """Sizes and seed of a fine-tuning split; MD22's sizes are those of its own protocol."""
        split = dict(self.config["finetune"][self.set_of(dataset)]["split"])
        fraction = split.pop("val_fraction", None)
        if fraction is not None and "train" not in split:
            total = self.card(dataset)["targets"][target]["train_val"]
            split["val"] = round(fraction * total)
            split["train"] = total - split["val"]
        return {"rule": "random", "test": None, "seed": 1, **split}

    def split_plan(self, dataset: str, name: str) -> dict[str, Any]:
        """How the split ``resources/splits/<dataset>/<name>.npz`` is made.

        Returns:
            ``rule`` (a key of ``georecon.stages.split.RULES``), ``store``, sizes, seed, and
            what the rule needs besides: see there.
        """
        path = paths.SPLIT.format(dataset=dataset, split=name)
        if path == self.pretrain_split():
            return self._pretrain_plan(dataset)
        for target in self.targets(dataset):
            if path == self.split(dataset, target):
                return self._finetune_plan(dataset, target)
        raise ConfigError(f"edition {self.edition!r} has no split {path}")

    def _finetune_plan(self, dataset: str, target: str) -> dict[str, Any]:
        plan = {"store": self.store(dataset, target), **self.split_sizes(dataset, target)}
        card = self.card(dataset)
        if plan["rule"] == "files":
            split = parts(card, target) or {}
            gone = self.parts(dataset, target)
            present = {name: role for name, role in split["test"].items() if not gone[name]}
            return plan | {"files": {"train": split["train"], "test": present}}
        if plan["rule"] == "index":
            _, source = card_source(card)
            number = plan.get("number", 1)
            return plan | {
                "indices": {
                    part: {key: value.format(number=number) for key, value in file.items()
                           if key in ("name", "member")}
                    for part, file in source["indices"].items()
                }
            }  # fmt: skip
        return plan

    def _pretrain_plan(self, dataset: str) -> dict[str, Any]:
        """Pre-training leaves out what fine-tuning on the same set validates and tests on and,
        with ``exclude_leaks``, every structure that any test set has.
        """
        section = self.config["pretrain"]
        tests = [
            {
                "store": self.store(name, target),
                "split": self.split(name, target),
                "same": name == dataset,
            }
            for name in dict.fromkeys(self.dataset_of(part) for part in self.finetune_sets())
            for target in self.tested(name)
        ]
        wanted = tests if section["exclude_leaks"] else [t for t in tests if t["same"]]
        return {
            "rule": "pretrain",
            "store": self.pretrain_store(),
            "tests": list({entry["split"]: entry for entry in wanted}.values()),
            "exclude_leaks": section["exclude_leaks"],
            "val": section["validation"],
            "seed": 1,
        }

    def tested(self, dataset: str) -> list[str]:
        """Targets of a fine-tuning dataset that have data to be tested on."""
        return [
            target
            for target in self.targets(dataset)
            if not (found := self.parts(dataset, target)) or not all(found.values())
        ]

    def finetune_sets(self) -> list[str]:
        """Parts that have data in this edition, pre-training apart."""
        return [
            name
            for name, entry in self.config["sets"].items()
            if name != "pretrain" and "missing" not in entry
        ]

    def leak(self, dataset: str, target: str) -> str:
        """Leak report of a target's test set against this edition's pre-training set."""
        split = self.split(dataset, target).removesuffix(".npz").rsplit("/", 1)[-1]
        return self.folder(paths.LEAK, dataset=dataset, split=split)

    # ---- runs --------------------------------------------------------------------------------

    def folder(self, pattern: str, **wildcards: Any) -> str:
        """Results folder of this edition from a pattern of :mod:`georecon.paths`."""
        return pattern.format(edition=self.place, **wildcards)

    def pretrain_folder(self, method: str) -> str:
        """Folder of a method's pre-trained encoder."""
        return self.folder(paths.PRETRAIN, method=method, seed=self.config["pretrain"]["seed"])

    def pretrain_settings(self, method: str, seed: int) -> dict[str, Any]:
        """All that a pre-training run's numbers depend on, data apart."""
        entry = self.method(method)
        train = dict(self.config["pretrain"]["train"])
        for name in ("steps", "warmup"):
            train[name] = round(entry.get("steps_factor", 1) * train[name])
        return {
            "name": f"pretrain {method} seed {seed}",
            "method": method,
            "objective": entry["objective"],
            "params": entry["params"],
            "encoder": self.config["encoder"],
            "train": train,
            "seed": seed,
            "code": code_digest("pretrain", f"georecon.objectives.{entry['objective']}"),
        }

    def finetune_settings(
        self, dataset: str, target: str, method: str, seed: int
    ) -> dict[str, Any]:
        """All that a fine-tuning run's numbers depend on, data and encoder apart."""
        section = self.config["finetune"][self.set_of(dataset)]
        entry = self.card(dataset)["targets"][target]
        return {
            "name": f"finetune {dataset}/{target} {method} seed {seed}",
            "dataset": dataset,
            "target": target,
            "method": method,
            "label": entry["label"],
            "recipe": self.recipe(dataset, target),
            "encoder": self.config["encoder"],
            "train": section["train"],
            "evaluation_batch": section["evaluation_batch"],
            "seed": seed,
            "code": code_digest("finetune"),
        }

    def recipe(self, dataset: str, target: str) -> dict[str, Any]:
        """How a target is learned, from its entry in the dataset card."""
        card = self.card(dataset)
        entry = card["targets"][target]
        atomref = card["atomrefs"][entry["atomref"]] if entry.get("atomref") else {}
        recipe = {
            "head": entry.get("head", "scalar"),
            "loss": entry.get("loss", "mse"),
            "standardize": entry.get("standardize", True),
            "atomref": {ATOMIC_NUMBER[symbol]: value for symbol, value in atomref.items()},
            "noise_sigma": self.config["finetune"][self.set_of(dataset)]["noise_sigma"],
            "noise_weight": entry["denoise_weight"],
        }
        if self.has_forces(dataset):
            recipe |= {
                "energy_weight": entry["energy_weight"],
                "force_weight": entry["force_weight"],
            }
        return recipe

    def smoothness_settings(self, method: str, seed: int) -> dict[str, Any]:
        """All that a smoothness estimate depends on, data and encoder apart."""
        section = self.config["smoothness"]
        names = ("molecules", "maps", "displacements", "iterations")
        return {
            "name": f"smoothness {method} seed {seed}",
            "method": method,
            "encoder": self.config["encoder"],
            **{name: section[name] for name in names},
            "seed": seed,
            "code": code_digest("smoothness"),
        }
