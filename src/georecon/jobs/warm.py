"""A process that has imported torch and forks a child for each job, which so starts at once.

Importing torch and the models takes 2 s, a third of a small training. ``georecon.jobs.launch``
starts ``python -m georecon.jobs.warm`` beside Snakemake. A script that calls :func:`hand_over`
sends it, through a Unix socket, its command line and its standard streams; a child runs the script
from the beginning, as the job's own process would, and that one passes signals on and ends as the
child does. A child lives no longer than its job and than the warm process.

Scripts run in their own process, as without a launcher, where there is no warm process or where a
child of it would not be the same: another user, session (as on a cluster), program, folder,
environment or search path than those of the first job, or a source file changed since its import.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import io
import json
import os
import runpy
import selectors
import signal
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

VARIABLE = "GEORECON_WARM"
"""Environment variable with the socket's name; set by the user (to 0), there is no warm process."""
MODULES = (
    *(
        f"georecon.stages.{name}"
        for name in ("finetune", "pretrain", "smoothness", "nve", "evaluate")
    ),
    "georecon.jobs.job",
    "georecon.training.processes",
    "numpy.random",
    "snakemake.script",
)
"""What the warm process imports; none of them starts a thread, which no child would have."""
FORWARDED = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM, signal.SIGUSR1, signal.SIGUSR2)
_ACCEPTED = b"accepted"
_PACKAGE = Path(__file__).resolve().parents[1]
_PR_SET_PDEATHSIG = 1  # sys/prctl.h
Arguments = list[str]


# ---- in the launcher --------------------------------------------------------------------------


@contextmanager
def process() -> Iterator[dict[str, str]]:
    """A warm process for a run, at whose end it waits for its last child.

    Yields:
        What jobs must find in their environment; nothing where the process is switched off or the
        system has no means for it.
    """
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):  # not Linux, or one before 5.3
        yield {}
        return
    if VARIABLE in os.environ:
        yield {}
        return
    name = f"georecon-{os.urandom(8).hex()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"\0{name}")  # Linux's abstract namespace: nothing of it is on a disk
        listener.listen(64)
        command = [sys.executable, "-m", "georecon.jobs.warm", str(listener.fileno())]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, pass_fds=(listener.fileno(),), process_group=0
        ):  # a group of its own: a signal to Snakemake's comes once to a child, through its job
            listener.close()
            yield {VARIABLE: name}


# ---- in a job ---------------------------------------------------------------------------------


def hand_over(snakemake: Any) -> None:
    """Let a child of the warm process run this script, from its beginning; then end as it ended.

    Called before the imports that it saves. Returns where the script must go on by itself: in that
    child, without a warm process, and for a training in several processes, which are started anew.

    Args:
        snakemake: the script's global of that name.
    """
    name = os.environ.get(VARIABLE)
    processes = max(int(snakemake.resources.get(key, 1)) for key in ("gpu", "nodes"))
    if not name or processes > 1:
        return
    if (connection := _ask(name)) is not None:
        with connection:
            code, passed_on = _wait(connection)
        _end(code, passed_on, snakemake.log[0])


def _ask(name: str) -> socket.socket | None:
    """Connection to the warm process if it takes this job."""
    request = {"arguments": sys.argv, "conditions": _conditions()}
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        connection.connect(f"\0{name}")
        if _peer(connection)[1] == os.getuid():
            socket.send_fds(connection, [json.dumps(request).encode()], [0, 1, 2])
            if connection.recv(16) == _ACCEPTED:
                return connection
    except OSError:
        pass
    connection.close()
    return None


def _wait(connection: socket.socket) -> tuple[int | None, set[int]]:
    """Pass signals on until the child ends: its exit code, if known, and the signals."""
    passed_on: set[int] = set()

    def forward(number: int, frame: object) -> None:
        passed_on.add(number)
        with suppress(OSError):
            connection.send(str(number).encode())

    for number in FORWARDED:
        if signal.getsignal(number) != signal.SIG_IGN:  # nohup stays nohup
            signal.signal(number, forward)
    try:
        word = connection.recv(16)
    except OSError:
        word = b""
    return int(word) if word else None, passed_on


def _end(code: int | None, passed_on: set[int], log_path: str) -> NoReturn:
    """End this process as the child ended, with a line in the log where nobody asked for that."""
    if code is None:
        _say(log_path, "the warm process of this run was killed, and this job with it")
        sys.exit(1)
    if code < 0:
        if -code not in passed_on:
            hint = " (out of memory?)" if -code == signal.SIGKILL else ""
            _say(log_path, f"killed by {signal.Signals(-code).name}{hint}")
        with suppress(OSError):  # SIGKILL has no handler
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    sys.exit(code)


def _say(log_path: str, message: str) -> None:
    from georecon.jobs.job import Log

    with open(log_path, "a", encoding="utf-8") as handle:
        Log(handle).say(f"error: {message}")


def _conditions() -> dict[str, Any]:
    """What must be the same for a child to be as good as this process."""
    python = os.stat(sys.executable)  # a container has another one of the same name
    return {
        "program": [str(_PACKAGE), sys.executable, python.st_dev, python.st_ino],
        "path": sys.path,
        "folder": os.getcwd(),
        "environment": dict(os.environ),
    }


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
    process, user, _ = struct.unpack("3i", found)
    return process, user


# ---- in the warm process ----------------------------------------------------------------------


