"""Create ``.venv`` from envs/lock.txt: one line per phase, safe to interrupt, quick when done.

Run through bootstrap.py, by a Python that can run the project; standard library only.

A stamp in ``.venv`` names what it was made from. It is removed before any change and written last,
so a folder without a stamp is the rest of an interrupted set-up and is made anew.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
STAMP = "georecon-stamp.json"
MIN_DISK_GB = 6.0
CUDA_DISK_GB = 12.0
IMPORT_CHECK = "import torch, numpy, safetensors, yaml, snakemake, georecon"
KERNEL_BUILD = (
    "from georecon.kernels import build, native; build.install(); assert native.library()"
)


class SetupError(Exception):
    """Set-up cannot go on; the message is meant for the user."""


def stamp_content(root: Path, python: str, torch: str) -> dict[str, str]:
    """What a finished ``.venv`` was made from: lock hash, Python, folder, wanted build of torch."""
    lock = hashlib.sha256((root / "envs/lock.txt").read_bytes()).hexdigest()
    return {"lock": lock, "python": python, "root": str(root), "torch": torch}


def read_stamp(root: Path) -> dict[str, str] | None:
    """The stamp of ``.venv``, or None where set-up never finished."""
    try:
        value = json.loads((root / ".venv" / STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return value if isinstance(value, dict) else None


def is_current(root: Path, python: str | None = None) -> bool:
    """Whether ``.venv`` is finished and made from this lock, in this folder.

    Args:
        root: repository root.
        python: "major.minor" the user asked for, or None for whichever it has.
    """
    stamp = read_stamp(root)
    programs = (root / ".venv/bin" / name for name in ("python", "georecon"))
    if stamp is None or not all(program.exists() for program in programs):
        return False
    torch = os.environ.get("TORCH") or stamp.get("torch", "")
    return stamp == stamp_content(root, python or stamp.get("python", ""), torch)


def pin(root: Path, name: str) -> str:
    """The pinned version of a package in envs/lock.txt."""
    text = (root / "envs/lock.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{re.escape(name)}==(\S+)", text, flags=re.MULTILINE)
    if found is None:
        raise SetupError(f"envs/lock.txt: no line {name}==…; make it again with `make lock`")
    return found.group(1)


def check_path(root: Path) -> None:
    """Refuse a folder whose name a shell would cut.

    Snakemake starts each job by the path of its Python, without quotes.
    """
    found = re.search(r"[^\w@%+=:,./~-]", str(root))
    if found:
        raise SetupError(
            f"The folder {str(root)!r} has {found.group()!r} in its name, and Snakemake starts its "
            "jobs by the path of .venv/bin/python without quotes. Move the project to a folder "
            "without blanks, quotes or other characters that a shell reads."
        )


def wanted_torch() -> str:
    """The build of torch that ``TORCH`` names, or an empty string where it names none."""
    wanted = os.environ.get("TORCH", "")
    if wanted and not re.fullmatch(r"cpu|cuda|cu\d{3}", wanted):
        raise SetupError(
            f"TORCH is {wanted!r}; allowed: cpu, cuda (the build of the package index) or a CUDA "
            "version such as cu128 (with TORCH_INDEX=<address of PyTorch's index for it>)"
        )
    return wanted


def check_disk(root: Path, needed: float) -> None:
    """Refuse to start on a nearly full disk.

    Args:
        root: a folder on the disk that takes ``.venv``.
        needed: free space needed [GB]; GEORECON_MIN_DISK_GB overrides it.
    """
    needed = float(os.environ.get("GEORECON_MIN_DISK_GB", needed))
    free = shutil.disk_usage(root).free / 1e9
    if free < needed:
        raise SetupError(
            f"Too little disk space in {root}: {free:.1f} GB free, {needed:.1f} GB needed for "
            "the Python packages. Free some, or set GEORECON_MIN_DISK_GB to a lower limit."
        )


def telling(output: str) -> str:
    """The part of a failed command's output to show: its end, without warnings."""
    lines = output.strip().splitlines()
    kept = [line for line in lines if not line.startswith("WARNING:")] or lines
    return "\n".join(line[:1000] for line in kept[-40:])


