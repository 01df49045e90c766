"""Which runs an edition has, where they lie and with which settings.

Everything here is a function of the resolved configuration; the Snakefile, the tables and the plan
all ask here, so that they cannot disagree.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from georecon import paths
from georecon.data.cards import ISOLATED_ATOMS
from georecon.data.elements import ATOMIC_NUMBER
from georecon.errors import ConfigError
from georecon.experiments.data import Data
from georecon.experiments.methods import Methods, part_fault
from georecon.experiments.sections import Config
from georecon.experiments.settings import (
    AnyEncoder,
    EncoderFileSettings,
    FinetuneSettings,
    NveSettings,
    PretrainSettings,
    Recipe,
    SmoothnessSettings,
    encoder_modules,
)
from georecon.records.code import code_digest

SCALAR = "scalar"
"""The head whose labels may have references of elements subtracted; others have their own form."""


@dataclass(frozen=True, slots=True)
class Runs:
    """Runs of a resolved configuration.

    Attributes:
        place: name of its folder in ``results``.
    """

    config: Config
    methods: Methods
    data: Data

    @property
    def place(self) -> str:
        """The edition; what is made again has a folder of its own (audit.rerun, audit.again)."""
        again = self.config.cell
        if again is None and self.config.depth == "rerun":
            again = f"seed{self.config.sample_seed or 0}"
        return f"{self.config.edition}/rerun/{again}" if again else self.config.edition

    def folder(self, pattern: str, **wildcards: str | int) -> str:
        """Results folder of this edition from a pattern of :mod:`georecon.paths`."""
        return pattern.format(edition=self.place, **wildcards)

    def pretrain_folder(self, method: str, seed: int) -> str:
        """Folder of a method's pre-trained encoder."""
        return self.folder(paths.PRETRAIN, method=method, seed=seed)

    def encoder_folder(self, method: str) -> str:
        """Folder of an encoder that comes from a file."""
        return self.folder(paths.ENCODER, method=method)

    def encoder_path(self, method: str, seed: int) -> str | None:
        """File of the encoder that a run of a seed starts from; None from scratch."""
        if self.methods.is_pretrained(method):
            return f"{self.pretrain_folder(method, seed)}/encoder.safetensors"
        from_file = self.methods.encoder_file(method) is not None
        return f"{self.encoder_folder(method)}/encoder.safetensors" if from_file else None

    def encoder_raw(self, method: str) -> str:
        """Raw file that a method's encoder comes from.

        Raises:
            ConfigError: it comes from none.
        """
        file = self.methods.encoder_file(method)
        if file is None:
            raise ConfigError(f"method {method} has no encoder_file")
        return f"{paths.RAW}/{paths.ENCODER_FILES}/{file.name}"

    def finetune_folder(self, part: str, target: str, method: str, seed: int) -> str:
        """Folder of a fine-tuning run and its evaluation."""
        place = {"part": part, "target": target, "method": method}
        return self.folder(paths.FINETUNE, **place, seed=seed)

    def leak(self, part: str, target: str) -> str:
        """Leak report of a target's test set against this edition's pre-training set."""
        split = self.data.test_split(part, target).removesuffix(".npz").rsplit("/", 1)[-1]
        return self.folder(paths.LEAK, dataset=self.data.dataset_of(part), split=split)

    def encoder(self, method: str) -> AnyEncoder:
        """Settings of a method's encoder."""
        other = self.methods.other_encoder(method)
        return other.encoder if other else self.config.encoder

    def pretrain_settings(self, method: str, seed: int) -> PretrainSettings:
        """All that a pre-training run's numbers depend on, data apart.

        Raises:
            ConfigError: the method is not pre-trained.
        """
        entry = self.methods.entry(method)
        if entry.objective is None:
            raise ConfigError(f"method {method} is not pre-trained")
        other = self.methods.other_encoder(method)
        train = other.pretrain if other else self.config.pretrain.train
        factor = entry.steps_factor or 1
        steps, warmup = round(factor * train.steps), round(factor * train.warmup)
        return PretrainSettings(
            name=f"pretrain {method} seed {seed}",
            method=method,
            objective=entry.objective,
            params=entry.params,
            encoder=self.encoder(method),
            train=replace(train, steps=steps, warmup=warmup),
            seed=seed,
            code=code_digest("pretrain", f"georecon.objectives.{entry.objective}"),
        )

    def encoder_settings(self, method: str) -> EncoderFileSettings:
        """What an encoder from a file must be."""
        return EncoderFileSettings(
            name=f"encoder of {method} from a file",
            method=method,
            encoder=self.config.encoder,
            code=code_digest("import_encoder"),
        )

    def finetune_settings(self, part: str, target: str, method: str, seed: int) -> FinetuneSettings:
        """All that a fine-tuning run's numbers depend on, data and encoder apart.

        Raises:
            ConfigError: the method's encoder cannot be trained on this part.
        """
        dataset, section = self.data.dataset_of(part), self.config.finetune.sets[part]
        other, recipe = self.methods.other_encoder(method), self.recipe(part, target)
        if other:  # it has no head for Noisy Nodes
            recipe = replace(recipe, noise_sigma=0.0)
        encoder = self.encoder(method)
        if fault := part_fault(self.config, self.methods.entry(method).encoder, part):
            raise ConfigError(f"{fault} (method {method})")
        return FinetuneSettings(
            name=f"finetune {part}/{target} {method} seed {seed}",
            part=part,
            dataset=dataset,
            target=target,
            method=method,
            label=self.data.card(dataset).target(target).label,
            recipe=recipe,
            encoder=encoder,
            train=other.finetune if other else section.train,
            evaluation_batch=section.evaluation_batch,
            seed=seed,
            code=code_digest("finetune", *encoder_modules(encoder)),
        )

    def recipe(self, part: str, target: str) -> Recipe:
        """How a target is learned, from its entry in the dataset card."""
        card, section = self.data.card(self.data.dataset_of(part)), self.config.finetune.sets[part]
        entry = card.target(target)
        fitted = section.references == "fitted" and entry.head == SCALAR
        atomref = {} if fitted else card.atomrefs.get(entry.atomref or "", {})
        return Recipe(
            head=entry.head,
            loss=entry.loss,
            standardize=entry.standardize or fitted,
            atomref={ATOMIC_NUMBER[symbol]: value for symbol, value in atomref.items()},
            fitted=fitted,
            noise_sigma=section.noise_sigma,
            noise_weight=entry.denoise_weight,
            energy_weight=(entry.energy_weight or 0.0) if card.forces else 0.0,
            force_weight=(entry.force_weight or 0.0) if card.forces else 0.0,
            isolated_atoms=entry.atomref == ISOLATED_ATOMS and not (atomref or fitted),
        )

    def smoothness_settings(self, method: str, seed: int) -> SmoothnessSettings:
        """All that a smoothness estimate depends on, data and encoder apart."""
        section, encoder = self.config.smoothness, self.encoder(method)
        return SmoothnessSettings(
            name=f"smoothness {method} seed {seed}",
            method=method,
            encoder=encoder,
            molecules=section.molecules,
            maps=section.maps,
            displacements=section.displacements,
            iterations=section.iterations,
            seed=seed,
            code=code_digest("smoothness", *encoder_modules(encoder)),
        )

    def nve_settings(self, part: str, target: str, method: str, seed: int) -> NveSettings:
        """All that dynamics with a fine-tuned model depend on, data and model apart.

        Raises:
            ConfigError: the edition has no such dynamics.
        """
        section = self.config.nve
        if section is None or (part, target) != (section.set, section.target):
            raise ConfigError(f"edition {self.config.edition!r} has no dynamics of {part}/{target}")
        dataset = self.data.dataset_of(part)
        entry, encoder = self.data.card(dataset).target(target), self.encoder(method)
        return NveSettings(
            name=f"nve {part}/{target} {method} seed {seed}",
            part=part,
            dataset=dataset,
            target=target,
            method=method,
            unit=entry.unit,
            head=entry.head,
            encoder=encoder,
            steps=section.steps,
            timestep_fs=section.timestep_fs,
            temperature_K=section.temperature_K,
            starts=section.starts,
            seed=seed,
            code=code_digest("nve", *encoder_modules(encoder)),
        )
