"""What programs take for granted: a home folder, a user's name, open standard streams, UTF-8."""

from __future__ import annotations

import os
import pwd
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

HOME = ".snakemake/home"
"""In place of a home folder, in the working folder."""
_NAMES = ("LOGNAME", "USER", "LNAME", "USERNAME")  # where getpass looks, before the list of users


def settle(folder: Path, say: Callable[[str], None]) -> None:
    """Give this process and those that it starts what they would look for in vain.

    Snakemake, matplotlib, Jupyter and Triton keep caches below the home folder and fail without
    one. Git goes on reading the old one's configuration.

    Args:
        folder: working folder.
        say: takes a line if there is something that a user should know.
    """
    os.environ.setdefault("PYTHONUTF8", "1")  # file names and texts, whatever the locale
    user = _user()
    if user is None and not any(map(os.environ.get, _NAMES)):
        os.environ["LOGNAME"] = f"uid{os.getuid()}"
    given = os.environ.get("HOME")
    if given and _is_writable(given):
        return
    if user is not None and given is None and _is_writable(user.pw_dir):
        os.environ["HOME"] = user.pw_dir
        return
    home = folder.absolute() / HOME
    home.mkdir(parents=True, exist_ok=True)
    old = Path(given or "", ".gitconfig")
    if given and old.is_file():
        os.environ.setdefault("GIT_CONFIG_GLOBAL", str(old))
    os.environ["HOME"] = str(home)
    what = f"HOME ({given}) cannot be written" if given else "there is no home folder"
    say(f"georecon: {what}; caches go to {HOME}")


def _user() -> pwd.struct_passwd | None:
    """This user's entry in the list of users."""
    try:
        return pwd.getpwuid(os.getuid())
    except KeyError:
        return None


def _is_writable(folder: str) -> bool:
    """Whether a file can be made in a folder; asking for permissions tells root nothing."""
    try:
        with tempfile.TemporaryFile(dir=folder):
            return True
    except OSError:
        return False


def open_streams() -> None:
    """Open standard streams that were closed (``>&-``), on nothing.

    The next file to be opened would get the number of a closed one, and lines for the terminal
    would end up in it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # takes the lowest free number, this one; children are to have it too
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdout = sys.stdout or open(1, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115


def command_started() -> float:
    """When the outermost Snakemake that this process works for was started [s since 1970]."""
    import psutil  # type: ignore[import-untyped]

    own = psutil.Process()
    outer = [
        process
        for process in (own, *own.parents())
        if "snakemake" in {Path(word).name for word in process.cmdline()[:4]}
    ]
    return float(min((process.create_time() for process in outer), default=own.create_time()))
