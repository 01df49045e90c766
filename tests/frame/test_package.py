"""The package as others install and cite it: extras, version, citation, archive metadata."""

from __future__ import annotations

import json
import re
import tomllib
from datetime import date
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

import georecon
from tests.frame.repository import ROOT, load_script

make_lock = load_script(ROOT / "envs/make_lock.py")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = {
    name: [Requirement(text) for text in texts]
    for name, texts in PROJECT["optional-dependencies"].items()
}
PINS = make_lock.read_pins((ROOT / "envs/lock.txt").read_text(encoding="utf-8"))
MANUAL = make_lock.read_pins((ROOT / "envs/manual.txt").read_text(encoding="utf-8"))
NAMED = make_lock.named_packages((ROOT / "envs/requirements.in").read_text(encoding="utf-8"))
BOUNDS_ONLY = {"soupsieve"}  # a bound on what another package needs
ZENODO = json.loads((ROOT / ".zenodo.json").read_text(encoding="utf-8"))
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


def names_of(*extras: str) -> set[str]:
    """Packages of extras, and of those that they name in turn."""
    found: set[str] = set()
    for requirement in (one for extra in extras for one in EXTRAS[extra]):
        if requirement.name == "georecon":
            found |= names_of(*requirement.extras)
        else:
            found.add(make_lock.normal(requirement.name))
    return found


def test_extras_and_dependencies_are_what_the_environment_names() -> None:
    base = {make_lock.normal(Requirement(text).name) for text in PROJECT["dependencies"]}
    named = {make_lock.normal(name) for name in NAMED} - BOUNDS_ONLY
    assert base | names_of("dev") == named
    assert {"chem", "report", "dev"} <= set(EXTRAS)


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_lock_satisfies_every_extra(extra: str) -> None:
    pins = PINS | MANUAL
    for requirement in EXTRAS[extra]:
        if requirement.name != "georecon":
            assert pins[make_lock.normal(requirement.name)] in requirement.specifier


def test_the_manuals_packages_agree_with_the_lock() -> None:
    """``make manual`` installs them into the same environment: nothing of the lock may change."""
    assert {name: PINS[name] for name in MANUAL if name in PINS} == {
        name: version for name, version in MANUAL.items() if name in PINS
    }
    assert {"sphinx", "myst-parser", "furo"} <= set(MANUAL)


def test_the_version_is_one() -> None:
    found = {PROJECT["version"], georecon.__version__, CITATION["version"], ZENODO["version"]}
    assert len(found) == 1
    assert re.fullmatch(r"\d+\.\d+\.\d+", found.pop())


def test_the_licence_is_one() -> None:
    assert {PROJECT["license"], CITATION["license"], ZENODO["license"]} == {"MIT"}
    assert (ROOT / "LICENSE").read_text(encoding="utf-8").startswith("MIT License")


def test_typed_sources_and_data_files_are_in_the_package() -> None:
    data = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]
    patterns = data["setuptools"]["package-data"]
    wanted = {
        path
        for path in (ROOT / "src").rglob("*")
        if path.is_file() and path.suffix not in (".py", ".pyc") and "egg-info" not in str(path)
    }
    packed = {
        path
        for package, globs in patterns.items()
        for pattern in globs
        for path in (ROOT / "src" / package.replace(".", "/")).glob(pattern)
    }
    assert wanted == packed


# ---- CITATION.cff and .zenodo.json: the fields that their services ask for -----------------------

CFF_REQUIRED = {"cff-version", "message", "title", "authors"}
CFF_COMPLETE = {"abstract", "keywords", "license", "version", "type", "preferred-citation"}
ZENODO_FIELDS = {
    "title", "upload_type", "version", "description", "creators", "access_right", "license",
    "language", "keywords", "related_identifiers", "notes", "contributors", "communities",
    "references", "publication_date", "doi", "grants", "subjects",
}  # fmt: skip
RELATIONS = {
    "isCitedBy", "cites", "isSupplementTo", "isSupplementedBy", "isContinuedBy", "continues",
    "isDescribedBy", "describes", "hasMetadata", "isMetadataFor", "isNewVersionOf",
    "isPreviousVersionOf", "isPartOf", "hasPart", "isReferencedBy", "references", "isDocumentedBy",
    "documents", "isCompiledBy", "compiles", "isVariantFormOf", "isOriginalFormOf",
    "isIdenticalTo", "isAlternateIdentifier", "isReviewedBy", "reviews", "isDerivedFrom",
    "isSourceOf", "requires", "isRequiredBy", "isObsoletedBy", "obsoletes",
}  # fmt: skip


def zenodo_faults(given: dict[str, Any]) -> list[str]:
    """What the archive would refuse."""
    wanted = ("title", "upload_type", "description", "creators", "access_right", "license")
    found = [f"{name} is missing" for name in wanted if not given.get(name)]
    found += [f"{name}: no such field" for name in given if name not in ZENODO_FIELDS]
    found += ["a creator without a name" for one in given.get("creators", ()) if not one["name"]]
    for one in given.get("related_identifiers", ()):
        if one["relation"] not in RELATIONS or not one["identifier"]:
            found.append(f"relation {one['relation']}")
    return found


def test_the_archive_takes_the_metadata() -> None:
    assert zenodo_faults(ZENODO) == []
    assert ZENODO["keywords"] == CITATION["keywords"]
    paper, _ = ZENODO["related_identifiers"]
    assert paper["identifier"] == CITATION["preferred-citation"]["identifiers"][0]["value"]
    assert [one["name"] for one in ZENODO["creators"]] == [
        one["name"] for one in CITATION["authors"]
    ]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"title": ""}, "title is missing"),
        ({"licence": "MIT"}, "licence: no such field"),
        ({"related_identifiers": [{"identifier": "1", "relation": "isBasedOn"}]}, "relation isB"),
    ],
)
def test_a_fault_of_the_metadata_is_found(change: dict[str, Any], fault: str) -> None:
    assert any(fault in one for one in zenodo_faults({**ZENODO, **change}))


def test_the_citation_is_complete() -> None:
    assert set(CITATION) >= CFF_REQUIRED | CFF_COMPLETE
    for one in (CITATION["preferred-citation"], *CITATION["references"]):
        assert {"type", "title", "authors", "year"} <= set(one)
    released = CITATION.get("date-released")
    assert released is None or isinstance(released, date)
