"""Datasets of an edition: cards, raw files, stores, and how each split is made."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

from georecon import paths
from georecon.data.cards import (
    ALL,
    Card,
    File,
    card_source,
    computed_files,
    missing_file,
    missing_target,
    parts,
    reading_json,
    source_files,
)
from georecon.data.raw.lock import download_words
from georecon.data.simulation import Simulation
from georecon.errors import ConfigError
from georecon.experiments.methods import Methods
from georecon.experiments.references import PRETRAIN
from georecon.experiments.sections import Config, Split
from georecon.experiments.settings import FileParts, Rows, SplitPlan, TestSet
from georecon.keys import Json, as_json, choice


class _Sizes(NamedTuple):
    train: int | None
    val: int | None


@dataclass(frozen=True, slots=True)
class Data:
    """Datasets of a resolved configuration."""

    config: Config

    # ---- cards and parts ---------------------------------------------------------------------

    def dataset_of(self, part: str) -> str:
        """Dataset that plays a part ("pretrain", or any other name) in this edition."""
        return self.config.sets[part].dataset

    def card(self, dataset: str) -> Card:
        """Dataset card."""
        return self.config.datasets[dataset]

    def finetune_parts(self) -> list[str]:
        """Parts that have data in this edition, pre-training apart."""
        return [
            name
            for name, role in self.config.sets.items()
            if name != PRETRAIN and role.missing is None
        ]

    def targets(self, dataset: str) -> list[str]:
        """Targets of a dataset: properties, or molecules of a force set."""
        return list(self.card(dataset).targets or {})

    def has_forces(self, dataset: str) -> bool:
        """Whether the dataset is a force set: one store a molecule, energies and forces."""
        return self.card(dataset).forces

    def parts(self, dataset: str, target: str) -> dict[str, str | None]:
        """Test parts of a target that has several, each with why its file is missing, or None.

        All have a reason where the training file is missing.
        """
        card = self.card(dataset)
        split = parts(card, target)
        if split is None:
            return {}
        no_train = missing_file(card, split.train)
        return {name: no_train or missing_file(card, role) for name, role in split.test.items()}

    def missing(self, dataset: str, target: str, part: str | None) -> str | None:
        """Why a target, or a test part of it, has no data, or None."""
        if part is not None:
            name = self.card(dataset).title.split(",")[0]
            return self.parts(dataset, target).get(part, f"{name} has no test part {part}")
        return missing_target(self.card(dataset), target)

    def no_forces(self, dataset: str, target: str, part: str) -> str | None:
        """Why a test part of a target has energies only, or None."""
        card = self.card(dataset)
        split = parts(card, target)
        if split is None:
            return None
        return card_source(card)[1].files[split.test[part]].no_forces

    def tested(self, dataset: str) -> list[str]:
        """Targets of a fine-tuning dataset that have data to be tested on."""
        return [
            target
            for target in self.targets(dataset)
            if not missing_target(self.card(dataset), target)
            and (not (found := self.parts(dataset, target)) or not all(found.values()))
        ]

    # ---- raw files and stores ----------------------------------------------------------------

    def reading_card(self, dataset: str, target: str | None) -> Json:
        """The part of a card that a store depends on, for a rule's parameters."""
        return reading_json(self.card(dataset), target)

    def raw_names(self, dataset: str, target: str | None) -> list[str]:
        """Names of the raw files that a store is made from."""
        files = source_files(self.card(dataset), target)
        return list(dict.fromkeys(str(file.name) for file in files.values()))

    def raw_file(self, dataset: str, name: str) -> File:
        """A raw file of a card, or of an encoder, by its name.

        Raises:
            ConfigError: there is no such file; lists those there are.
        """
        if dataset == paths.ENCODER_FILES:
            return self._encoder_file(name)
        _, source = card_source(self.card(dataset))
        sections = self.config.finetune.sets
        own = [p for p in self.finetune_parts() if self.dataset_of(p) == dataset and p in sections]
        numbers = [n for part in own for n in self._numbers(sections[part].split)] or [1]
        lists = [file for n in numbers for file in self._lists(dataset, n).values()]
        files = [*source.files.values(), *lists]
        for file in files:
            if file.name == name:
                return file
        names = ", ".join(dict.fromkeys(str(file.name) for file in files))
        raise ConfigError(f"dataset {dataset} has no raw file {name!r}; allowed: {names}")

    def _encoder_file(self, name: str) -> File:
        methods = Methods(self.config)
        files = {file.name: file for one in methods.names() if (file := methods.encoder_file(one))}
        if name not in files:
            allowed = ", ".join(map(str, files)) or "none"
            raise ConfigError(f"no method has an encoder_file {name!r}; allowed: {allowed}")
        return files[name]

    def simulation(self, dataset: str, name: str) -> Simulation:
        """How a computed file is made, by its name without ``.npz``.

        Raises:
            ConfigError: the card has no such file; lists those it has.
        """
        found = computed_files(self.card(dataset))
        if name not in found:
            raise ConfigError(f"dataset {dataset}: computed file {choice(name, found)}")
        return found[name]

    def trajectories(self, dataset: str, target: str) -> list[str]:
        """Descriptions of the computed files behind a target; none where none is computed."""
        made = computed_files(self.card(dataset))
        names = [name.removesuffix(".npz") for name in self.raw_names(dataset, target)]
        return [f"{paths.RAW}/{dataset}/{name}.json" for name in names if name in made]

    def card_file(self, dataset: str, name: str) -> Json:
        """The same as plain JSON, for a rule's parameters."""
        found: Json = as_json(self.raw_file(dataset, name))
        return found

    def download_words(self, dataset: str, name: str) -> str:
        """Size and source of a raw file, for a plan."""
        return download_words(self.card_file(dataset, name), self.config.mirror)

    def store(self, dataset: str, target: str) -> str:
        """Folder of the store that holds a target's labels."""
        base = paths.STORE.format(dataset=dataset)
        return f"{base}/{target}" if self.card(dataset).store_per_file else base

    def pretrain_store(self) -> str:
        """Folder of the store that pre-training reads: every file of its dataset."""
        return self.store(self.dataset_of(PRETRAIN), ALL)

    # ---- splits ------------------------------------------------------------------------------

    def split(self, part: str, target: str, seed: int) -> str:
        """Split file of a target of a part; its draw of labels is a seed's own."""
        dataset, split = self.dataset_of(part), self.config.finetune.sets[part].split
        name = f"{target}_{split.name}" if self.card(dataset).store_per_file else split.name
        name = f"{name}_draw{seed}" if split.draws else name
        return paths.SPLIT.format(dataset=dataset, split=name)

    def test_split(self, part: str, target: str) -> str:
        """A split file of a target that names the test set, which is the same for all seeds."""
        return self.split(part, target, self.config.finetune.seeds[0])

    def seeds(self) -> list[int]:
        """All seeds that runs of the edition have: those of ``finetune`` and of single tables."""
        named = [seed for table in self.config.tables.values() for seed in table.seeds or ()]
        return list(dict.fromkeys([*self.config.finetune.seeds, *named]))

    def pretrain_split(self) -> str:
        """Split file of the pre-training set; what it leaves out depends on the edition."""
        name = f"pretrain_{self.config.edition}"
        return paths.SPLIT.format(dataset=self.dataset_of(PRETRAIN), split=name)

    def split_plan(self, dataset: str, name: str) -> SplitPlan:
        """How the split ``resources/splits/<dataset>/<name>.npz`` is made.

        Raises:
            ConfigError: the edition has no such split.
        """
        path = paths.SPLIT.format(dataset=dataset, split=name)
        if path == self.pretrain_split():
            return self._pretrain_plan(dataset)
        for part in self.finetune_parts():
            for target in self.targets(dataset) if self.dataset_of(part) == dataset else ():
                for seed in self.seeds():
                    if path == self.split(part, target, seed):
                        return self._finetune_plan(part, target, seed)
        raise ConfigError(f"edition {self.config.edition!r} has no split {path}")

    def _finetune_plan(self, part: str, target: str, seed: int) -> SplitPlan:
        dataset, split = self.dataset_of(part), self.config.finetune.sets[part].split
        card = self.card(dataset)
        train, val = self._sizes(part, target)
        files, indices = None, {}
        if split.rule == "files" and (own := parts(card, target)) is not None:
            gone = self.parts(dataset, target)
            present = {name: role for name, role in own.test.items() if not gone[name]}
            files = FileParts(train=own.train, test=present)
        if split.rule == "index":
            lists = self._lists(dataset, seed if split.draws else split.number or 1)
            indices = {p: Rows(name=str(f.name), member=f.member) for p, f in lists.items()}
        return SplitPlan(
            rule=split.rule,
            store=self.store(dataset, target),
            seed=split.seed,
            name=split.name,
            number=seed if split.draws and split.rule == "index" else split.number,
            train=train,
            val=val,
            test=split.test,
            draw=seed if split.draws and split.rule != "index" else None,
            files=files,
            indices=indices,
        )

    def _numbers(self, split: Split) -> list[int]:
        """Numbers of the published splits that a part has."""
        return self.seeds() if split.draws and split.rule == "index" else [split.number or 1]

    def _lists(self, dataset: str, number: int) -> dict[str, File]:
        """Published lists of rows by part, those of one split; a source may have none."""
        _, source = card_source(self.card(dataset))
        if source.indices is None:
            return {}
        lists = {"train": source.indices.train, "test": source.indices.test}
        return {part: _numbered(file, number) for part, file in lists.items()}

    def _sizes(self, part: str, target: str) -> _Sizes:
        """Training and validation molecules; MD22's sizes are those of its own protocol."""
        split = self.config.finetune.sets[part].split
        if split.val_fraction is None or split.train is not None:
            return _Sizes(split.train, split.val)
        total = self.card(self.dataset_of(part)).target(target).train_val or 0
        val = round(split.val_fraction * total)
        return _Sizes(total - val, val)

    def _pretrain_plan(self, dataset: str) -> SplitPlan:
        """Pre-training leaves out what fine-tuning on the same set validates and tests on and,
        with ``exclude_leaks``, every structure that any test set has.
        """
        section = self.config.pretrain
        tests = [
            TestSet(
                store=self.store(name, target),
                split=self.test_split(part, target),
                same=name == dataset,
            )
            for part in self.finetune_parts()
            for name in (self.dataset_of(part),)
            for target in self.tested(name)
        ]
        wanted = [test for test in tests if section.exclude_leaks or test.same]
        return SplitPlan(
            rule="pretrain",
            store=self.pretrain_store(),
            seed=1,
            val=section.validation,
            tests=tuple({test.split: test for test in wanted}.values()),
            exclude_leaks=section.exclude_leaks,
        )


def _numbered(file: File, number: int) -> File:
    """A list of rows with the number of a published split in its names."""

    def filled(text: str | None) -> str | None:
        return text and text.replace("{number}", str(number))

    return replace(
        file,
        name=filled(file.name),
        member=filled(file.member),
        local=filled(file.local),
        path=filled(file.path),
        urls=tuple(url.replace("{number}", str(number)) for url in file.urls),
    )
