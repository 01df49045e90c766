"""Names in archives that some file system could not hold."""

from __future__ import annotations

import unicodedata

import pytest

from georecon.errors import DataError
from georecon.records.untrusted import check_names

GROSS = "größe.csv"


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["a/B.csv", "a/b.csv"], "is also there as 'a/B.csv'"),
        (["A/x.csv", "a/x.csv"], "is also there as 'A/x.csv'"),
        ([unicodedata.normalize("NFC", GROSS), unicodedata.normalize("NFD", GROSS)], "also there"),
        (["straße.csv", "STRASSE.csv"], "is also there as 'straße.csv'"),
        (["a.csv", "a.csv"], "is also there"),
        (["a", "a/b.csv"], "is a file, and 'a/b.csv' lies in it"),
        (["x/Y/z.csv", "X/y"], "is a file, and 'x/Y/z.csv' lies in it"),
        (["n" * 256], "has a name of more than 255 bytes"),
        (["a/" + "é" * 128 + "/b"], "has a name of more than 255 bytes"),
    ],
)
def test_names_that_clash_or_are_too_long_are_refused(names: list[str], words: str) -> None:
    with pytest.raises(DataError, match=words) as error:
        check_names(names, "bundle.zip")
    assert str(error.value).startswith("bundle.zip, record ")
    assert len(str(error.value)) < 300


def test_other_names_are_fine() -> None:
    check_names(["a/b.csv", "a/c.csv", "ab", "a.csv", "n" * 255, GROSS, "é" * 127], "bundle.zip")
