"""What a table's caption says of its runs: edition, data, steps and seeds."""

from __future__ import annotations

from collections.abc import Iterable

from georecon.data.card_checks import named
from georecon.experiments.data import Data
from georecon.experiments.references import PRETRAIN
from georecon.experiments.sections import Config, Method
from georecon.experiments.settings import EncoderSettings
from georecon.experiments.specs import Column


def conditions(
    config: Config,
    data: Data,
    columns: Iterable[Column],
    parts: list[str],
    seeds: Iterable[int],
    methods: Iterable[Method],
) -> str:
    """Edition, data, steps and seeds behind a table, in sentences for its caption.

    Args:
        config: the resolved configuration.
        data: its datasets.
        columns: of the table.
        parts: parts of ``sets`` whose fine-tuned errors the table shows.
        seeds: of its runs.
        methods: of its rows.
    """
    encoders = list(dict.fromkeys(method.encoder for method in methods))
    words = " and ".join(_encoder_words(config, name) for name in encoders)
    sentences = [f"Edition {config.edition}: encoder {words}."]
    if parts or any(column.source != "finetune" for column in columns):
        for name in encoders:
            sentences += _pretrain_words(config, data, name)
        if config.pretrain.exclude_leaks:
            sentences.append("Structures of the test sets were removed from pre-training.")
    sentences += [_finetune_words(config, data, part, encoders) for part in parts]
    drawn = any(config.finetune.sets[part].split.draws for part in parts)
    own = ", fine-tuning and draw of labels" if drawn else " and fine-tuning"
    sentences.append(
        f"Seeds {', '.join(map(str, seeds))}, each with its own pre-training{own if parts else ''}."
    )
    return " ".join(sentences)


def _encoder_words(config: Config, name: str | None) -> str:
    e = config.encoders[name].encoder if name else config.encoder
    sizes = f"{e.channels} channels, {e.layers} layers, {e.heads} heads"
    if isinstance(e, EncoderSettings):
        return f"{sizes}, {e.rbf} RBF"
    return f"Uni-Mol, {sizes}, {e.kernels} Gaussian kernels"


def _pretrain_words(config: Config, data: Data, encoder: str | None) -> list[str]:
    """Pre-training of one encoder, and which of its methods have other steps."""
    train = config.encoders[encoder].pretrain if encoder else config.pretrain.train
    title = data.card(data.dataset_of(PRETRAIN)).title
    sentences = [
        f"Pre-training: {title}, {train.steps} steps of {train.batch_size} molecules "
        f"({train.steps * train.batch_size} in all)."
    ]
    sentences += [
        f"{entry.label}: {round(entry.steps_factor * train.steps)} steps."
        for entry in config.methods.values()
        if entry.steps_factor is not None and entry.encoder == encoder
    ]
    files = ((entry, entry.encoder_file) for entry in config.methods.values())
    sentences += [
        f"{entry.label}: the encoder of {named(file).name}, the same for all seeds."
        for entry, file in files
        if encoder is None and file is not None and file.missing is None
    ]
    return sentences


def _finetune_words(config: Config, data: Data, part: str, encoders: list[str | None]) -> str:
    section = config.finetune.sets[part]
    trains = [config.encoders[name].finetune if name else section.train for name in encoders]
    steps = " and ".join(f"{train.steps} steps of {train.batch_size}" for train in trains)
    split = section.split
    sizes = "the dataset's own training sizes, all other frames test"
    if split.rule == "files":
        sizes = f"{split.train} training, {split.val} validation, other files test"
    elif split.train is not None:
        others = "published rows" if split.rule == "index" else "all other"
        test = others if split.test is None else split.test
        sizes = f"{split.train} training, {split.val} validation, {test} test"
    title = data.card(data.dataset_of(part)).title
    references = (
        " Labels of scalar heads less a least-squares fit on element counts."
        if section.references == "fitted"
        else " Labels less the card's atomic references where it has some."
    )
    return f"Fine-tuning on {title}: {sizes}; {steps}.{references}"
