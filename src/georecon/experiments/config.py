"""Configuration: read, merge, check; every refusal names the dotted key and what is allowed."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import yaml

from georecon.data.cards import complete, findings
from georecon.errors import ConfigError

_OBJECTIVES = Path(__file__).parents[1] / "objectives"
_SHARED = ("methods", "tables", "datasets")
_SIZES = ("train", "val", "test")
# Kinds of data that can play a part; all other parts are force sets.
_KINDS = {"pretrain": ("geometries", "properties", "forces"), "property": ("properties",)}


# libyaml's parser, ten times as fast; PyYAML is also built without it
_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class _UniqueKeys(_SafeLoader):  # type: ignore[misc]
    """YAML loader that refuses a key given twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Refuse duplicates, then construct as usual."""
        seen: set[Any] = set()
        for key_node, _ in node.value:
            if key_node.tag == "tag:yaml.org,2002:merge":
                continue
            key = self.construct_object(key_node, deep=True)
            if key in seen:
                where = key_node.start_mark
                raise ConfigError(
                    f"{where.name}, line {where.line + 1}: key {key!r} is given twice"
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def read_yaml(path: Path) -> Any:
    """Read a YAML file; duplicate keys and syntax errors name file and line."""
    try:
        with open(path, encoding="utf-8") as handle:
            return yaml.load(handle, _UniqueKeys)
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None


def _read_mapping(path: Path) -> dict[str, Any]:
    value = read_yaml(path)
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: must be a mapping of keys to values, is {value!r:.40}")
    return value


def merge(base: Any, over: Any) -> Any:
    """Deep merge of mappings: ``over`` wins, lists and scalars are replaced whole."""
    if not (isinstance(base, dict) and isinstance(over, dict)):
        return over
    merged = dict(base)
    for key, value in over.items():
        merged[key] = merge(base[key], value) if key in base else value
    return merged


def load_config(folder: Path, overrides: dict[str, Any]) -> dict[str, Any]:
    """Resolved configuration: shared files, then the edition, then what the user gave.

    Args:
        folder: the ``config`` folder.
        overrides: config.yaml with the command line's ``--config`` and ``--configfile`` merged in;
            ``edition`` names a file of ``editions/``.

    Raises:
        ConfigError: unknown edition, unknown or missing key, impossible value.
    """
    editions = sorted(path.stem for path in (folder / "editions").glob("*.yaml"))
    edition = overrides.get("edition")
    if edition not in editions:
        hint = _nearest(str(edition), editions)
        raise ConfigError(f"edition is {edition!r}; allowed: {', '.join(editions)}{hint}")
    config: dict[str, Any] = {name: _read_mapping(folder / f"{name}.yaml") for name in _SHARED}
    config = merge(config, _read_mapping(folder / "editions" / f"{edition}.yaml"))
    config = merge(config, overrides)
    for entry in config["sets"].values() if isinstance(config.get("sets"), dict) else ():
        if isinstance(entry, dict) and entry.get("missing", "") is None:
            del entry["missing"]  # `missing: null` takes an edition's reason away
    for section in ("methods", "tables"):  # an edition switches an entry off with null
        config[section] = {k: v for k, v in config[section].items() if v is not None}
    check(config, read_yaml(folder / "schema.yaml"))
    config["datasets"] = {name: complete(name, card) for name, card in config["datasets"].items()}
    check_references(config)
    return config


def check(config: dict[str, Any], schema: dict[str, Any]) -> None:
    """Check against the JSON schema; all findings in one error, one line each."""
    import jsonschema

    errors = jsonschema.Draft202012Validator(schema).iter_errors(config)
    lines = sorted({line for error in errors for line in _explain(error)})
    if lines:
        raise ConfigError("configuration refused:\n  " + "\n  ".join(lines))


def _nearest(word: str, allowed: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(allowed), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _explain(error: Any) -> list[str]:
    """One jsonschema error as readable lines: dotted key, value, what is allowed."""
    path = ".".join(str(part) for part in error.absolute_path)
    prefix = f"{path}." if path else ""
    if error.validator == "additionalProperties":
        allowed = sorted(error.schema.get("properties", {}))
        unknown = [key for key in error.instance if key not in allowed]
        return [
            f"{prefix}{key}: unknown key; allowed: {', '.join(allowed)}"
            f"{_nearest(str(key), allowed)}"
            for key in unknown
        ]
    if error.validator == "required":
        return [
            f"{prefix}{key}: missing" for key in error.validator_value if key not in error.instance
        ]
    if error.validator in ("anyOf", "oneOf"):
        return [line for part in error.context for line in _explain(part)][:4]
    value = repr(error.instance)
    wanted = {
        "type": f"must be {error.validator_value}",
        "enum": f"allowed: {', '.join(map(str, error.validator_value))}"
        if error.validator == "enum"
        else "",
        "minimum": f"must be at least {error.validator_value}",
        "exclusiveMinimum": f"must be greater than {error.validator_value}",
        "maximum": f"must be at most {error.validator_value}",
    }.get(error.validator, error.message)
    hint = ""
    if error.validator == "type" and isinstance(error.instance, str) and _is_number(error.instance):
        hint = " (YAML reads 1e-3 as text: write 1.0e-3)"
    return [f"{path}: is {value[:60]}; {wanted}{hint}"]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def objective_parameters(name: str) -> list[str]:
    """Keyword parameters that an objective's class takes, read from its source without importing
    it.

    Raises:
        ConfigError: there is no such objective file.
    """
    allowed = sorted(p.stem for p in _OBJECTIVES.glob("*.py") if not p.stem.startswith("_"))
    if name not in allowed:
        raise ConfigError(
            f"objective is {name!r}; allowed: {', '.join(allowed)}{_nearest(name, allowed)}"
        )
    tree = ast.parse((_OBJECTIVES / f"{name}.py").read_text(encoding="utf-8"))
    for node in tree.body:
        if isinstance(node, ast.ClassDef) and node.name == "Objective":
            for item in node.body:
                if isinstance(item, ast.FunctionDef) and item.name == "__init__":
                    return [argument.arg for argument in item.args.kwonlyargs]
    raise ConfigError(f"objectives/{name}.py: no class Objective with an __init__")


def _check_method(name: str, methods: dict[str, Any]) -> list[str]:
    method = methods[name]
    if "of" in method:
        base = methods.get(method["of"], {})
        if "objective" in method or "objective" not in base:
            bases = ", ".join(key for key, entry in methods.items() if "objective" in entry)
            return [
                f"methods.{name}.of: is {method['of']!r}; allowed, instead of an objective: {bases}"
            ]
        method = merge(base, method)
    if "objective" not in method:
        return [] if "params" not in method else [f"methods.{name}.params: without an objective"]
    try:
        allowed = objective_parameters(method["objective"])
    except ConfigError as error:
        return [f"methods.{name}.{error}"]
    given = method.get("params", {})
    return [
        f"methods.{name}.params.{key}: unknown key; allowed: {', '.join(allowed)}"
        f"{_nearest(key, allowed)}"
        for key in given
        if key not in allowed
    ] + [f"methods.{name}.params.{key}: missing" for key in allowed if key not in given]


def _check_tables(config: dict[str, Any]) -> list[str]:
    lines = []
    methods, sets = sorted(config["methods"]), sorted(config["sets"])
    for name, table in config["tables"].items():
        rows = table.get("rows", {})
        named = rows.get("methods", "all")
        wanted = [] if named == "all" else list(named)
        wanted += [rows["sweep"]["method"]] if "sweep" in rows else []
        lines += [
            f"tables.{name}.rows: unknown method {method!r}; allowed: {', '.join(methods)}"
            for method in wanted
            if method not in methods
        ]
        lines += [
            f"tables.{name}.columns.{k}.set: is {column['set']!r}; allowed: {', '.join(sets)}"
            for k, column in enumerate(table.get("columns", []))
            if "set" in column and column["set"] not in sets
        ]
    return lines


def _check_sets(config: dict[str, Any]) -> list[str]:
    """Datasets that cannot play their part, and splits larger than their dataset."""
    lines = []
    for part, entry in config["sets"].items():
        card = config["datasets"].get(entry["dataset"])
        if card is None or "missing" in entry:
            continue
        kinds = _KINDS.get(part, ("forces",))
        if card["kind"] not in kinds:
            lines.append(
                f"sets.{part}.dataset: {entry['dataset']} is of kind {card['kind']}; "
                f"allowed: {', '.join(kinds)}"
            )
        elif part in config["finetune"]:
            lines += _check_split(config["finetune"][part]["split"], card, part)
    return lines


def _check_split(split: dict[str, Any], card: dict[str, Any], part: str) -> list[str]:
    """Sizes against the counts that the card states; other counts are known at the split only."""
    lines = []
    source = card["sources"].get(card["default_source"], {})
    whole = source.get("expected_molecules", card["expected_molecules"])
    for target in card["targets"]:
        fixed = target in (source.get("parts") or {})
        if fixed != (split.get("rule") == "files"):
            lines.append(
                f"finetune.{part}.split.rule: is {split.get('rule', 'random')!r}; target {target} "
                f"{'has files of its own to test on: files' if fixed else 'has one file: random'}"
            )
        role = source["parts"][target]["train"] if fixed else target
        file = source.get("files", {}).get(role, {}) if card["store_per_file"] else {}
        count = file.get("expected_molecules", whole)
        wanted = sum(split.get(key) or 0 for key in (("train", "val") if fixed else _SIZES))
        if "val_fraction" in split and "train" not in split:
            wanted = card["targets"][target].get("train_val", 0)
            if not wanted:
                lines.append(f"datasets.{card['name']}.targets.{target}.train_val: missing")
        if count is not None and wanted > count:
            lines.append(f"finetune.{part}.split: {wanted} molecules wanted, {target} has {count}")
    return lines


def check_references(config: dict[str, Any]) -> None:
    """Check what a schema cannot: names that must exist elsewhere, sizes that must fit together.

    Raises:
        ConfigError: all findings, one line each.
    """
    lines = [line for name in config["methods"] for line in _check_method(name, config["methods"])]
    cards = sorted(config["datasets"])
    for name, entry in config["sets"].items():
        if entry["dataset"] not in cards:
            lines.append(
                f"sets.{name}.dataset: is {entry['dataset']!r}; allowed: {', '.join(cards)}"
            )
        elif name != "pretrain" and "missing" not in entry and name not in config["finetune"]:
            lines.append(f"finetune.{name}: missing (sets.{name} has data)")
    encoder = config["encoder"]
    if encoder["channels"] % encoder["heads"]:
        lines.append(
            f"encoder.channels: is {encoder['channels']}; must be a multiple of encoder.heads "
            f"({encoder['heads']})"
        )
    lines += _check_tables(config)
    lines += [line for card in config["datasets"].values() for line in findings(card)]
    lines += _check_sets(config)
    if lines:
        raise ConfigError("configuration refused:\n  " + "\n  ".join(lines))
