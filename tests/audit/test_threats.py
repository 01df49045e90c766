"""Every row of the threat table of docs/audit.md: tampered with, sealed or not, and its verdict."""

from __future__ import annotations

import os
import re
import shutil
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from georecon.audit import Audit, commits, files, splits
from georecon.audit.depth import Depth
from georecon.audit.findings import NOT_COMPARABLE, Context, Finding
from georecon.audit.page import write_audit
from georecon.experiments.sample import draw
from georecon.experiments.settings import SplitPlan
from georecon.files import read_json, write_json
from georecon.kernels import native
from georecon.records import code
from tests.audit import tamper, threats
from tests.audit.tamper import own_copy, run_audit
from tests.audit.threat_table import HARMLESS, LOUD, RECORDS, RERUN, THREATS, WEIGHTS
from tests.audit.threats import RUN, experiments
from tests.projects import ROOT, Project, commit

pytestmark = [pytest.mark.workflow, pytest.mark.slow, pytest.mark.timeout(600)]

ELSEWHERE = {
    "source changed after the runs (denormal floats, TF32)": ("records: other code", HARMLESS),
    "a commit whose tree is other source": ("records: commit of other code",) * 2,
    "a commit that git is told to show as another": ("records: commit of other code",) * 2,
    "other bytes in git under an honest name": ("records: no such commit",) * 2,
    "runs made again, laid out before the reviewer asks": (HARMLESS, HARMLESS),
    "the audit's own page": (HARMLESS, HARMLESS),
    "the audit's own list of hashes": ("full: file changed", "full: file changed"),
}
"""Rows with a test of their own below: what is changed is not in the folder, or not results."""
UNPACK, JOB = commits._unpack, "src/georecon/jobs/job.py"
ALONE = [name for name, threat in THREATS.items() if threat.alone]
AT_RECORDS = [n for n, t in THREATS.items() if t.sealed.startswith((RECORDS, LOUD, HARMLESS))]
DEEPER = [name for name in THREATS if name not in AT_RECORDS]
FEW = (
    "fine-tuned weights set to zero",
    "an encoder copied, its header edited, its smoothness too",
    "weights of another training, and all that follows from them",
)
"""One of each depth and kind of check; the others are long."""