def run_quiet(label: str, command: Sequence[str], *, may_fail: bool = False) -> bool:
    """Run one phase: a line with its time; the command's output only if it fails.

    Returns:
        Whether it succeeded; with ``may_fail`` a failure prints nothing but a dash.
    """
    start = time.monotonic()
    print(f"  {label} ", end="", file=sys.stderr, flush=True)
    if os.environ.get("GEORECON_SETUP_DRY_RUN"):
        print(f"(dry run) {' '.join(command)}", file=sys.stderr)
        return True
    done = subprocess.run(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
    )
    took = f"{time.monotonic() - start:.0f} s"
    if done.returncode == 0:
        print(f"… {took}", file=sys.stderr)
        return True
    if may_fail:
        print(f"… not available ({took})", file=sys.stderr)
        return False
    print(f"… failed after {took}", file=sys.stderr)
    raise SetupError(f"{telling(done.stdout)}\n\nSet-up failed in: {label} ({' '.join(command)})")


def pip(root: Path, *arguments: str) -> list[str]:
    """A quiet pip command of ``.venv``."""
    python = str(root / ".venv/bin/python")
    quiet = ("--quiet", "--disable-pip-version-check", "--no-input")
    return [python, "-m", "pip", "install", *quiet, *arguments]


def create_venv(root: Path, python: str, interpreter: str) -> None:
    """Make an empty ``.venv``, or keep a sound one of the same Python and folder."""
    stamp, venv = read_stamp(root), root / ".venv"
    sound = (
        stamp is not None
        and (venv / "bin/python").exists()
        and stamp.get("python") == python
        and stamp.get("root") == str(root)
    )
    (venv / STAMP).unlink(missing_ok=True)
    if sound:
        return
    if venv.is_symlink():
        venv.unlink()
    elif venv.exists():
        shutil.rmtree(venv)
    try:
        run_quiet(f"environment .venv (Python {python})", [interpreter, "-m", "venv", str(venv)])
    except SetupError as error:
        hint = "\nOn Debian and Ubuntu the package python3-venv may be missing."
        raise SetupError(f"{error}{hint if 'ensurepip' in str(error) else ''}") from None


