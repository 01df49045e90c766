"""Files that follow from the classes of settings: ``python -m georecon.experiments.schema``.

Writes ``config/schema.yaml`` (JSON schema), ``config/objectives.json`` (parameters of the
objectives, for planning without torch) and the tables of keys between the markers of
config/README.md. With ``--check`` it writes nothing and fails if one of them is out of step.
"""

from __future__ import annotations

import argparse
import dataclasses
import importlib
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import yaml

from georecon.data.cards import Card, DihedralScan, File, Indices, Parts, Source, Target
from georecon.data.simulation import Dihedral, Scan, Simulation
from georecon.experiments.config import adapter
from georecon.experiments.objective_keys import (
    code_of,
    declared,
    describe,
    kind_of,
    objective_names,
)
from georecon.experiments.sections import (
    Config,
    FinetuneSet,
    Method,
    Nve,
    OtherEncoder,
    Pretrain,
    Role,
    Smoothness,
    Split,
    Sweep,
    Table,
    TableColumn,
    TableRows,
)
from georecon.experiments.settings import ET, EncoderSettings, TrainSettings, UnimolSettings
from georecon.files import write_text
from georecon.keys import Json, key_hints, scalar_kinds

ROOT = Path(__file__).resolve().parents[3]
_HEAD = """\
# JSON schema of the resolved configuration, written by `python -m georecon.experiments.schema` from
# the classes in experiments/sections.py and data/cards.py. Do not edit: change the classes.
"""
_MARK = re.compile(r"(<!-- keys: (\w+) -->\n).*?(<!-- end -->)", re.S)
_TABLES: dict[str, type] = {
    "config": Config,
    "role": Role,
    "encoder": EncoderSettings,
    "encoders": OtherEncoder,
    "unimol_sizes": UnimolSettings,
    "pretrain": Pretrain,
    "finetune": FinetuneSet,
    "split": Split,
    "train": TrainSettings,
    "smoothness": Smoothness,
    "nve": Nve,
    "method": Method,
    "table": Table,
    "rows": TableRows,
    "sweep": Sweep,
    "columns": TableColumn,
    "card": Card,
    "source": Source,
    "file": File,
    "parts": Parts,
    "indices": Indices,
    "target": Target,
    "dihedral_scan": DihedralScan,
    "simulation": Simulation,
    "scan": Scan,
    "dihedral": Dihedral,
}


class _Dumper(yaml.SafeDumper):
    """YAML whose lists are indented, as in the other files."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        """Indent a list in a mapping too."""
        super().increase_indent(flow, False)


def schema() -> Json:
    """JSON schema of the configuration as people write it."""
    found: Any = adapter().json_schema()
    definitions = found["$defs"]
    finetune = definitions["Finetune"]
    sections = finetune["properties"].pop("sets")  # beside the seeds, in the files
    finetune["required"] = ["seeds"]
    ((pattern, section),) = sections["patternProperties"].items()
    finetune["propertyNames"], finetune["additionalProperties"] = {"pattern": pattern}, section
    encoder = definitions["EncoderSettings"]
    encoder["required"] = list(encoder["properties"])  # an edition says all of them
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **found}


def objectives() -> Json:
    """All objectives: parameters, what they measure, and the digest of their file's code.

    One of another architecture than the equivariant transformer says its kind.
    """
    # as a name, since planning imports this folder's modules and no torch
    measures = importlib.import_module("georecon.objectives._measures").measures
    found: dict[str, Json] = {}
    for name in objective_names():
        kind = kind_of(declared(name))
        encoder: Json = {} if kind == ET else {"encoder": kind}
        parameters = {"measures": measures(name), "parameters": describe(declared(name))}
        found[name] = {"code": code_of(name), **encoder, **parameters}
    return dict(found)


def key_table(kind: type) -> str:
    """The keys of a class as a Markdown table: what each means, its values, its default."""
    lines = ["| key | meaning | values | default |", "|---|---|---|---|"]
    for field in dataclasses.fields(kind):
        annotation, key = key_hints(kind)[field.name]
        unit = f" [{key.unit}]" if key.unit else ""
        words = "" if key.choices else _kind_words(annotation)
        values = ", ".join(filter(None, (words, key.bounds())))
        stated = kind is EncoderSettings  # of an edition
        default = "" if stated else _default_words(field)
        lines.append(f"| `{field.name}` | {key.sentence}{unit} | {values} | {default} |")
    return "\n".join(lines) + "\n"


def objective_table(name: str) -> str:
    """The parameters of an objective as a Markdown table."""
    return key_table(declared(name))


def _kind_words(annotation: Any) -> str:
    kinds = scalar_kinds(annotation)
    names = {int: "integer", float: "number", bool: "boolean", str: "text"}
    if kinds:
        return " or ".join(names.get(kind, "null") for kind in kinds)
    if get_origin(annotation) is tuple:
        return "list"
    if dataclasses.is_dataclass(annotation):
        return "section"
    parts = [part for part in get_args(annotation) if part is not type(None)]
    if get_origin(annotation) is not None and len(parts) > 0:
        inner = [_kind_words(part) for part in parts if get_origin(part) or isinstance(part, type)]
        mapping = "Mapping" in str(get_origin(annotation))
        return "mapping" if mapping else next((word for word in inner if word), "text")
    return ""


def _default_words(field: dataclasses.Field[Any]) -> str:
    if field.default_factory is not dataclasses.MISSING or field.default in (None, (), ""):
        return "none"
    if field.default is dataclasses.MISSING:
        return ""
    value = field.default
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


def readme(text: str) -> str:
    """config/README.md with the tables between its markers written anew."""

    def table(match: re.Match[str]) -> str:
        name = match[2]
        kind = _TABLES.get(name)
        rows = objective_table(name) if kind is None else key_table(kind)
        return f"{match[1]}\n{rows}\n{match[3]}"

    return _MARK.sub(table, text)


def files(root: Path) -> Iterator[tuple[Path, str]]:
    """Each generated file and what it is to hold."""
    dumped = yaml.dump(schema(), Dumper=_Dumper, allow_unicode=True, sort_keys=False, width=90)
    yield root / "config" / "schema.yaml", _HEAD + dumped
    described = json.dumps(objectives(), indent=1, ensure_ascii=False)
    yield root / "config" / "objectives.json", described + "\n"
    path = root / "config" / "README.md"
    yield path, readme(path.read_text(encoding="utf-8"))


def main() -> int:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing, fail if out of step")
    check = parser.parse_args().check
    stale = 0
    for path, text in files(ROOT):
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        stale += 1
        print(f"{path.relative_to(ROOT)}: {'out of step' if check else 'written'}")
        if not check:
            write_text(path, text)
    return int(bool(check and stale))


if __name__ == "__main__":
    sys.exit(main())
