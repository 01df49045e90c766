from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
ENVS = ROOT / "envs"


def load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("envs_make_lock", ENVS / "make_lock.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


make_lock = load()
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
