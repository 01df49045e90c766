"""Every documented command and block runs: really where that is cheap, else as a dry run.

What cannot run here is listed by name with the reason; anything new that is neither fails.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.frame.documented import (
    all_blocks,
    all_commands,
    blocks,
    commands,
    is_command,
    method_entry,
    own_data,
)
from tests.projects import ROOT, Project, make_project
from tests.snakemake_server import dry_run

pytestmark = [pytest.mark.workflow, pytest.mark.long]

_PBS = "it needs PBS; tests/workflow/test_pbs.py runs the profile with stand-ins"
_SGE = "it needs Grid Engine; tests/sge has one of its own and runs the profile"
_SLURM = "of Slurm; tests/slurm has a cluster of its own"
_KEYS = "it needs a bundle and a key; tests/audit/test_bundle.py makes both"
_SETS_UP = "of the environment that `make setup` makes"
_IMAGE = "it needs the image: root, a network and minutes; docs/cluster.md says what was tried"
_METHOD = "tests/workflow/test_add_a_method.py runs it, with the method's file"
_INSTALLS = "it installs; tests/library/test_installed.py does it and uses what was installed"
NOT_HERE = {
    "cd georecon": "of a shell",
    ". .venv/bin/activate": _SETS_UP,
    "scancel 12 13 14": _SLURM,
    "squeue --me": _SLURM,
    "squeue --me -O JobID,State,TimeUsed,Comment": _SLURM,
    "squeue": _SLURM,
    "sinfo": _SLURM,
    "sacct": _SLURM,
    "sbatch --signal=USR1@120": _SLURM,
    "sbatch --partition=long --time=7-0 slurm/controller.sh --profile slurm all": _SLURM,
    "sbatch --job-name=…": _SLURM,
    "sbatch --gres=gpu:1 --cpus-per-task=16 --mem=100G --time=3-0 slurm/controller.sh --profile "
    "local --resources gpu=4 --config edition=paper -- table_3bpa": _SLURM,
    "export GEORECON_GPU_SHARE=4": "of a shell; tests/jobs/test_gpus.py sets it",
    "sbatch": _SLURM,
    "srun": _SLURM,
    "snakemake --profile pbs all": _PBS,
    "pip install snakemake-executor-plugin-cluster-generic": _PBS,
    "snakemake --profile sge all": _SGE,
    "scancel": _SLURM,
    "export SBATCH_ACCOUNT=…": _SLURM,
    "generate-slurm-partition-config -o slurm/site.yaml": _SLURM,
    "ssh-keygen -Y sign -n georecon -f ~/.ssh/id_ed25519 georecon-laptop.zip": _KEYS,
    "ssh-keygen -Y verify -n georecon -f allowed_signers -I you@example.org "
    "-s georecon-laptop.zip.sig < georecon-laptop.zip": _KEYS,
    "snakemake --configfile method.yaml --cores all -- table_qm9": _METHOD,
    "pip install .": _INSTALLS,
    "pip install '.[chem,table]'": _INSTALLS,
    "pip install '.[chem,report]'": _INSTALLS,
    "pip install '.[curves]'": "it needs the network; the package is in no lock",
    'git tag -s v0.1.0 -m "georecon 0.1.0"': "it needs a key, and makes a release",
    'podman run --rm --volume "$PWD:/project" --env PYTHONPATH=/project/src georecon python -m '
    "georecon.launch -- table_qm9": _IMAGE,
    "apptainer build georecon.sif oci-archive:georecon-image.tar": _IMAGE,
    "--volume FILE:/etc/pip.conf:ro": _IMAGE,
    "--isolation chroot": _IMAGE,
    "--runtime runc": _IMAGE,
    "--sdm conda": "it needs conda, also for a dry run",
    ".ci/run": "it runs this test",
    ".ci/commit_message.py": "a hook of git; `make lint` has no commit to look at",
    ".venv/bin/pre-commit install": "it changes the repository's hooks",
    ".venv/bin/python -m pip install --no-deps triton==3.7.1": "it needs the network",
    "apt-get install --no-install-recommends chromium chromium-driver": "it changes the machine",
}
"""Commands that no test runs, and why."""
PICTURES = ("results/laptop/", "raw file ─fetch─▶", "cell <- metrics.json <-")
"""Beginnings of blocks without a language: what results look like, nothing to type."""
PLACES = {
    "<address of this repository>": str(ROOT),
    "<edition>": "tiny",
    "edition=…": "edition=tiny",
    "start_from=PATH": "start_from=georecon-laptop.zip",
    "mirror=/folder/with/raw/files": "mirror=raw",
    "mirror=/that/folder": "mirror=raw",
    "gpu=n": "gpu=2",
    "…": "part=property target=homo method=coord seed=1 --config edition=tiny",
    "...": "table_md17",
}
"""What a reader puts in the place of something."""
MUST_SAY = {"--cores", "--profile", "--unlock", "--list-target-rules", "-n"}
"""Without one of these Snakemake does nothing but ask for it."""
COMMANDS = all_commands()
RUN = [command for command in COMMANDS if command not in NOT_HERE]


def filled(command: str) -> str:
    for place, value in PLACES.items():
        command = command.replace(place, value)
    return command


def dry(words: list[str]) -> list[str]:
    """A Snakemake command that makes nothing.

    ``all`` gives way to one table where others plan it: tests/workflow/test_plan.py and
    test_slurm_profile.py.
    """
    reads = {"--unlock", "--list-target-rules", "-n"} & set(words)
    if words[-1] == "all" and "--profile" in words:
        words = [*words[:-1], "table_md22"]
    return [sys.executable, "-m", "snakemake", *([] if reads else ["-n"]), *words[1:]]


def python(words: list[str]) -> list[str]:
    """A Python command that changes nothing, or with the least to do."""
    harmless = {
        "georecon.mock": [*(w for w in words[3:] if w != "--show"), "--show"],
        "georecon.watch": ["--once"],
        "georecon.recover": ["--help"],  # tests/jobs/test_recover.py goes on
        "georecon.experiments.schema": ["--check"],
        "docs/draw_architecture.py": ["--check"],
    }
    if words[1:3] == ["-m", "georecon"]:  # tests/library runs them with what they need
        return [sys.executable, "-m", "georecon", *words[3:4], "--help"]
    if words[1] == "-m":
        return [sys.executable, "-m", words[2], *harmless.get(words[2], words[3:])]
    return [sys.executable, str(ROOT / words[1]), *harmless.get(words[1], ["--help"])]


def made(words: list[str]) -> list[list[str]]:
    """``make`` without its recipes and, for a target of the workflow, a dry run of that."""
    targets = [w for w in words[1:] if "=" not in w]
    edition = [f"edition={w.partition('=')[2]}" for w in words if w.startswith("EDITION=")]
    own = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    found = [["make", "-n", *words[1:]]]
    if not set(targets) <= set(own):
        launch = [sys.executable, "-m", "georecon.launch", "-n"]
        found.append([*launch, *(["--config", *edition] if edition else []), "--", *targets])
    return found


def runs_of(command: str) -> list[list[str]]:
    """Programs to run for a command: each must end well."""
    if " > " in command:
        return [["sh", "-c", command]]
    words = shlex.split(filled(command))
    match Path(words[0]).name:
        case "make":
            return made(words)
        case "snakemake":
            return [dry(words)]
        case "python":
            return [python(words)]
        case "lint-imports":
            return [["lint-imports", "--config", str(ROOT / "pyproject.toml")]]
        case "git":
            return [words]
        case "georecon":  # tests/library runs them with what they need
            return [[sys.executable, "-m", "georecon", *words[1:2], "--help"]]
        case first if first.startswith("--"):
            return [dry(["snakemake", *words, "--", "table_qm9"])]
    raise ValueError(f"{command}: no test runs it; say here how, or list it with a reason")


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A clone without data, with the reader's own ``my.yaml`` and a mirror."""
    project = make_project(tmp_path_factory.mktemp("documented") / "project")
    for name in ("Makefile", "benchmarks", "docs"):
        os.symlink(ROOT / name, project.folder / name)
    (project.folder / "slurm/site.yaml").write_text("partitions:\n  gpu: {max_gpu: 8}\n")
    (project.folder / "raw").mkdir()
    (project.folder / "georecon-laptop.zip").touch()  # a dry run does not look into it
    for _, block in all_blocks("yaml"):
        for name in re.findall(r"local: (\.\./[^\s}]+)", block.text):
            (project.folder / name).touch()  # the reader's own files
    (project.folder / "my.yaml").write_text(own_data())
    return project


