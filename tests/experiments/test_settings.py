"""What a job is given survives JSON, and nothing else is taken for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from georecon.errors import ConfigError
from georecon.experiments.experiments import Experiments
from georecon.experiments.settings import (
    EncoderSettings,
    FinetuneSettings,
    PretrainSettings,
    SmoothnessSettings,
    SplitPlan,
)
from georecon.keys import from_json

CONFIG = Path(__file__).resolve().parents[2] / "config"


@pytest.fixture(scope="module")
def paper() -> Experiments:
    return Experiments.load(CONFIG, {"edition": "paper"})


def through_text(settings: Any, kind: type) -> Any:
    return from_json(kind, json.loads(json.dumps(settings.as_json())))


def test_settings_are_the_same_after_json(paper: Experiments) -> None:
    for method in ("coord", "georecon", "georecon__noclean", "coord_long", "unimol_georecon"):
        settings = paper.runs.pretrain_settings(method, 3)
        assert through_text(settings, PretrainSettings) == settings
    for part in ("property", "force", "out_of_distribution"):
        dataset = paper.data.dataset_of(part)
        for target in paper.data.targets(dataset):
            tuned = paper.runs.finetune_settings(part, target, "coord", 1)
            assert through_text(tuned, FinetuneSettings) == tuned
            split = paper.data.split(part, target, 1).removesuffix(".npz").rpartition("/")[2]
            plan = paper.data.split_plan(dataset, split)
            assert through_text(plan, SplitPlan) == plan
    smooth = paper.runs.smoothness_settings("coord", 1)
    assert through_text(smooth, SmoothnessSettings) == smooth


@pytest.mark.parametrize("edition", ["laptop", "paper", "tiny"])
def test_a_configuration_is_the_same_after_json(edition: str) -> None:
    found = Experiments.load(CONFIG, {"edition": edition})
    again = Experiments.from_json(json.loads(json.dumps(found.as_json())))
    assert again.config == found.config


def test_a_jobs_process_reads_the_same_configuration() -> None:
    from georecon.experiments.config import load_config

    for edition in ("laptop", "paper", "tiny"):
        given = {"edition": edition}
        assert load_config(CONFIG, given, sound=True) == load_config(CONFIG, given)


def test_unknown_and_missing_keys_are_named_all_at_once(paper: Experiments) -> None:
    document = paper.runs.pretrain_settings("coord", 1).as_json()
    del document["seed"]
    document["train"] = {**document["train"], "stepz": 3}
    with pytest.raises(ConfigError) as error:
        from_json(PretrainSettings, document)
    assert "seed: missing" in str(error.value)
    assert "train.stepz: unknown key; allowed: steps" in str(error.value)
    assert "did you mean 'steps'?" in str(error.value)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        EncoderSettings().channels = 3  # type: ignore[misc]


def test_planning_imports_neither_torch_nor_objectives() -> None:
    import subprocess
    import sys

    code = (
        "import sys; from pathlib import Path\n"
        "from georecon.experiments.experiments import Experiments\n"
        f"Experiments.load(Path({str(CONFIG)!r}), {{'edition': 'paper'}})\n"
        "assert 'torch' not in sys.modules, 'torch'\n"
        "assert 'jsonschema' not in sys.modules, 'jsonschema'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
