"""The processes that share one run: who we are, and sums over all of us.

Each process takes a share of every batch, and the gradient, which is one flat vector already, is
summed over them in one call. That is all there is to data parallelism here. Torch's
``DistributedDataParallel`` does the same through hooks on each parameter's backward, which a loss
on forces (a gradient of a gradient) and parameters without a gradient need exceptions for.

Every process holds the same weights and moments, does the same update and reaches the same
decisions; only the first one writes.
"""

from __future__ import annotations

import datetime
import os
import time
from typing import Any

import torch
from torch import Tensor

from georecon.errors import TrainingError

TIMEOUT = 600.0
"""Seconds that a process waits for the others before it gives up; $GEORECON_TIMEOUT is another."""
_GRACE = 2.0  # time in which the survivors of a failure report themselves [s]


class World:
    """One process alone; :class:`Together` is one of several.

    Args:
        device: "cpu" or "cuda".
    """

    rank, size = 0, 1

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    @property
    def first(self) -> bool:
        """Whether this is the process that writes files and prints lines."""
        return self.rank == 0

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes, in place."""
        return values

    def any(self, flag: bool) -> bool:
        """Whether one process says yes."""
        return flag

    def agree(self, what: str, value: int) -> None:
        """Check that all processes have the same number, below 2⁶³.

        Raises:
            TrainingError: they differ; the message says ``what``.
        """


class Together(World):
    """One of several processes that torchrun started (its variables are in the environment).

    Small sums go over gloo on the CPU; those of GPU tensors over nccl.

    Args:
        device: "cpu" or "cuda"; with GPUs each process has the one of its local rank.
    """

    def __init__(self, device: str) -> None:
        import torch.distributed as dist
        from torch.distributed.distributed_c10d import PrefixStore
        from torch.distributed.rendezvous import rendezvous

        super().__init__(device)
        self.rank, self.size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
        wait = datetime.timedelta(seconds=float(os.environ.get("GEORECON_TIMEOUT", TIMEOUT)))
        if device == "cuda":
            torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        store, _, _ = next(rendezvous("env://", self.rank, self.size, timeout=wait))
        self._notes = PrefixStore("notes", store)
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
            store=PrefixStore("group", store),
            rank=self.rank,
            world_size=self.size,
            timeout=wait,
        )
        self._dist = dist

    def sum(self, values: Tensor) -> Tensor:
        """Sum over all processes, in place.

        Raises:
            TrainingError: another process is gone or silent; the message names it.
        """
        try:
            self._dist.all_reduce(values)
        except RuntimeError as error:
            raise TrainingError(self._missing(error)) from error
        return values

    def any(self, flag: bool) -> bool:
        """Whether one process says yes."""
        return bool(self.sum(torch.tensor(int(flag))) > 0)

    def agree(self, what: str, value: int) -> None:
        """Check that all processes have the same number."""
        values = torch.zeros(self.size, dtype=torch.int64)
        values[self.rank] = value
        others = [k for k, other in enumerate(self.sum(values).tolist()) if other != value]
        if others:
            names = ", ".join(map(str, others))
            raise TrainingError(f"processes differ in {what}: rank {self.rank} from rank {names}")

    def _missing(self, error: RuntimeError) -> str:
        """Who does not answer: those who have not noted, within the grace, that they wait too."""
        try:
            self._notes.set(str(self.rank), "waits")
            time.sleep(_GRACE)
            silent = [k for k in range(self.size) if not self._notes.check([str(k)])]
            if self.rank == 0:  # the store is this process's: the others read it, too
                time.sleep(_GRACE)
        except RuntimeError:  # the store's process has gone, too
            silent = []
        who = "rank " + ", ".join(map(str, silent)) if silent else "another process"
        cause = str(error).splitlines()[0]
        return f"rank {self.rank} waited for {who}, which is dead or silent ({cause})"


def close(world: World) -> None:
    """Leave the group: for the end of a sound run."""
    if isinstance(world, Together):
        dist: Any = world._dist
        dist.barrier()
        dist.destroy_process_group()
