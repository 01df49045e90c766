"""Methods and their variants: which rows of tables are pre-trained how."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from georecon.data.card_checks import named
from georecon.data.cards import File
from georecon.errors import ConfigError
from georecon.experiments.sections import Config, Method, OtherEncoder, Sweep
from georecon.keys import choice


@dataclass(frozen=True, slots=True)
class Variant:
    """A method with one parameter changed by a sweep."""

    method: str
    parameter: str
    value: float


@dataclass(frozen=True, slots=True)
class Methods:
    """Methods of a resolved configuration."""

    config: Config

    def names(self) -> list[str]:
        """Methods that get a row in tables of all methods, in the order of methods.yaml: those of
        the section ``encoder`` that are no variants.
        """
        methods = self.config.methods.items()
        return [name for name, one in methods if one.of is None and one.encoder is None]

    def variants(self) -> dict[str, Variant]:
        """Variants of sweeps by name, ``<method>__<sweep><value>``, and what they change."""
        found: dict[str, Variant] = {}
        for table in self.config.tables.values():
            sweep = table.rows.sweep
            for value in sweep.values if sweep else ():
                assert sweep is not None
                name = self.variant(sweep, value)
                if name != sweep.method:
                    found[name] = Variant(sweep.method, sweep.parameter, value)
        return found

    def variant(self, sweep: Sweep, value: float) -> str:
        """Name of a sweep's run; the method itself where the value is the method's own."""
        method = self.config.methods.get(sweep.method)
        own = method.params.get(sweep.parameter) if method else None
        return sweep.method if value == own else f"{sweep.method}__{sweep.name}{value}"

    def entry(self, name: str) -> Method:
        """A method or variant with all its parameters: label and, unless from scratch, objective.

        Raises:
            ConfigError: there is no such method.
        """
        methods = self.config.methods
        variant = self.variants().get(name)
        base = variant.method if variant else name
        if base not in methods:
            known = [*methods, *self.variants()]
            raise ConfigError(f"method is {name!r}; allowed: {', '.join(known)}")
        entry = methods[base]
        if entry.of is not None and entry.objective is None:
            parent = methods[entry.of]
            entry = replace(
                entry,
                objective=parent.objective,
                encoder=entry.encoder or parent.encoder,
                params=_merged(parent.params, entry.params),
                steps_factor=entry.steps_factor or parent.steps_factor,
            )
        if variant is None:
            return entry
        return replace(entry, params={**entry.params, variant.parameter: variant.value})

    def other_encoder(self, name: str) -> OtherEncoder | None:
        """The encoder of another architecture that a method names, or None.

        Raises:
            ConfigError: there is no such method, or no such encoder.
        """
        wanted, encoders = self.entry(name).encoder, self.config.encoders
        if wanted is None:
            return None
        if wanted not in encoders:
            raise ConfigError(f"methods.{name}.encoder: {choice(wanted, sorted(encoders))}")
        return encoders[wanted]

    def is_pretrained(self, name: str) -> bool:
        """Whether the method has an encoder that is pre-trained here."""
        return self.entry(name).objective is not None

    def encoder_file(self, name: str) -> File | None:
        """File that the method's encoder comes from, called as at its place; None without one."""
        file = self.entry(name).encoder_file
        return None if file is None else named(file)

    def missing(self, name: str) -> str | None:
        """Why the method has no numbers here: its encoder's file is not to be had; or None."""
        file = self.entry(name).encoder_file
        return None if file is None else file.missing


def part_fault(config: Config, encoder: str | None, part: str) -> str | None:
    """Why an encoder of ``encoders`` cannot be fine-tuned on a part, or None.

    One line with its dotted key: encoders of other architectures than the equivariant transformer
    have no head for forces.
    """
    dataset = config.sets[part].dataset
    card = config.datasets.get(dataset)
    if encoder is None or card is None or not card.forces:
        return None
    what = f"encoder {encoder} has no head for forces: needs a dataset of properties"
    return f"sets.{part}.dataset: is {dataset!r}; {what}"


def _merged(base: Mapping[str, object], over: Mapping[str, object]) -> dict[str, object]:
    """Parameters laid over others, groups of parameters key by key."""
    merged = dict(base)
    for key, value in over.items():
        before = merged.get(key)
        both = isinstance(before, Mapping) and isinstance(value, Mapping)
        merged[key] = _merged(before, value) if both else value  # type: ignore[arg-type]
    return merged
