"""What clusters of the tests' own share: daemons on this machine, and commands that know them."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Sequence

PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"


def missing(what: str, programs: Sequence[str], packages: str) -> str | None:
    """Why this machine cannot have a cluster, as far as user and programs go, or None."""
    if os.getuid() != 0:
        return f"{what} of one's own needs root"
    absent = [name for name in programs if shutil.which(name, path=PATH) is None]
    if absent:
        return (
            f"{', '.join(absent)} not found; on Debian: "
            f"apt-get install --no-install-recommends {packages}"
        )
    return None


def wait_for(what: str, condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Look five times a second until a condition holds."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError(f"{what}: not within {seconds:.0f} s")
        time.sleep(0.2)


def free_ports(count: int) -> list[int]:
    probes = [socket.socket() for _ in range(count)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
    ports = [int(probe.getsockname()[1]) for probe in probes]
    for probe in probes:
        probe.close()
    return ports


class Daemons:
    """A cluster.

    Attributes:
        environment: of commands that know it.
    """

    environment: dict[str, str]

    def answers(self, *command: str) -> bool:
        """Whether a command that knows this cluster ends well."""
        done = subprocess.run(
            command, env=self.environment, capture_output=True, timeout=30, check=False
        )
        return done.returncode == 0

    def run(self, *command: str) -> str:
        """Output of a command that knows this cluster."""
        done = subprocess.run(
            command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}"
        return done.stdout
