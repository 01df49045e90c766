"""What an edition took: each job once in each sum, measured where it was, else bounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from georecon.errors import DataError
from georecon.files import read_json, write_json, write_text
from georecon.jobs.books import Entry
from georecon.records.chain import Cell, Graph, read_graph
from georecon.reporting.costs import FILE, OTHERS, Costs, cost_rows, costs_of, read_costs

RESULTS = "results/tiny"
PRE = f"{RESULTS}/pretrain/coord/seed1"
HOMO = f"{RESULTS}/finetune/property/homo/coord/seed1"
ETHANOL = f"{RESULTS}/finetune/force/ethanol/coord/seed1"
SCRATCH = f"{RESULTS}/finetune/property/homo/scratch/seed1"
GPU = {"device": "cuda", "threads": 1}
HEAD = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time"


def record(path: str, seconds: float, inputs: list[str], outputs: list[str], **facts: Any) -> None:
    def files(names: list[str]) -> dict[str, Any]:
        return {Path(n).stem: {"path": n, "bytes": 1, "sha256": "0" * 64} for n in names}

    stage = facts.pop("stage", path.split("/")[2])
    write_json(
        path,
        {
            "stage": stage,
            "settings": {"seed": 1},
            "job": {"slurm": facts.pop("slurm", None)},
            "inputs": files(inputs),
            "outputs": files(outputs),
            "seconds": seconds,
            "compute": {"device": "cpu", "threads": 1},
            **facts,
        },
    )


def benchmark(path: str, rss: object, cpu: object) -> None:
    write_text(path, f"{HEAD}\n9\t0:00:09\t{rss}\t1\t1\t1\t0\t0\t0\t{cpu}\n")


@pytest.fixture
def graph(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Graph:
    """Two tables that need one encoder; one of them has a run from scratch too."""
    monkeypatch.chdir(tmp_path)
    store = "resources/store/qm9/manifest.json"
    write_json(store, {"files": {}})
    for name in ("qm9", "other"):
        made = [store] if name == "qm9" else ["resources/store/other/manifest.json"]
        record(f"resources/records/preprocess/{name}.json", 360, [], made, stage="preprocess")
    record(f"{PRE}/run.json", 3600, [store], [f"{PRE}/encoder.safetensors"], compute=GPU,
           training={"steps": 100, "processes": 2})  # fmt: skip
    for folder in (HOMO, ETHANOL, SCRATCH):
        encoder = [] if folder == SCRATCH else [f"{PRE}/encoder.safetensors"]
        record(f"{folder}/run.json", 1800, [store, *encoder], [f"{folder}/outputs.safetensors"],
               compute=GPU, training={"steps": 100, "processes": 1})  # fmt: skip
        record(f"{folder}/evaluate.run.json", 36, [f"{folder}/outputs.safetensors"],
               [f"{folder}/metrics.json"], stage="evaluate")  # fmt: skip
    record(f"{RESULTS}/records/site/site.json", 900, [], [], stage="site")
    return with_cells()


def with_cells() -> Graph:
    found = read_graph(Path(), "tiny")
    assert not found.faults
    for path, folder in (("qm9/coord/homo", HOMO), ("qm9/scratch/homo", SCRATCH),
                         ("md17/coord/ethanol", ETHANOL)):  # fmt: skip
        table, row, column = path.split("/")
        runs = (f"{folder}/metrics.json",)
        found.links[path] = Cell(
            kind="cell", path=path, table=table, row=row, column=column, unit="eV", value=1.0,
            std=None, n=1, values={}, reason=None, runs=runs, parents=runs,
        )  # fmt: skip
    return found


def costs(graph: Graph, books: dict[str, Entry] | None = None) -> Costs:
    return costs_of(graph, Path(), books or {})


def test_a_shared_encoder_counts_once_in_the_total(graph: Graph) -> None:
    found = costs(graph)
    assert found.total.jobs == 8  # no page, nothing of another data set
    assert found.total.gpu_hours == 2 + 3 * 0.5
    assert found.tables["qm9"].gpu_hours == 2 + 2 * 0.5
    assert found.tables["md17"].gpu_hours == 2 + 0.5
    twice = sum(cost.gpu_hours for cost in found.tables.values())  # the broken twin
    assert twice == found.total.gpu_hours + 2
    for group in (found.methods, found.rules):
        for name in ("jobs", "gpu_hours", "cpu_hours"):
            total = sum(getattr(cost, name) for cost in group.values())
            assert total == pytest.approx(getattr(found.total, name))


def test_methods_and_rules(graph: Graph) -> None:
    found = costs(graph)
    assert {*found.methods} == {"coord", "scratch", OTHERS}
    assert found.methods["coord"].gpu_hours == 3
    assert found.methods["scratch"].jobs == 2
    assert {name: cost.jobs for name, cost in found.rules.items()} == {
        "preprocess": 1, "pretrain": 1, "finetune": 3, "evaluate": 3
    }  # fmt: skip


def test_processor_time_is_bounded_unless_somebody_measured_it(graph: Graph) -> None:
    before = costs(graph).rules["pretrain"]
    assert (before.cpu_hours, before.cpu_bounded, before.peak_mb) == (2, 2, None)
    place = f"{RESULTS}/benchmarks/pretrain/coord/seed1.tsv"
    benchmark(place, "2500.5", "3960")
    after = costs(graph).rules["pretrain"]
    assert (after.cpu_hours, after.cpu_bounded, after.peak_mb) == (1.1, 0, 2500.5)
    for rss, cpu in (("3.04", "0.00"), ("NA", "NA"), ("-", "-")):
        benchmark(place, rss, cpu)  # of a process that waited for another one, or was not looked at
        assert costs(graph).rules["pretrain"] == before


def test_the_books_of_slurm_win(graph: Graph) -> None:
    write_json(f"{PRE}/run.json", _of_job(f"{PRE}/run.json", "7"))
    entry = Entry(cpu_hours=5, gpu_hours=6, peak_mb=1234, energy_kwh=0.5)
    found = costs(with_cells(), {"7": entry})
    pretrain = found.rules["pretrain"]
    assert (pretrain.gpu_hours, pretrain.cpu_hours, pretrain.cpu_bounded) == (6, 5, 0)
    assert (pretrain.peak_mb, pretrain.energy_kwh) == (1234, 0.5)
    assert found.total.energy_kwh == 0.5
    assert found.rules["finetune"].energy_kwh is None


def test_jobs_that_shared_a_slurm_job_share_its_cost(graph: Graph) -> None:
    """A broken twin would count the group's hours once for each of its jobs."""
    for folder in (HOMO, ETHANOL, SCRATCH):
        path = f"{folder}/evaluate.run.json"
        write_json(path, _of_job(path, "9"))
    entry = Entry(cpu_hours=0.3, gpu_hours=0, peak_mb=900, energy_kwh=0.06)
    found = costs(with_cells(), {"9": entry})
    assert found.rules["evaluate"].cpu_hours == pytest.approx(0.3)
    assert found.rules["evaluate"].energy_kwh == pytest.approx(0.06)
    assert found.tables["md17"].energy_kwh == pytest.approx(0.02)
    assert found.rules["evaluate"].peak_mb is None  # of all three together


