"""Train in one process or, through torchrun's engine, in several on one or more nodes.

A rule's resources say how many: ``gpu`` in all, ``nodes`` they are spread over. One process needs
no launcher and starts in this one. Several are described in a file, and torchrun's agent
(``torch.distributed.launcher``) starts ``python -m georecon.training.processes FILE`` for each
rank; on several nodes, srun starts one agent a node inside the job's allocation.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import traceback
import uuid
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from georecon.errors import ConfigError, GeoreconError, TrainingError
from georecon.files import read_json, write_json, write_text
from georecon.jobs.gpus import check_gpus, own_gpus
from georecon.jobs.job import Log, full_memory, prepare_torch
from georecon.training.kernel import say_kernel
from georecon.training.loop import EXIT_INTERRUPTED, STOP_SIGNALS, FitResult
from georecon.training.world import Together, World, close

_PATHS = ("store_path", "split_path", "encoder_path", "output", "state")
_RESULT = "result.json"


@dataclass(frozen=True, kw_only=True, slots=True)
class Order:
    """What a training of several processes is told, through a file.

    Attributes:
        stage: as of :func:`train`; ``arguments`` likewise.
        per_node: processes on each of ``nodes``.
        threads: of each process.
        gpus: on each node, 0 for the CPU.
        endpoint: where the nodes' agents meet.
        log: the job's log file.
    """

    stage: str
    arguments: dict[str, Any]
    per_node: int
    nodes: int
    threads: int
    gpus: int
    endpoint: str
    log: str

    def write(self, path: Path) -> None:
        """Write it as JSON, paths as text."""
        texts = {k: str(v) if k in _PATHS and v else v for k, v in self.arguments.items()}
        write_json(path, asdict(replace(self, arguments=texts)))

    @classmethod
    def read(cls, path: Path) -> Order:
        """Inverse of :meth:`write`."""
        found = cls(**read_json(path))
        paths = {k: Path(v) if k in _PATHS and v else v for k, v in found.arguments.items()}
        return replace(found, arguments=paths)


def train(
    stage: str, arguments: Mapping[str, Any], resources: Mapping[str, Any], threads: int, log: Log
) -> FitResult:
    """Run a training of a rule.

    Args:
        stage: "pretrain" or "finetune": a module of this package with a function of that name.
        arguments: of that function, but for ``world`` and ``say``.
        resources: of the rule; ``gpu`` processes (at least one) over ``nodes`` (default one), or
            ``gres`` ("gpu:4", "gpu:h100:4") on each of them.
        threads: of the rule, shared out to the processes of a node.
        log: the job's log.

    Raises:
        ConfigError: ``gpu`` cannot be spread evenly over ``nodes``, or the job asks for GPUs and
            CUDA finds fewer.
        TrainingError: a process failed; the message names its rank and why.
        SystemExit: code ``EXIT_INTERRUPTED`` after a stop signal, with the state saved.
    """
    nodes = int(resources.get("nodes", 1))
    gpus = int(resources.get("gpu", 0)) or nodes * _gpus_of_a_node(str(resources.get("gres", "")))
    processes = max(1, gpus, nodes)
    if processes % nodes:
        raise ConfigError(f"gpu is {gpus}; must be a multiple of nodes ({nodes})")
    order = Order(
        stage=stage,
        arguments=dict(arguments),
        per_node=processes // nodes,
        nodes=nodes,
        threads=max(1, threads * nodes // processes),
        gpus=gpus // nodes,
        endpoint=f"{socket.gethostname()}:{_free_port()}" if nodes > 1 else "127.0.0.1:0",
        log=log.handle.name,
    )
    with own_gpus(0 if nodes > 1 else gpus, log.say):  # of several nodes Slurm gives whole ones
        if processes == 1:
            return _call(stage, arguments, World(prepare_torch(threads, gpus)), log.say)
        check_gpus(order.gpus)  # before any process starts
        return _train(order, log)


def _train(order: Order, log: Log) -> FitResult:
    """Start the processes of this job and wait for them."""
    folder = Path(order.arguments["state"]).resolve() / f"torchrun-{uuid.uuid4().hex[:12]}"
    folder.mkdir(parents=True)
    order.write(folder / "order.json")
    log.write(f"{order.per_node * order.nodes} processes on {order.nodes} node(s)")
    try:
        start = _agents if order.nodes > 1 else _agent
        code = start(folder / "order.json")
        if code == EXIT_INTERRUPTED:
            sys.exit(code)
        if code:
            raise TrainingError(_reasons(folder, code))
        result = read_json(folder / _RESULT)
        return FitResult(**result | {"folder": Path(result["folder"])})
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _gpus_of_a_node(gres: str) -> int:
    """GPUs in Slurm's generic resources ("gpu:4", "gpu:h100:4"); 0 if there are none.

    A part of one ("shard:2") is one.
    """
    if re.fullmatch(r"shard(:[\w.]+)?(:\d+)?", gres):
        return 1
    found = re.fullmatch(r"gpu(?::[\w.]+)??(?::(\d+))?", gres)
    return int(found[1] or 1) if found else 0


def _call(
    stage: str, arguments: Mapping[str, Any], world: World, say: Callable[[str], None]
) -> FitResult:
    say_kernel(world.device, say)
    function = getattr(importlib.import_module(f"georecon.stages.{stage}"), stage)
    result: FitResult = function(**arguments, world=world, say=say)
    return result


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


def _reasons(folder: Path, code: int) -> str:
    """What the failed processes left: who was killed first, then who complained."""
    notes = sorted(folder.glob("killed-*.txt")) + sorted(folder.glob("error-*.txt"))
    found = [note.read_text(encoding="utf-8") for note in notes]
    text = "; ".join(dict.fromkeys(found)) or f"the launcher ended with code {code}"
    return f"{text}. The state saved last is kept: the same command continues from it"


def _agents(order_path: Path) -> int:
    """One agent a node through srun; stop signals are passed on to them. The exit code.

    This process is in a step of one node already; without that step's variables srun sees the
    whole allocation.
    """
    nodes = Order.read(order_path).nodes
    command = [
        *("srun", "--overlap", f"--nodes={nodes}", f"--ntasks={nodes}", "--ntasks-per-node=1"),
        *("--kill-on-bad-exit=0", sys.executable, "-m", "georecon.training.processes"),
        *("--agent", str(order_path)),
    ]
    kept = ("SLURM_JOB_ID", "SLURM_CONF")
    environment = {
        name: value
        for name, value in os.environ.items()
        if name in kept or not name.startswith(("SLURM_", "SRUN_"))
    }
    with subprocess.Popen(command, env=environment) as child:
        before = {
            number: signal.signal(number, lambda n, _: child.send_signal(n))
            for number in STOP_SIGNALS
        }
        try:
            return child.wait()
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _agent(order_path: Path) -> int:
    """Torchrun's agent of this node: start its ranks, watch them, end all when one ends badly.

    Returns:
        0, ``EXIT_INTERRUPTED`` if they were asked to stop, else 1 with a note for each rank that
        was killed.
    """
    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs, SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    order = Order.read(order_path)
    alone = order.nodes == 1
    if alone:
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo0" if sys.platform == "darwin" else "lo")
    os.environ["OMP_NUM_THREADS"] = str(order.threads)
    config = LaunchConfig(
        min_nodes=order.nodes,
        max_nodes=order.nodes,
        nproc_per_node=order.per_node,
        run_id=order_path.parent.name,
        rdzv_backend="c10d",
        rdzv_endpoint=order.endpoint,
        local_addr="127.0.0.1" if alone else None,
        max_restarts=0,
        monitor_interval=0.1,
        logs_specs=DefaultLogsSpecs(),
        signals_to_handle=",".join(number.name for number in STOP_SIGNALS),
    )
    command = ("-m", "georecon.training.processes", str(order_path))
    try:
        elastic_launch(config, sys.executable)(*command)
    except SignalException:
        return EXIT_INTERRUPTED
    except ChildFailedError as failed:
        codes = {rank: failure.exitcode for rank, failure in failed.failures.items()}
        for rank, code in codes.items():
            if code < 0:
                name = signal.Signals(-code).name
                write_text(
                    order_path.parent / f"killed-{rank}.txt", f"rank {rank} was killed by {name}"
                )
        return EXIT_INTERRUPTED if EXIT_INTERRUPTED in codes.values() else 1
    return 0


def _work(order_path: Path) -> int:
    """What one rank does; a failure is noted under its rank."""
    order, rank = Order.read(order_path), int(os.environ["RANK"])
    with open(order.log, "a", encoding="utf-8") as handle:
        log = Log(handle)
        try:
            world = Together(prepare_torch(order.threads, order.gpus))
            say = log.say if world.first else log.ignore
            result = _call(order.stage, order.arguments, world, say)
            if world.first:
                write_json(
                    order_path.parent / _RESULT,
                    asdict(result) | {"folder": str(result.folder)},
                )
            close(world)
        except GeoreconError as error:
            _note(order_path.parent, rank, str(error))
            return 1
        except Exception as error:
            log.write(f"rank {rank}:\n{traceback.format_exc()}")
            said = full_memory(error) or f"{type(error).__name__}: {error}"
            _note(order_path.parent, rank, said)
            return 1
    return 0


def _note(folder: Path, rank: int, message: str) -> None:
    text = message if message.startswith("rank ") else f"rank {rank}: {message}"
    with contextlib.suppress(OSError):  # a job that has ended removes the folder
        write_text(folder / f"error-{rank}.txt", text)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="one process of a training; started by train()")
    parser.add_argument("--agent", action="store_true", help="start this node's processes")
    parser.add_argument("order", type=Path)
    options = parser.parse_args()
    sys.exit(_agent(options.order) if options.agent else _work(options.order))
