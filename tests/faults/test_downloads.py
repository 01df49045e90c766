"""F9 and its kin: whatever a network does, only the whole, right file reaches its place."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import random
import re
import shutil
import socket
import ssl
import subprocess
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from georecon.data.raw.fetch import fetch
from georecon.data.raw.lock import RawLock, record_of
from georecon.data.raw.transfer import Patience
from georecon.errors import DataError, FetchError
from tests.faults.faulty_server import FaultyServer, Page, serving
from tests.faults.hostile_archives import INNOCENT, member, tar

DATA = random.Random(1).randbytes(300_000)
OTHER = random.Random(2).randbytes(300_000)
SHA256 = hashlib.sha256(DATA).hexdigest()
QUICK = Patience(timeout=5.0, pause=0.01)
CUTS = (0.0, 0.01, 0.5, 0.99)


@pytest.fixture
def server() -> Iterator[FaultyServer]:
    with serving(FaultyServer()) as running:
        yield running


def entry(server: FaultyServer, *paths: str, **changes: Any) -> dict[str, Any]:
    """Card entry of ``DATA`` at some addresses."""
    urls = [server.url(path) for path in paths or ("/file",)]
    return {"name": "a.bin", "urls": urls, "bytes": len(DATA), "sha256": SHA256, **changes}


@pytest.fixture
def dest(tmp_path: Path) -> Path:
    return tmp_path / "raw/set/a.bin"


def left(dest: Path) -> list[str]:
    """What a call left in the dataset's folder."""
    return sorted(path.name for path in dest.parent.iterdir())


def refused(card_file: dict[str, Any], dest: Path, patience: Patience = QUICK, **more: Any) -> str:
    """The error's text; nothing may be at the final path."""
    with pytest.raises(FetchError) as caught:
        fetch(card_file, dest, patience=patience, **more)
    assert not dest.exists()
    text = str(caught.value)
    assert f"put it at {dest}" in text
    return text


# ---- cuts ----------------------------------------------------------------------------------------

PART = ["a.bin.part", "a.bin.part.json"]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("resumable", [True, False])
def test_cut_transfer(cut: float, resumable: bool, server: FaultyServer, dest: Path) -> None:
    page = Page(data=DATA, cuts=[cut] * 3, etag='"one"' if resumable else None, ranges=resumable)
    server.pages["/file"] = page
    text = refused(entry(server), dest)
    assert len(server.asked) == 3
    for words in (server.url("/file"), SHA256, f"of {len(DATA)} bytes", "attempt 3 of 3"):
        assert words in text
    # what a later call can resume stays, all else goes
    assert left(dest) == (PART if resumable and cut else [])
    server.asked.clear()
    server.sent = 0
    assert fetch(entry(server), dest, patience=QUICK).read_bytes() == DATA
    assert left(dest) == ["a.bin"]
    assert len(server.asked) == 1
    if resumable and cut:
        rest = len(DATA)
        for _ in range(3):
            rest -= int(cut * rest)
        assert server.asked[0].range == f"bytes={len(DATA) - rest}-"
        assert server.asked[0].if_range == '"one"'
        assert server.sent == rest


@pytest.mark.parametrize("cut", CUTS)
def test_cut_once_is_mended_within_the_call(cut: float, server: FaultyServer, dest: Path) -> None:
    server.pages["/file"] = Page(data=DATA, cuts=[cut])
    assert fetch(entry(server), dest, patience=QUICK).read_bytes() == DATA
    assert server.sent == len(DATA)  # not a byte twice
    assert [asked.range for asked in server.asked] == (
        [None, f"bytes={int(cut * len(DATA))}-"] if cut else [None, None]
    )


def test_last_modified_serves_only_when_old_enough(server: FaultyServer, dest: Path) -> None:
    from georecon.data.raw.transfer import _validator

    changed = {"Last-Modified": "Fri, 14 Jul 2017 02:40:00 GMT"}
    assert _validator({**changed, "Date": "Fri, 14 Jul 2017 02:41:00 GMT"}) is not None
    assert _validator({**changed, "Date": "Fri, 14 Jul 2017 02:40:59 GMT"}) is None
    assert _validator({**changed, "Date": "no date"}) is None
    assert _validator({"ETag": 'W/"weak"'}) is None
    assert _validator({"ETag": '"strong"'}) == '"strong"'


