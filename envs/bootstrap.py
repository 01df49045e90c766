# ruff: noqa: UP010, UP031, RUF005
"""First step of every ``make`` target: find a Python that can run georecon, then set up .venv.

Kept so plain that Python 2.7 parses it: a user with an old Python gets a sentence, not a
traceback. Everything that needs a current Python is in install.py beside this file.
"""

from __future__ import print_function

import os
import subprocess
import sys

OLDEST = (3, 11)
TOO_NEW = (3, 15)
CANDIDATES = ("python3", "python3.13", "python3.12", "python3.11", "python3.14", "python")
HERE = os.path.dirname(os.path.abspath(__file__))
PROBE = (
    "import sys; print('%d.%d.%d' % sys.version_info[:3]); print(sys.prefix);"
    "print(getattr(sys, '_base_executable', None) or sys.executable)"
)


def probe(command):
    """Version tuple and base executable of a Python command, or None where it does not run."""
    try:
        child = subprocess.Popen(
            [command, "-c", PROBE], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        lines = child.communicate()[0].decode("utf-8", "replace").split("\n")
    except (OSError, ValueError):
        return None
    if child.returncode != 0 or len(lines) < 3:
        return None
    inside = os.path.realpath(lines[1]) == os.path.realpath(os.path.join(HERE, "..", ".venv"))
    version = tuple(int(part) for part in lines[0].split("."))
    return version, (lines[2].strip() if inside else command)


def usable(version):
    """Whether this version can run the pinned packages."""
    return OLDEST <= version[:2] < TOO_NEW


def find_python(named):
    """Command of a usable Python and None, or None and a sentence for the user.

    Args:
        named: the user's ``PYTHON=`` value, or an empty string: then CANDIDATES are tried.
    """
    seen = []
    for command in (named,) if named else CANDIDATES:
        answer = probe(command)
        if answer is None:
            continue
        version, base = answer
        if usable(version):
            return base, None
        seen.append("%s is %d.%d.%d" % ((command,) + version[:3]))
    if named and not seen:
        seen.append("%s does not run" % named)
    return None, (
        "georecon needs Python %d.%d to %d.%d; found: %s.\n"
        "Install one of them, or name it:  make PYTHON=/path/to/python3.12"
        % (OLDEST + (TOO_NEW[0], TOO_NEW[1] - 1) + ("; ".join(seen) or "none",))
    )


def main():
    """Return quickly where .venv is up to date, else hand over to install.py; the exit code."""
    named = os.environ.get("PYTHON", "")
    if usable(sys.version_info[:3]):
        sys.dont_write_bytecode = True
        sys.path.insert(0, HERE)
        import install

        version = None
        if named:
            answer = probe(named)
            version = "%d.%d" % answer[0][:2] if answer else None
        if install.is_current(install.ROOT, version) and not (named and version is None):
            return 0
    python, problem = find_python(named)
    if python is None:
        print(problem, file=sys.stderr)
        return 1
    return subprocess.call([python, os.path.join(HERE, "install.py")])


if __name__ == "__main__":
    sys.exit(main())