class Once:
    """What of an audit is the same for all copies is computed once."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.found: dict[object, Any] = {}
        self.sha256, self.keys = files.sha256_file, splits._keys
        self.unpack, self.make = commits._unpack, splits._make

    def once(self, key: object, make: Callable[[], Any]) -> Any:
        if key not in self.found:
            self.found[key] = make()
        return self.found[key]

    def hash(self, path: Path) -> Any:
        stat = os.stat(path)
        key = (stat.st_ino, stat.st_size, stat.st_mtime_ns)
        return self.once(key, lambda: self.sha256(path))

    def structures(self, root: Path, manifest: str, ids: Any, known: Any, name: str) -> Any:
        key = (self.hash(root / manifest), ids.tobytes())
        return self.once(key, lambda: self.keys(root, manifest, ids, {}, name))

    def split(self, context: Context, plan: SplitPlan, dataset: str) -> Any:
        if plan.tests:  # of other splits
            return self.make(context, plan, dataset)
        key = (self.hash(context.root / plan.store / "manifest.json"), str(plan))
        return self.once(key, lambda: self.make(context, plan, dataset))

    def tree(self, repository: Path, commit: str, folder: Path) -> Any:
        return self.once(commit, lambda: self.unpack(repository, commit, self.place / commit))


@pytest.fixture(scope="module", autouse=True)
def quick(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    once = Once(tmp_path_factory.mktemp("once"))
    with pytest.MonkeyPatch.context() as patch:
        for module in (files, tamper):
            patch.setattr(module, "sha256_file", once.hash)
        patch.setattr(splits, "_keys", once.structures)
        patch.setattr(splits, "_make", once.split)
        patch.setattr(commits, "_unpack", once.tree)
        yield


@pytest.fixture(scope="module")
def sound(finished: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = own_copy(finished, tmp_path_factory.mktemp("sound") / "run")
    tamper.add_pages(folder)
    return folder


@pytest.fixture
def folder(sound: Path, tmp_path: Path) -> Path:
    """A copy of the sound run with its pages, to be changed."""
    copy = tmp_path / "run"
    ignored = shutil.ignore_patterns("resources", ".git")
    shutil.copytree(sound, copy, ignore=ignored)
    shutil.copytree(sound / "resources", copy / "resources", copy_function=os.link)
    (copy / ".git").symlink_to((sound / ".git").resolve())
    return copy


def kinds(result: Audit) -> list[tuple[str, str, str]]:
    return [(finding.kind, finding.path, finding.text) for finding in result.findings]


def expect(result: Audit, words: str, path: str | None) -> Finding | None:
    """The finding that a cell of the threat table names; its status and cells as it says."""
    depth, _, kind = words.partition(": ")
    found = [f for f in result.findings if f.kind == kind and path in (None, f.path)]
    if words == HARMLESS:
        assert result.status == "intact", kinds(result)
        assert not result.findings
        return None
    assert found, kinds(result)
    assert result.status == ("intact" if depth == LOUD else "broken"), kinds(result)
    assert not any(f.path.startswith("/") for f in result.findings)
    for cell in found[0].cells:
        assert result.cells[cell].verdict != "reproduced"
    return found[0]


def test_an_untouched_run_is_intact_sealed_or_not(sound: Path, folder: Path) -> None:
    for place in (sound, folder):
        if place == folder:
            tamper.seal_all(folder)
        result = run_audit(place)
        assert (result.status, result.findings) == ("intact", []), kinds(result)
        assert result.counts()["reproduced"] > 50


def test_a_later_commit_of_pages_changes_nothing(folder: Path) -> None:
    git = (folder / ".git").resolve()
    (folder / ".git").unlink()
    shutil.copytree(git, folder / ".git")
    before = commits.git(folder, "rev-parse", "HEAD")
    (folder / "NOTES.md").write_text("A page.\n")
    words = ("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qm", "A page", "NOTES.md")
    assert commits.git(folder, "add", "NOTES.md") is not None
    assert commits.git(folder, *words) is not None
    assert commits.git(folder, "rev-parse", "HEAD") != before
    result = run_audit(folder)
    assert (result.status, result.findings) == ("intact", []), kinds(result)


def test_a_moved_folder_is_intact_and_not_read_again(folder: Path) -> None:
    assert run_audit(folder).status == "intact"
    moved = folder.rename(folder.with_name("moved"))
    result = run_audit(moved)
    assert (result.status, result.findings) == ("intact", []), kinds(result)
    assert result.hashed.kept == result.hashed.files


@pytest.mark.parametrize("kernel", ["native", "reference"])
def test_an_honest_run_is_intact_from_weights(
    kernel: str, sound: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """To the bit with the kernels it was made with, within the tolerance with others."""
    if native.library() is None:
        pytest.skip("no C++ compiler: there is one kernel only")
    monkeypatch.setattr(native, "kernel", lambda device="cpu": kernel)
    result = run_audit(sound, depth=Depth(name=WEIGHTS, sample=2, seed=1))
    assert (result.status, result.findings) == ("intact", []), kinds(result)
    assert not [line for line in result.unchecked if "not here" in line]
    (line,) = (line for line in result.checked if line.startswith("predictions of"))
    runs = re.findall(r"\d+", line)
    assert runs[2] == (runs[0] if kernel == "native" else "0")


@pytest.mark.long
@pytest.mark.parametrize("name", ALONE)
def test_a_change_alone(name: str, folder: Path) -> None:
    threat = THREATS[name]
    threat.change(folder)
    expect(run_audit(folder), str(threat.alone), None)


@pytest.mark.parametrize("name", AT_RECORDS)
def test_a_forgery_sealed_is_found_from_records(name: str, folder: Path) -> None:
    threat = THREATS[name]
    if threat.page:
        tamper.seal_all(folder)
    threat.change(folder)
    tamper.seal_all(folder, pages=not threat.page)
    result = run_audit(folder)
    finding = expect(result, threat.sealed, threat.path)
    assert not [f for f in result.findings if f.kind in ("record edited", "file changed")]
    if finding is not None and threat.sealed.startswith(LOUD):
        assert result.cells["qm9/coord/homo"].verdict == NOT_COMPARABLE


@pytest.mark.parametrize(
    "name", [n if n in FEW else pytest.param(n, marks=pytest.mark.long) for n in DEEPER]
)
def test_a_forgery_sealed_is_found_deeper(name: str, folder: Path) -> None:
    threat = THREATS[name]
    honest = folder.parent / "honest"
    shutil.copytree(folder / "results", honest)
    threat.change(folder)
    tamper.seal_all(folder)
    shallow = run_audit(folder)
    assert (shallow.status, shallow.findings) == ("intact", []), kinds(shallow)
    cells = experiments(folder).tables.filled()
    seed = next(k for k in range(9999) if draw(cells, 1, k) == ["qm9/coord/homo"])
    wide = threat.sealed.endswith(("estimates differ", "store differs", "labels differ"))
    depth = Depth(name=WEIGHTS, sample=None if wide else 1, seed=seed)
    if threat.sealed.startswith(RERUN):
        assert run_audit(folder, depth=depth).status == "intact"
        again = folder / f"{tamper.RESULTS}/rerun/seed{seed}"
        shutil.copytree(honest / "tiny/finetune", again / "finetune")
        depth = Depth(name=RERUN, sample=1, seed=seed)
    expect(run_audit(folder, depth=depth), threat.sealed, threat.path)


# ---- rows with a test of their own -------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("set_flush_denormal(True)", "set_flush_denormal(False)"),
        ("matmul.allow_tf32 = False", "matmul.allow_tf32 = True"),
    ],
)
def test_code_changed_after_the_runs(
    old: str, new: str, sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("src", "workflow"):
        shutil.copytree(ROOT / name, tmp_path / name)
    path = tmp_path / "src/georecon/jobs/job.py"
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new), encoding="utf-8")
    monkeypatch.setattr(code, "_SOURCE", tmp_path / "src")
    monkeypatch.setattr(code, "_SCRIPTS", tmp_path / "workflow/scripts")
    monkeypatch.setattr(commits, "CODE", tmp_path)
    code.code_digest.cache_clear()
    try:
        result = run_audit(sound)
    finally:
        monkeypatch.undo()
        code.code_digest.cache_clear()
    finding = expect(result, "records: other code", f"{RUN}/run.json")
    assert finding is not None
    assert "qm9/coord/homo" in finding.cells


def commit_of_other_code(folder: Path, finished: Project) -> Path:
    """Records name a commit whose code is another than that of their digests; its repository."""
    git = folder / "code"
    shutil.copytree(finished.folder, git, ignore=shutil.ignore_patterns("results", "resources"))
    Project(git).edit(JOB, lambda text: text.replace("denormal(True)", "denormal(False)"))
    shutil.rmtree(git / ".git")
    commit(git)
    (folder / ".git").unlink()
    (folder / ".git").symlink_to(git / ".git")
    name = commits.git(git, "rev-parse", "HEAD")
    assert name is not None
    head = name.decode().strip()
    threats.of_all_records(lambda record: record["code"].update(commit=head))(folder)
    tamper.seal_all(folder)
    return git


def test_a_commit_whose_tree_is_other_code(folder: Path, finished: Project) -> None:
    """Its code is committed, but not what the digests say: an earlier commit of the project."""
    commit_of_other_code(folder, finished)
    expect(run_audit(folder), "records: commit of other code", None)


def replaced(git: Path, honest: Path) -> None:
    """``git replace``: another commit is shown under the name of this one."""
    was = commits.git(git, "rev-parse", "HEAD")
    assert was is not None
    shutil.copy(honest / JOB, git / JOB)
    words = ("-c", "user.name=t", "-c", "user.email=t@t", "commit", "-qam", "Honest")
    assert commits.git(git, *words) is not None
    assert commits.git(git, "replace", was.decode().strip(), "HEAD") is not None


def filtered(git: Path, honest: Path) -> None:
    """A filter that gives files out as others than they are kept."""
    (git / ".git/info/attributes").write_text(f"{JOB} filter=evil\n")
    command = f"cat {honest / JOB}"
    for name in ("smudge", "clean"):
        assert commits.git(git, "config", f"filter.evil.{name}", command) is not None


@pytest.mark.parametrize("hide", [replaced, filtered])
def test_a_commit_that_git_is_told_to_show_as_another(
    hide: Callable[[Path, Path], None],
    folder: Path,
    finished: Project,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(commits, "_unpack", UNPACK)
    hide(commit_of_other_code(folder, finished), ROOT)
    expect(run_audit(folder), "records: commit of other code", None)


def test_other_bytes_in_git_under_an_honest_name(
    folder: Path, finished: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object of a file is written anew with the bytes of today's file: git does not look."""
    monkeypatch.setattr(commits, "_unpack", UNPACK)
    git = commit_of_other_code(folder, finished)
    named = commits.git(git, "rev-parse", f"HEAD:{JOB}")
    assert named is not None
    name, honest = named.decode().strip(), (ROOT / JOB).read_bytes()
    path = git / f".git/objects/{name[:2]}/{name[2:]}"
    path.unlink()
    path.write_bytes(zlib.compress(f"blob {len(honest)}".encode() + b"\0" + honest))
    assert commits.git(git, "cat-file", "blob", name) == honest
    found = expect(run_audit(folder), "records: no such commit", None)
    assert found is not None
    assert "tampered with" in found.text