def naive_resume(url: str, dest: Path) -> None:
    """Broken twin: appends whatever a Range request gives, and checks nothing."""
    offset = dest.stat().st_size if dest.exists() else 0
    request = urllib.request.Request(url, headers={"Range": f"bytes={offset}-"})
    dest.parent.mkdir(parents=True, exist_ok=True)
    with urllib.request.urlopen(request) as reply, open(dest, "ab") as out:
        try:
            out.write(reply.read())
        except Exception as error:  # a cut: keep what came
            out.write(getattr(error, "partial", b""))


@pytest.mark.parametrize("obeys", [True, False])
def test_other_content_on_resume_is_never_glued(
    obeys: bool, server: FaultyServer, dest: Path
) -> None:
    def two_files() -> None:
        server.pages["/file"] = Page(data=OTHER, cuts=[0.5] * 3)
        server.asked.clear()

    def second() -> None:
        server.pages["/file"] = Page(data=DATA, etag='"two"', if_range=obeys)

    two_files()
    refused(entry(server), dest)
    second()
    assert fetch(entry(server), dest, patience=QUICK).read_bytes() == DATA
    assert server.asked[3].range is not None
    twin = dest.with_name("twin.bin")
    two_files()
    naive_resume(server.url("/file"), twin)
    second()
    naive_resume(server.url("/file"), twin)
    assert twin.stat().st_size >= len(DATA)
    assert twin.read_bytes() != DATA


def test_range_that_starts_elsewhere_is_not_taken(server: FaultyServer, dest: Path) -> None:
    server.pages["/file"] = Page(data=DATA, cuts=[0.5], shift=1)
    assert fetch(entry(server), dest, patience=QUICK).read_bytes() == DATA
    assert [bool(asked.range) for asked in server.asked] == [False, True, False]


def test_part_of_another_address_or_a_damaged_state_is_not_resumed(
    server: FaultyServer, dest: Path
) -> None:
    server.pages["/file"] = Page(data=DATA, cuts=[0.5] * 6)
    server.pages["/second"] = Page(data=DATA)
    refused(entry(server), dest)
    server.asked.clear()
    assert fetch(entry(server, "/second"), dest, patience=QUICK).read_bytes() == DATA
    assert [asked.range for asked in server.asked] == [None]
    dest.unlink()
    refused(entry(server), dest)
    (dest.parent / "a.bin.part.json").write_text('{"url": ')
    server.asked.clear()
    assert fetch(entry(server), dest, patience=QUICK).read_bytes() == DATA
    assert server.asked[0].range is None


def test_damaged_part_ends_as_a_wrong_hash_and_is_removed(server: FaultyServer, dest: Path) -> None:
    server.pages["/file"] = Page(data=DATA, cuts=[0.5] * 3)
    refused(entry(server), dest)
    with open(dest.with_name("a.bin.part"), "r+b") as part:
        part.write(b"?")
    text = refused(entry(server), dest)
    assert re.search(f"sha256 is [0-9a-f]{{64}}, expected {SHA256}", text)
    assert left(dest) == []
    assert fetch(entry(server), dest, patience=QUICK).read_bytes() == DATA


# ---- wrong answers -------------------------------------------------------------------------------

SHORT, LONG = DATA[:-1], DATA + b"!"
WRONG: dict[str, tuple[Page, int, tuple[str, ...]]] = {
    "other_content": (Page(data=OTHER), 1, (hashlib.sha256(OTHER).hexdigest(), SHA256)),
    "announced_too_short": (Page(data=SHORT), 1, ("299999", "300000", SHA256)),
    "announced_too_long": (Page(data=LONG), 1, ("300001", "300000", SHA256)),
    "announces_more_than_it_sends": (Page(data=SHORT, length=300_000), 3, ("299999", SHA256)),
    "chunks_too_short": (Page(data=SHORT, length="chunked"), 3, ("299999", "300000", SHA256)),
    "chunks_too_long": (Page(data=LONG, length="chunked"), 1, ("300001", "300000", SHA256)),
    "no_length_too_short": (Page(data=SHORT, length=None), 3, ("299999", "300000", SHA256)),
    "server_error": (Page(data=DATA, statuses=[500] * 3), 3, ("HTTP error 500", SHA256)),
    "busy": (Page(data=DATA, statuses=[503, 429, 500]), 3, ("HTTP error 429", SHA256)),
    "gone": (Page(data=DATA, statuses=[410]), 1, ("HTTP error 410", SHA256)),
    "forbidden": (Page(data=DATA, statuses=[403]), 1, ("HTTP error 403", SHA256)),
    "redirect_loop": (Page(location="/file"), 6, ("redirected more than 5 times", SHA256)),
    "to_a_file": (Page(location="file:///etc/hostname"), 1, ("only https and http", SHA256)),
}
"""Page, requests that may be made, words of the error."""


