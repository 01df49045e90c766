"""Methods whose encoder comes from a file: keys, cells, and rows of absent files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from georecon.data.raw.fetch import fetch
from georecon.errors import ConfigError, FetchError
from georecon.experiments.encoder_files import with_absent_files
from georecon.experiments.experiments import Experiments
from georecon.experiments.plan import downloads
from georecon.experiments.trainings import trainings
from georecon.jobs.rule_values import RuleValues
from tests.projects import ROOT

NAME = "denoised-pcqm4mv2.ckpt"


def load(edition: str = "tiny", **file: Any) -> Experiments:
    """An edition with a method from a file."""
    entry = {
        "label": "Public",
        "encoder_file": file or {"name": NAME, "urls": ["https://x.invalid/a"]},
    }
    return Experiments.load(ROOT / "config", {"edition": edition, "methods": {"public": entry}})


def absent(
    found: Experiments, root: Path, mirror: str | None = None, *, offline: bool = False
) -> str | None:
    config = with_absent_files(found.config, root, mirror=mirror, offline=offline)
    return Experiments(config).methods.missing("public")


def test_the_paper_edition_has_the_public_checkpoint_as_a_row_of_every_table_of_methods() -> None:
    paper = Experiments.load(ROOT / "config", {"edition": "paper"})
    file = paper.methods.encoder_file("coord_public")
    assert file is not None
    assert file.name == NAME
    assert file.urls[0].endswith(f"/checkpoints/{NAME}")
    for table in paper.tables.names():
        rows = {row.method for row in paper.tables.rows(table)}
        assert ("coord_public" in rows) == paper.tables.compares_methods(table) or table == "unimol"
    assert f"the encoder of {NAME}, the same for all seeds" in paper.tables.spec("qm9").caption


@pytest.mark.parametrize("edition", ["laptop", "tiny", "evidence", "readings", "workstation"])
def test_editions_of_other_sizes_have_no_such_row(edition: str) -> None:
    assert (
        "coord_public"
        not in Experiments.load(ROOT / "config", {"edition": edition}).methods.names()
    )


def test_all_seeds_start_from_the_one_encoder_and_nothing_is_pretrained() -> None:
    found = load()
    values = RuleValues(found)
    files = {values.encoder("public", seed)["encoder"] for seed in (1, 2)}
    assert files == {"results/tiny/encoders/public/encoder.safetensors"}
    assert values.encoder("scratch", 1) == {}
    assert values.encoder("coord", 2)["encoder"].endswith(
        "pretrain/coord/seed2/encoder.safetensors"
    )
    stages = {run.stage for t in found.tables.names() for run in trainings(found, t)
              if run.settings.method == "public"}  # fmt: skip
    assert stages == {"finetune"}
    assert found.runs.encoder_raw("public") == f"resources/raw/encoders/{NAME}"
    assert values.raw_identity("encoders", NAME)["name"] == NAME
    with pytest.raises(ConfigError, match=f"no method has an encoder_file 'x'; allowed: {NAME}"):
        found.data.raw_file("encoders", "x")


def test_its_cells_are_runs_like_any_methods() -> None:
    found = load()
    for table in ("qm9", "md17", "smoothness"):
        cells = [c for c in found.tables.spec(table).cells if "public" in c.row]
        assert cells
        assert all(cell.reason is None and cell.files for cell in cells)


def test_a_table_of_losses_says_that_there_are_none() -> None:
    rows = {"methods": ["public", "coord"]}
    column = {"source": "pretrain", "metric": "val_denoise", "label": "loss"}
    table = {"title": "t", "caption": "c", "rows": rows, "columns": [column]}
    entry = {"label": "Public", "encoder_file": {"local": "a.ckpt"}}
    changes = {"edition": "tiny", "methods": {"public": entry}, "tables": {"losses": table}}
    found = Experiments.load(ROOT / "config", changes)
    first, second = found.tables.spec("losses").cells
    assert first.reason == "not pre-trained here, the encoder comes from a file"
    assert second.reason is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"objective": "denoise"}, "methods.public.objective: a method has this or encoder_file"),
        ({"of": "coord"}, "methods.public.of: a method has this or encoder_file"),
        ({"steps_factor": 2.0}, "methods.public.steps_factor: a method has this or encoder_file"),
        ({"params": {"sigma": 1.0}}, "methods.public.params: a method has this or encoder_file"),
        ({"encoder_file": {}}, "methods.public.encoder_file: needs `local` (a path) or `name`"),
        ({"encoder_file": {"local": "a", "member": "b"}}, "encoder_file.member: only a file of a"),
        ({"encoder_file": {"locl": "a"}}, "methods.public.encoder_file.locl: unknown key"),
        ({"encoder_file": {"local": "a", "sha256": "0"}}, "methods.public.encoder_file.sha256"),
    ],
)
def test_what_contradicts_a_file_is_refused(change: dict[str, Any], words: str) -> None:
    entry = {"label": "Public", "encoder_file": {"local": "a.ckpt"}} | change
    changes: dict[str, Any] = {"edition": "tiny", "methods": {"public": entry}}
    with pytest.raises(ConfigError) as refused:
        Experiments.load(ROOT / "config", changes)
    assert words in str(refused.value)


def test_scratch_and_two_files_of_one_name_are_refused() -> None:
    file = {"local": "a/x.ckpt"}
    scratch = {"edition": "tiny", "methods": {"scratch": {"encoder_file": file}}}
    with pytest.raises(ConfigError, match="scratch is the encoder without any training"):
        Experiments.load(ROOT / "config", scratch)
    both = {n: {"label": n, "encoder_file": {"local": f"{n}/x.ckpt"}} for n in ("a", "b")}
    with pytest.raises(ConfigError, match=r"methods\.b\.encoder_file\.name: is that of a, another"):
        Experiments.load(ROOT / "config", {"edition": "tiny", "methods": both})
    same = {n: {"label": n, "encoder_file": file} for n in ("a", "b")}
    Experiments.load(ROOT / "config", {"edition": "tiny", "methods": same})


def test_an_absent_file_empties_its_row_and_no_other(tmp_path: Path) -> None:
    found = load(name=NAME)
    reason = absent(found, tmp_path)
    assert reason is not None
    assert NAME in reason
    assert "resources/raw/encoders" in reason
    config = with_absent_files(found.config, tmp_path, mirror=None, offline=False)
    empty = Experiments(config)
    for table in ("qm9", "md17", "smoothness"):
        for cell in empty.tables.spec(table).cells:
            assert (cell.reason == reason) == ("public" in cell.row)
    assert not any("public" in file for t in empty.tables.names() for file in empty.tables.files(t))
    assert "public" not in empty.tables.spec("qm9").caption.lower()


def test_a_file_is_there_where_any_of_its_places_may_have_it(tmp_path: Path) -> None:
    mirror, own = tmp_path / "mirror/deep", tmp_path / "own.ckpt"
    mirror.mkdir(parents=True)
    named = load(name=NAME)
    assert absent(named, tmp_path, str(mirror)) is not None
    (mirror / NAME).touch()
    assert absent(named, tmp_path, str(tmp_path / "mirror")) is None
    assert absent(named, tmp_path, "https://mirror.invalid") is None
    assert absent(named, tmp_path, "https://mirror.invalid", offline=True) is not None
    address = load()
    assert absent(address, tmp_path) is None
    assert absent(address, tmp_path, offline=True) is not None
    local = load(local=str(own))
    assert absent(local, tmp_path) == f"its encoder's file {own} is not there"
    own.touch()
    assert absent(local, tmp_path) is None
    raw = tmp_path / "resources/raw/encoders" / NAME
    raw.parent.mkdir(parents=True)
    raw.touch()
    assert absent(named, tmp_path) is None
    stated = load(name=NAME, missing="not ours to use")
    assert absent(stated, tmp_path) == "not ours to use"


def test_the_plan_counts_its_download(tmp_path: Path) -> None:
    before = downloads(Experiments.load(ROOT / "config", {"edition": "tiny"}).config, tmp_path)
    with_it = downloads(load().config, tmp_path)
    assert with_it == (before[0], before[1] + 1)


def test_a_fetch_that_fails_says_how_to_go_on_without(tmp_path: Path) -> None:
    for folder, said in (("encoders", True), ("qm9", False)):
        with pytest.raises(FetchError) as error:
            fetch({"name": NAME}, tmp_path / folder / NAME, offline=True)
        assert ("encoder_file leaves its cells empty" in str(error.value)) == said
