"""What a table's caption says of its runs: edition, data, steps and seeds."""

from __future__ import annotations

from collections.abc import Iterable

from georecon.data.card_checks import named
from georecon.experiments.data import Data
from georecon.experiments.references import PRETRAIN
from georecon.experiments.sections import Config
from georecon.experiments.specs import Column


def conditions(
    config: Config, data: Data, columns: Iterable[Column], parts: list[str], seeds: Iterable[int]
) -> str:
    """Edition, data, steps and seeds behind a table, in sentences for its caption.

    Args:
        config: the resolved configuration.
        data: its datasets.
        columns: of the table.
        parts: parts of ``sets`` whose fine-tuned errors the table shows.
        seeds: of its runs.
    """
    sentences = [f"Edition {config.edition}: encoder {_encoder_words(config)}."]
    if parts or any(column.source != "finetune" for column in columns):
        train, title = config.pretrain.train, data.card(data.dataset_of(PRETRAIN)).title
        sentences.append(
            f"Pre-training: {title}, {train.steps} steps of {train.batch_size} molecules "
            f"({train.steps * train.batch_size} in all)."
        )
        sentences += [
            f"{entry.label}: {round(entry.steps_factor * train.steps)} steps."
            for entry in config.methods.values()
            if entry.steps_factor is not None
        ]
        sentences += [
            f"{entry.label}: the encoder of {named(entry.encoder_file).name}, the same for all "
            "seeds."
            for entry in config.methods.values()
            if entry.encoder_file is not None and entry.encoder_file.missing is None
        ]
        if config.pretrain.exclude_leaks:
            sentences.append("Structures of the test sets were removed from pre-training.")
    sentences += [_finetune_words(config, data, part) for part in parts]
    drawn = any(config.finetune.sets[part].split.draws for part in parts)
    own = ", fine-tuning and draw of labels" if drawn else " and fine-tuning"
    sentences.append(
        f"Seeds {', '.join(map(str, seeds))}, each with its own pre-training{own if parts else ''}."
    )
    return " ".join(sentences)


def _encoder_words(config: Config) -> str:
    e = config.encoder
    return f"{e.channels} channels, {e.layers} layers, {e.heads} heads, {e.rbf} RBF"


def _finetune_words(config: Config, data: Data, part: str) -> str:
    section = config.finetune.sets[part]
    split, train = section.split, section.train
    sizes = "the dataset's own training sizes, all other frames test"
    if split.rule == "files":
        sizes = f"{split.train} training, {split.val} validation, other files test"
    elif split.train is not None:
        test = "all other" if split.test is None else split.test
        sizes = f"{split.train} training, {split.val} validation, {test} test"
    title = data.card(data.dataset_of(part)).title
    references = (
        " Labels of scalar heads less a least-squares fit on element counts."
        if section.references == "fitted"
        else " Labels less the card's atomic references where it has some."
    )
    return (
        f"Fine-tuning on {title}: {sizes}; {train.steps} steps of {train.batch_size}.{references}"
    )
