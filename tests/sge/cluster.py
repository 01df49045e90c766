"""A real Grid Engine on this machine for tests: one host, one queue, Debian's packages.

Root folder, cell, spool and ports are its own; the cell that Debian's packages make is left alone.
A GPU is a number that the scheduler counts (consumable ``gpu``), as sites define it.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from tests.daemons import PATH, Daemons, free_ports, missing, wait_for

PACKAGES = "gridengine-master gridengine-exec gridengine-client"
PROGRAMS = ("sge_qmaster", "sge_execd", "qsub", "qacct")
PACKAGED = Path("/usr/lib/gridengine")
SHARED = Path("/usr/share/gridengine")
SLOTS = 4

BOOTSTRAP = """\
admin_user              root
default_domain          none
ignore_fqdn             true
spooling_method         classic
spooling_lib            libspoolc
spooling_params         {spool}
binary_path             {root}/bin
qmaster_spool_dir       {base}/qmaster
security_mode           none
listener_threads        2
worker_threads          2
scheduler_threads       1
"""
# of the settings that Debian's packages begin with; root may run jobs, books and loads are quick
GLOBAL = {
    "execd_spool_dir": "{base}/execd",
    "mailer": "/bin/true",
    "min_uid": "0",
    "min_gid": "0",
    "load_report_time": "00:00:02",
    "reporting_params": "accounting=true reporting=false flush_time=00:00:01 joblog=false",
}
SCHEDULER = {"schedule_interval": "0:0:1", "flush_submit_sec": "1", "flush_finish_sec": "1"}
QUEUE = {
    "qname": "all.q",
    "hostlist": "{host}",
    "slots": str(SLOTS),
    "pe_list": "smp",
    "load_thresholds": "NONE",
    "tmpdir": "{base}/tmp",
}
HOST = {"hostname": "{host}", "complex_values": f"slots={SLOTS},mem_free=64G,gpu=1"}
COMPLEX = {
    "mem_free": "mf MEMORY <= YES YES 0 0",
    "gpu": "gpu INT <= YES JOB 0 0",
}


def cannot_run() -> str | None:
    """Why this machine cannot have the cluster, or None."""
    return missing("a Grid Engine", PROGRAMS, PACKAGES)


def changed(text: str, values: dict[str, str]) -> str:
    """Lines ``name value`` with other values; names that are not there are added."""
    for name, value in values.items():
        line = f"{name} {value}"
        text, count = re.subn(rf"^{name}\s.*$", line, text, flags=re.MULTILINE)
        text += "" if count else f"{line}\n"
    return text


class GridEngine(Daemons):
    """The two daemons.

    Args:
        base: an empty folder.
    """

    def __init__(self, base: Path) -> None:
        self.base, self.root = base, base / "root"
        self.host = socket.gethostname().split(".")[0]
        self.daemons: list[subprocess.Popen[bytes]] = []
        master, execd = free_ports(2)
        self.environment = {
            **{name: v for name, v in os.environ.items() if not name.startswith("SGE_")},
            "SGE_ROOT": str(self.root),
            "SGE_CELL": "default",
            "SGE_QMASTER_PORT": str(master),
            "SGE_EXECD_PORT": str(execd),
            "PATH": PATH,
        }

    def start(self) -> None:
        """Start both; returns when the queue takes jobs."""
        self._configure()
        self._spawn("sge_qmaster")
        wait_for("sge_qmaster", lambda: self.answers("qconf", "-sconf"))
        self._define()
        self._spawn("sge_execd")
        wait_for("all.q", lambda: not re.search(r" -NA- | au?\s*$", self.run("qstat", "-f"), re.M))

    def _configure(self) -> None:
        """Write what the qmaster reads at its start."""
        for name in ("qmaster/job_scripts", "execd", "tmp"):
            (self.base / name).mkdir(parents=True)
        common = self.root / "default/common"
        common.mkdir(parents=True)
        (self.root / "util").symlink_to(SHARED / "util")
        kind = self.run(str(SHARED / "util/arch")).strip()
        for name in ("bin", "lib", "utilbin"):
            (self.root / name).mkdir()
            (self.root / name / kind).symlink_to(PACKAGED)
        spool = f"{common};{self.base}/qmaster"
        values = {"base": self.base, "root": self.root, "spool": spool}
        (common / "bootstrap").write_text(BOOTSTRAP.format(**values))
        (common / "act_qmaster").write_text(f"{self.host}\n")
        (common / "host_aliases").write_text(f"{self.host} {socket.getfqdn()} localhost\n")
        self.run(str(PACKAGED / "spoolinit"), "classic", "libspoolc", spool, "init")
        first = self._written("global", (SHARED / "default-configuration").read_text(), GLOBAL)
        resources = SHARED / "util/resources"
        for what, where in (
            ("configuration", first),
            ("complexes", resources / "centry"),
            ("usersets", resources / "usersets"),
            ("managers", "root"),
        ):
            self.run(str(PACKAGED / "spooldefaults"), what, str(where))

    def _define(self) -> None:
        """Tell the qmaster of the host, the parallel environment, resources and the queue."""
        self.run("qconf", "-as", self.host)
        scheduler = self._written("scheduler", self.run("qconf", "-ssconf"), SCHEDULER)
        self.run("qconf", "-Msconf", str(scheduler))
        self.run("qconf", "-Mc", str(self._written("complex", self.run("qconf", "-sc"), COMPLEX)))
        self.run("qconf", "-Ap", str(SHARED / "util/resources/pe/smp"))
        template = "load_scaling NONE\nuser_lists NONE\nxuser_lists NONE\nprojects NONE\n"
        template += "xprojects NONE\nusage_scaling NONE\nreport_variables NONE\n"
        self.run("qconf", "-Ae", str(self._written("host", template, HOST)))
        self.run("qconf", "-Aq", str(self._written("queue", self.run("qconf", "-sq"), QUEUE)))

    def _written(self, name: str, text: str, values: dict[str, str]) -> Path:
        """A file of settings with some of them changed."""
        places = {"base": self.base, "host": self.host}
        path = self.base / name
        path.write_text(changed(text, {key: v.format(**places) for key, v in values.items()}))
        return path

    def _spawn(self, name: str) -> None:
        with open(self.base / f"{name}.out", "ab") as out:
            daemon = subprocess.Popen(
                [name], stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env={**self.environment, "SGE_ND": "1"}, start_new_session=True,
            )  # fmt: skip
        self.daemons.append(daemon)

    def stop(self) -> None:
        """End the jobs, then SIGKILL the daemons: nothing of them is kept."""
        if self.answers("qstat"):
            self.answers("qdel", "-u", "*")
            with suppress(TimeoutError):
                wait_for("end of all jobs", lambda: not self.run("qstat"), 20)
        for daemon in self.daemons:
            daemon.kill()
            daemon.wait()
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                if process.environ().get("SGE_ROOT") == str(self.root):
                    process.kill()

    def states(self) -> dict[str, str]:
        """State of every job in the queue, by number."""
        rows = [line.split() for line in self.run("qstat").splitlines()[2:]]
        return {row[0]: row[4] for row in rows}

    def state(self, job: str) -> str | None:
        """A job's state; None if it is in no queue."""
        return self.states().get(job)

    def records(self, job: str) -> list[dict[str, str]]:
        """What the accounting has of a job, or of all of a name; the first one first."""
        parts = re.split(r"^=+$", self.run("qacct", "-j", job), flags=re.MULTILINE)[1:]
        rows = [[line.split(None, 1) for line in part.strip().splitlines()] for part in parts]
        return [{row[0]: row[-1].strip() for row in record} for record in rows]
