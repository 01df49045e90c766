"""A web server on loopback that misbehaves as told, over real sockets."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

CHANGED = formatdate(1_500_000_000, usegmt=True)


@dataclass(kw_only=True)
class Page:
    """How one address answers.

    Args:
        data: body.
        etag: sent with the body; None for no validator at all.
        ranges: whether Range is served; ``if_range``: whether If-Range is honoured.
        shift: bytes by which a served range starts too early.
        cuts: for each request in turn, the fraction of its body after which the connection is cut.
        statuses: for each request in turn, an error status in place of the body.
        location: redirect to there.
        length: Content-Length sent; None sends none, "true" the right one, "chunked" in chunks.
        pause: seconds between pieces of ``piece`` bytes.
    """

    data: bytes = b""
    etag: str | None = '"one"'
    ranges: bool = True
    if_range: bool = True
    shift: int = 0
    cuts: list[float] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    location: str | None = None
    length: int | str | None = "true"
    pause: float = 0.0
    piece: int = 1 << 20


@dataclass
class Asked:
    """One request that came in."""

    path: str
    range: str | None
    if_range: str | None


class FaultyServer(ThreadingHTTPServer):
    """Serves ``pages`` by path; ``asked`` lists what came in."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.pages: dict[str, Page] = {}
        self.asked: list[Asked] = []
        self.sent = 0
        self.scheme = "http"

    def url(self, path: str) -> str:
        """Address of a page."""
        return f"{self.scheme}://127.0.0.1:{self.server_port}{path}"


@contextlib.contextmanager
def serving(server: FaultyServer) -> Iterator[FaultyServer]:
    """Serve until the block ends."""
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    server: FaultyServer

    def do_GET(self) -> None:
        page = self.server.pages.get(self.path)
        range_, if_range = self.headers.get("Range"), self.headers.get("If-Range")
        self.server.asked.append(Asked(self.path, range_, if_range))
        if page is None or page.statuses:
            self.send_error(404 if page is None else page.statuses.pop(0))
            return
        if page.location is not None:
            self.send_response(302)
            self.send_header("Location", page.location)
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        start = 0
        if range_ and page.ranges and (if_range == page.etag or not page.if_range):
            start = max(int(range_.removeprefix("bytes=").removesuffix("-")) - page.shift, 0)
        self._head(page, start, partial=bool(start))
        self._body(page, page.data[start:])

    def _head(self, page: Page, start: int, *, partial: bool) -> None:
        self.send_response(206 if partial else 200)
        if page.etag is not None:
            self.send_header("ETag", page.etag)
        if partial:
            total = len(page.data)
            self.send_header("Content-Range", f"bytes {start}-{total - 1}/{total}")
        if page.length == "chunked":
            self.protocol_version = "HTTP/1.1"
            self.send_header("Transfer-Encoding", "chunked")
        elif page.length is not None:
            length = len(page.data) - start if page.length == "true" else page.length
            self.send_header("Content-Length", str(length))
        self.end_headers()

    def _body(self, page: Page, body: bytes) -> None:
        cut = page.cuts.pop(0) if page.cuts else None
        body = body if cut is None else body[: int(cut * len(body))]
        try:
            for start in range(0, len(body), page.piece):
                piece = body[start : start + page.piece]
                chunk = b"%x\r\n%b\r\n" % (len(piece), piece)
                self.wfile.write(chunk if page.length == "chunked" else piece)
                self.server.sent += len(piece)
                time.sleep(page.pause)
            if cut is None and page.length == "chunked":
                self.wfile.write(b"0\r\n\r\n")
            if cut is not None:
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:  # the client has gone away
            pass
        self.close_connection = True

    def log_message(self, *args: Any) -> None:
        """Keep test output clean."""