@pytest.mark.long
def test_runs_made_again_laid_out_before_the_reviewer_asks(folder: Path) -> None:
    """A seed that the forger guessed: nothing is made again, and only that is said."""
    cells = experiments(folder).tables.filled()
    seed = next(k for k in range(9999) if draw(cells, 1, k) == ["qm9/coord/homo"])
    again = folder / f"{tamper.RESULTS}/rerun/seed{seed}"
    shutil.copytree(folder / f"{tamper.RESULTS}/finetune", again / "finetune")
    later = time.time() + 60
    result = run_audit(folder, depth=Depth(name=RERUN, sample=1, seed=seed), since=later)
    assert (result.status, result.findings) == ("intact", []), kinds(result)
    said = [line for line in result.unchecked if "lay in" in line]
    assert len(said) == 1
    assert f"rerun/seed{seed} before this command" in said[0]


def test_the_audits_own_page(folder: Path) -> None:
    """Whatever lies there is written over, and no check reads it."""
    page = folder / f"{tamper.RESULTS}/audit"
    page.mkdir(exist_ok=True)
    for name in ("index.html", "audit.json"):
        (page / name).write_text("intact")
    tamper.flip_bit(folder / RUN / "model.safetensors")
    result = run_audit(folder)
    write_audit(result, page)
    assert result.status == "broken"
    assert read_json(page / "audit.json")["status"] == "broken"
    assert "broken at depth records" in (page / "index.html").read_text(encoding="utf-8")


