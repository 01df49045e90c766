"""Snakemake's dry runs at once: a process that has imported it forks a child for each.

The import takes half of a dry run's time. The child has the folder, environment, search path and
arguments of ``python -m snakemake -n`` and ends as that does; of this package nothing is imported
before. A run that makes something is a process of its own: jobs look for Snakemake's name and age
among the processes above them.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

_idle: list[subprocess.Popen[str]] = []


def dry_run(
    arguments: Sequence[str], folder: Path, environment: Mapping[str, str]
) -> subprocess.CompletedProcess[str]:
    """``python -m snakemake -n`` to its end; output and errors together."""
    assert "-n" in arguments
    server = _idle.pop() if _idle else _start(environment)
    assert server.stdin is not None
    assert server.stdout is not None
    order: dict[str, Any] = {"arguments": list(arguments), "folder": str(folder)}
    with tempfile.NamedTemporaryFile() as output:
        order |= {"environment": dict(environment), "output": output.name}
        try:
            print(json.dumps(order), file=server.stdin, flush=True)
            code = int(server.stdout.readline())
        except BaseException:  # a time limit, too
            os.killpg(server.pid, signal.SIGKILL)
            raise
        text = Path(output.name).read_text(encoding="utf-8")
    _idle.append(server)
    return subprocess.CompletedProcess(list(arguments), code, text, "")


def _start(environment: Mapping[str, str]) -> subprocess.Popen[str]:
    plain = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    command = [sys.executable, __file__]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=plain, process_group=0)


@atexit.register
def _end() -> None:
    for server in _idle:
        with suppress(OSError):
            server.communicate()


def _become(order: dict[str, Any], program: Path) -> None:
    """In a new child: what a fresh process is given."""
    os.chdir(order["folder"])
    os.environ.clear()
    os.environ.update(order["environment"])
    for name, streams in ((os.devnull, (0,)), (order["output"], (1, 2))):
        handle = os.open(name, os.O_RDWR)
        for stream in streams:
            os.dup2(handle, stream)
        os.close(handle)
    sys.path[:1] = [order["folder"], *os.environ["PYTHONPATH"].split(os.pathsep)]
    sys.argv = [str(program), *order["arguments"]]
    sys.modules.pop("sitecustomize", None)
    __import__("sitecustomize")


def _serve() -> None:
    from snakemake import cli

    assert not [name for name in sys.modules if "georecon" in name]
    assert threading.active_count() == 1, "a child would lack the other threads"
    for line in sys.stdin:
        pid = os.fork()
        if pid == 0:
            _become(json.loads(line), Path(cli.__file__).with_name("__main__.py"))
            cli.main()
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == "__main__":
    _serve()
