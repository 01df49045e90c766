"""Checks before a commit, in hosted CI and in ``make lint`` are the same; commit messages."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from tests.frame.repository import ROOT, load_script

HOOKS = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
CI = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
message = load_script(ROOT / ".ci" / "commit_message.py")
bootstrap = load_script(ROOT / "envs" / "bootstrap.py")


def lint_checks(makefile: str) -> list[str]:
    """Commands that the target ``lint`` checks."""
    recipe = re.search(r"^lint:.*\n((?:\t.*\n)+)", makefile, re.MULTILINE)
    assert recipe is not None
    return re.findall(r"^\tcheck (.+); \\$", recipe[1], re.MULTILINE)


def hook_checks(hooks: dict[str, list[dict[str, list[dict[str, object]]]]]) -> list[str]:
    """Commands that run before a commit, without the folder of the environment."""
    entries = [hook for repo in hooks["repos"] for hook in repo["hooks"]]
    return [
        str(hook["entry"]).removeprefix(".venv/bin/") for hook in entries if "stages" not in hook
    ]


def test_the_hooks_are_the_checks_of_make_lint() -> None:
    wanted = lint_checks((ROOT / "Makefile").read_text(encoding="utf-8"))
    assert len(wanted) > 5
    assert hook_checks(HOOKS) == wanted


def test_a_check_that_only_one_list_has_is_noticed() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert hook_checks(HOOKS) != lint_checks(makefile.replace("\tcheck mypy; \\\n", ""))


def test_hooks_need_no_network_and_look_at_everything() -> None:
    assert [repo["repo"] for repo in HOOKS["repos"]] == ["local"]
    for hook in HOOKS["repos"][0]["hooks"]:
        assert hook["language"] == "system"
        assert str(hook["entry"]).startswith(".venv/bin/")
        if "stages" not in hook:
            assert hook["always_run"] is True
            assert hook["pass_filenames"] is False


def test_pre_commit_accepts_its_configuration() -> None:
    command = [sys.executable, "-m", "pre_commit", "validate-config", ".pre-commit-config.yaml"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_hosted_ci_runs_lint_and_tests_on_every_python_that_setup_accepts() -> None:
    (job,) = CI["jobs"].values()
    first, after = bootstrap.OLDEST[1], bootstrap.TOO_NEW[1]
    assert job["strategy"]["matrix"]["python"] == [f"3.{n}" for n in range(first, after)]
    assert [step["run"] for step in job["steps"] if "run" in step] == ["make lint", "make test"]


GOOD = "Tables say their unit once\n\nThe unit stood in every cell, which nobody could read.\n"


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        GOOD + "\n# Please enter the commit message\n",
        GOOD + f"\n{message.SCISSORS}\n+ a line of the difference " + "x " * 60,
        GOOD + "\nhttps://" + "a" * 100 + "\n",
        "Merge branch 'x'\n",
        "fixup! Tables say their unit once\n",
    ],
)
def test_allowed_messages(text: str) -> None:
    assert message.faults(text) == []


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "empty"),
        ("# only a comment\n", "empty"),
        ("x" * 73 + "\n\nwhy\n", "73 characters"),
        ("Short.\n\nwhy\n", "full stop"),
        ("Short\n", "no body"),
        ("Short\n\n# comment\n", "no body"),
        ("Short\nwhy at once\n", "not empty"),
        ("Short\n\n" + "word " * 20 + "\n", "a line of the body has 99"),
    ],
)
def test_refused_messages(text: str, fault: str) -> None:
    assert any(fault in line for line in message.faults(text))


@pytest.mark.parametrize(("text", "code"), [(GOOD, 0), ("Short\n", 1)])
def test_the_hook_answers_by_exit_code(tmp_path: Path, text: str, code: int) -> None:
    (tmp_path / "message").write_text(text)
    command = [sys.executable, ROOT / ".ci" / "commit_message.py", tmp_path / "message"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code
    assert ("say why" in done.stderr) == bool(code)
