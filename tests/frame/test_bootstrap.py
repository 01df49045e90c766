from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.frame.repository import load_script

ROOT = Path(__file__).resolve().parents[2]


bootstrap, install = (
    load_script(ROOT / "envs" / f"{name}.py") for name in ("bootstrap", "install")
)


def fake_python(path: Path, version: str) -> Path:
    path.write_text(f"#!/bin/sh\nprintf '{version}\\n/opt\\n/opt/python\\n'\n")
    path.chmod(0o755)
    return path


class Runner:
    """Stands in for install.run_quiet: remembers phases, makes the folders a venv has."""

    def __init__(self, root: Path, *, cpu_build: bool = True, interrupt_at: str = "") -> None:
        self.root, self.cpu_build, self.interrupt_at = root, cpu_build, interrupt_at
        self.phases: list[str] = []

    def __call__(self, label: str, command: list[str], *, may_fail: bool = False) -> bool:
        self.phases.append(label)
        if self.interrupt_at and self.interrupt_at in label:
            raise KeyboardInterrupt
        if "venv" in command:
            (self.root / ".venv/bin").mkdir(parents=True)
            (self.root / ".venv/bin/python").touch()
            (self.root / ".venv/lib/python3.99/site-packages").mkdir(parents=True)
        return self.cpu_build or not may_fail

    def said(self, text: str) -> bool:
        return any(text in phase for phase in self.phases)


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/lock.txt").write_text("torch==9.9.9\nnumpy==1.2.3\n")
    monkeypatch.setattr(install, "gpu_visible", lambda: False)
    monkeypatch.setattr(install.platform, "system", lambda: "Linux")
    monkeypatch.setenv("GEORECON_MIN_DISK_GB", "0")
    monkeypatch.setattr(install, "cluster_has_gpus", lambda: False)
    for name in ("TORCH", "TORCH_INDEX"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def set_up(root: Path, monkeypatch: pytest.MonkeyPatch, **options: object) -> Runner:
    runner = Runner(root, **options)  # type: ignore[arg-type]
    monkeypatch.setattr(install, "run_quiet", runner)
    install.setup(root, sys.executable)
    return runner


@pytest.mark.parametrize("version", ["2.7.18", "3.10.13", "3.15.0"])
def test_unusable_python_is_refused_by_name_and_version(tmp_path: Path, version: str) -> None:
    python = fake_python(tmp_path / "snake", version)
    done = subprocess.run(
        [sys.executable, ROOT / "envs/bootstrap.py"],
        env={**os.environ, "PYTHON": str(python)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert f"{python} is {version}" in done.stderr
    assert "3.11 to 3.14" in done.stderr
    assert "make PYTHON=" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_old_python3_does_not_hide_a_newer_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_python(tmp_path / "python3", "3.9.2")
    fake_python(tmp_path / "python3.12", "3.12.1")
    broken = tmp_path / "python3.13"
    broken.write_text("#!/bin/sh\nexit 127\n")
    broken.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert bootstrap.find_python("") == ("python3.12", None)


def test_named_python_that_does_not_run_is_named(tmp_path: Path) -> None:
    found, problem = bootstrap.find_python(str(tmp_path / "nowhere"))
    assert found is None
    assert "nowhere does not run" in problem


def test_bootstrap_is_python_2_text() -> None:
    text = (ROOT / "envs/bootstrap.py").read_text()
    assert text.isascii()
    assert "f'" not in text.replace("%s", "")
    assert ' f"' not in text
    assert "->" not in text


def test_small_disk_is_refused_with_both_numbers(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GEORECON_MIN_DISK_GB", "1e9")
    monkeypatch.setattr(install, "run_quiet", Runner(root))
    with pytest.raises(install.SetupError, match=r"GB free, 1000000000.0 GB needed"):
        install.setup(root, sys.executable)
    assert not (root / ".venv").exists()


def test_finished_setup_is_not_repeated(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = set_up(root, monkeypatch)
    assert first.said("Python")
    assert first.said("torch==9.9.9+cpu")
    assert first.said("other packages")
    assert install.is_current(root)
    linked = next((root / ".venv").rglob("georecon.pth")).read_text().strip()
    assert linked == str(root / "src")
    program = root / ".venv/bin/georecon"
    assert program.stat().st_mode & 0o111
    python = root / ".venv/bin/python"
    python.unlink(missing_ok=True)
    python.write_text('#!/bin/sh\necho "$@"\n', encoding="utf-8")
    python.chmod(0o755)
    called = subprocess.run([program, "predict", "a b"], capture_output=True, text=True, check=True)
    assert called.stdout == "-m georecon predict a b\n"
    assert set_up(root, monkeypatch).phases == []


def test_changed_lock_is_installed_into_the_same_environment(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(root, monkeypatch)
    (root / "envs/lock.txt").write_text("torch==9.9.9\nnumpy==1.2.4\n")
    assert not install.is_current(root)
    again = set_up(root, monkeypatch)
    assert again.said("other packages")
    assert not again.said("environment .venv")
    assert install.is_current(root)


def test_interrupted_setup_starts_from_an_empty_environment(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(KeyboardInterrupt):
        set_up(root, monkeypatch, interrupt_at="other packages")
    assert not install.is_current(root)
    (root / ".venv/half-installed").touch()
    assert set_up(root, monkeypatch).said("environment .venv")
    assert not (root / ".venv/half-installed").exists()


def test_interrupted_update_of_a_finished_environment_is_noticed(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    set_up(root, monkeypatch)
    old = (root / "envs/lock.txt").read_text()
    (root / "envs/lock.txt").write_text("torch==9.9.9\nnumpy==2.0.0\n")
    with pytest.raises(KeyboardInterrupt):
        set_up(root, monkeypatch, interrupt_at="other packages")
    (root / "envs/lock.txt").write_text(old)
    assert not install.is_current(root)


def test_moved_folder_is_set_up_anew(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_up(root, monkeypatch)
    moved = root / "moved"
    moved.mkdir()
    for name in ("envs", ".venv"):
        shutil.copytree(root / name, moved / name)
    assert not install.is_current(moved)
    assert set_up(moved, monkeypatch).said("environment .venv")


def test_plain_torch_where_the_cpu_build_is_not_offered(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    runner = set_up(root, monkeypatch, cpu_build=False)
    assert "torch==9.9.9" in runner.phases
    assert "TORCH_INDEX=" in capsys.readouterr().err


@pytest.mark.parametrize(("system", "gpu"), [("Linux", True), ("Darwin", False)])
def test_plain_torch_with_a_gpu_and_on_a_mac(
    root: Path, monkeypatch: pytest.MonkeyPatch, system: str, gpu: bool
) -> None:
    monkeypatch.setattr(install, "gpu_visible", lambda: gpu)
    monkeypatch.setattr(install.platform, "system", lambda: system)
    runner = set_up(root, monkeypatch)
    assert "torch==9.9.9" in runner.phases
    assert not runner.said("+cpu")


def test_a_login_node_of_a_cluster_with_gpus_must_be_told(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(install, "cluster_has_gpus", lambda: True)
    with pytest.raises(install.SetupError, match=r"(?s)no NVIDIA GPU.*TORCH=cuda.*TORCH=cpu"):
        set_up(root, monkeypatch)
    assert not install.is_current(root)
    monkeypatch.setenv("TORCH", "cuda")
    assert "torch==9.9.9" in set_up(root, monkeypatch).phases


@pytest.mark.parametrize(
    ("gres", "answer"), [("gpu:a100:4", True), ("(null)\\ngpu:1(S:0)", True), ("(null)", False)]
)
def test_a_cluster_says_whether_its_nodes_have_gpus(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gres: str, answer: bool
) -> None:
    sinfo = tmp_path / "sinfo"
    sinfo.write_text(f"#!/bin/sh\nprintf '{gres}\\n'\n")
    sinfo.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert install.cluster_has_gpus() is answer
    sinfo.write_text("#!/bin/sh\necho 'slurm_load_partitions: gpu unreachable' >&2; exit 1\n")
    assert not install.cluster_has_gpus()


@pytest.mark.parametrize(
    ("wanted", "phase"),
    [("cpu", "torch==9.9.9+cpu"), ("cuda", "torch==9.9.9"), ("cu128", "torch==9.9.9+cu128")],
)
def test_the_build_of_torch_is_the_one_that_is_named(
    root: Path, monkeypatch: pytest.MonkeyPatch, wanted: str, phase: str
) -> None:
    monkeypatch.setattr(install, "gpu_visible", lambda: wanted == "cpu")
    monkeypatch.setenv("TORCH", wanted)
    assert any(said.partition(" ")[0] == phase for said in set_up(root, monkeypatch).phases)
    assert set_up(root, monkeypatch).phases == []
    monkeypatch.delenv("TORCH")
    assert install.is_current(root)  # what was named once holds
    monkeypatch.setenv("TORCH", "cu130")
    assert not install.is_current(root)


@pytest.mark.parametrize("wanted", ["gpu", "cu12", "cu12.8", "+cpu", "cuda12", " "])
def test_an_unknown_build_of_torch_is_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, wanted: str
) -> None:
    monkeypatch.setenv("TORCH", wanted)
    with pytest.raises(install.SetupError, match="allowed: cpu, cuda"):
        set_up(root, monkeypatch)
    assert not (root / ".venv").exists()


@pytest.mark.parametrize("name", ["a b", "it's", 'q"q', "a;b", "a$b", "(copy)", "a&b", "tab\there"])
def test_a_folder_that_a_shell_would_cut_is_refused_before_anything(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = root / name
    shutil.copytree(root / "envs", folder / "envs")
    with pytest.raises(install.SetupError, match="Move the project to a folder without blanks"):
        set_up(folder, monkeypatch)
    assert not (folder / ".venv").exists()


@pytest.mark.parametrize("name", ["größe", "数据", "a-b_c.d+e@f", "v" * 120])
def test_other_names_of_a_folder_are_fine(
    root: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    folder = root / name
    shutil.copytree(root / "envs", folder / "envs")
    set_up(folder, monkeypatch)
    assert install.is_current(folder)


def test_failed_phase_shows_what_the_command_said() -> None:
    command = [sys.executable, "-c", "import sys; print('no such package'); sys.exit(3)"]
    with pytest.raises(install.SetupError, match=r"(?s)no such package.*failed in: a phase"):
        install.run_quiet("a phase", command)


@pytest.fixture
def make_folder(tmp_path: Path) -> Path:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/bootstrap.py").write_text("")
    (tmp_path / ".venv/bin").mkdir(parents=True)
    python = tmp_path / ".venv/bin/python"
    python.write_text('#!/bin/sh\ncase "$1" in -c|envs*) ;; *) echo "ran: $*";; esac\n')
    python.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["ran: -m georecon.launch"]),
        (["table_qm9"], ["ran: -m georecon.launch table_qm9"]),
        (
            ["table_qm9", "report", "EDITION=tiny", "ARGS=--cores 1"],
            [
                "ran: -m georecon.launch --cores 1 --config edition=tiny -- table_qm9",
                "ran: -m georecon.launch --cores 1 --config edition=tiny -- report",
            ],
        ),
        (
            ["rerun", "CELL=qm9/coord/homo", "EDITION=tiny"],
            ["ran: -m georecon.launch --config edition=tiny cell=qm9/coord/homo -- rerun"],
        ),
        (
            ["rerun", "CELL=a/b/c", "ARGS=--config mirror=/m"],
            ["ran: -m georecon.launch --config mirror=/m --config cell=a/b/c -- rerun"],
        ),
        (
            ["audit", "ARGS=--config mirror=/m"],
            ["ran: -m georecon.launch --config mirror=/m -- audit"],
        ),
        (["ARGS=-n -- all"], ["ran: -m georecon.launch -n -- all"]),
        (["envs"], ["ran: -m georecon.launch envs"]),  # a file has that name
        (["results/tiny/x.json"], ["ran: -m georecon.launch results/tiny/x.json"]),
        (
            ["test", "ARGS=tests/frame"],
            [
                "ran: -m pytest -n auto --maxprocesses 4 --dist loadfile "
                "--no-loadscope-reorder tests/frame"
            ],
        ),
    ],
)
def test_make_runs(make_folder: Path, arguments: list[str], expected: list[str]) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
    for name in ("ARGS", "CELL", "EDITION", "PYTHON"):
        environment.pop(name, None)
    (make_folder / "results/tiny").mkdir(parents=True)
    (make_folder / "results/tiny/x.json").touch()
    done = subprocess.run(
        ["make", *arguments],
        cwd=make_folder,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    assert [line.strip() for line in done.stdout.splitlines() if "ran:" in line] == expected


def test_make_keeps_another_pythons_variables_away(make_folder: Path) -> None:
    python = make_folder / ".venv/bin/python"
    shown = '"ran: $PYTHONPATH.$PYTHONHOME.$PYTHONSTARTUP"'
    python.write_text(f'#!/bin/sh\ncase "$1" in -c|envs*) ;; *) echo {shown};; esac\n')
    names = ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")
    environment = {**os.environ, **dict.fromkeys(names, "/nowhere")}
    command = ["make", "table_qm9"]
    text = subprocess.check_output(command, cwd=make_folder, env=environment, text=True)
    assert "ran: ..\n" in text


def test_make_help_names_the_targets() -> None:
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    text = subprocess.check_output(["make", "-C", ROOT, "help"], text=True)
    for target in ("make test", "make lint", "make bench", "make clean-results", "make table_qm9"):
        assert target in text


def test_help_lists_the_targets_that_a_user_looks_for() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    rules = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "rules").glob("*.smk"))
    listed = set(re.findall(r'@echo "make ([a-z_]+)', makefile))
    assert {"doctor", "plan", "web", "audit", "rerun", "bundle"} <= listed
    known = set(re.findall(r"^rule (\w+):", rules, re.M)) | set(
        re.findall(r"^([a-z]+)[\w -]*:", makefile, re.M)
    )
    assert {name for name in listed if not name.startswith("table_")} <= known
