"""Which folder may import which: the contracts of ``[tool.importlinter]`` in pyproject.toml."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import grimp
import pytest

from tests.frame.repository import ROOT

LINT = Path(sys.executable).with_name("lint-imports")


def lint(root: Path) -> tuple[int, str]:
    """Exit code of ``lint-imports`` on the sources of a folder, and what it says on one line."""
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "COLUMNS": "500"}
    done = subprocess.run(
        [LINT, root / "pyproject.toml", "--no-cache"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The sources and their contracts, to be broken."""
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_imports_point_down_and_in_no_circle() -> None:
    code, said = lint(ROOT)
    assert code == 0, said
    assert "5 kept, 0 broken" in said


def test_no_module_imports_itself_by_way_of_its_own_package() -> None:
    """The contract looks at siblings; a package and a module in it are none."""
    graph = grimp.build_graph("georecon", cache_dir=None)
    imports = {name: graph.find_modules_directly_imported_by(name) for name in graph.modules}
    order = list(TopologicalSorter(imports).static_order())  # raises CycleError
    assert order.index("georecon.errors") < order.index("georecon.audit")


@pytest.mark.parametrize(
    ("module", "text", "reported"),
    [
        (
            "data/late.py",
            "def late():\n    from georecon.training import loop\n    return loop\n",
            "georecon.data.late -> georecon.training.loop",
        ),
        (
            "noise.py",
            "import georecon.records.record\n",
            "georecon.noise -> georecon.records.record",
        ),
        (
            "models/encoder.py",
            "import georecon.models.potential\n",
            "No cycles are allowed in georecon.models. It could be made acyclic",
        ),
        (
            "data/readers/early.py",
            "import georecon.data.store\n",
            "georecon.data.readers.early -> georecon.data.store",
        ),
        (
            "records/code.py",
            "import torch\n",
            "georecon.records.code -> torch",
        ),
        (
            "attic/__init__.py",
            "",
            "georecon.attic (Since this contract",
        ),
    ],
    ids=["upwards", "ground", "circle", "within data", "torch while planning", "a new folder"],
)
def test_a_broken_contract_is_reported(copy: Path, module: str, text: str, reported: str) -> None:
    path = copy / "src" / "georecon" / module
    path.parent.mkdir(exist_ok=True)
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    path.write_text(old + "\n" + text, encoding="utf-8")
    code, said = lint(copy)
    assert code == 1
    assert reported in said
