"""A server on loopback that speaks the Hugging Face hub's protocol and can misbehave."""

import hashlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class Hub:
    """Files of one repository; `cuts` are byte counts after which the next answers break off."""

    prefix: str  # of the addresses of its files, from `/datasets` or the repository on, with the revision
    files: dict[str, bytes] = field(default_factory=dict)
    etags: dict[str, str] = field(default_factory=dict)  # where the stated checksum is not the content's SHA-256
    cuts: list[int] = field(default_factory=list)
    serves_ranges: bool = True
    ranges: list[str | None] = field(default_factory=list)  # the Range header of every GET


class HubHandler(BaseHTTPRequestHandler):
    """`HEAD` and `GET` of the files under the prefix."""

    hub: Hub

    def log_message(self, *arguments: object) -> None:
        """Nothing on the terminal."""

    def _file(self) -> str | None:
        name = self.path.removeprefix(self.hub.prefix)
        if self.path.startswith(self.hub.prefix) and name in self.hub.files:
            return name
        self.send_response(404)
        self.send_header("X-Error-Code", "EntryNotFound")
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def do_HEAD(self) -> None:
        if (name := self._file()) is None:
            return
        content = self.hub.files[name]
        self.send_response(200)
        self.send_header("X-Repo-Commit", self.hub.prefix.split("/")[-2])
        self.send_header("X-Linked-Etag", f'"{self.hub.etags.get(name) or hashlib.sha256(content).hexdigest()}"')
        self.send_header("X-Linked-Size", str(len(content)))
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()

    def do_GET(self) -> None:
        if (name := self._file()) is None:
            return
        content, range_ = self.hub.files[name], self.headers.get("Range")
        self.hub.ranges.append(range_)
        start = int(range_.removeprefix("bytes=").rstrip("-")) if range_ and self.hub.serves_ranges else 0
        self.send_response(206 if start else 200)
        self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        end = start + self.hub.cuts.pop(0) if self.hub.cuts else len(content)
        self.wfile.write(content[start:end])
        self.close_connection = True


@contextmanager
def serving(hub: Hub) -> Iterator[str]:
    """The hub's address while it serves."""
    handler = type("Handler", (HubHandler,), {"hub": hub})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
