"""Published results that a run starts from: verified, and laid out for the jobs that take them.

``--config start_from=bundle.zip``. The bundle is an enemy as in
:mod:`georecon.audit.verify_bundle`, which looks through it and audits it first. Of a sound one,
records, outputs and logs of trainings, smoothness, dynamics and simulations are kept in a folder
that is named by the bundle's sha256. Each job decides for itself whether a run fits
(:mod:`georecon.records.start`).
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

from georecon import paths
from georecon.audit import BROKEN
from georecon.audit.verify_bundle import read_configuration, unpacked_bundle, verify_unpacked
from georecon.errors import ConfigError, DataError, GeoreconError
from georecon.experiments.experiments import Experiments
from georecon.files import full_disk, sha256_file, write_json
from georecon.records.chain import read_graph
from georecon.records.start import INFO, STAGES, VARIABLE
from georecon.records.untrusted import printable


def start(experiments: Experiments, folder: Path) -> None:
    """Let the jobs of this process take what fits of the bundle that the configuration names.

    Args:
        experiments: of the run, with ``start_from``.
        folder: working folder.

    Raises:
        SystemExit: the bundle is of no use; the message is a sentence.
    """

    def say(line: str) -> None:
        print(f"georecon: {line}", file=sys.stderr)

    try:
        place = lay_out(Path(str(experiments.config.start_from)), experiments.edition, folder, say)
    except GeoreconError as error:
        raise SystemExit(f"georecon: start_from: {printable(str(error))[:1000]}") from None
    except OSError as error:
        raise SystemExit(f"georecon: start_from: {full_disk(error) or error}") from None
    os.environ[VARIABLE] = os.path.relpath(place, folder)


def lay_out(path: Path, edition: str, folder: Path, say: Callable[[str], None]) -> Path:
    """The folder with what jobs may take of a bundle, made if it is not there yet.

    Args:
        path: the bundle.
        edition: that it must be of.
        folder: working folder.
        say: takes a line on what there is.

    Raises:
        ConfigError: of another edition.
        DataError: not a bundle of this project, or one that does not verify.
    """
    if not path.is_file():
        raise DataError(path, None, "no such file; expected a bundle (.zip)")
    sha256 = sha256_file(path)
    place = folder / paths.START / sha256
    if not (place / INFO).is_file():
        say(f"start_from: {path} is verified first")
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=place.parent, prefix=".") as temporary:
            made = Path(temporary) / "made"
            _unpack(path, edition, made)
            write_json(made / INFO, {"name": path.name, "sha256": sha256})
            os.rename(made, place)
    runs = Counter(record.stage for record in read_graph(place, edition).records.values())
    words = ", ".join(f"{runs[stage]} {stage}" for stage in STAGES if runs[stage]) or "no runs"
    say(
        f"start_from: {path.name} (sha256 {sha256[:16]}…) has {words}; what was made with the "
        "settings, code and inputs of this run is taken, the rest made here"
    )
    return place


def _unpack(path: Path, edition: str, target: Path) -> None:
    """Copy what jobs may take of a bundle that verifies."""
    with unpacked_bundle(path) as (root, names):
        theirs = read_configuration(root)
        if theirs.edition != edition:
            raise ConfigError(
                f"{path} is of edition {theirs.edition!r}, this run of {edition!r}: "
                f"allowed is a bundle of this edition, or --config edition={theirs.edition}"
            )
        found = verify_unpacked(root, names, theirs)
        if found.status == BROKEN:
            first = next(finding for finding in found.findings if finding.breaks)
            raise DataError(
                path,
                None,
                f"does not verify: {first.path}: {first.text:.300}; `python -m "
                f"georecon.verify_bundle {path}` says all",
            )
        for record in read_graph(root, edition).records.values():
            if record.stage not in STAGES:
                continue
            for name in (record.path, *(claim.path for claim in record.written().values())):
                if (root / name).is_file():
                    (target / name).parent.mkdir(parents=True, exist_ok=True)
                    shutil.copyfile(root / name, target / name)
        target.mkdir(parents=True, exist_ok=True)
