"""``georecon COMMAND``: all commands of the package by one name."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

COMMANDS = {
    "launch": (
        "georecon.jobs.launch",
        "tables and figures: Snakemake with this project's settings",
    ),
    "doctor": ("georecon.jobs.launch", "can it run here? says what would fail"),
    "plan": ("georecon.jobs.launch", "trainings left, their hours, downloads"),
    "predict": ("georecon.library.command", "predictions of a fine-tuned model for a file"),
    "card": ("georecon.library.card", "model card of trained weights"),
    "export": ("georecon.library.export", "weights for TorchMD-NET or torch.export"),
    "tensorboard": ("georecon.reporting.tensorboard", "curves of an edition for TensorBoard"),
    "watch": ("georecon.jobs.watch", "what trains now"),
    "recover": ("georecon.jobs.recover", "after a killed run on a cluster: wait, then go on"),
    "diff": ("georecon.audit.diff", "two results compared: cells that differ, and why"),
    "verify": ("georecon.audit.verify_bundle", "check a bundle against itself"),
}
"""Command → module whose ``main`` it runs, and what it is for."""
_TARGETS = ("doctor", "plan")  # of the workflow
_IN_A_CLONE = ("launch", *_TARGETS)
_ELSEWHERE = ("-s", "--snakefile", "-d", "--directory")  # options that name another place


def main() -> int:
    """Run the command that the first argument names."""
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    if name not in COMMANDS:
        if name not in ("", "-h", "--help"):
            print(f"georecon: {name!r} is no command", file=sys.stderr)
        print("usage: georecon COMMAND …, mostly in the project's folder\n")
        for command, (_, purpose) in COMMANDS.items():
            print(f"  {command:12} {purpose}")
        return 0 if name in ("-h", "--help") else 2
    rest = sys.argv[2:]
    named = any(word.partition("=")[0] in _ELSEWHERE for word in rest)
    if name in _IN_A_CLONE and not named and not Path("Snakefile").is_file():
        print(
            f"georecon {name}: no Snakefile in this folder; call it at the top of a clone of the "
            "project",
            file=sys.stderr,
        )
        return 2
    sys.argv = [f"georecon {name}", *([name] if name in _TARGETS else []), *rest]
    try:
        code: int = importlib.import_module(COMMANDS[name][0]).main()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] == "georecon":
            raise
        print(
            f"georecon {name}: needs the package {error.name}, which is not installed; the extras "
            "chem, table, workflow and report bring what each is named for, in a clone "
            "`pip install '.[chem,table]'`",
            file=sys.stderr,
        )
        return 1
    return code


if __name__ == "__main__":
    sys.exit(main())
