"""Event files hold what the CSV curves do, read back by TensorBoard's own reader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from georecon.errors import DataError
from georecon.reporting import tensorboard
from georecon.reporting.tensorboard import write_events
from tests.reporting.card_results import FINETUNE, graph_of

try:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
except ImportError:
    EventAccumulator = None  # the extra `curves` is not installed
needs_tensorboard = pytest.mark.skipif(
    EventAccumulator is None, reason="needs the package tensorboard (extra `curves`)"
)


def scalars(folder: Path) -> dict[str, list[tuple[int, float]]]:
    events: Any = EventAccumulator(str(folder))
    events.Reload()
    tags = events.Tags()["scalars"]
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in tags}


@needs_tensorboard
@pytest.mark.filterwarnings("ignore")  # of tensorboard and protobuf
def test_curves_are_those_of_the_files(tmp_path: Path) -> None:
    graph, folder = graph_of(tmp_path), tmp_path / "events"
    assert write_events(graph, tmp_path, folder) == 2
    for place in ("pretrain/coord/seed1", "finetune/property/homo/coord/seed1"):
        found = scalars(folder / place)
        assert found == {
            "train_loss": [(10, 1.5), (20, 1.25)],
            "val_score": [(10, pytest.approx(0.9))],
        }
    with pytest.raises(DataError, match="is not empty; name a folder that is, or a new one"):
        write_events(graph, tmp_path, folder)


@needs_tensorboard
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("text", "words"),
    [("a,b\n1,2\n", "'step'"), ("step,x\nten,1\n", "ten"), (None, "No such file")],
)
def test_a_curve_that_is_none_is_named(text: str | None, words: str, tmp_path: Path) -> None:
    graph = graph_of(tmp_path)
    path = tmp_path / f"{FINETUNE}/curve.csv"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(DataError, match=rf"{FINETUNE}/curve\.csv: is no curve .*{words}"):
        write_events(graph, tmp_path, tmp_path / "events")


def test_without_the_package_a_sentence_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError("No module named 'tensorboard'", name="tensorboard")

    monkeypatch.setattr(tensorboard.importlib, "import_module", missing)
    with pytest.raises(DataError, match=r"not written: .*; `pip install tensorboard` brings it"):
        write_events(graph_of(tmp_path), tmp_path, tmp_path / "events")
    assert not (tmp_path / "events").exists()


@needs_tensorboard
@pytest.mark.filterwarnings("ignore")
def test_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    graph_of(tmp_path)
    monkeypatch.chdir(tmp_path)
    assert tensorboard.main(["tiny", "-o", "events"]) == 0
    assert capsys.readouterr().out.startswith(
        "events: curves of 2 trainings; `tensorboard --logdir"
    )
    assert tensorboard.main(["laptop", "-o", "others"]) == 1
    assert "no training of edition 'laptop' is there" in capsys.readouterr().err
