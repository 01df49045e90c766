"""Fetching: mirror, package, own file, network; damaged and missing files."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

from georecon.data import fetch as module
from georecon.data.fetch import fetch
from georecon.data.preprocess import source_files
from georecon.errors import FetchError

DATA = b"forty-two molecules" * 1000


def entry(**changes: Any) -> dict[str, Any]:
    known = {"bytes": len(DATA), "sha256": hashlib.sha256(DATA).hexdigest()}
    return {"name": "a.bin", "urls": [], **known, **changes}


class Server(HTTPServer):
    """Serves ``DATA``; /cut stops half-way, /wrong sends other bytes, /flaky fails twice."""

    asked: list[str]


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append(self.path)
        if self.path == "/gone" or (self.path == "/flaky" and len(server.asked) < 3):
            self.send_error(404 if self.path == "/gone" else 503)
            return
        body = b"?" * len(DATA) if self.path == "/wrong" else DATA
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/cut" else body)

    def log_message(self, *args: Any) -> None:
        """Keep test output clean."""


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(module.time, "sleep", lambda seconds: None)
    with Server(("127.0.0.1", 0), Handler) as running:
        running.asked = []
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def url(server: Server, path: str) -> str:
    return f"http://127.0.0.1:{server.server_port}/{path}"


def test_from_mirror_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "mirror/deep").mkdir(parents=True)
    (tmp_path / "mirror/deep/a.bin").write_bytes(DATA)
    dest = tmp_path / "raw/a.bin"
    assert fetch(entry(), dest, mirror=tmp_path / "mirror", offline=True) == dest
    assert dest.read_bytes() == DATA


def test_corrupted_mirror_is_refused_and_nothing_left(tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    (tmp_path / "mirror/a.bin").write_bytes(b"!" + DATA[1:])
    with pytest.raises(FetchError, match=r"mirror/a\.bin: sha256 is .*, expected") as caught:
        fetch(entry(), tmp_path / "raw/a.bin", mirror=tmp_path / "mirror")
    assert "put it at" in str(caught.value)
    assert list((tmp_path / "raw").iterdir()) == []
    (tmp_path / "mirror/a.bin").write_bytes(DATA[:-1])
    with pytest.raises(FetchError, match="holds 18999 bytes, expected 19000"):
        fetch(entry(), tmp_path / "raw/a.bin", mirror=tmp_path / "mirror")


def test_second_copy_in_mirror_is_tried(tmp_path: Path) -> None:
    for folder, data in (("a", b"bad"), ("b", DATA)):
        (tmp_path / "mirror" / folder).mkdir(parents=True)
        (tmp_path / "mirror" / folder / "a.bin").write_bytes(data)
    assert fetch(entry(), tmp_path / "a.bin", mirror=tmp_path / "mirror").read_bytes() == DATA


def test_own_file_and_md5(tmp_path: Path) -> None:
    own = tmp_path / "mine.dat"
    own.write_bytes(DATA)
    md5 = hashlib.md5(DATA).hexdigest()
    fetch(entry(local=str(own), sha256=None, md5=md5), tmp_path / "a.bin", offline=True)
    with pytest.raises(FetchError, match="md5 is"):
        fetch(entry(local=str(own), sha256=None, md5="0" * 32), tmp_path / "b.bin")


def test_existing_file_is_checked_not_trusted(tmp_path: Path) -> None:
    dest = tmp_path / "a.bin"
    dest.write_bytes(b"stale")
    with pytest.raises(FetchError, match=r"a\.bin: holds 5 bytes"):
        fetch(entry(), dest, offline=True)
    dest.write_bytes(DATA)
    assert fetch(entry(), dest, offline=True) == dest


def test_offline_says_what_was_wanted_and_how_to_give_it(tmp_path: Path) -> None:
    card_file = entry(urls=["https://example.org/a.bin"])
    with pytest.raises(FetchError) as caught:
        fetch(card_file, tmp_path / "a.bin", mirror=tmp_path, offline=True)
    text = str(caught.value)
    for part in ("a.bin (19000 bytes, sha256", "holds no a.bin", "example.org", "mirror:"):
        assert part in text
    with pytest.raises(FetchError, match="no source is known"):
        fetch(entry(), tmp_path / "a.bin")


def test_download(tmp_path: Path, server: Server) -> None:
    dest = fetch(entry(urls=[url(server, "ok")]), tmp_path / "deep/a.bin")
    assert dest.read_bytes() == DATA
    assert [path.name for path in dest.parent.iterdir()] == ["a.bin"]


def test_flaky_server_is_asked_again(tmp_path: Path, server: Server) -> None:
    assert fetch(entry(urls=[url(server, "flaky")]), tmp_path / "a.bin").read_bytes() == DATA
    assert len(server.asked) == 3


@pytest.mark.parametrize(
    ("path", "message", "times"),
    [("cut", "attempt 3 of 3", 3), ("wrong", "sha256 is", 1), ("gone", "HTTP Error 404", 1)],
)
def test_failed_download_leaves_nothing(
    tmp_path: Path, server: Server, path: str, message: str, times: int
) -> None:
    with pytest.raises(FetchError, match=message):
        fetch(entry(urls=[url(server, path)]), tmp_path / "raw/a.bin")
    assert list((tmp_path / "raw").iterdir()) == []
    assert len(server.asked) == times


def test_next_address_is_tried(tmp_path: Path, server: Server) -> None:
    urls = [url(server, "gone"), "file:///etc/hostname", url(server, "ok")]
    assert fetch(entry(urls=urls), tmp_path / "a.bin").read_bytes() == DATA


def test_from_package(tmp_path: Path, cards: dict[str, Any]) -> None:
    pytest.importorskip("pandas")
    files = source_files(cards["qm9"])
    try:
        dest = fetch(files["part1"], tmp_path / files["part1"]["name"], offline=True)
    except FetchError as error:
        pytest.skip(str(error))
    assert dest.stat().st_size == files["part1"]["bytes"]
    with pytest.raises(FetchError, match="Python package no_such: not installed"):
        fetch({**files["part1"], "package": "no_such"}, tmp_path / "b.csv", offline=True)
