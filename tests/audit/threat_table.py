"""The threat table: ways to forge a finished run, by the name that docs/audit.md gives each."""

from __future__ import annotations

import shutil
from dataclasses import dataclass

from tests.audit import tamper
from tests.audit.tamper import FINETUNE, RESULTS, flip_bit, replace_bytes
from tests.audit.threats import (
    DYNAMICS,
    ENCODER,
    FRAMES,
    LEAK,
    LOCK,
    OTHER,
    PRETRAIN_SPLIT,
    QM9,
    REPORT,
    RUN,
    SPLIT,
    STORE,
    USAGE,
    Change,
    address,
    address_and_record,
    all_kernels,
    another_training,
    better_curve,
    better_outputs,
    better_predictions,
    code_usage,
    configured_anew,
    copied_seed,
    cut,
    edition,
    evil_table,
    evil_table_with_record,
    extra_output,
    extra_record,
    extra_text,
    first_number,
    forged_frames,
    half_drift,
    half_smoothness,
    half_trained,
    header_of_weights,
    labels_everywhere,
    linked_folder,
    mixed_kernels,
    moved_atom,
    nameless,
    of_all_records,
    of_cell,
    of_record,
    of_table,
    one_seed_less,
    other_encoder,
    other_encoder_and_smoothness,
    other_labels,
    other_molecules,
    page_text,
    pretrain_on_test,
    rates,
    raw_file,
    raw_file_and_card,
    raw_file_and_lock,
    relabelled_seeds,
    second_record,
    shift_labels,
    shorter,
    snakemakes_report,
    swap,
    torch_version,
    train_on_test,
    trajectory,
    without_commit,
    without_versions,
    worse_baselines,
    worst_dropped,
    zeroed,
)

HARMLESS = "–"
RECORDS, WEIGHTS, LOUD, RERUN = "records", "weights", "loud", "rerun"


@dataclass(frozen=True)
class Threat:
    """One kind of tampering.

    Attributes:
        change: what is done.
        alone: depth and kind of the finding where nothing is sealed; None: not asked.
        sealed: the same where everything is.
        path: file that the finding of a sealed forgery names, where it is certain.
        page: whether it is of a page, which is then not written again.
    """

    change: Change
    alone: str | None
    sealed: str
    path: str | None = None
    page: bool = False


