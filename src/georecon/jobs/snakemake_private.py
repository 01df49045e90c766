"""Every part of Snakemake and its Slurm plugin that we use although it is not public, and why.

Whatever else the project takes from Snakemake is documented: the command line, the language of
Snakefiles, the interface of logger plugins. The one exception are the Snakefile's lines that make
this module importable: ``workflow.current_basedir``, its own folder also where another file
includes it, which ``workflow.basedir`` is not, and what :mod:`georecon.jobs.checkout` asks of it.
A test fails on versions other than :data:`TESTED`; then read here what to look at, run ``make
test`` and ``make test-slurm``, and name the new version.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from contextlib import redirect_stderr, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

from georecon.commands import is_snakemake
from georecon.errors import ConfigError, GeoreconError

TESTED = {"snakemake": ("9.27.1",), "snakemake-executor-plugin-slurm": ("2.8.0",)}
"""Versions by distribution; the lock has the last of each."""


# ---- in the Snakefile --------------------------------------------------------------------------


def is_main(workflow: Any) -> bool:
    """Whether this is the Snakemake that was called, not one that it started for a job.

    Why: every job's process reads the Snakefile again, and only one is to talk to the user.
    """
    return bool(workflow.is_main_process)


def config_option(workflow: Any) -> Mapping[str, Any]:
    """Values of ``--config``, of the command line or a profile, apart from those of files.

    Why: in a Snakefile ``config`` has both, and only those of the option have lost their types.
    """
    return dict(workflow.config_settings.config)


def is_whole(workflow: Any) -> bool:
    """Whether this is no module of another workflow, which may name the rules otherwise.

    Why: nothing public tells a Snakefile that it is read as a module.
    """
    return bool(workflow.modifier.is_main_snakefile())


def unknown_targets(workflow: Any, arguments: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Targets of a command line that are neither rules nor files, each with all names of rules.

    Why: Snakemake knows the targets only after it has read the Snakefile, and then names no other
    that might be meant. Its own parser tells targets from values of options.

    Args:
        workflow: Snakemake's, at the end of the Snakefile.
        arguments: ``sys.argv``; another program's has no targets.
    """
    from snakemake.cli import get_argument_parser

    if not is_snakemake(arguments[0]):
        return []
    names = [rule.name for rule in workflow.rules]
    with redirect_stderr(io.StringIO()), suppress(SystemExit):  # it has been parsed once
        given, _ = get_argument_parser().parse_known_args(list(arguments[1:]))
        plain = [text for text in given.targets if not {"/", "."} & set(text)]
        return [(text, names) for text in plain if text not in names and not Path(text).exists()]
    return []


def given_files(workflow: Any) -> list[Path]:
    """Configuration files of the command line or a profile.

    Why: Snakemake has left the folder that their names begin in, where ``--directory`` is given.
    """
    return [Path(path) for path in workflow.config_settings.configfiles]


def submits(workflow: Any) -> bool:
    """Whether jobs run elsewhere; known from ``onstart`` on.

    Why: what the command line says does not tell, as a profile of any name may set the executor.
    """
    return bool(workflow.non_local_exec)


def brings_environments(workflow: Any) -> bool:
    """Whether jobs run in environments that Snakemake makes, by conda or in containers.

    Why: what this environment lacks, theirs may have.
    """
    return bool(workflow.deployment_settings.deployment_method)


def lift_start_limit(workflow: Any) -> None:
    """Take Snakemake's limit on job starts (100 a second) off a run on this machine.

    For the limit's sake each pass of Snakemake's scheduler plans another a second later, with a
    thread to wait for it, and so do those: with jobs waiting, every job that ends adds one more
    pass a second over all of them, a whole core after a few hundred jobs. Starts on a cluster keep
    their limit.

    Why: ``--max-jobs-per-timespan`` has a default and no value for "none". A long timespan makes
    passes rare but its threads keep Snakemake from ending: docs/performance.md has the numbers.

    Args:
        workflow: Snakemake's, from a Snakefile's ``onstart``.
    """
    if workflow.local_exec:
        workflow.scheduler.job_rate_limiter = None


# ---- a rule's script alone ---------------------------------------------------------------------


def script_job(
    snakefile: Path,
    rule: str,
    wildcards: Mapping[str, str],
    *,
    folder: Path,
    config: Mapping[str, Any],
) -> tuple[Any, Path]:
    """What Snakemake would give to a rule's script, and that script; no job is run.

    Why: ``snakemake.api`` reads a Snakefile but shows none of its rules.

    Args:
        snakefile: the workflow.
        rule: a rule with a script.
        wildcards: of the job, all of them.
        folder: working folder.
        config: as with ``--config``.

    Raises:
        ConfigError: no such rule, no script, or other wildcards than the rule has.
    """
    from snakemake.api import SnakemakeApi
    from snakemake.exceptions import WorkflowError
    from snakemake.jobs import Job
    from snakemake.script import Snakemake
    from snakemake.settings.types import (
        ConfigSettings,
        ExecutionSettings,
        OutputSettings,
        Quietness,
        ResourceSettings,
    )

    with SnakemakeApi(OutputSettings(quiet={Quietness.ALL})) as api:
        workflow = api.workflow(
            resource_settings=ResourceSettings(cores=1),
            config_settings=ConfigSettings(config=dict(config)),
            snakefile=snakefile,
            workdir=folder,
        )._workflow
        workflow.execution_settings = ExecutionSettings()
        found = {each.name: each for each in workflow.rules if each.script}.get(rule)
        if found is None:
            names = sorted(each.name for each in workflow.rules if each.script)
            raise ConfigError(f"no rule {rule!r} with a script; there are: {', '.join(names)}")
        if set(wildcards) != found.wildcard_names:
            wanted = " ".join(f"{name}=..." for name in sorted(found.wildcard_names))
            given = " ".join(f"{name}={value}" for name, value in wildcards.items()) or "none"
            raise ConfigError(f"rule {rule} has {wanted or 'no wildcards'}; given: {given}")
        try:
            job = Job(found, SimpleNamespace(workflow=workflow), dict(wildcards))
            parts = (job.input, job.output, job.params, job.wildcards, job.threads, job.resources)
        except WorkflowError as error:  # around what a function of the rule raised
            cause = error.__context__
            reason = cause if isinstance(cause, GeoreconError) else error
            raise ConfigError(f"rule {rule}: {reason}") from None
        script = Path(found.basedir.join(found.script).get_path_or_uri(secret_free=True)).resolve()
        merged = workflow.globals["config"]
        return Snakemake(*parts, job.log, merged, rule, None, str(script.parent)), script


# ---- the Slurm plugin --------------------------------------------------------------------------


class Partition(NamedTuple):
    """A partition of a site: its longest run time [minutes] (infinity: any), and whether it has
    GPUs.
    """

    minutes: float
    gpus: bool


def read_partitions(path: Path) -> list[Partition] | None:
    """Partitions of the plugin's own file, or None where the plugin is not installed.

    Why: the plugin chooses a partition by this file, and its reader knows all ways to write a time.

    Raises:
        ConfigError: the file is not a partition file.
    """
    try:
        from snakemake_executor_plugin_slurm.partitions import (  # type: ignore[import-untyped]
            read_partition_file,
        )
    except ImportError:
        return None
    try:
        limits = [partition.limits for partition in read_partition_file(path)]
    except Exception as error:  # whatever the plugin's reader trips over
        raise ConfigError(f"{path}: not a partition file of the Slurm plugin ({error})") from None
    return [Partition(float(each.max_runtime), bool(each.max_gpu)) for each in limits]
