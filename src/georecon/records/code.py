"""Digest of the source that a stage's numbers depend on: its import closure, by meaning.

The closure starts at ``workflow/scripts/<stage>.py`` and at ``georecon.stages.<stage>``, which
trainings import by name, and follows every import of ``georecon`` in the sources, those inside
functions too. Files that are not Python (C++, templates) count with the modules of their folder.

Python counts by its syntax tree without docstrings, C++ by its tokens: comments and layout change
nothing. When in doubt a rerun is better than a stale number: a module counts whole, whichever of
its names are used.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from georecon.files import read_json, write_json

_SOURCE = Path(__file__).parents[2]
_SCRIPTS = _SOURCE.parent / "workflow" / "scripts"
_NATIVE = (".cpp", ".h")
_UNCOUNTED = frozenset({"type_params", "type_comment", "type_ignores", "kind", "ctx"})
"""Fields of syntax trees that change no number; which there are depends on Python's version."""
_TOKEN = re.compile(
    r"""(?P<skip>//[^\n]*|/\*.*?\*/|[ \t\r]+|\\\n)|\n|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'"""
    r"""|[\w.]+|<<=|>>=|->\*|\.\.\.|::|\+\+|--|->|<<|>>|&&|\|\||[-+*/%&|^<>=!]=|.""",
    re.DOTALL,
)


class Source(NamedTuple):
    """What a Python file says.

    Attributes:
        digest: of its meaning.
        imports: what it imports of this package, as dotted names of modules or of names in them.
    """

    digest: str
    imports: tuple[str, ...]


@functools.cache
def code_digest(stage: str, *extra: str) -> str:
    """Digest of the source a stage depends on: the same code gives the same on any machine.

    Args:
        stage: name of a script in ``workflow/scripts``.
        extra: further modules, such as ``georecon.objectives.denoise``.

    Raises:
        FileNotFoundError: there is no such script or module.
    """
    digest = hashlib.sha256()
    for path in closure(stage, *extra):
        name = path.relative_to(_SOURCE.parent).as_posix()
        digest.update(f"{name} {_reader().meaning(path)}\n".encode())
    _reader().save()
    return digest.hexdigest()[:16]


def meaning_digest(path: Path) -> str:
    """Digest of what one source file says, without comments, docstrings and layout."""
    return _reader().meaning(path)


def has_code(stage: str) -> bool:
    """Whether a stage has a script, and so a digest."""
    return (_SCRIPTS / f"{stage}.py").is_file()


def closure(stage: str, *extra: str) -> list[Path]:
    """Files that a stage depends on, sorted; arguments and errors as of :func:`code_digest`."""
    script = _SCRIPTS / f"{stage}.py"
    waiting = [script, *_files(f"georecon.stages.{stage}")]
    for name in extra:
        if _file(name) is None:
            raise FileNotFoundError(f"no module {name}")
        waiting += _files(name)
    found: set[Path] = set()
    asked: set[str] = set()
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            names = [name for name in _reader().read(path).imports if name not in asked]
            asked.update(names)
            waiting += [file for name in names for file in _files(name)]
    folders = {path.parent for path in found if path != script}
    return sorted(found.union(*map(_companions, folders)))


def _file(name: str) -> Path | None:
    """File of a dotted module or package, or None."""
    path = _SOURCE.joinpath(*name.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.is_file()), None)


def _files(name: str) -> Iterator[Path]:
    """Files of a module, or of the one that has this name in it, and of the packages above."""
    parts = name.split(".")
    for count in range(1, len(parts) + 1):
        if (file := _file(".".join(parts[:count]))) is not None:
            yield file


def _companions(folder: Path) -> list[Path]:
    """Files of a package that are not Python, with those in folders that are no packages."""
    found = []
    for path in folder.iterdir():
        if path.is_dir():
            if path.name != "__pycache__" and not any(path.glob("*.py")):
                found += _companions(path)
        elif path.suffix not in (".py", ".pyc", ".typed"):
            found.append(path)
    return found


# ---- what files say ---------------------------------------------------------------------------


class _Reader:
    """Reads each file once; what files of the same bytes said is kept beside Snakemake's own notes.

    Every job of a run asks again, and parsing is most of the time. Content alone is the key, so
    nothing kept can be out of date, except with this file, whose digest is a part of the key.
    """

    def __init__(self, folder: Path) -> None:
        self.path = folder / "georecon-code.json"
        self.own = hashlib.sha256(Path(__file__).read_bytes()).hexdigest()
        self.kept: dict[str, list[object]] = {}
        self.new = False
        with suppress(OSError, ValueError, KeyError, TypeError):
            kept = read_json(self.path)
            self.kept = kept["sources"] if kept["reader"] == self.own else {}

    def read(self, path: Path) -> Source:
        """What a Python file says."""
        text = path.read_bytes()
        key = hashlib.sha256(text).hexdigest()
        if key not in self.kept:
            self.kept[key], self.new = list(parse_python(text.decode())), True
        digest, imports = self.kept[key]
        return Source(str(digest), tuple(imports))  # type: ignore[arg-type]

    def meaning(self, path: Path) -> str:
        """Digest of what a file says."""
        if path.suffix == ".py":
            return self.read(path).digest
        text = path.read_text(encoding="utf-8")
        said = " ".join(native_tokens(text)) if path.suffix in _NATIVE else text
        return hashlib.sha256(said.encode()).hexdigest()

    def save(self) -> None:
        """Keep what was parsed; where nothing can be written it is parsed again next time."""
        if self.new and self.path.parent.is_dir():
            with suppress(OSError):
                write_json(self.path, {"reader": self.own, "sources": self.kept})
        self.new = False


@functools.cache
def _reader() -> _Reader:
    return _Reader(Path(".snakemake").absolute())


def parse_python(text: str) -> Source:
    """What Python source says; ``__version__`` apart, which names it and computes nothing."""
    tree = ast.parse(text)
    names: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names += [f"{node.module}.{alias.name}" for alias in node.names]
    own = [name for name in names if name.partition(".")[0] == "georecon"]
    said = "".join(_say(tree))
    return Source(hashlib.sha256(said.encode()).hexdigest(), tuple(dict.fromkeys(own)))


def _say(value: object) -> Iterator[str]:
    """A syntax tree as text, without strings that stand alone: docstrings."""
    if isinstance(value, ast.AST):
        yield f"{type(value).__name__}("
        for name in value._fields:
            field = getattr(value, name, None)
            if name not in _UNCOUNTED and field is not None:
                yield f"{name}="
                yield from _say(field)
        yield ")"
    elif isinstance(value, list):
        yield "["
        for item in value:
            if not _is_mute(item):
                yield from _say(item)
                yield ","
        yield "]"
    else:
        yield repr(value)


def _is_mute(item: object) -> bool:
    """Whether a statement is a string that stands alone, or names the package's version."""
    if isinstance(item, ast.Assign):
        return [ast.unparse(target) for target in item.targets] == ["__version__"]
    return isinstance(item, ast.Expr) and isinstance(item.value, ast.Constant)


def native_tokens(text: str) -> list[str]:
    """Tokens of C++ source without comments; a line's end is one where a directive ends there."""
    tokens: list[str] = []
    directive = False
    for match in _TOKEN.finditer(text):
        token = match.group()
        if match.group("skip") is not None:
            continue
        if token != "\n":
            directive = directive or token == "#"
            tokens.append(token)
        elif directive:
            tokens.append(token)
            directive = False
    return tokens
