"""A real Slurm on this machine for tests: loopback only, no systemd, no cgroups, Debian's packages.

Four slurmd on one host are the nodes cpu1, gpu1, gpu2 and gpu3; partitions are cpu (default), gpu,
and gpu-low on gpu3, whose jobs are requeued when gpu needs the node. slurmdbd and MariaDB keep the
books. A GPU is a character device that behaves like /dev/null: Slurm hands it out, limits it and
sets CUDA_VISIBLE_DEVICES as it does with a real one.
"""

from __future__ import annotations

import getpass
import os
import shutil
import signal
import socket
import stat
import subprocess
from contextlib import suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from tests.daemons import PATH, Daemons, free_ports, missing, wait_for

PACKAGES = (
    "munge slurmctld slurmd slurm-client slurm-wlm-basic-plugins slurmdbd slurm-wlm-mysql-plugin "
    "mariadb-server"
)
PROGRAMS = ("munged", "slurmctld", "slurmd", "slurmdbd", "mariadbd", "sbatch", "srun")
NODES = ("cpu1", "gpu1", "gpu2", "gpu3")
GPUS = 4  # of each node that has any

SLURM_CONF = """\
ClusterName=georecon
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={ports[0]}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={base}/munge.sock
CredType=cred/munge
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
StateSaveLocation={base}/controller
SlurmdSpoolDir={base}/%n
SlurmctldPidFile={base}/slurmctld.pid
SlurmdPidFile={base}/slurmd-%n.pid
SlurmctldLogFile={base}/slurmctld.log
SlurmdLogFile={base}/slurmd-%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=1
JobAcctGatherParams=OverMemoryKill
PropagateResourceLimits=NONE
ReturnToService=2
SlurmdTimeout=20
SlurmctldTimeout=20
MessageTimeout=20
BatchStartTimeout=20
InactiveLimit=0
KillWait=20
MinJobAge=600
UnkillableStepTimeout=20
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=5,bf_interval=5,defer_batch
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
JobRequeue=1
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={ports[1]}
AccountingStoragePass={base}/munge.sock
AccountingStoreFlags=job_comment
AccountingStorageTRES=gres/gpu
{nodes}
PartitionName=cpu Nodes=cpu1 Default=YES MaxTime=60 State=UP
PartitionName=gpu Nodes=gpu1,gpu2,gpu3 MaxTime=60 State=UP PriorityTier=10 PreemptMode=OFF
PartitionName=gpu-low Nodes=gpu3 MaxTime=60 State=UP PriorityTier=1 PreemptMode=REQUEUE
"""
NODE = (
    "NodeName={name} NodeHostname={host} NodeAddr=127.0.0.1 Port={port} CPUs=8 RealMemory=64000 "
    "Weight={weight} Feature={name} {gres} State=UNKNOWN"
)
DATABASE_CONF = """\
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={ports[1]}
CommunicationParameters=NoInAddrAny
SlurmUser={user}
AuthType=auth/munge
AuthInfo=socket={base}/munge.sock
PidFile={base}/slurmdbd.pid
LogFile={base}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=127.0.0.1
StoragePort={ports[2]}
StorageUser=slurm
StoragePass=slurm
StorageLoc=slurm_acct_db
CommitDelay=1
"""
# Snakemake's slurm-jobstep plugin removes SLURM_CONF before it calls srun inside a job.
SRUN = """\
#!/bin/sh
SLURM_CONF={base}/slurm.conf exec {srun} "$@"
"""


