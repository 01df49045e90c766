"""What every workflow script does around its work: log file, threads, readable errors."""

from __future__ import annotations

import ctypes
import gc
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from georecon.errors import GeoreconError
from georecon.files import full_disk
from georecon.jobs.gpus import check_gpus, forced_device
from georecon.records.record import LOG_VARIABLE

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # malloc.h


class Log:
    """Writes lines to the job's log file and, with :meth:`say`, to the terminal as well."""

    def __init__(self, handle: TextIO) -> None:
        self.handle = handle

    def write(self, line: str) -> None:
        """One line to the log file; lost where the disk is full."""
        with suppress(OSError):
            self.handle.write(line + "\n")
            self.handle.flush()

    def ignore(self, line: str) -> None:
        """Nothing: for all but one of the processes that share a job."""

    def say(self, line: str) -> None:
        """One line to the log file and to the terminal."""
        self.write(line)
        print(f"    {line}", file=sys.stderr, flush=True)


@contextmanager
def job(log_path: str | Path) -> Iterator[Log]:
    """Run the body of a workflow script.

    A :class:`GeoreconError`, a full disk and full memory end the job with their message alone and
    exit code 1; any other exception keeps its traceback in the log file.

    Args:
        log_path: the rule's log file.
    """
    with _log_file(Path(log_path)) as handle:
        log = Log(handle)
        try:
            yield log
        except GeoreconError as error:
            log.say(f"error: {error}")
            sys.exit(1)
        except Exception as error:
            log.write(traceback.format_exc())
            if (text := full_disk(error) or full_memory(error)) is None:
                raise
            log.say(f"error: {text}")
            sys.exit(1)


def full_memory(error: BaseException) -> str | None:
    """A sentence for an error that says that memory, a GPU's or the machine's, is full; or None."""
    text = str(error)
    full = "CUDA out of memory|CUDA error: out of memory|CUBLAS_STATUS_ALLOC_FAILED"
    if type(error).__name__ == "OutOfMemoryError" or re.search(full, text):
        said = re.findall(r"(?i)tried to allocate [\d.]+ \w+|has a total .*? is free", text)
        facts = f" ({', '.join(said)})" if said else ""
        return (
            f"the GPU's memory is full{facts}: in a training take batches in smaller parts "
            "(train.part_atoms, evaluation_batch); let fewer jobs share a GPU (GEORECON_GPU_SHARE)"
        )
    asked = re.search("can't allocate memory|Cannot allocate memory", text)  # torch's, the system's
    if isinstance(error, MemoryError) or asked:
        said = re.findall(r"allocate (?:[\d.]+ [KMGTPE]iB|\d+ bytes)", text)
        facts = f" (it was to {said[0]})" if said else ""
        return (
            f"this machine's memory is full{facts}: run fewer jobs at a time (--cores) or, where a "
            "scheduler gives memory, ask for more (--set-resources <rule>:mem_mb=…)"
        )
    return None


@contextmanager
def _log_file(path: Path) -> Iterator[TextIO]:
    """The job's log, named to its record."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = open(path, "w", encoding="utf-8")  # noqa: SIM115 - closed below
    except OSError as error:
        if (text := full_disk(error)) is None:
            raise
        print(f"    error: {text}", file=sys.stderr, flush=True)
        sys.exit(1)
    os.environ[LOG_VARIABLE] = str(path)
    try:
        yield handle
    finally:
        os.environ.pop(LOG_VARIABLE, None)
        with suppress(OSError):  # the disk is full, and that has been said
            handle.close()


def prepare_torch(threads: int, gpus: int = 0) -> str:
    """Set threads and float behaviour of this process; returns the device, "cuda" or "cpu".

    Denormal floats are flushed to zero: the tail of the radial basis is full of them and every
    matrix product that meets one is many times slower. TF32 is off: float32 means float32.

    Args:
        threads: of this process.
        gpus: that its job has on this machine; 0: one is used where there is one.

    Raises:
        ConfigError: there are fewer, and ``GEORECON_DEVICE`` does not allow the CPU.
    """
    import torch

    check_gpus(gpus)
    _keep_freed_memory()
    gc.freeze()  # imports live as long as the process: looking through them took a tenth of a step
    torch.set_num_threads(threads)
    torch.set_flush_denormal(True)
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    device = forced_device() or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda":
        _same_bits_again()
    return device


def _same_bits_again() -> None:
    """Let CUDA add in a fixed order, as CPUs do: the same seed gives the same numbers there."""
    import torch

    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at the first product
    torch.use_deterministic_algorithms(True)
    # Gradients of one array are added in the order in which their operations were made, which torch
    # counts in each thread by itself: a backward pass in a thread of its own makes that order
    # depend on what the process did before.
    torch.autograd.set_multithreading_enabled(False)
    # every array is written in full; torch sets this one up in a way that mypy does not see
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]


def _keep_freed_memory() -> None:
    """Ask glibc to keep freed blocks: a training step frees and takes the same ones again and
    again.

    Without it each large tensor is mapped anew and its pages are cleared by the kernel, a third of
    the time of a small model's step. Does nothing where the C library has no ``mallopt``.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(_M_MMAP_THRESHOLD, 32 << 20)
    mallopt(_M_TRIM_THRESHOLD, 1 << 30)