@pytest.mark.parametrize("case", WRONG)
def test_wrong_answer_leaves_nothing(case: str, server: FaultyServer, dest: Path) -> None:
    page, requests, words = WRONG[case]
    server.pages["/file"] = Page(**{**vars(page), "statuses": list(page.statuses), "etag": None})
    text = refused(entry(server), dest)
    assert len(server.asked) == requests
    assert text.count("attempt") <= 3
    assert left(dest) == []
    for word in (server.url("/file"), *words):
        assert word in text


def naive_download(url: str, dest: Path) -> None:
    """Broken twin: a download without checks, straight to the final path."""
    dest.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(OSError), urllib.request.urlopen(url) as reply:
        dest.write_bytes(b"".join(iter(lambda: reply.read1(1 << 16), b"")))


@pytest.mark.parametrize("case", ["other_content", "announced_too_short", "cut"])
def test_download_without_checks_would_be_noticed(
    case: str, server: FaultyServer, dest: Path
) -> None:
    server.pages["/file"] = Page(data=DATA, cuts=[0.5]) if case == "cut" else WRONG[case][0]
    naive_download(server.url("/file"), dest)
    assert dest.exists()  # where `refused` finds nothing
    assert dest.read_bytes() != DATA


def test_error_that_passes_is_mended(server: FaultyServer, dest: Path) -> None:
    server.pages["/file"] = Page(data=DATA, statuses=[503, 500])
    assert fetch(entry(server), dest, patience=QUICK).read_bytes() == DATA
    assert len(server.asked) == 3


def test_nobody_listens(dest: Path) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{reserved.getsockname()[1]}/file"
        card_file = {"name": "a.bin", "urls": [url], "bytes": 1, "sha256": SHA256}
        text = refused(card_file, dest)
    assert text.count("attempt") == 3
    assert "refused" in text


def test_next_address_is_tried_in_order(server: FaultyServer, dest: Path) -> None:
    server.pages |= {"/b": Page(data=OTHER), "/c": Page(data=DATA), "/d": Page(data=DATA)}
    fetch(entry(server, "/a", "/b", "/c", "/d"), dest, patience=QUICK)
    assert dest.read_bytes() == DATA
    assert [asked.path for asked in server.asked] == ["/a", "/b", "/c"]


@pytest.mark.parametrize(
    ("page", "message"),
    [
        (Page(data=DATA, pause=3.0, piece=3000), r"timed out"),
        (Page(data=DATA, pause=0.02, piece=5), r"stalled at \d+ bytes"),
    ],
)
def test_stalled_server_does_not_hold_the_job(
    page: Page, message: str, server: FaultyServer, dest: Path
) -> None:
    server.pages["/file"] = page
    start = time.monotonic()
    text = refused(entry(server), dest, Patience(timeout=0.3, pause=0.01))
    assert time.monotonic() - start < 5
    assert re.search(message, text)
    assert len(server.asked) == 3


def test_file_larger_than_the_disk_is_not_begun(server: FaultyServer, dest: Path) -> None:
    server.pages["/file"] = Page(data=DATA, length=10**18)
    text = refused(entry(server, bytes=None, sha256=None), dest)
    assert re.search(rf"needs {10**18} bytes in .*, where \d+ are free", text)
    assert len(server.asked) == 1
    assert left(dest) == []


@pytest.mark.parametrize("length", [None, "chunked", "true"])
def test_unknown_size(length: str | None, server: FaultyServer, dest: Path) -> None:
    server.pages["/file"] = Page(data=DATA, length=length)
    unknown = entry(server, bytes=None, sha256=None)
    if length is None:
        assert "a cut would go unnoticed" in refused(unknown, dest)
    else:
        assert fetch(unknown, dest, patience=QUICK).read_bytes() == DATA


def test_cut_of_unknown_size_is_noticed_in_chunks(server: FaultyServer, dest: Path) -> None:
    server.pages["/file"] = Page(data=DATA, length="chunked", cuts=[0.5] * 3)
    refused(entry(server, bytes=None, sha256=None), dest)
    assert len(server.asked) == 3


