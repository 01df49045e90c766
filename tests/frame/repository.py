"""Files of this repository, and what they define: helpers of the tests in this folder."""

from __future__ import annotations

import ast
import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "src" / "georecon"


def tracked() -> list[Path]:
    """Files that git tracks; skips where there is no checkout."""
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    names = subprocess.check_output(["git", "ls-files", "-z"], cwd=ROOT, text=True)
    return [ROOT / name for name in names.split("\0") if name and (ROOT / name).is_file()]


def lines(path: Path) -> Iterator[tuple[int, str]]:
    """Numbered lines of a text file; none of a binary one."""
    data = path.read_bytes()
    if b"\0" not in data:
        yield from enumerate(data.decode("utf-8", "replace").splitlines(), 1)


def load_script(path: Path) -> ModuleType:
    """A script that lies in no package, as a module."""
    spec = importlib.util.spec_from_file_location(f"script_{path.stem}", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there
    spec.loader.exec_module(module)
    return module


def defines(path: Path, name: str) -> bool:
    """Whether a file defines a name: a function, class, method, constant, rule, key or macro.

    Args:
        path: Python, rules, YAML, or a text where the name stands as a word.
        name: dotted for methods and YAML keys.
    """
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".py":
        return name in python_names(text)
    if path.suffix == ".smk":
        return re.search(rf"^(rule|def) {name}\b|^use rule \w+ as {name}\b", text, re.M) is not None
    if path.suffix == ".yaml":
        value = yaml.safe_load(text)
        for key in name.split("."):
            if not isinstance(value, dict) or key not in value:
                return False
            value = value[key]
        return True
    return re.search(rf"\b(macro|function) {name}\b", text) is not None


def python_names(text: str) -> set[str]:
    """Dotted names of the functions, classes, methods and constants of a module."""
    found: set[str] = set()

    def visit(body: list[ast.stmt], prefix: str) -> None:
        for node in body:
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                found.add(prefix + node.name)
                if isinstance(node, ast.ClassDef):
                    visit(node.body, f"{prefix}{node.name}.")
            elif isinstance(node, ast.Assign | ast.AnnAssign):
                targets = node.targets if isinstance(node, ast.Assign) else [node.target]
                found.update(prefix + t.id for t in targets if isinstance(t, ast.Name))

    visit(ast.parse(text).body, "")
    return found


def where_now(name: str) -> list[str]:
    """Files of the package that define a Python name's last part: hints for a stale reference."""
    last = name.rpartition(".")[2]
    return [
        path.relative_to(PACKAGE).as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        if any(own.rpartition(".")[2] == last for own in python_names(path.read_text("utf-8")))
    ]