def test_the_audits_own_list_of_hashes(folder: Path) -> None:
    """An audit believes what an earlier one hashed, and says so; one with ``full`` does not."""
    assert run_audit(folder).status == "intact"
    path, model = folder / f"{tamper.RESULTS}/audit/{files.KNOWN}", f"{RUN}/model.safetensors"
    entry = read_json(path)[model]
    tamper.flip_bit(folder / model)
    assert run_audit(folder).status == "broken"
    stamp = files._stamp((folder / model).stat())
    write_json(path, read_json(path) | {model: [*stamp, entry[-1]]})
    believed = run_audit(folder)
    assert believed.status == "intact"
    assert believed.hashed.kept > 100
    assert "unchanged since an earlier audit" in believed.outcome()
    found = run_audit(folder, depth=Depth(full=True))
    expect(found, "full: file changed", model)
    assert found.hashed.kept == 0


# ---- the table ---------------------------------------------------------------------------------


def rows() -> dict[str, tuple[str, str]]:
    """Rows of the threat table, with what they say of a change alone and sealed."""
    text = (ROOT / "docs/audit.md").read_text(encoding="utf-8")
    section = text.partition("## What a forger meets")[2].partition("\n## ")[0]
    found = re.findall(r"^\| (?!tampering|---)(.+?) \| (.+?) \| (.+?) \| .+ \|$", section, re.M)
    return {name: (alone, sealed) for name, alone, sealed in found}


def test_every_row_is_a_test_and_every_test_a_row() -> None:
    wanted = {name: (t.alone or HARMLESS, t.sealed) for name, t in THREATS.items()}
    assert rows() == wanted | ELSEWHERE


def test_most_of_the_threats_are_found_from_records_alone() -> None:
    named = [sealed for _, sealed in rows().values()]
    assert sum(text.startswith(("records", "loud")) for text in named) >= 40


def test_a_sample_is_the_seeds_alone() -> None:
    names = [f"table/row/{k}" for k in range(100)]
    assert draw(names, 5, 1) == draw(names, 5, 1)
    assert draw(names, 5, 1) != draw(names, 5, 2)
    assert set(draw(names, 5, 1)) <= set(draw(names, 9, 1))
    assert np.array_equal(sorted(draw(names[::-1], 5, 1)), sorted(draw(names, 5, 1)))