def test_hostile_archive_does_not_reach_its_place(
    server: FaultyServer, dest: Path, tmp_path: Path
) -> None:
    for name, bad in (("bad.tar.gz", [member("../escaped.xyz")]), ("good.tar.gz", [])):
        data = tar(tmp_path / name, bad).read_bytes()
        server.pages[f"/{name}"] = Page(data=data)
    target = dest.with_name("set.tar.gz")
    card_file = {"name": "set.tar.gz", "urls": [server.url("/bad.tar.gz")]}
    text = refused(card_file, target)
    assert "refused as an archive" in text
    assert "../escaped.xyz" in text
    assert left(dest) == []
    card_file["urls"].append(server.url("/good.tar.gz"))
    fetch(card_file, target, patience=QUICK)
    records = json.loads((dest.parent.parent / "lock.json").read_text())
    assert records["set/set.tar.gz"]["inspected"] is True
    assert records["set/set.tar.gz"]["url"].endswith("good.tar.gz")
    assert INNOCENT[1]


# ---- https ---------------------------------------------------------------------------------------


@pytest.fixture
def secure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyServer]:
    """A server with a certificate of its own, which requests is told to trust."""
    if shutil.which("openssl") is None:
        pytest.skip("needs the openssl command to make a certificate")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=loopback", "-keyout", str(key)]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    server = FaultyServer()
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.scheme = "https"
    with serving(server) as running:
        yield running


def test_redirect_from_https_to_http_is_refused(
    secure: FaultyServer, server: FaultyServer, dest: Path
) -> None:
    secure.pages |= {
        "/down": Page(location=server.url("/file")),
        "/there": Page(location="/file"),
        "/file": Page(data=DATA),
    }
    server.pages |= {"/file": Page(data=DATA), "/up": Page(location=secure.url("/file"))}
    text = refused(entry(secure, "/down"), dest)
    assert (
        f"redirected from {secure.url('/down')} to {server.url('/file')}, no longer https" in text
    )
    assert server.asked == []
    fetch(entry(secure, "/there"), dest, patience=QUICK)
    fetch(entry(server, "/up", name="b.bin"), dest.with_name("b.bin"), patience=QUICK)
    assert dest.read_bytes() == DATA


