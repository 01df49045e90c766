from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path

import pytest
import yaml

from tests.frame.repository import load_script

ROOT = Path(__file__).resolve().parents[2]
ENVS = ROOT / "envs"


make_lock = load_script(ENVS / "make_lock.py")
LOCK = (ENVS / "lock.txt").read_text()
NAMED = make_lock.named_packages((ENVS / "requirements.in").read_text())


def test_every_line_of_the_lock_is_one_exact_public_version() -> None:
    lines = [line for line in LOCK.splitlines() if line and not line.startswith("#")]
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+", line) for line in lines)
    names = [make_lock.normal(line.split("==")[0]) for line in lines]
    assert len(names) == len(set(names))
    assert names[0] == "torch"


def test_lock_holds_every_named_package() -> None:
    assert {make_lock.normal(name) for name in NAMED} <= set(make_lock.read_pins(LOCK))


def test_lock_satisfies_the_package_metadata() -> None:
    from packaging.requirements import Requirement

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = make_lock.read_pins(LOCK)
    for text in project["dependencies"]:
        requirement = Requirement(text)
        assert pins[make_lock.normal(requirement.name)] in requirement.specifier


@pytest.mark.parametrize("name", ["georecon.yaml", "georecon.def"])
def test_generated_environment_is_up_to_date(name: str) -> None:
    wanted = make_lock.generated(LOCK, NAMED)[name]
    assert (ENVS / name).read_text() == wanted, "run: python envs/make_lock.py --keep"


def test_conda_environment_has_the_pins_of_the_lock() -> None:
    environment = yaml.safe_load((ENVS / "georecon.yaml").read_text())
    lines = environment["dependencies"][-1]["pip"]
    pins = make_lock.read_pins(LOCK)
    found = make_lock.read_pins("\n".join(lines))
    assert found == {make_lock.normal(name): pins[make_lock.normal(name)] for name in NAMED}


def test_container_installs_the_lock_itself() -> None:
    text = (ENVS / "georecon.def").read_text()
    assert "--requirement /opt/georecon/lock.txt" in text
    assert f"python:{make_lock.PYTHON}" in text


def test_torch_loses_its_local_version_and_the_project_its_line() -> None:
    frozen = "numpy==2.0\ntorch==2.13.0+cpu\ngeorecon==0.1.0\n-e /somewhere\nsix==1.0\n"
    lines = [
        li for li in make_lock.make_lock(frozen, ["torch", "NumPy"]).splitlines() if "==" in li
    ]
    assert lines == ["torch==2.13.0", "numpy==2.0", "six==1.0"]


def test_named_bounds_are_kept() -> None:
    from packaging.requirements import Requirement

    pins = make_lock.read_pins(LOCK)
    for line in (ENVS / "requirements.in").read_text().splitlines():
        if line and not line.startswith("#"):
            requirement = Requirement(line)
            assert pins[make_lock.normal(requirement.name)] in requirement.specifier


def test_a_package_that_refuses_the_oldest_python_is_found() -> None:
    assert any("snakemake" in line for line in make_lock.needing_newer_python("3.5.0"))


def test_missing_named_package_is_refused() -> None:
    with pytest.raises(SystemExit, match=r"not installed in .*: ase"):
        make_lock.make_lock("torch==1.0\n", ["torch", "ase"])


def test_check_answers_by_exit_code() -> None:
    command = [sys.executable, ENVS / "make_lock.py", "--check"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0


# ---- nothing in the lock is unused --------------------------------------------------------------

PYTHON_FOLDERS = ("src", "workflow", "benchmarks", "tests", "envs", "rules")
IMPORTED_AS = {  # where a package's import has another name than the package
    "pyyaml": "yaml",
    "jupyter-client": "jupyter_client",
    "markdown-it-py": "markdown_it",
    "torch-geometric": "torch_geometric",
}
TOOLS = {  # packages that are run, not imported: where their command or module is named
    "snakemake": "Makefile",
    "snakefmt": "Makefile",
    "ruff": "Makefile",
    "mypy": "Makefile",
    "yamllint": "Makefile",
    "pytest-timeout": "pyproject.toml",  # timeout = ...
    "pytest-xdist": "Makefile",  # -n, --dist
    "qm9pack": "src/georecon/data/readers/qm9_package.py",  # its file is read, not its code
    "ipykernel": "src/georecon/reporting/render.py",
    "beartype": "tests/shapes.py",  # named to jaxtyping's hook
    "soupsieve": "envs/requirements.in",  # a bound on what nbconvert needs
    "types-pyyaml": "pyproject.toml",  # mypy reads them
    "pandas-stubs": "pyproject.toml",
    "import-linter": "pyproject.toml",
    "pre-commit": "CONTRIBUTING.md",
}
WORDS = {  # what is written there, if not the package's name
    "pytest-timeout": "timeout = ",
    "pytest-xdist": "--dist ",
    "types-pyyaml": "[tool.mypy]",
    "pandas-stubs": "[tool.mypy]",
    "import-linter": "[tool.importlinter]",
}
OPTIONAL = {"triton", "torchmdnet", "rocrate_validator"}  # not in the lock; used where they are


def imported(text: str) -> set[str]:
    """First names of all modules that a source imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.partition(".")[0])
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.importorskip":
            found.add(str(ast.literal_eval(node.args[0])).partition(".")[0])
    return found


@cache
def imports_of(*folders: str) -> set[str]:
    files = [path for folder in folders for path in (ROOT / folder).rglob("*.py")]
    return set().union(*(imported(path.read_text()) for path in files), notebook_imports())


@cache
def notebook_imports() -> set[str]:
    """What the cells of the figures' notebooks import."""
    found = set()
    for path in (ROOT / "reports" / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text())["cells"]
        found |= imported(
            "\n".join("".join(c["source"]) for c in cells if c["cell_type"] == "code")
        )
    return found


def module_of(package: str) -> str:
    name = make_lock.normal(package)
    return IMPORTED_AS.get(name, name.replace("-", "_"))


@pytest.mark.parametrize("package", NAMED)
def test_a_named_package_is_imported_or_run(package: str) -> None:
    name = make_lock.normal(package)
    if name in TOOLS:
        assert WORDS.get(name, name) in (ROOT / TOOLS[name]).read_text()
    else:
        assert module_of(package) in imports_of(*PYTHON_FOLDERS), f"{package} is not used"


def test_a_package_nobody_uses_is_noticed() -> None:
    """The twin."""
    assert module_of("polars") not in imports_of(*PYTHON_FOLDERS)
    assert imported("def f():\n    import pandas.api as p\n    from ..x import y") == {"pandas"}


def test_what_src_imports_is_named() -> None:
    """A package that only comes along with another one may go with the next version of that."""
    own = {"georecon", "snakemake_logger_plugin_georecon"}
    known = own | OPTIONAL | set(sys.stdlib_module_names) | {module_of(name) for name in NAMED}
    assert imports_of("src") - known == set()
    assert {"seaborn", "georecon"} <= notebook_imports()
