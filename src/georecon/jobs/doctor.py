"""Whether this place can run the workflow: each line says what was found, and what would fail."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from georecon.errors import GeoreconError
from georecon.experiments.plan import downloads
from georecon.experiments.sections import Config
from georecon.jobs.gpus import ALLOWED, forced_device, visible_gpus, why_no_gpus
from georecon.jobs.partitions import in_groups, real_partitions, unfit
from georecon.jobs.planned_jobs import planned_jobs
from georecon.jobs.slurm import ASKED, SITE, VARIABLE, ask, left_over
from georecon.records.record import git_state

OK, NOTE, FAILS = "ok", "note", "FAILS"
PACKAGES = ("snakemake", "snakemake-executor-plugin-slurm", "torch")
LOCAL_RULES = ("all", "fetch", "cost")  # of the Snakefile's, those that a plan of `all` has
GPU_RULES = ("pretrain", "finetune", "smoothness", "nve")
POLL = 180  # longest time between two looks of the plugin at the queue [s]


class Finding(NamedTuple):
    """One line of the doctor's."""

    verdict: str
    text: str

    def __str__(self) -> str:
        return f"{self.verdict:<5} {self.text}"


def examine(root: Path, folder: Path, config: Config) -> list[Finding]:
    """All findings.

    Args:
        root: folder of the Snakefile.
        folder: working folder.
        config: the resolved configuration.
    """
    return [
        *_versions(root),
        *_code(root),
        *_profiles(root, folder),
        *_slurm(root, folder, config),
        *_gpus(config),
        *_disk(folder, config),
    ]


def examine_requests(root: Path, folder: Path, config: dict[str, Any]) -> list[Finding]:
    """Rules whose jobs no partition of this cluster can ever start; none where there is no Slurm.

    Args:
        root: folder of the Snakefile.
        folder: working folder.
        config: Snakemake's configuration as it was given.
    """
    partitions = real_partitions()
    if not partitions:
        return []
    try:
        jobs = planned_jobs(root, folder, config)
    except GeoreconError as error:
        return [Finding(NOTE, f"what jobs would ask for is not known: {error}")]
    site = _site(root)
    cluster = [job for job in jobs if job.rule not in LOCAL_RULES]
    asked = in_groups(cluster, root / "slurm/profile.yaml")
    texts = unfit(asked, partitions, [*site[1]] if site else [])
    fits = f"all {len(cluster)} jobs fit a partition: {'; '.join(map(str, partitions))}"
    return [Finding(FAILS, text) for text in texts] or [Finding(OK, fits)]


def _code(root: Path) -> Iterator[Finding]:
    """Whether records will be able to name a commit."""
    state = git_state(root.resolve())
    if state.commit is None:
        yield Finding(NOTE, f"records will name no commit: {state.words()}")
    elif state.dirty:
        files = ", ".join(state.changed)
        yield Finding(NOTE, f"records will say that code is not committed: {files:.200}")


def _versions(root: Path) -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    supported = (3, 11) <= sys.version_info[:2] <= (3, 14)
    yield Finding(OK if supported else FAILS, f"Python {version} (3.11 to 3.14)")
    lock = root / "envs/lock.txt"
    text = lock.read_text(encoding="utf-8") if lock.is_file() else ""
    pins = dict(re.findall(r"^([\w.-]+)==(\S+)$", text, re.M))
    for name in PACKAGES:
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            yield Finding(FAILS, f"{name} is not installed; envs/lock.txt has {pins.get(name)}")
            continue
        same = found.partition("+")[0] == pins.get(name)
        note = "" if same else f"; envs/lock.txt has {pins.get(name)}"
        yield Finding(OK if same else NOTE, f"{name} {found}{note}")


def _profiles(root: Path, folder: Path) -> Iterator[Finding]:
    for place in dict.fromkeys((root, folder, root / "workflow")):
        if (place / "profiles/default").exists():
            yield Finding(
                FAILS, f"{place / 'profiles/default'} wins over --profile, key by key: move it away"
            )
    if name := os.environ.get("SNAKEMAKE_PROFILE"):
        yield Finding(NOTE, f"SNAKEMAKE_PROFILE is {name!r}: the profile of every plain call")
    profile = root / "slurm/profile.yaml"
    if profile.is_file():
        values = {str(v) for v in _profile(root).values() if isinstance(v, str | int)}
        taken = sorted(path.name for path in profile.parent.iterdir() if path.name in values)
        for name in taken:
            yield Finding(FAILS, f"slurm/{name}: Snakemake would read the profile's value as it")


def _profile(root: Path) -> dict[str, Any]:
    value = yaml.safe_load((root / "slurm/profile.yaml").read_text(encoding="utf-8"))
    return value if isinstance(value, dict) else {}


