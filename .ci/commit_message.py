"""Refuse a commit message that CONTRIBUTING.md does not allow: a hook of git's stage commit-msg."""

from __future__ import annotations

import re
import sys
from pathlib import Path

LONGEST = 72
SCISSORS = "# ------------------------ >8 ------------------------"
# made by git, or to be joined with another commit before anybody else sees it
EXEMPT = re.compile(r"(Merge|Revert|fixup!|squash!|amend!) ?")


def faults(message: str) -> list[str]:
    """What is wrong with a commit message, a sentence each; comments of git's are left out."""
    said = message.partition(SCISSORS)[0]
    lines = [line.rstrip() for line in said.splitlines() if not line.startswith("#")]
    while lines and not lines[0]:
        del lines[0]
    subject, rest = (lines[0], lines[1:]) if lines else ("", [])
    if not subject:
        return ["the subject is empty"]
    if EXEMPT.match(subject):
        return []
    found = []
    if len(subject) > LONGEST:
        found.append(f"the subject has {len(subject)} characters; at most {LONGEST}")
    if subject.endswith("."):
        found.append("the subject ends with a full stop")
    if rest and rest[0]:
        found.append("the line after the subject is not empty")
    if not any(rest):
        found.append("there is no body: say why")
    long = [line for line in rest if len(line) > LONGEST and " " in line.strip()]
    found += [f"a line of the body has {len(line)} characters: {line[:40]}…" for line in long]
    return found


def main() -> int:
    """Command line: the file with the message."""
    found = faults(Path(sys.argv[1]).read_text(encoding="utf-8"))
    for line in found:
        print(f"commit message: {line} (CONTRIBUTING.md)", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
