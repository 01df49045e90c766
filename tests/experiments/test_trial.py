"""The trial has one job for each kind of training, with all that the job needs."""

from __future__ import annotations

import pytest

from georecon import paths
from georecon.errors import ConfigError
from georecon.experiments.experiments import Experiments
from georecon.experiments.settings import FinetuneSettings
from georecon.experiments.trainings import all_trainings
from georecon.experiments.trial import TrialJob, trial_files, trial_jobs
from georecon.jobs.rule_values import RuleValues
from georecon.keys import from_json
from tests.projects import ROOT


@pytest.mark.parametrize("edition", ["tiny", "laptop", "workstation", "paper"])
def test_every_kind_has_a_job(edition: str) -> None:
    experiments = Experiments.load(ROOT / "config", {"edition": edition})
    jobs, runs = trial_jobs(experiments), all_trainings(experiments)
    assert {*jobs} == {run.kind() for run in runs}
    assert len(jobs) < len(runs) / 3
    assert trial_files(experiments) == [paths.TRIAL.format(kind=kind) for kind in jobs]
    for job in jobs.values():
        assert from_json(TrialJob, job.as_json()).as_json() == job.as_json()


def test_a_job_knows_its_runs_data() -> None:
    experiments = Experiments.load(ROOT / "config", {"edition": "paper"})
    (job,) = (j for j in trial_jobs(experiments).values() if "double-walled" in j.name)
    run = from_json(FinetuneSettings, dict(job.settings))
    assert (job.stage, job.dataset, job.atoms, job.validation) == ("finetune", "md22", 370, 80)
    assert (run.train.batch_size, run.train.part_atoms, run.encoder.channels) == (32, 6000, 256)
    assert job.store == "resources/store/md22/double-walled_nanotube"
    assert job.split == "resources/splits/md22/double-walled_nanotube_sgdml.npz"


def test_a_kind_of_another_edition_is_refused() -> None:
    values = RuleValues(Experiments.load(ROOT / "config", {"edition": "tiny"}))
    with pytest.raises(ConfigError, match="'tiny' has no training of kind pretrain-0"):
        values.trial_job("pretrain-0")
    kind = values.trial_files()[0].rsplit("/", 1)[1].removesuffix(".json")
    assert values.trial_job(kind).kind == kind