def _slurm(root: Path, folder: Path, config: Config) -> Iterator[Finding]:
    missing = [name for name in ("sbatch", "squeue", "sinfo", "scancel") if not shutil.which(name)]
    if missing:
        asked = os.environ.get(ASKED)
        yield Finding(
            FAILS if asked else NOTE,
            f"no Slurm here ({', '.join(missing)} not found): --profile slurm cannot submit",
        )
        return
    settings = ask("scontrol", "show", "config")
    if settings is None:
        yield Finding(FAILS, "Slurm's clients are here, its controller does not answer")
        return
    yield Finding(OK, f"Slurm {(ask('sinfo', '--version') or '').strip().removeprefix('slurm ')}")
    age = re.search(r"^MinJobAge\s*=\s*(\d+)", settings, re.M)
    if age and int(age[1]) < POLL:
        yield Finding(
            FAILS,
            f"MinJobAge is {age[1]} s: ended jobs leave the queue before the plugin looks "
            f"(every {POLL} s at most), and it would wait for them for ever",
        )
    yield from _partitions(root, config)
    if jobs := left_over(folder.resolve()):
        ids = " ".join(job.id for job in jobs)
        yield Finding(NOTE, f"jobs of a run in this folder are in the queue: {ids}")
    if folder.resolve().is_relative_to("/tmp"):
        yield Finding(NOTE, "this folder is under /tmp, which nodes usually do not share")


def _site(root: Path) -> tuple[Path, dict[str, Any]] | None:
    """The site's partition file and what it says."""
    path = Path(os.environ.get(VARIABLE, root / SITE))
    if not path.is_file():
        return None
    return path, yaml.safe_load(path.read_text(encoding="utf-8"))["partitions"]


def _partitions(root: Path, config: Config) -> Iterator[Finding]:
    rows = [line.split("|") for line in (ask("sinfo", "-h", "-o", "%P|%G") or "").splitlines()]
    real: dict[str, bool] = {}
    for name, gres in rows:
        real[name.rstrip("*")] = real.get(name.rstrip("*"), False) or "gpu" in gres
    default = next((name[:-1] for name, _ in rows if name.endswith("*")), None)
    overrides = _profile(root).get("set-resources") or {}
    given = {rule: (overrides.get(rule) or {}).get("slurm_partition") for rule in GPU_RULES}
    site: dict[str, Any] = {}
    if found := _site(root):
        path, site = found
        with_gpu = [name for name, limits in site.items() if limits.get("max_gpu")]
        yield Finding(OK, f"{path}: {', '.join(site)}; with GPUs: {', '.join(with_gpu) or 'none'}")
    else:
        with_gpu = [name for name in [default] if name and real[name]]
        yield Finding(NOTE, f"no {SITE}: jobs go to the default partition ({default})")
    for name in {*site, *filter(None, given.values())} - real.keys():
        yield Finding(FAILS, f"partition {name!r} is unknown here; there are: {', '.join(real)}")
    if config.gpus and not with_gpu and not all(given.values()):
        there = ", ".join(name for name, gpu in real.items() if gpu) or "none"
        yield Finding(
            FAILS,
            f"training asks for GPUs, and no partition for it is known; with GPUs here: {there}. "
            f"Name one in {SITE} (docs/cluster.md)",
        )
    for name in {*site, *filter(None, given.values())} & real.keys():
        text = ask("scontrol", "show", "partition", name) or ""
        if "PreemptMode=CANCEL" in text:
            yield Finding(
                NOTE, f"partition {name} cancels preempted jobs: the plugin waits for them for ever"
            )


def _gpus(config: Config) -> Iterator[Finding]:
    names = visible_gpus()
    yield Finding(OK if names else NOTE, f"{len(names)} GPUs on this machine {' '.join(names)}")
    if (problem := why_no_gpus(config.gpus)) is not None:
        yield Finding(FAILS, problem)
    if config.gpus and forced_device() == "cpu":
        yield Finding(NOTE, f"{ALLOWED}, and trainings that ask for GPUs will use it")


def _disk(folder: Path, config: Config) -> Iterator[Finding]:
    free = shutil.disk_usage(folder).free
    wanted, unknown = downloads(config, folder)
    more = f" and {unknown} files of unknown size" if unknown else ""
    yield Finding(
        OK if free > wanted else FAILS,
        f"{free:,} bytes free in {folder}; still to download: {wanted:,}{more}",
    )
    mirror = config.mirror
    if mirror and "://" not in mirror and not Path(mirror).is_dir():
        yield Finding(FAILS, f"mirror: no folder {mirror}")