def cannot_run(base: Path) -> str | None:
    """Why this machine cannot have the cluster, or None."""
    if reason := missing("a Slurm cluster", PROGRAMS, PACKAGES):
        return reason
    try:
        os.mknod(base / "probe", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    except OSError as error:
        return f"stand-in GPU devices cannot be made here ({error})"
    (base / "probe").unlink()
    return None


class Cluster(Daemons):
    """The daemons, and the faults they can be given.

    Args:
        base: an empty folder that the daemons' users can read.
    """

    def __init__(self, base: Path) -> None:
        self.base, self.host, self.user = (
            base,
            socket.gethostname().split(".")[0],
            getpass.getuser(),
        )
        self.ports = free_ports(3 + len(NODES))
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {
            **{name: v for name, v in os.environ.items() if not name.startswith("SLURM_")},
            "SLURM_CONF": f"{base}/slurm.conf",
            "PATH": f"{base}/bin:{PATH}",
        }

    # ---- start and stop

    def configure(self) -> None:
        """Write all files that the daemons read."""
        for name in ("bin", "controller", "devices", *NODES):
            (self.base / name).mkdir()
        for number in range(GPUS):
            device = self.base / "devices" / f"nvidia{number}"
            os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        values = {"base": self.base, "host": self.host, "user": self.user, "ports": self.ports}
        nodes = [
            NODE.format(
                name=name, port=port, weight=weight, host=self.host,
                gres=f"Gres=gpu:h100:{GPUS}" if name.startswith("gpu") else "",
            )
            for weight, (name, port) in enumerate(zip(NODES, self.ports[3:], strict=True), 1)
        ]  # fmt: skip
        self._write("slurm.conf", SLURM_CONF.format(**values, nodes="\n".join(nodes)))
        self._write("slurmdbd.conf", DATABASE_CONF.format(**values), mode=0o600)
        files = f"{self.base}/devices/nvidia[0-{GPUS - 1}]"
        gres = [f"NodeName={n} Name=gpu Type=h100 File={files}\n" for n in NODES if n[:3] == "gpu"]
        self._write("gres.conf", "AutoDetect=off\n" + "".join(gres))
        srun = shutil.which("srun", path=PATH)
        self._write("bin/srun", SRUN.format(base=self.base, srun=srun), mode=0o755)

    def _write(self, name: str, text: str, mode: int = 0o644) -> None:
        path = self.base / name
        path.write_text(text)
        path.chmod(mode)

    def _spawn(self, name: str, *command: str) -> None:
        with open(self.base / f"{name}.out", "ab") as out:
            self.daemons[name] = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                env=self.environment, start_new_session=True,
            )  # fmt: skip

    def start(self) -> None:
        """Start everything; returns when all nodes are idle."""
        self.configure()
        (self.base / "munge.key").write_bytes(os.urandom(128))
        (self.base / "munge.key").chmod(0o600)
        self._spawn(
            "munged", "munged", "--foreground", "--force", f"--key-file={self.base}/munge.key",
            f"--socket={self.base}/munge.sock", f"--pid-file={self.base}/munged.pid",
            f"--seed-file={self.base}/munge.seed", f"--log-file={self.base}/munged.log",
        )  # fmt: skip
        wait_for("munged", lambda: self.answers("munge", "-n", "-S", f"{self.base}/munge.sock"))
        self.start_database()
        for entity in (
            ("cluster", "georecon"),
            ("account", "paper", "Description=paper", "Organization=tests"),
            ("user", self.user, "Account=paper", "DefaultAccount=paper"),
        ):
            self.run("sacctmgr", "-i", "add", *entity)
        self._spawn("slurmctld", "slurmctld", "-D", "-i")
        wait_for("slurmctld", lambda: self.answers("scontrol", "ping"))
        for name in NODES:
            self.start_node(name)

    def start_database(self) -> None:
        """MariaDB and slurmdbd."""
        data = self.base / "mysql"
        if not data.exists():
            self.run(
                "mariadb-install-db", "--no-defaults", f"--user={self.user}", f"--datadir={data}",
                "--auth-root-authentication-method=normal", "--skip-test-db",
            )  # fmt: skip
        self._spawn(
            "mariadbd", "mariadbd", "--no-defaults", f"--user={self.user}", f"--datadir={data}",
            f"--socket={self.base}/mysql.sock", f"--pid-file={self.base}/mariadbd.pid",
            "--bind-address=127.0.0.1", f"--port={self.ports[2]}", "--skip-name-resolve",
            "--innodb-buffer-pool-size=64M", "--innodb-lock-wait-timeout=900",
        )  # fmt: skip
        sql = ("mariadb", "--no-defaults", f"--socket={self.base}/mysql.sock", "-u", "root", "-e")
        wait_for("mariadbd", lambda: self.answers(*sql, "select 1"))
        self.run(
            *sql,
            "create database if not exists slurm_acct_db;"
            "create user if not exists 'slurm'@'127.0.0.1' identified by 'slurm';"
            "grant all on slurm_acct_db.* to 'slurm'@'127.0.0.1';",
        )
        self._spawn("slurmdbd", "slurmdbd", "-D")
        wait_for("slurmdbd", lambda: self.answers("sacctmgr", "-n", "show", "cluster"))

    def start_node(self, name: str) -> None:
        """Start a node's slurmd; returns when it takes jobs."""
        self._spawn(f"slurmd-{name}", "slurmd", "-D", "-N", name)
        states = ("idle", "mix", "alloc")

        def ready() -> bool:
            return (
                self.run("sinfo", "-h", "-N", "-n", name, "-o", "%T").split()[0].startswith(states)
            )

        wait_for(f"node {name}", ready)

    def stop(self) -> None:
        """End the jobs and every daemon."""
        if self.answers("scontrol", "ping"):
            self.run("scancel", "--full", "--user", self.user)
            with suppress(TimeoutError):
                wait_for("end of all jobs", lambda: not self.run("squeue", "-h"), 40)
        for name in reversed(self.daemons):
            self.halt(name)
        for node in NODES:
            self._kill_jobs(node)

    def halt(self, name: str, number: signal.Signals = signal.SIGTERM) -> None:
        """End one daemon."""
        daemon = self.daemons[name]
        with suppress(ProcessLookupError):
            daemon.send_signal(number)
        try:
            daemon.wait(15)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()

    # ---- faults

    def lose_node(self, name: str) -> None:
        """SIGKILL a node's slurmd, and with it all that its jobs run."""
        self.halt(f"slurmd-{name}", signal.SIGKILL)
        self._kill_jobs(name)

    def _kill_jobs(self, node: str) -> None:
        """SIGKILL what a node's jobs run; first the step daemons, which would report it."""
        found: list[psutil.Process] = []
        for process in psutil.process_iter():
            with suppress(psutil.Error):
                variables = process.environ()
                ours = variables.get("SLURM_CONF") == self.environment["SLURM_CONF"]
                if ours and variables.get("SLURMD_NODENAME") == node:
                    daemons = [p for p in process.parents() if p.name().startswith("slurmstepd")]
                    found = [*daemons, *found, process]
        for process in found:
            with suppress(psutil.Error):
                process.kill()

    def stop_database(self) -> None:
        """Take slurmdbd and MariaDB away."""
        self.halt("slurmdbd")
        self.halt("mariadbd")
