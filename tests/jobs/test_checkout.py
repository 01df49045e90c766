"""The workflow as a module of another one, read out of a git repository."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from georecon.jobs.checkout import CLONES, local_folder
from tests.frame.documented import all_blocks
from tests.projects import ROOT, Project, jobs_of

pytestmark = [pytest.mark.workflow, pytest.mark.long]

MODULE = """
configfile: "config/config.yaml"

module georecon:
    snakefile:
        {snakefile}
    config:
        config

use rule * from georecon{names}
"""


@pytest.fixture(scope="session")
def repository(bare: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository with the workflow, tagged v1; Snakemake wants local ones to have files."""
    folder = tmp_path_factory.mktemp("remote") / "georecon"
    git("clone", "--quiet", str(bare.folder), str(folder))
    git("-C", str(folder), "tag", "v1")
    return folder


def git(*arguments: str) -> str:
    done = subprocess.run(["git", *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def user(folder: Path, bare: Project, snakefile: str, names: str = "") -> Project:
    """A user's folder as snakedeploy writes it: a Snakefile and a copy of ``config``."""
    (folder / "workflow").mkdir(parents=True)
    (folder / "workflow/Snakefile").write_text(MODULE.format(snakefile=snakefile, names=names))
    shutil.copytree(bare.folder / "config", folder / "config")
    return Project(folder)


def hosted(repository: Path, cache: Path) -> Path:
    """Snakemake's cache, with its own bare clone of a repository on a host."""
    copy = cache / "snakemake/snakemake/source-cache/snakemake-git-cache/github.com/owner/georecon"
    copy.parent.mkdir(parents=True)
    git("clone", "--quiet", "--bare", str(repository), str(copy))
    return cache


def dry_run(
    project: Project, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "1", *arguments]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    return subprocess.run(
        command,
        cwd=project.folder,
        env={**environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("kind", ["gitfile, tag", "gitfile, commit", "git+file"])
def test_a_module_from_a_local_repository_plans_every_job(
    kind: str, bare: Project, repository: Path, tmp_path: Path
) -> None:
    commit = git("-C", str(repository), "rev-parse", "HEAD")
    sources = {
        "gitfile, tag": f'gitfile("{repository}", path="workflow/Snakefile", tag="v1")',
        "gitfile, commit": f'gitfile("{repository}", path="workflow/Snakefile", commit="{commit}")',
        "git+file": f'"git+file://{repository}/workflow/Snakefile@v1"',
    }
    project = user(tmp_path / "user", bare, sources[kind])
    done = dry_run(project, "--config", "edition=tiny", "--", "all")
    assert done.returncode == 0, done.stderr[-2000:]
    clone = project.folder / CLONES / commit[:16]
    assert git("-C", str(clone), "rev-parse", "HEAD") == commit
    wanted = bare.snakemake("-n", "--nolock", "--", "all").stdout
    assert sorted(jobs_of(done.stdout)) == sorted(jobs_of(wanted))
    before = clone.stat().st_mtime_ns
    assert dry_run(project, "--config", "edition=tiny", "--", "table_qm9").returncode == 0
    assert clone.stat().st_mtime_ns == before, "cloned once"
    assert len(list((project.folder / CLONES).iterdir())) == 1


def test_a_module_from_a_host_is_cloned_from_snakemakes_own_copy(
    bare: Project, repository: Path, tmp_path: Path
) -> None:
    cache = hosted(repository, tmp_path / "cache")
    source = 'github("owner/georecon", path="workflow/Snakefile", tag="v1")'
    project = user(tmp_path / "user", bare, source)
    done = dry_run(project, "--config", "edition=tiny", "--", "all", XDG_CACHE_HOME=str(cache))
    assert done.returncode == 0, done.stderr[-2000:]
    assert ("evaluate", "part=property, target=homo, method=coord, seed=1") in jobs_of(done.stdout)


def test_rules_may_have_other_names(bare: Project, repository: Path, tmp_path: Path) -> None:
    source = f'gitfile("{repository}", path="workflow/Snakefile", tag="v1")'
    project = user(tmp_path / "user", bare, source, names=" as georecon_*")
    done = dry_run(project, "--config", "edition=tiny", "--", "georecon_table_qm9")
    assert done.returncode == 0, done.stderr[-2000:]
    assert "georecon_finetune" in done.stdout


def test_a_job_of_a_module_runs(bare: Project, repository: Path, tmp_path: Path) -> None:
    source = f'gitfile("{repository}", path="workflow/Snakefile", tag="v1")'
    project = user(tmp_path / "user", bare, source)
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--config", "edition=tiny"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [*command, "--keep-going", "--", "resources/splits/qm9/pvd_tiny_draw1.npz", "doctor"],
        cwd=project.folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (project.folder / "resources/splits/qm9/pvd_tiny_draw1.npz").is_file(), done.stderr[
        -3000:
    ]
    assert "records will name no commit" not in done.stderr
    record = (project.folder / "resources/records/split/qm9/pvd_tiny_draw1.json").read_text()
    assert git("-C", str(repository), "rev-parse", "HEAD") in record


EXAMPLE = ROOT / "tests/jobs/module_example/Snakefile"


def test_the_example_takes_two_rules_from_a_tag(
    bare: Project, repository: Path, tmp_path: Path
) -> None:
    text = EXAMPLE.read_text(encoding="utf-8")
    hosted_address = 'github("<owner>/georecon", path="workflow/Snakefile", tag="<tag>")'
    assert hosted_address in text
    local = f'gitfile("{repository}", path="workflow/Snakefile", tag="v1")'
    project = user(tmp_path / "user", bare, local)
    (project.folder / "workflow/Snakefile").write_text(text.replace(hosted_address, local))
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--config", "edition=tiny"]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    done = subprocess.run(
        [*command, "--", "largest"],
        cwd=project.folder, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert (project.folder / "largest.txt").read_text() == "29\n"  # atoms of QM9's largest
    rules = {rule for rule, _ in jobs_of(done.stderr)}
    assert rules == {"fetch", "preprocess", "largest"}
    record = project.folder / "resources/records/preprocess/qm9.json"
    assert git("-C", str(repository), "rev-parse", "HEAD") in record.read_text()


def test_the_page_shows_the_example() -> None:
    (shown,) = (
        block.text
        for _, block in all_blocks("snakemake")
        if "use rule fetch, preprocess" in block.text
    )
    assert shown == EXAMPLE.read_text(encoding="utf-8").partition("\n")[2]


@pytest.mark.parametrize("kind", ["gitfile", "github"])
def test_the_snakefile_at_the_top_says_which_one_to_name(
    kind: str, bare: Project, repository: Path, tmp_path: Path
) -> None:
    source = f'gitfile("{repository}", path="Snakefile", tag="v1")'
    if kind == "github":
        hosted(repository, tmp_path / "cache")
        source = 'github("owner/georecon", path="Snakefile", tag="v1")'
    project = user(tmp_path / "user", bare, source)
    done = dry_run(project, "--", "all", XDG_CACHE_HOME=str(tmp_path / "cache"))
    assert done.returncode == 1
    assert 'georecon: as a module from a repository, name path="workflow/Snakefile"' in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("ref", ["v9", "no/such", "0123456789"])
def test_a_commit_that_is_not_there_is_refused_in_a_sentence(
    ref: str, repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    source = SimpleNamespace(repo_path=str(repository), path="", ref=ref)
    with pytest.raises(SystemExit, match="georecon: git rev-parse failed in ") as error:
        local_folder(source)
    assert "\n" not in str(error.value)
    assert not (tmp_path / ".snakemake").exists()


def test_an_address_without_a_repository_is_refused_in_a_sentence() -> None:
    class Address:
        def __str__(self) -> str:
            return "https://example.org/Snakefile"

    with pytest.raises(
        SystemExit, match=r"cannot run from https://example\.org/Snakefile: .*clone"
    ):
        local_folder(Address())


def test_a_file_on_this_disk_stays_where_it_is(tmp_path: Path) -> None:
    assert local_folder(tmp_path) == tmp_path