def _of_job(path: str, slurm: str) -> dict[str, Any]:
    return {**read_json(path), "job": {"slurm": slurm}}


def test_what_is_not_in_the_numbers_is_said(graph: Graph) -> None:
    plain = "; ".join(costs(graph).notes)
    resumed = {"steps": 100, "processes": 1, "resumed_at": 75, "seconds": 900.0}
    write_json(f"{HOMO}/run.json", {**read_json(f"{HOMO}/run.json"), "training": resumed})
    taken = {"imported": {"name": "a.zip", "sha256": "0" * 64}}
    write_json(f"{ETHANOL}/run.json", {**read_json(f"{ETHANOL}/run.json"), **taken})
    text = "; ".join(costs(with_cells()).notes)
    assert "1 trainings went on from a save; the 0.75 h" in text
    assert "1 jobs were taken from published results" in text
    assert "bounds it from above" in text
    assert "went on" not in plain
    assert "published" not in plain


def test_they_are_read_as_written(graph: Graph, tmp_path: Path) -> None:
    found = costs(graph)
    write_json(tmp_path / FILE, found.as_json())
    assert read_costs(tmp_path) == found
    assert read_costs(tmp_path / "nowhere") is None
    for text in ("{}", "[]", "not JSON", '{"total": 1}'):
        write_text(tmp_path / FILE, text)
        with pytest.raises(DataError, match=r"cost\.json"):
            read_costs(tmp_path)


def test_rows_end_with_all_of_it(graph: Graph) -> None:
    rows = cost_rows(costs(graph))
    assert {*rows} == {"table", "method", "rule"}
    for group in rows.values():
        assert group[-1].name == "all, each job once"
        assert group[-1].jobs == "8"
        assert group[-1].gpu_hours == "3.5"
        assert group[-1].cpu_hours.startswith("≤ ")
        assert group[-1].energy == "–"