def gpu_visible() -> bool:
    """Whether an NVIDIA GPU answers on this machine."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return False
    try:
        return subprocess.run([command, "-L"], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def cluster_has_gpus() -> bool:
    """Whether a Slurm cluster answers here whose nodes have GPUs."""
    if (command := shutil.which("sinfo")) is None:
        return False
    try:
        done = subprocess.run(
            [command, "--noheader", "--format=%G"],
            capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return False
    return done.returncode == 0 and "gpu" in done.stdout


def choose_torch() -> str:
    """Which build of torch this machine gets where the user names none: ``cpu`` or ``cuda``.

    Raises:
        SetupError: a login node without a GPU of a cluster whose nodes have some; jobs there use
            this environment, so the user must say.
    """
    if platform.system() != "Linux" or gpu_visible():
        return "cuda"
    if cluster_has_gpus():
        raise SetupError(
            "This machine has no NVIDIA GPU, but nodes of its Slurm cluster have, and jobs there "
            "will use the environment that is set up here. Say which torch it gets:\n"
            "  make setup TORCH=cuda    for the GPU nodes (several GB)\n"
            "  make setup TORCH=cu128   the same for one CUDA version; with TORCH_INDEX=<address>\n"
            "  make setup TORCH=cpu     if no job will use a GPU"
        )
    return "cpu"


def install_torch(root: Path) -> None:
    """Install the pinned torch, in the build that the user names or that suits this machine."""
    version = pin(root, "torch")
    index = os.environ.get("TORCH_INDEX", "")
    extra = ("--extra-index-url", index) if index else ()
    linux = platform.system() == "Linux"
    named = wanted_torch()
    build = named or choose_torch()
    if build.startswith("cu") and build != "cuda":
        run_quiet(f"torch=={version}+{build}", pip(root, *extra, f"torch=={version}+{build}"))
        return
    if build == "cpu" and not linux:
        build = "cuda"  # elsewhere there is one build
    if build == "cpu":
        wanted = f"torch=={version}+cpu"
        why = "as TORCH says" if named else "no NVIDIA GPU here"
        if run_quiet(f"{wanted} ({why})", pip(root, *extra, wanted), may_fail=True):
            return
        print(
            "  The CPU build of torch is not in pip's package indexes; taking the plain one, which "
            "on Linux x86-64\n  may bring CUDA libraries of several GB. To avoid that: "
            "make TORCH_INDEX=<url of PyTorch's CPU wheel index>",
            file=sys.stderr,
        )
    if linux and platform.machine() == "x86_64":
        check_disk(root, CUDA_DISK_GB)
    run_quiet(f"torch=={version}", pip(root, *extra, f"torch=={version}"))


def link_project(root: Path) -> None:
    """Put ``src`` on the path of ``.venv``: an editable install with its program, no tools."""
    folders = sorted((root / ".venv/lib").glob("python3*/site-packages"))
    if not folders:
        raise SetupError(f"{root / '.venv'}: no site-packages folder; remove .venv and try again")
    (folders[0] / "georecon.pth").write_text(f"{root / 'src'}\n", encoding="utf-8")
    program = root / ".venv/bin/georecon"  # no shebang of .venv's Python: its path may have spaces
    program.write_text(
        '#!/bin/sh\nexec "$(dirname "$0")/python" -m georecon "$@"\n', encoding="utf-8"
    )
    program.chmod(0o755)


@contextmanager
def setup_lock(root: Path) -> Iterator[None]:
    """Let only one set-up of this folder run at a time; others wait."""
    with open(root / "envs/lock.txt", encoding="utf-8") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("  another set-up of this folder is running; waiting for it", file=sys.stderr)
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:  # a file system without locks: go on unprotected
            pass
        yield


def setup(root: Path = ROOT, interpreter: str = sys.executable) -> None:
    """Bring ``.venv`` to the state that envs/lock.txt names.

    Args:
        root: repository root.
        interpreter: the Python that makes the environment.

    Raises:
        SetupError: a phase failed; the message holds pip's own output.
    """
    python = ".".join(platform.python_version_tuple()[:2])
    check_path(root)
    torch = wanted_torch()
    with setup_lock(root):
        if is_current(root, python):
            return
        start = time.monotonic()
        print("Setting up .venv from envs/lock.txt (once; minutes, by network)", file=sys.stderr)
        if not (root / ".venv" / STAMP).exists():
            check_disk(root, MIN_DISK_GB)
        create_venv(root, python, interpreter)
        lock = str(root / "envs/lock.txt")
        install_torch(root)
        run_quiet("other packages", pip(root, "--requirement", lock))
        link_project(root)
        venv_python = str(root / ".venv/bin/python")
        run_quiet("check that they import", [venv_python, "-c", IMPORT_CHECK])
        kernel = [venv_python, "-c", KERNEL_BUILD]
        if not run_quiet("CPU kernel (C++ compiler)", kernel, may_fail=True):
            print("  Training will take longer; g++ or clang++ helps.", file=sys.stderr)
        temporary = root / ".venv" / f"{STAMP}.tmp"
        text = json.dumps(stamp_content(root, python, torch), indent=2) + "\n"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(root / ".venv" / STAMP)
        print(f"Environment ready in {time.monotonic() - start:.0f} s", file=sys.stderr)


def main() -> int:
    """Command line: set up; 0 done, 1 a message was printed, 130 interrupted."""
    try:
        setup()
    except SetupError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nInterrupted; the next `make` starts the set-up again.", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