class _Server:
    """Forks children, passes signals on to them and says how they ended, all in one thread."""

    def __init__(self, listener: socket.socket) -> None:
        self.conditions: dict[str, Any] = {}  # the first job's; empty until it asks
        self.sources: dict[str, tuple[int, int]] = {}
        self.selector = selectors.PollSelector()  # unlike epoll, not shared with children
        self.listener, self.launcher = listener, io.FileIO(0, closefd=False)
        self.selector.register(listener, selectors.EVENT_READ, self._accept)
        self.selector.register(self.launcher, selectors.EVENT_READ, self._close)

    def serve(self) -> Arguments | None:
        """Work until the launcher has closed its end and no child is left.

        Returns:
            None at the end; in a child, the command line that it is to run.
        """
        while self.selector.get_map():
            for key, _ in self.selector.select()[:1]:  # it may end what the others watch
                if (arguments := key.data()) is not None:
                    return list(arguments)
        return None

    def _close(self) -> None:
        for end in (self.listener, self.launcher):
            self.selector.unregister(end)
            end.close()

    def _accept(self) -> Arguments | None:
        """Take a job or leave it; in the child, its command line."""
        connection, _ = self.listener.accept()
        connection.settimeout(10)
        streams: list[int] = []
        try:
            text, streams, _, _ = socket.recv_fds(connection, 1 << 20, 3)
            request = json.loads(text)
            if self._takes(connection, request["conditions"]):
                return request["arguments"] if self._fork(connection, streams) else None
        except (OSError, ValueError):  # a job that is gone, or no memory for a child
            pass
        finally:
            for stream in streams:
                os.close(stream)
        connection.close()
        return None

    def _takes(self, connection: socket.socket, wanted: dict[str, Any]) -> bool:
        """Whether a child would be as good as the process that asks."""
        peer, user = _peer(connection)
        if user != os.getuid() or not peer or os.getsid(peer) != os.getsid(0):
            return False
        if not self.conditions and wanted["program"] == _conditions()["program"]:
            self._import(wanted)
        return wanted == self.conditions and self.sources == _stamps()

    def _import(self, wanted: dict[str, Any]) -> None:
        """Import everything, under the first job's conditions."""
        os.chdir(wanted["folder"])
        os.environ.clear()
        os.environ.update(wanted["environment"])
        sys.path[:] = wanted["path"]
        for name in MODULES:
            importlib.import_module(name)
        importlib.import_module("georecon.training.optimizer").preload()
        if (threads := len(os.listdir("/proc/self/task"))) > 1:
            sys.exit(f"georecon.jobs.warm: {threads} threads; jobs go on without a warm process")
        gc.freeze()
        self.conditions, self.sources = wanted, _stamps()

    def _fork(self, connection: socket.socket, streams: list[int]) -> bool:
        """Start a child and watch it; whether this is the child."""
        parent, pid = os.getpid(), os.fork()
        if pid == 0:
            _become_job(parent, streams)
            connection.close()
            for key in list(self.selector.get_map().values()):
                if isinstance(key.fileobj, socket.socket | io.FileIO):
                    key.fileobj.close()
            return True
        try:
            handle = io.FileIO(os.pidfd_open(pid))
        except OSError:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
            raise
        told = partial(self._told, handle, connection)
        ended = partial(self._ended, pid, handle, connection)
        self.selector.register(connection, selectors.EVENT_READ, told)
        self.selector.register(handle, selectors.EVENT_READ, ended)
        with suppress(OSError):  # then the end of the job is what is told next
            connection.send(_ACCEPTED)
        return False

    def _told(self, handle: io.FileIO, connection: socket.socket) -> None:
        """Pass a signal on to the child; kill it if its job is gone."""
        try:
            word = connection.recv(16)
        except OSError:
            word = b""
        if not word:
            self.selector.unregister(connection)
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(handle.fileno(), int(word or signal.SIGKILL))

    def _ended(self, pid: int, handle: io.FileIO, connection: socket.socket) -> None:
        """Tell the job how its child ended."""
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with suppress(OSError):
            connection.send(str(code).encode())
        for end in (handle, connection):
            with suppress(KeyError):
                self.selector.unregister(end)
            end.close()


def _stamps() -> dict[str, tuple[int, int]]:
    """Time and size of this package's imported files."""
    own = [m for name, m in sys.modules.items() if name.partition(".")[0] == "georecon"]
    files = {name: os.stat(name) for m in own if (name := getattr(m, "__file__", None))}
    return {name: (found.st_mtime_ns, found.st_size) for name, found in files.items()}


def _become_job(parent: int, streams: list[int]) -> None:
    """In a new child: its job's streams and signals; it dies if the warm process does."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
    del os.environ[VARIABLE]
    signal.pthread_sigmask(signal.SIG_UNBLOCK, FORWARDED)


def main() -> None:
    """The warm process; in a child of it, the job's script."""
    signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    arguments = _Server(socket.socket(fileno=int(sys.argv[1]))).serve()
    if arguments is not None:
        sys.argv = arguments
        try:
            runpy.run_path(arguments[0], run_name="__main__")
        except KeyboardInterrupt:
            _end_by_interrupt()


def _end_by_interrupt() -> NoReturn:
    """End as an interpreter does by itself: torch's compiler, once imported, keeps it from that."""
    traceback.print_exc()
    sys.stdout.flush()
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGINT)
    os._exit(1)  # never reached: the signal is not blocked


if __name__ == "__main__":
    main()
