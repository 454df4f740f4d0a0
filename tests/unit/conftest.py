"""As much of the S3 API as the object store uses, in memory: a stand-in for a server, speaking HTTP, that can fail."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

import pytest


@pytest.fixture
def s3_server() -> Iterator[Any]:
    """An empty S3 server with its `address`; `faults` are what it answers next instead, one a request."""
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), SmallS3)
    server.contents, server.checksums, server.faults = {}, {}, []
    server.address = f"s3+http://key:secret@127.0.0.1:{server.server_port}/bucket"
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def s3_address(s3_server: Any) -> str:
    """Address of an empty S3 server."""
    return str(s3_server.address)


class SmallS3(BaseHTTPRequestHandler):
    """Keys to bytes in `server.contents`; one bucket, no versions, rules or encryption, no check of signatures."""

    server: Any
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if self.headers.get("X-Amz-Content-Sha256", "").startswith("STREAMING"):
            data = _unchunk(data)
        if self._fails():
            return
        if self._lacks():
            self._refuse(501, "NotImplemented")
            return
        if self._key():
            self.server.contents[self._key()] = data
            self.server.checksums[self._key()] = self.headers.get("x-amz-meta-sha256")
        self._answer(200, headers={"ETag": '"x"'})

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        key = self._key()
        if self._fails():
            return
        if self._lacks():
            self._refuse(501, "NotImplemented")
        elif "location" in query:
            self._answer(200, b"<LocationConstraint/>")
        elif not key and self.command == "HEAD":
            self._answer(200)
        elif not key:
            prefix = query.get("prefix", [""])[0]
            keys = sorted(one for one in self.server.contents if one.startswith(prefix))
            entries = "".join(
                f"<Contents><Key>{escape(one)}</Key><Size>1</Size><ETag>x</ETag>"
                "<LastModified>2026-01-01T00:00:00.000Z</LastModified></Contents>"
                for one in keys
            )
            text = f"<ListBucketResult><Name>bucket</Name><IsTruncated>false</IsTruncated>{entries}</ListBucketResult>"
            self._answer(200, text.encode())
        elif key in self.server.contents:
            dated = {"ETag": '"x"', "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT"}
            if (checksum := self.server.checksums.get(key)) is not None:
                dated["x-amz-meta-sha256"] = checksum
            self._answer(200, self.server.contents[key], dated)
        else:
            self._refuse(404, "NoSuchKey")

    def do_DELETE(self) -> None:
        self.server.contents.pop(self._key(), None)
        self._answer(204)

    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).lstrip("/").partition("/")[2]

    def _lacks(self) -> bool:
        query = parse_qs(urlsplit(self.path).query, keep_blank_values=True)
        wishes = {"versioning", "lifecycle", "encryption", "uploads"} & set(query)
        return bool(wishes) or "x-amz-server-side-encryption" in self.headers

    def _fails(self) -> bool:
        """Answer with the next fault, if there is one: a status, a code of S3's, `hang up`, or half of the answer."""
        query = urlsplit(self.path).query
        if not self.server.faults or "location" in query:
            return False
        fault = self.server.faults.pop(0)
        if fault == "cut":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"x" * 500)
            self.close_connection = True
        elif fault == "hang up":
            self.close_connection = True
        elif fault == "503":
            self._refuse(503, "SlowDown")
        else:
            self._refuse(400, fault)
        return True

    def _refuse(self, status: int, code: str) -> None:
        self._answer(status, f"<Error><Code>{code}</Code><Key>{escape(self._key())}</Key></Error>".encode())

    def _answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        if body.startswith(b"<"):
            self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        pass


def _unchunk(data: bytes) -> bytes:
    whole, rest = b"", data
    while rest:
        head, _, rest = rest.partition(b"\r\n")
        size = int(head.split(b";")[0], 16)
        whole, rest = whole + rest[:size], rest[size + 2 :]
    return whole