def test_certificate_is_checked(
    secure: FaultyServer, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    secure.pages["/file"] = Page(data=DATA)
    assert "CERTIFICATE_VERIFY_FAILED" in refused(entry(secure), dest)


# ---- the lock file -------------------------------------------------------------------------------


def test_first_fetch_is_recorded_and_later_ones_must_match(
    server: FaultyServer, dest: Path
) -> None:
    unknown = entry(server, bytes=None, sha256=None)
    server.pages["/file"] = Page(data=DATA)
    fetch(unknown, dest, patience=QUICK)
    lock = dest.parent.parent / "lock.json"
    record = json.loads(lock.read_text())["set/a.bin"]
    assert (record["url"], record["bytes"]) == (server.url("/file"), len(DATA))
    assert (record["sha256"], record["inspected"]) == (SHA256, False)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", record["fetched"])
    dest.unlink()
    server.pages["/file"] = Page(data=OTHER)
    text = refused(unknown, dest)
    for words in (SHA256, hashlib.sha256(OTHER).hexdigest(), server.url("/file"),
                  record["fetched"], f"remove 'set/a.bin' from {lock}"):  # fmt: skip
        assert words in text
    lock.write_text("{}")  # on purpose
    assert fetch(unknown, dest, patience=QUICK).read_bytes() == OTHER


def test_lock_file_that_is_none_is_an_error(server: FaultyServer, dest: Path) -> None:
    server.pages["/file"] = Page(data=DATA)
    lock = dest.parent.parent / "lock.json"
    for text in ("{", "[1]", '{"set/a.bin": {}}'):
        lock.parent.mkdir(exist_ok=True)
        lock.write_text(text)
        with pytest.raises(DataError, match=r"lock\.json: not a list of fetched files"):
            fetch(entry(server, bytes=None, sha256=None), dest, patience=QUICK)
        assert not dest.exists()


def test_many_at_once_lose_no_record(server: FaultyServer, tmp_path: Path) -> None:
    server.pages["/file"] = Page(data=DATA)
    names = [f"{number}.bin" for number in range(8)]
    threads = [
        threading.Thread(
            target=fetch,
            args=(entry(server, name=name, bytes=None, sha256=None), tmp_path / "raw/set" / name),
        )
        for name in names
    ]
    run(threads)
    records = json.loads((tmp_path / "raw/lock.json").read_text())
    assert sorted(records) == sorted(f"set/{name}" for name in names)


def run(threads: list[threading.Thread]) -> None:
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


# ---- nothing twice -------------------------------------------------------------------------------


def test_nothing_is_downloaded_twice(server: FaultyServer, tmp_path: Path) -> None:
    server.pages["/file"] = Page(data=DATA, piece=10_000, pause=0.001)
    places = [tmp_path / "raw" / dataset / "a.bin" for dataset in ("one", "one", "two", "three")]
    run([threading.Thread(target=fetch, args=(entry(server), place)) for place in places])
    assert [place.read_bytes() == DATA for place in places] == [True] * 4
    assert len(server.asked) == 1
    records = json.loads((tmp_path / "raw/lock.json").read_text())
    assert {record["url"] for record in records.values()} == {server.url("/file")}
    md5 = hashlib.md5(DATA).hexdigest()
    fetch(entry(server, sha256=None, md5=md5), tmp_path / "raw/four/a.bin")
    fetch(entry(server, sha256=None, bytes=None), tmp_path / "raw/five/a.bin")
    assert len(server.asked) == 1


def test_another_file_of_the_same_name_is_not_taken(server: FaultyServer, tmp_path: Path) -> None:
    server.pages |= {"/file": Page(data=DATA), "/other": Page(data=OTHER)}
    other = entry(server, "/other", sha256=None, bytes=None)
    fetch(other, tmp_path / "raw/one/a.bin")
    fetch(entry(server), tmp_path / "raw/two/a.bin")
    fetch(entry(server, sha256=None, bytes=None), tmp_path / "raw/three/a.bin")
    for dataset, data in (("one", OTHER), ("two", DATA), ("three", DATA)):
        assert (tmp_path / "raw" / dataset / "a.bin").read_bytes() == data


# ---- mirror, offline, progress -------------------------------------------------------------------


def test_mirror_address_comes_first(server: FaultyServer, dest: Path) -> None:
    server.pages |= {"/m/a.bin": Page(data=DATA), "/file": Page(data=DATA)}
    fetch(entry(server), dest, mirror=server.url("/m/"), patience=QUICK)
    assert [asked.path for asked in server.asked] == ["/m/set/a.bin", "/m/a.bin"]
    server.pages["/m/set/b.bin"] = Page(data=OTHER)
    second = entry(server, name="b.bin")
    fetch(second, dest.with_name("b.bin"), mirror=server.url("/m"), patience=QUICK)
    assert server.asked[-1].path == "/file"
    assert dest.with_name("b.bin").read_bytes() == DATA


def test_offline_asks_nobody(server: FaultyServer, dest: Path) -> None:
    text = refused(entry(server), dest, mirror=server.url("/m"), offline=True)
    assert text.count("not tried, offline") == 3
    assert server.asked == []


@pytest.mark.parametrize("known", [True, False])
def test_progress(known: bool, server: FaultyServer, dest: Path) -> None:
    server.pages["/file"] = Page(
        data=DATA, piece=30_000, pause=0.02, length="true" if known else "chunked"
    )
    progress: list[str] = []
    card_file = entry(server, bytes=None, sha256=None)
    fetch(card_file, dest, say=progress.append, patience=Patience(report=0.05))
    assert 2 <= len(progress) <= 6  # 0.2 s or a little more, a line each 0.05 s
    pattern = r"a\.bin: 0\.\d MB, size unknown, \d+\.\d MB/s"
    if known:
        pattern = r"a\.bin: 0\.\d of 0\.3 MB, \d+ %, \d+\.\d MB/s, \d s left"
    assert all(re.fullmatch(pattern, line) for line in progress), progress
    quiet: list[str] = []
    fetch(card_file, dest.with_name("b.bin"), say=quiet.append)
    assert quiet == []  # ten seconds are not over


def test_a_callers_order_of_sources(server: FaultyServer, dest: Path, tmp_path: Path) -> None:
    """Mirror folder, then addresses; a broken mirror copy is told, not taken."""
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/a.bin").write_bytes(OTHER)
    server.pages["/file"] = Page(data=DATA, statuses=[404])
    text = refused(entry(server), dest, mirror=tmp_path / "mirror")
    first, second = itertools.islice((line for line in text.splitlines() if "  - " in line), 2)
    assert hashlib.sha256(OTHER).hexdigest() in first
    assert "404" in second


# ---- what a server sends in place of a file ------------------------------------------------------

INSTEAD = {
    "page": (b"<!DOCTYPE html>\n<html><body>Please log in</body></html>", "an HTML page"),
    "page after blanks": (b"\xef\xbb\xbf \n <HTML>\n<head>", "an HTML page"),
    "page in XML": (b'<?xml version="1.0"?>\n<!DOCTYPE html>\n<html xmlns="x">', "an error page"),
    "error of a bucket": (
        b"<?xml version='1.0'?><Error><Code>AccessDenied</Code>",
        "an error page",
    ),
    "pointer": (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\n", "Git LFS pointer"),
    "nothing": (b"", "an empty file"),
}


@pytest.mark.parametrize("case", INSTEAD)
@pytest.mark.parametrize("known", [True, False])
def test_what_stands_for_a_file_is_neither_kept_nor_locked(
    case: str, known: bool, server: FaultyServer, dest: Path
) -> None:
    content, what = INSTEAD[case]
    server.pages["/bad"], server.pages["/good"] = Page(data=content), Page(data=DATA)
    card_file = entry(server, "/bad", **({} if known else {"bytes": None, "sha256": None}))
    said = refused(card_file, dest)
    assert known or f"/bad: holds {'a ' if 'Git' in what else ''}{what}" in said
    assert left(dest) == []
    assert not (dest.parent.parent / "lock.json").exists()
    # the next address is asked, and its file kept
    card_file["urls"].append(server.url("/good"))
    assert fetch(card_file, dest, patience=QUICK).read_bytes() == DATA


def test_neither_by_hand_nor_from_a_mirror(
    server: FaultyServer, dest: Path, tmp_path: Path
) -> None:
    page = INSTEAD["page"][0]
    card_file = entry(server, bytes=None, sha256=None)
    dest.parent.mkdir(parents=True)
    dest.write_bytes(page)
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/a.bin").write_bytes(page)
    server.pages["/file"] = Page(data=DATA)
    with pytest.raises(FetchError, match=r"holds an HTML page(.|\n)*mirror/a\.bin: holds an HTML"):
        fetch({**card_file, "urls": []}, dest, mirror=tmp_path / "mirror")
    assert fetch(card_file, dest, mirror=tmp_path / "mirror").read_bytes() == DATA


def test_a_page_that_was_locked_once_is_found_out(server: FaultyServer, dest: Path) -> None:
    page = INSTEAD["page"][0]
    dest.parent.mkdir(parents=True)
    dest.write_bytes(page)
    record = record_of(dest, "http://example.org", inspected=False)
    RawLock.of(dest).write("set/a.bin", record)
    server.pages["/file"] = Page(data=DATA)
    card_file = entry(server, bytes=None, sha256=None)
    with pytest.raises(FetchError, match=r"holds an HTML page(.|\n)*remove 'set/a\.bin' from"):
        fetch(card_file, dest, patience=QUICK)
    (dest.parent.parent / "lock.json").unlink()
    assert fetch(card_file, dest, patience=QUICK).read_bytes() == DATA


# ---- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "location",
    ["http://[::1", "http://127.0.0.1:notaport/x", "http://127.0.0.1:99999999/x", "http:///x",
     "http://", "//[", "ftp://127.0.0.1/x", "file:///etc/passwd", "https://", "http://.bad../x",
     "http://exa mple/x", "http://" + "a" * 70 + ".invalid/x", "http://\x01/"],
)  # fmt: skip
def test_a_redirect_to_a_malformed_address_tries_the_next_one(
    location: str, server: FaultyServer, dest: Path
) -> None:
    server.pages["/moved"], server.pages["/file"] = Page(location=location), Page(data=DATA)
    assert fetch(entry(server, "/moved", "/file"), dest, patience=QUICK).read_bytes() == DATA
    assert [one.path for one in server.asked].count("/file") == 1


@pytest.mark.parametrize(
    "url", ["http://[::1", "http://127.0.0.1:x/a", "gopher://a/b", "", "a.bin", "http://\ud800/"]
)
def test_a_malformed_address_of_a_card_tries_the_next_one(
    url: str, server: FaultyServer, dest: Path
) -> None:
    server.pages["/file"] = Page(data=DATA)
    card_file = entry(server, "/file")
    card_file["urls"].insert(0, url)
    assert fetch(card_file, dest, patience=QUICK).read_bytes() == DATA
