"""``georecon card MODEL``: the model card of trained weights, as model hubs read it."""

from __future__ import annotations

import argparse
import sys
import zipfile
from pathlib import Path

from georecon.errors import DataError, GeoreconError
from georecon.experiments.experiments import Experiments
from georecon.experiments.yaml_files import read_mapping
from georecon.files import write_text
from georecon.library.models import MEMBER
from georecon.records.chain import read_graph
from georecon.reporting.model_card import FILE, CardBook
from georecon.reporting.molecule_sets import molecule_sets

_LONGEST = 1 << 20  # bytes of a card in a bundle; ours have some thousand


def card(model: str, configfile: Path | None = None) -> str:
    """The card of an encoder or a fine-tuned model.

    Args:
        model: its file in ``results/<edition>/`` of a project, or ``bundle.zip::member``, whose
            card is in the bundle.
        configfile: that the edition was made with, where it has data of one's own.

    Raises:
        DataError: the file lies in no project, or no record is beside it.
        ConfigError: the project's configuration cannot be used.
    """
    file, _, member = model.partition(MEMBER)
    if member:
        return _in_bundle(Path(file), f"{member.rpartition('/')[0]}/{FILE}")
    path = Path(file).resolve()
    if not path.is_file():
        raise DataError(file, None, "no such file")
    places = [k for k, part in enumerate(path.parts) if part == "results"]
    if not places or len(path.parts) < places[-1] + 4:
        raise DataError(
            file, None, "lies in no results/<edition> of a project, whose records its card is from"
        )
    root, edition = Path(*path.parts[: places[-1]]), path.parts[places[-1] + 1]
    graph = read_graph(root, edition)
    record = graph.records.get((path.parent / "run.json").relative_to(root).as_posix())
    given = read_mapping(configfile) if configfile else {}
    experiments = Experiments.load(root / "config", {**given, "edition": edition})
    text = CardBook(graph, molecule_sets(experiments)).card(record) if record else None
    if record is None or text is None:
        raise DataError(file, None, "no record of a training lies beside it (run.json)")
    if path.relative_to(root).as_posix() not in {claim.path for claim in record.outputs.values()}:
        raise DataError(file, None, "is not among the files that the record beside it names")
    return text


def _in_bundle(bundle: Path, member: str) -> str:
    try:
        with zipfile.ZipFile(bundle) as archive:
            if archive.getinfo(member).file_size > _LONGEST:
                raise DataError(bundle, member, f"is larger than {_LONGEST} bytes: no card")
            return archive.read(member).decode()
    except KeyError:
        raise DataError(bundle, member, "is not in the bundle") from None
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise DataError(bundle, None, f"cannot be read as a bundle ({error})") from None


def main(arguments: list[str] | None = None) -> int:
    """Command line; 0 if there is a card."""
    parser = argparse.ArgumentParser(
        prog="georecon card", description="Model card of trained weights, from their records."
    )
    parser.add_argument("model", help="file in results/<edition>/, or bundle.zip::member")
    parser.add_argument("-o", "--output", type=Path, help="file to write; else it is printed")
    parser.add_argument("--configfile", type=Path, help="that the edition was made with")
    options = parser.parse_args(arguments)
    try:
        text = card(options.model, options.configfile)
        if options.output:
            write_text(options.output, text)
        else:
            print(text, end="")
    except (GeoreconError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0
