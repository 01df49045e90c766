"""Code digests follow from what a stage imports, and from what the source says."""

from __future__ import annotations

import ast
import functools
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from georecon.records import code
from tests.projects import ROOT

STAGES = sorted(path.stem for path in (ROOT / "workflow" / "scripts").glob("*.py"))
COMPUTE = (
    *("preprocess", "split", "leak", "xtb", "pretrain", "finetune", "evaluate", "smoothness"),
    "nve",
)
OBJECTIVE = "georecon.objectives.reconstruct"


@pytest.fixture
def sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A copy of the sources that digests are taken of."""
    for name in ("src", "workflow"):
        ignore = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, tmp_path / name, ignore=ignore)
    monkeypatch.setattr(code, "_SOURCE", tmp_path / "src")
    monkeypatch.setattr(code, "_SCRIPTS", tmp_path / "workflow" / "scripts")
    code._reader.cache_clear()
    yield tmp_path
    code.code_digest.cache_clear()
    code._reader.cache_clear()


def digest(stage: str) -> str:
    code.code_digest.cache_clear()
    return code.code_digest(stage, *([OBJECTIVE] if stage == "pretrain" else []))


def files(stage: str) -> list[Path]:
    return code.closure(stage, *([OBJECTIVE] if stage == "pretrain" else []))


def changed(path: Path, text: str) -> str:
    """The source with a statement more in its first function, or a name more."""
    if path.suffix in (".cpp", ".h"):
        return re.sub(r"\breturn\b", "return 1 +", text, count=1)
    if path.suffix != ".py":
        return text + "<!-- more -->"
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body.append(ast.parse("changed = 1").body[0])
            return ast.unparse(tree)
    return text + "\nCHANGED = 1\n"


def unchanged(path: Path, text: str) -> Iterator[str]:
    """The source with a comment, a docstring and a layout more or less."""
    if path.suffix in (".cpp", ".h"):
        yield "// a comment\n" + text
        yield text.replace("{\n", "{  /* a comment\n over lines */\n\n")
        yield re.sub(r"(?m)^(?!#)(.*);$", r"   \1 ;  ", text)
    elif path.suffix == ".py":
        yield f"# a comment\n{text}\n\n# at the end\n"
        yield ast.unparse(ast.parse(text))
        tree = ast.parse(text)
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module):
                node.body.insert(0, ast.parse("'another docstring'").body[0])
        yield ast.unparse(tree)


def test_a_comment_docstring_or_layout_counts_in_no_file(sources: Path) -> None:
    """What a file means is all that a digest takes of it, besides what it imports."""
    everything = {path for stage in STAGES for path in files(stage)}
    for path in sorted(everything):
        text, before = path.read_text(encoding="utf-8"), code.meaning_digest(path)
        for same in unchanged(path, text):
            path.write_text(same, encoding="utf-8")
            assert code.meaning_digest(path) == before, f"{path}\n{same[:400]}"
        path.write_text(text, encoding="utf-8")


@pytest.mark.parametrize(
    "stage",
    [s if s in COMPUTE else pytest.param(s, marks=pytest.mark.long) for s in STAGES],
)
def test_a_statement_counts_in_every_file_of_a_stages_closure(
    stage: str, sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code, "_file", functools.cache(code._file))  # no file comes or goes
    before, closure = digest(stage), files(stage)
    assert sources / "workflow/scripts" / f"{stage}.py" in closure
    assert len(closure) > (10 if stage in COMPUTE else 1)
    for path in closure:
        text = path.read_text(encoding="utf-8")
        if text.strip() and "__version__" not in text:
            path.write_text(changed(path, text), encoding="utf-8")
            assert digest(stage) != before, path
        path.write_text(text, encoding="utf-8")
    assert digest(stage) == before


@pytest.mark.parametrize("stage", ["pretrain", "finetune", "smoothness"])
def test_a_helper_that_trainings_call_counts(stage: str, sources: Path) -> None:
    """read_split was in none of their digests when those were lists of files kept by hand."""
    before, path = digest(stage), sources / "src/georecon/data/split.py"
    text = path.read_text(encoding="utf-8")
    assert "def read_split" in text
    path.write_text(text.replace("def read_split", "def reads_split"), encoding="utf-8")
    assert digest(stage) != before


def test_what_a_stage_does_not_import_does_not_count(sources: Path) -> None:
    drawing = [p for p in (sources / "src/georecon/reporting").rglob("*") if p.is_file()]
    for stage in COMPUTE:
        before = digest(stage)
        assert not set(files(stage)) & set(drawing)
        other = sources / "src/georecon/objectives/denoise.py"
        text = other.read_text(encoding="utf-8")
        other.write_text(text + "\nCHANGED = 1\n", encoding="utf-8")
        assert digest(stage) == before
        other.write_text(text, encoding="utf-8")


def test_an_import_inside_a_function_counts(sources: Path) -> None:
    path = sources / "src/georecon/stages/evaluate.py"
    assert sources / "src/georecon/units.py" not in files("evaluate")
    text = path.read_text(encoding="utf-8")
    path.write_text(
        text + "\n\ndef f():\n    from georecon.units import convert\n", encoding="utf-8"
    )
    assert sources / "src/georecon/units.py" in files("evaluate")


def test_kernels_count_with_their_native_sources(sources: Path) -> None:
    names = {path.name for path in files("finetune")}
    assert {"attention.cpp", "numbers.h", "attention_triton.py", "reference.py"} <= names
    assert not any(path.suffix == ".cpp" for path in files("evaluate"))


def test_templates_and_styles_count_for_the_web_report(sources: Path) -> None:
    assert {"page.html.j2", "site.js", "site.css"} <= {path.name for path in files("site")}


def test_operators_of_cpp_are_not_run_together() -> None:
    assert code.native_tokens("x + ++y") != code.native_tokens("x++ + y")
    assert code.native_tokens("a  =\n b;") == code.native_tokens("a = b ;")
    assert code.native_tokens("#if A\nb\n#endif") != code.native_tokens("#if A b\n#endif")
    assert code.native_tokens('"// no comment"') == ['"// no comment"']


def test_order_and_numbers_count() -> None:
    one = code.parse_python("a = f(1, 2)").digest
    assert one == code.parse_python("a = f(\n    1,\n    2,\n)").digest
    for other in ("a = f(2, 1)", "a = f(1, 2.0)", "a = f('1', 2)", "a = f([1, 2])"):
        assert code.parse_python(other).digest != one
    assert code.parse_python("f(1)\nf(2)").digest != code.parse_python("f(2)\nf(1)").digest


def test_what_was_parsed_is_kept_by_content(sources: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(sources)
    (sources / ".snakemake").mkdir()
    before = digest("finetune")
    code._reader.cache_clear()
    monkeypatch.setattr(code, "parse_python", lambda _: pytest.fail("parsed again"))
    assert digest("finetune") == before
    monkeypatch.undo()
    path = sources / "src/georecon/noise.py"
    path.write_text(path.read_text(encoding="utf-8") + "\nCHANGED = 1\n", encoding="utf-8")
    for name in ("_SOURCE", "_SCRIPTS"):
        place = "src" if name == "_SOURCE" else "workflow/scripts"
        monkeypatch.setattr(code, name, sources / place)
    assert digest("finetune") != before


def test_a_file_of_notes_that_is_broken_is_not_used(
    sources: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = digest("split")
    monkeypatch.chdir(sources)
    (sources / ".snakemake").mkdir()
    for text in ("", "[]", '{"reader": "another", "sources": {}}'):
        (sources / ".snakemake/georecon-code.json").write_text(text)
        code._reader.cache_clear()
        assert digest("split") == before


def test_an_unknown_stage_or_module_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        code.code_digest("no_such_stage")
    with pytest.raises(FileNotFoundError, match=r"georecon\.objectives\.none"):
        code.code_digest("pretrain", "georecon.objectives.none")