THREATS: dict[str, Threat] = {
    # files
    "a flipped bit in a raw file": Threat(raw_file, "records: file changed",
        "records: other raw file", "resources/raw/qm9/qm9_part1.csv"),
    "another raw file, and its hash in every list": Threat(raw_file_and_lock, None,
        "records: other raw file", "resources/raw/qm9/qm9_part1.csv"),
    "the hash in a dataset card, too": Threat(raw_file_and_card, None,
        "records: other raw file", "resources/raw/qm9/qm9_part1.csv"),
    "the address of a raw file": Threat(address, "records: other source",
        "records: other source", LOCK),
    "the address of a raw file with a published hash, in every list": Threat(
        address_and_record, None, HARMLESS),
    "positions in a store": Threat(
        lambda f: tamper.rewrite_array(f, f"{STORE}/pos.npy", moved_atom),
        "records: file changed", "records: split differs"),
    "labels in a store": Threat(
        lambda f: tamper.rewrite_array(f, f"{STORE}/labels_homo.npy", shift_labels),
        "records: predictions differ", "records: predictions differ",
        f"{RUN}/predictions.parquet"),
    "labels in a store and in all that was made from it": Threat(labels_everywhere, None,
        "records: split differs"),
    "energies of a simulated molecule": Threat(forged_frames, "records: file changed",
        "weights: labels differ", FRAMES),
    "a flipped bit in an encoder": Threat(lambda f: flip_bit(f / ENCODER),
        "records: file changed", "weights: estimates differ"),
    "a flipped bit in predictions": Threat(
        lambda f: flip_bit(f / RUN / "predictions.parquet"), "records: file changed",
        "records: predictions differ", f"{RUN}/predictions.parquet"),
    "a log": Threat(
        lambda f: replace_bytes(f / "logs/tiny/finetune/property/homo/coord/seed1.log", b"fine"),
        "records: file changed", HARMLESS),
    "a deleted record": Threat(lambda f: (f / RUN / "run.json").unlink(),
        "records: record missing", "records: record missing", f"{RUN}/run.json"),
    # tables
    "a number in a table's CSV": Threat(first_number(".csv"), "records: table edited",
        "records: table edited", f"{QM9}.csv"),
    "a number in a table's Markdown": Threat(first_number(".md"), "records: table edited",
        "records: table edited", f"{QM9}.md"),
    "a number in a table's LaTeX": Threat(first_number(".tex"), "records: table edited",
        "records: table edited", f"{QM9}.tex"),
    "a number in all forms of a table": Threat(
        of_cell(lambda coord, _: coord.update(value=0.9 * coord["value"])),
        "records: value differs", "records: value differs", f"{QM9}.json"),
    "a table's caption": Threat(of_table(lambda t: t.update(caption="All seeds.")),
        "records: table edited", "records: table edited", f"{QM9}.json"),
    "the unit of a column": Threat(of_table(lambda t: t["columns"][0].update(unit="eV")),
        "records: table edited", "records: table edited", f"{QM9}.json"),
    "a cell of fewer seeds": Threat(of_cell(one_seed_less), "records: table edited",
        "records: table edited", f"{QM9}.json"),
    "a cell filled from another method's runs": Threat(
        of_cell(lambda coord, mine: mine.update(
            {k: coord[k] for k in ("value", "std", "values", "runs")})),
        "records: table edited", "records: table edited", f"{QM9}.json"),
    "a difference between methods": Threat(
        of_table(lambda t: t["comparison"]["differences"][0].update(value=-500.0)),
        "records: value differs", "records: value differs", f"{QM9}.json"),
    "a table without its comparison": Threat(of_table(lambda t: t.update(comparison=None)),
        "records: value differs", "records: value differs", f"{QM9}.json"),
    "a table that nobody asked for": Threat(evil_table, "records: file of nobody",
        "records: file of nobody", f"{RESULTS}/tables/evil.csv"),
    "a table that nobody asked for, with a record": Threat(evil_table_with_record,
        "records: file of nobody", "records: file of nobody", f"{RESULTS}/tables/evil.json"),
    "a text that nobody asked for, in the record of a table": Threat(extra_text,
        "records: file of nobody", "records: file of nobody", f"{RESULTS}/tables/evil.csv"),
    "a file that nobody asked for, in the record of a run": Threat(extra_output,
        "records: file of nobody", "records: record unreadable", f"{RUN}/run.json"),
    "a file with the record of a job that there is not": Threat(extra_record,
        "records: file of nobody", "records: file of nobody", f"{RESULTS}/finetune/evil.csv"),
    "a folder of tables behind a link": Threat(linked_folder, "records: file of nobody",
        "records: file of nobody", f"{RESULTS}/tables/more/evil.csv"),
    "metrics of a run": Threat(
        of_record(f"{RUN}/metrics.json", lambda m: m["property"].update(mae=0.1)),
        "records: metrics differ", "records: metrics differ", f"{RUN}/metrics.json"),
    # pages
    "a number in the summary": Threat(page_text("summary.md", "0.", "9."),
        "records: file changed", "records: page edited", f"{REPORT}/summary.md", page=True),
    "a verdict on a claim": Threat(
        page_text("claims.json", '"undecided"', '"supported"'), "records: file changed",
        "records: page edited", f"{REPORT}/claims.json", page=True),
    "a number in the web report": Threat(
        page_text("index.html", 'data-value="0.', 'data-value="9.'),
        "records: file changed", "records: page edited", f"{REPORT}/index.html", page=True),
    "a sentence in the web report": Threat(
        page_text("index.html", "</h1>", "</h1><p>All claims hold.</p>"),
        "records: file changed", "records: page edited", f"{REPORT}/index.html", page=True),
    "what the edition took": Threat(
        page_text("cost.json", '"gpu_hours": 0.0', '"gpu_hours": 9.0'), "records: file changed",
        "records: page edited", f"{REPORT}/index.html", page=True),
    "Snakemake's report": Threat(snakemakes_report, "records: file changed", HARMLESS),
    "a picture of a figure": Threat(
        lambda f: (f / f"{RESULTS}/figures/ablations.pdf").write_bytes(b"%PDF"),
        "records: file changed", HARMLESS),
    # data
    "the worst test molecules dropped from every run": Threat(worst_dropped, None,
        "records: split differs", SPLIT),
    "half of the training molecules": Threat(half_trained, "records: file changed",
        "records: split differs", SPLIT),
    "training molecules that somebody chose": Threat(other_molecules,
        "records: file changed", "records: split differs", SPLIT),
    "test molecules among those trained on": Threat(
        lambda f: tamper.rewrite_split(f / SPLIT, train_on_test),
        "records: test set seen", "records: test set seen", SPLIT),
    "test molecules among those pre-trained on": Threat(pretrain_on_test,
        "records: test set seen", "records: test set seen", PRETRAIN_SPLIT),
    "the number of leaks": Threat(
        of_record(LEAK, lambda r: r.update(shared=r["shared"] + 3)),
        "records: file changed", "records: leak report differs", LEAK),
    "the description of a split": Threat(
        of_record(SPLIT.replace(".npz", ".json"), lambda s: s.update(store_sha256="0" * 64)),
        "records: file changed", "records: split differs", SPLIT),
    # trainings
    "predictions nearer to their labels": Threat(better_predictions, None,
        "records: predictions differ", f"{RUN}/predictions.parquet"),
    "test outputs with other labels": Threat(other_labels, None,
        "records: predictions differ", f"{RUN}/predictions.parquet"),
    "baselines made worse in every run": Threat(worse_baselines, None,
        "weights: weights differ", f"{RUN}/outputs.safetensors"),
    "test outputs nearer to their labels": Threat(better_outputs, None,
        "weights: weights differ", f"{RUN}/outputs.safetensors"),
    "fine-tuned weights set to zero": Threat(zeroed, "records: file changed",
        "weights: weights differ", f"{RUN}/outputs.safetensors"),
    "the header of fine-tuned weights": Threat(header_of_weights, "records: file changed",
        "records: record of another run", f"{RUN}/model.safetensors"),
    "code usage": Threat(code_usage, None, "weights: estimates differ", f"{USAGE}/metrics.csv"),
    "a trajectory of dynamics": Threat(trajectory, "records: file changed",
        "weights: estimates differ", f"{DYNAMICS}/metrics.json"),
    "smoothness halved": Threat(half_smoothness, None, "weights: estimates differ",
        f"{RESULTS}/smoothness/georecon/seed1/metrics.json"),
    "the energy drift of a model's dynamics halved": Threat(half_drift, None,
        "weights: estimates differ", f"{DYNAMICS}/metrics.json"),
    "an encoder copied from another method": Threat(
        lambda f: shutil.copy(f / ENCODER.replace("coord", "georecon"), f / ENCODER),
        "records: file changed", "records: record of another run", ENCODER),
    "an encoder copied, its header edited": Threat(other_encoder, "records: file changed",
        "weights: estimates differ", f"{RESULTS}/smoothness/coord/seed1/metrics.json"),
    "an encoder copied, its header edited, its smoothness too": Threat(
        other_encoder_and_smoothness, None, "weights: start differs", f"{RUN}/curve.csv"),
    "one seed's files as another's": Threat(copied_seed, "records: file changed",
        "records: run copied", f"{FINETUNE}/coord/seed2/model.safetensors"),
    "seeds relabelled": Threat(relabelled_seeds, None, "records: record of another run"),
    "a shorter curve": Threat(cut(f"{RUN}/curve.csv"), "records: curve differs",
        "records: curve differs", f"{RUN}/curve.csv"),
    "the learning rates of a curve": Threat(rates, "records: file changed",
        "records: curve differs", f"{RUN}/curve.csv"),
    "a better validation error": Threat(better_curve, None, "weights: start differs",
        f"{RUN}/curve.csv"),
    "the best step of a training": Threat(
        of_record(f"{RUN}/run.json", lambda r: r["training"].update(
            best_step=60 - r["training"]["best_step"])),
        "records: record edited", "records: curve differs", f"{RUN}/curve.csv"),
    "weights of another training, and all that follows from them": Threat(another_training,
        None, "rerun: rerun differs", "qm9/coord/homo"),
    # records
    "settings of one run": Threat(of_record(f"{RUN}/run.json", shorter),
        "records: record edited", "records: settings differ", f"{RUN}/run.json"),
    "settings of runs, and the configuration": Threat(configured_anew, None,
        "loud: other configuration"),
    "the seed of a record": Threat(of_record(f"{RUN}/run.json", lambda r: r.update(seed=7)),
        "records: record edited", "records: record of another run", f"{RUN}/run.json"),
    "the names of files in a record": Threat(nameless, None, "records: record unreadable",
        f"{RUN}/evaluate.run.json"),
    "settings of another edition": Threat(of_record(f"{RUN}/run.json", edition),
        "records: record edited", "records: settings differ", f"{RUN}/run.json"),
    "a record copied from another method": Threat(
        lambda f: shutil.copy(f / OTHER / "run.json", f / RUN / "run.json"),
        "records: record of another run", "records: record of another run", f"{RUN}/run.json"),
    "a record under another stage's name": Threat(
        of_record(f"{RUN}/run.json", lambda r: r.update(stage="report")),
        "records: record of another run", "records: record of another run", f"{RUN}/run.json"),
    "a second record for the files of a run": Threat(second_record,
        "records: record of another run", "records: record of another run",
        f"{RESULTS}/records/finetune/second.json"),
    "runs of two seeds exchanged": Threat(
        lambda f: swap(f, RUN, f"{FINETUNE}/coord/seed2"),
        "records: record of another run", "records: record of another run", f"{RUN}/run.json"),
    "a commit that there is not": Threat(
        of_all_records(lambda r: r["code"].update(commit="deadbeef" * 5)),
        "records: record edited", "records: no such commit"),
    "the commit taken out of every record": Threat(of_all_records(without_commit),
        "records: record edited", "loud: unknown commit"),
    "another lock file": Threat(
        of_all_records(lambda r: r["environment"].update(sha256="0" * 64)),
        "records: record edited", "records: other lock file"),
    "another torch in one record": Threat(of_record(f"{RUN}/run.json", torch_version),
        "records: record edited", "records: mixed packages", f"{RUN}/run.json"),
    "another torch in every record": Threat(of_all_records(torch_version),
        "records: record edited", "loud: other packages"),
    "the versions of packages taken out of every record": Threat(
        of_all_records(without_versions), "records: record edited",
        "records: record unreadable"),
    "another kernel in one record": Threat(of_record(f"{RUN}/run.json", mixed_kernels),
        "records: record edited", "loud: mixed kernels"),
    "another kernel in every record": Threat(of_all_records(all_kernels),
        "records: record edited", HARMLESS),
    "the duration of a run": Threat(of_record(f"{RUN}/run.json", lambda r: r.update(seconds=1.0)),
        "records: record edited", HARMLESS),
    "uncommitted code": Threat(
        of_record(f"{RUN}/run.json", lambda r: r["code"].update(dirty=True, changed=["src/x"])),
        "records: record edited", "loud: uncommitted code", f"{RUN}/run.json"),
}  # fmt: skip