def run(words: list[str], project: Project) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**project.environment(), "PATH": path}
    if words[:3] == [sys.executable, "-m", "snakemake"] and "-n" in words:
        return dry_run(words[3:], project.folder, environment)
    return subprocess.run(
        words, cwd=project.folder, env=environment,
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip


@pytest.mark.timeout(300)
@pytest.mark.parametrize("command", RUN)
def test_command_runs(command: str, place: Project) -> None:
    for words in runs_of(command):
        result = run(words, place)
        said = f"{COMMANDS[command][0]}: {command}\n{result.stdout[-1500:]}{result.stderr[-1500:]}"
        if words[1:3] == ["-m", "georecon.verify_bundle"]:  # none is here; tests/audit verifies one
            assert result.returncode != 0
            assert "Traceback" not in result.stderr, said
        else:
            assert result.returncode == 0, said


@pytest.mark.parametrize("command", [c for c in RUN if c.startswith("snakemake")])
def test_command_says_what_snakemake_insists_on(command: str) -> None:
    assert MUST_SAY & set(shlex.split(command)), f"{COMMANDS[command]}: {command}: no --cores"


def test_what_is_listed_is_still_there() -> None:
    assert set(NOT_HERE) <= set(COMMANDS)
    heads = [block.head for _, block in all_blocks("")]
    assert all(any(head.startswith(picture) for head in heads) for picture in PICTURES)


def test_a_block_without_a_language_is_a_picture() -> None:
    for path, block in all_blocks(""):
        assert block.head.startswith(PICTURES), f"{path}: {block.head}: sh, yaml or python?"


def test_blocks_are_of_languages_that_are_tried() -> None:
    for path in {path for path, _ in all_blocks("")} | {path for path, _ in all_blocks("yaml")}:
        found = {block.language for block in blocks(path.read_text(encoding="utf-8"))}
        assert found <= {"", "sh", "yaml", "python"}, path


# ---- YAML and Python ---------------------------------------------------------------------------

# tests/workflow/test_add_a_method.py has the file that this one names
YAML = [(path, block) for path, block in all_blocks("yaml") if block.text != method_entry()]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("k", range(len(YAML)), ids=lambda k: f"{YAML[k][0].name}-{k}")
def test_yaml_block_is_taken(k: int, place: Project, tmp_path: Path) -> None:
    """A configuration plans all its tables; a partition file is read; a profile plans with it."""
    path, block = YAML[k]
    keys = set(yaml.safe_load(block.text))
    if keys == {"partitions"}:
        partitions = pytest.importorskip("snakemake_executor_plugin_slurm.partitions")
        (tmp_path / "site.yaml").write_text(block.text)
        assert partitions.read_partition_file(tmp_path / "site.yaml")
        return
    if keys <= {"set-resources", "set-threads"}:
        folder = place.folder / f"profile{k}"
        folder.mkdir()
        (folder / "profile.yaml").write_text(
            (ROOT / "slurm/profile.yaml").read_text("utf-8") + block.text
        )
        arguments = ["-n", "--profile", folder.name, "--", "table_qm9"]
    else:
        (place.folder / f"block{k}.yaml").write_text(block.text)
        arguments = ["-n", "--nolock", "--configfile", f"block{k}.yaml", "--", "tables"]
    result = run([sys.executable, "-m", "snakemake", *arguments], place)
    assert result.returncode == 0, f"{path}: {block.head}\n{result.stdout[-2000:]}{result.stderr}"


# tests/library/test_docs.py runs the others, in a folder with results
WITH_RESULTS = {ROOT / "README.md", ROOT / "docs/library.md"}
PYTHON = [(path, block) for path, block in all_blocks("python") if path not in WITH_RESULTS]


@pytest.mark.parametrize("k", range(len(PYTHON)))
def test_python_block_runs(k: int, place: Project) -> None:
    path, block = PYTHON[k]
    result = run([sys.executable, "-c", block.text], place)
    assert result.returncode == 0, f"{path}: {block.head}\n{result.stderr}"


# ---- the test itself ---------------------------------------------------------------------------


def test_commands_are_found_and_new_ones_are_asked_for() -> None:
    page = """Type `make audit`, or `snakemake --cores all
    table_qm9`; never mind `make_table` and `--once`. `--config edition=tiny` too.

      ```sh
      sbatch job.sh     # later
      make test && make lint
      ```
    """
    assert list(commands(page)) == [
        "sbatch job.sh", "make test", "make lint",
        "make audit", "snakemake --cores all table_qm9", "--config edition=tiny",
    ]  # fmt: skip
    assert not is_command("snakefmt")
    with pytest.raises(ValueError, match="sbatch job"):
        runs_of("sbatch job.sh")


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_commands_that_fail_are_noticed(place: Project) -> None:
    for command in (
        "snakemake --cores 1 table_qm8",
        "snakemake --cores 1 --config edition=paper all",  # `all` is read as a value
        "make EDITION=tiny tabel_qm9",
        "python -m georecon.mock nothing",
    ):
        assert any(run(words, place).returncode for words in runs_of(command)), command
