"""Commands that a person can paste: this Snakemake, under the configuration that a run was given.

What Snakemake was called with is kept in an environment variable, so that the jobs of the run know
it: it is no part of what they make, and a job is not run again because it changes.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

VARIABLE = "GEORECON_COMMAND"
_KEPT = (
    ("--profile",),
    ("--workflow-profile",),
    ("--snakefile", "-s"),
    ("--directory", "-d"),
    ("--configfile", "--configfiles"),
)
_OWN = ("cell", "bundle", "bundle_weights", "depth", "sample", "sample_seed", "full")
"""Keys of ``--config`` that each command says itself."""


@dataclass(frozen=True, slots=True)
class Call:
    """How Snakemake was called.

    Attributes:
        program: its words.
        options: where and with which configuration it works.
        pairs: of ``--config``.
    """

    program: tuple[str, ...]
    options: tuple[str, ...] = ()
    pairs: tuple[str, ...] = ()


def option_values(arguments: Sequence[str], *names: str) -> list[str]:
    """Values of a command-line option in ``--name v1 v2`` and ``--name=v`` form."""
    return [value for values in _occurrences(arguments, names) for value in values]


def last_values(arguments: Sequence[str], *names: str) -> list[str]:
    """The same of the option's last occurrence, which is the one that Snakemake takes."""
    return [[], *_occurrences(arguments, names)][-1]


def _occurrences(arguments: Sequence[str], names: Sequence[str]) -> list[list[str]]:
    found: list[list[str]] = []
    taking = False
    for argument in arguments:
        if argument.startswith("-"):
            name, equals, value = argument.partition("=")
            taking = name in names
            found += [[value] if equals else []] if taking else []
        elif taking:
            found[-1].append(argument)
    return found


def is_snakemake(program: str) -> bool:
    """Whether ``sys.argv[0]`` is Snakemake's."""
    path = Path(program)
    return path.name == "snakemake" or path.parts[-2:] == ("snakemake", "__main__.py")


def remember(arguments: Sequence[str]) -> None:
    """Keep how Snakemake was called, for this process and those that it starts.

    Args:
        arguments: ``sys.argv``, or what Snakemake would be given; another program's says nothing.
    """
    if not is_snakemake(arguments[0]):
        return
    options = []
    for names in _KEPT:
        values = last_values(arguments, *names)
        if names[0] != "--configfile":
            values = values[:1]  # what follows is a target
        options += [names[0], *values] if values else []
    pairs = [p for p in last_values(arguments, "--config", "-C") if p.partition("=")[0] not in _OWN]
    program = _own("snakemake", moved="--directory" in options)
    call = Call(program, tuple(options), tuple(pairs))
    os.environ[VARIABLE] = json.dumps(asdict(call))


def _own(name: str, *, moved: bool = False) -> tuple[str, ...]:
    """A program of this environment, by its name alone where a shell finds it.

    Args:
        name: of a file in the environment's ``bin``.
        moved: Snakemake has left the folder that it was called in.
    """
    own, found = Path(sys.prefix, "bin", name), shutil.which(name)
    if not own.is_file():
        return (sys.executable, *(("-m", name) if name != "python" else ()))
    if found is not None and Path(found).parent.resolve() == own.parent.resolve():
        return (name,)
    near = not moved and own.is_relative_to(Path.cwd())
    return (str(own.relative_to(Path.cwd()) if near else own),)


def _call() -> Call:
    try:
        known = json.loads(os.environ[VARIABLE])
        return Call(*(tuple(known[name]) for name in ("program", "options", "pairs")))
    except (KeyError, ValueError, TypeError):
        return Call(_own("snakemake"))


def command(*targets: str, edition: str | None = None, pairs: Sequence[str] = ()) -> str:
    """A command line that makes targets under the configuration of this run.

    Args:
        targets: rules or files.
        edition: the edition, where it is known.
        pairs: further ``key=value`` of ``--config``.
    """
    call = _call()
    cores = () if "--profile" in call.options else ("--cores", "all")
    config = [*call.pairs, *pairs]
    if edition is not None:
        config = [f"edition={edition}", *(p for p in config if not p.startswith("edition="))]
    given = ("--config", *config) if config else ()
    return shlex.join([*call.program, *cores, *call.options, *given, "--", *targets])


def same_command(arguments: Sequence[str]) -> str:
    """Snakemake's command line with other arguments."""
    return shlex.join([*_call().program, *arguments])


def recover_command(arguments: Sequence[str]) -> str:
    """The command line that waits for a killed run's jobs and then gives its command again."""
    return shlex.join([*_own("python"), "-m", "georecon.recover", *arguments])


def unlock_command() -> str:
    """The command line that takes a killed run's lock away."""
    return same_command(unlock_arguments(_call().options))


def unlock_arguments(arguments: Sequence[str]) -> list[str]:
    """Snakemake's arguments to unlock the place that a command with these works in."""
    where: list[str] = []
    for names in (("--snakefile", "-s"), ("--directory", "-d")):
        if values := last_values(arguments, *names):
            where += [names[0], values[0]]
    return [*where, "--unlock"]
