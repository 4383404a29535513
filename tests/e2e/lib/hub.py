# SPDX-License-Identifier: ISC
"""A scripted registry: it serves what it holds, counts what it was asked, and each
fault is a switch.

    hub = Hub(); hub.hold(image, "library/app", "1")
    hub.fault("/blobs/", truncate_after=1000, times=1)
    ...
    assert hub.count("GET", "/blobs/") == 2
"""

import json
import select
import socket
import threading
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

from lib.image import digest_of
from lib.process import free_port
from lib.wait import until

INDEX_TYPE = "application/vnd.oci.image.index.v1+json"


class Gate:
    """Holds a body after some bytes until it is opened."""

    def __init__(self, after=0):
        self.after = after
        self.reached = threading.Event()
        self.opened = threading.Event()

    def wait_reached(self, timeout=20):
        assert self.reached.wait(timeout), "the hub was not asked up to its gate"

    def open(self):
        self.opened.set()


@dataclass
class Fault:
    """What is done to an answer whose path contains `where`."""

    where: str
    method: str = None
    range: str = None            # only requests whose Range begins so
    above: int = None            # only when more are being answered at once
    times: int = None            # None: always
    # in place of an answer
    close: bool = False          # without a byte
    silent: bool = False         # accept, never answer
    status: int = None           # an error of this status
    retry_after: str = None
    raw: bytes = None            # these bytes, then the end
    redirect: str = None         # to this URL
    redirect_status: int = 307
    # in the head
    before: bytes = b""          # these bytes first
    say: int = None              # this status, and all else as it would be
    content_type: str = None
    fields: tuple = ()           # further ones, (name, value)
    digest: str = None           # Docker-Content-Digest; "" leaves it out
    etag: str = '"0123456789abcdef"'  # of a blob
    length: int = None           # Content-Length says so
    no_length: bool = False      # body until close
    chunked: bool = False
    ignore_range: bool = False   # 200 and the whole
    content_range: str = None
    # in the body
    body: bytes = None           # in place of the true one, before ranges
    extra: bytes = b""           # after the true one
    truncate_after: int = None   # bytes of this answer's body, then FIN
    reset: bool = False          # RST in place of FIN
    half_close: bool = False     # FIN, and the connection is kept
    stall_after: int = None      # bytes, then nothing more
    drip: int = None             # bytes a tenth of a second
    gate: Gate = None
    used: int = 0


@dataclass
class Request:
    method: str
    path: str
    query: dict
    fields: dict
    pairs: list = field(default_factory=list)  # the query, with what is repeated
    body: bytes = b""
    status: int = 0
    sent: int = 0                # bytes of the body that were sent
    at_once: int = 0             # of this path being answered when it came, itself too
    is_done: bool = False
    certificate: dict = None     # the peer's, when it showed one

    @property
    def range(self):
        return self.fields.get("range")


@dataclass
class Answer:
    status: int
    fields: list = field(default_factory=list)
    body: bytes = b""


def error(status, code, retry_after=None):
    body = json.dumps({"errors": [{"code": code, "message": f"hub says {code}"}]}).encode()
    fields = [("Content-Type", "application/json")]
    if retry_after is not None:
        fields.append(("Retry-After", retry_after))
    return Answer(status, fields, body)


class Hub:
    def __init__(self, host="127.0.0.1", tls=None, port=None, line=None):
        self.tls = tls           # an ssl.SSLContext: speaks https
        self.line = line         # lib/line.py: what carries its bodies
        if line:
            line.hubs.append(self)
        self.address = (host, port or free_port(host))
        self.manifests = {}      # (repository, tag or digest) -> (media type, bytes)
        self.blobs = {}          # (repository, digest) -> bytes
        self.referrers = {}      # (repository, digest) -> [descriptor]
        self.fields = []         # of every answer: (name, value)
        self.requests = []
        self.faults = []
        self.lock = threading.Lock()
        self.stopping = threading.Event()
        self.connections = set()
        self.listener = None
        self.up()

    @property
    def url(self):
        host, port = self.address
        scheme = "https" if self.tls else "http"
        return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"

    # --- what it holds ---

    def hold(self, image, repository, tag=None):
        """Everything of an image or index, under a tag as well when given one."""
        for blob in image.all_blobs():
            self.blobs[repository, blob.digest] = blob.data
        for manifest in image.all_manifests():
            self.manifests[repository, manifest.digest] = (manifest.media_type, manifest.data)
        if tag:
            self.manifests[repository, tag] = (image.media_type, image.data)
        return image

    def hold_blob(self, repository, data, algorithm="sha256"):
        digest = digest_of(data, algorithm)
        self.blobs[repository, digest] = data
        return digest

    def untag(self, repository, tag):
        del self.manifests[repository, tag]

    def tags(self, repository):
        return sorted(ref for repo, ref in self.manifests if repo == repository and ":" not in ref)

    # --- faults ---

    def fault(self, where, **switches):
        f = Fault(where, **switches)
        with self.lock:
            self.faults.append(f)
        return f

    def heal(self):
        with self.lock:
            for f in self.faults:
                if f.gate:
                    f.gate.open()
            self.faults.clear()

    def gate(self, where, after=0, **switches):
        """Hold bodies of this path after some bytes; returns the gate."""
        g = Gate(after)
        self.fault(where, gate=g, method="GET", **switches)
        return g

    def take_fault(self, request):
        target = request.path
        with self.lock:
            for f in self.faults:
                if f.where not in target or f.method not in (None, request.method):
                    continue
                if f.range and not (request.range or "").startswith(f.range):
                    continue
                if f.above is not None and request.at_once <= f.above:
                    continue
                if f.times is None or f.used < f.times:
                    f.used += 1
                    return f
        return Fault("")

    # --- what it was asked ---

    def asked(self, method=None, where=""):
        with self.lock:
            return [r for r in self.requests
                    if where in r.path and method in (None, r.method)]

    def count(self, method=None, where=""):
        return len(self.asked(method, where))

    def forget(self):
        """Count from here."""
        with self.lock:
            self.requests.clear()

    def most_at_once(self, where):
        return max(r.at_once for r in self.asked(where=where))

    def bytes_sent(self, where="/blobs/"):
        return sum(r.sent for r in self.asked("GET", where))

    # --- life ---

    def up(self):
        family = socket.AF_INET6 if ":" in self.address[0] else socket.AF_INET
        self.stopping.clear()
        self.listener = socket.socket(family, socket.SOCK_STREAM)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listener.bind(self.address)
        self.listener.listen(512)
        threading.Thread(target=self.accept, args=(self.listener,), daemon=True).start()

    def down(self):
        """From here on connections are refused; those that are open are cut."""
        self.stopping.set()
        if self.listener is not None:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()
            self.listener = None
        self.cut()

    def cut(self):
        with self.lock:
            open_now = list(self.connections)
        for c in open_now:
            try:
                c.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass

    def close(self):
        self.heal()
        if self.listener is not None:
            self.down()

    def accept(self, listener):
        while True:
            try:
                c, _ = listener.accept()
            except OSError:
                return
            with self.lock:
                self.connections.add(c)
            threading.Thread(target=self.converse, args=(c,), daemon=True).start()

    def converse(self, c):
        c.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        buffer = b""
        try:
            if self.tls:
                c = self.secure(c)
            while not self.stopping.is_set():
                while b"\r\n\r\n" not in buffer:
                    data = c.recv(65536)
                    if not data:
                        return
                    buffer += data
                    if buffer[:1] == b"\x16":
                        return  # a client tries TLS first
                head, buffer = buffer.split(b"\r\n\r\n", 1)
                request = self.parse(head.decode("latin-1"))
                length = int(request.fields.get("content-length", 0))
                while len(buffer) < length:
                    data = c.recv(65536)
                    if not data:
                        return
                    buffer += data
                request.body, buffer = buffer[:length], buffer[length:]
                if self.tls:
                    request.certificate = c.getpeercert() or None
                if not self.serve(c, request):
                    return
        except OSError:
            return
        finally:
            with self.lock:
                self.connections.discard(c)
            c.close()

    def secure(self, c):
        with self.lock:
            self.connections.discard(c)
        c = self.tls.wrap_socket(c, server_side=True)
        with self.lock:
            self.connections.add(c)
        return c

    # --- one request; true when the connection goes on ---

    def parse(self, head):
        lines = head.split("\r\n")
        method, target, _ = lines[0].split(" ", 2)
        parts = urlsplit(target)
        fields = {}
        for line in lines[1:]:
            name, value = line.split(":", 1)
            fields[name.lower()] = value.strip()
        pairs = parse_qsl(parts.query)
        return Request(method, parts.path, dict(pairs), fields, pairs)

    def serve(self, c, request):
        with self.lock:
            self.requests.append(request)
            request.at_once = sum(r.path == request.path and not r.is_done for r in self.requests)
        try:
            return self.serve_with(c, request, self.take_fault(request))
        finally:
            request.is_done = True

    def serve_with(self, c, request, f):
        if f.close:
            return False
        if f.raw is not None:
            c.sendall(f.raw)
            return False
        if f.silent:
            self.hold_open(c)
            return False
        answer = self.answer(request, f)
        request.status = answer.status = f.say or answer.status
        return self.send(c, request, answer, f)

    def answer(self, request, f):
        if f.redirect is not None:
            return Answer(f.redirect_status, [("Location", f.redirect)])
        if f.status:
            return error(f.status, {429: "TOOMANYREQUESTS", 404: "MANIFEST_UNKNOWN",
                                    401: "UNAUTHORIZED", 403: "DENIED"}.get(f.status, "UNKNOWN"),
                         f.retry_after)
        path = request.path
        if path.rstrip("/") == "/v2":
            return Answer(200, [("Content-Type", "application/json")], b"{}")
        for kind, handler in (("/manifests/", self.manifest), ("/blobs/", self.blob),
                              ("/referrers/", self.referrer)):
            if kind in path:
                repository, reference = path[len("/v2/"):].split(kind, 1)
                return handler(request, f, repository, reference)
        if path.endswith("/tags/list"):
            return self.tag_list(request, path[len("/v2/"):-len("/tags/list")])
        return error(404, "NAME_UNKNOWN")

    def manifest(self, request, f, repository, reference):
        held = self.manifests.get((repository, reference))
        if held is None:
            return error(404, "MANIFEST_UNKNOWN")
        media_type, data = held
        digest = digest_of(data) if f.digest is None else f.digest
        fields = [("Content-Type", f.content_type or media_type)]
        if digest:
            fields += [("Docker-Content-Digest", digest), ("ETag", f'"{digest}"')]
        return Answer(200, fields, data if f.body is None else f.body)

    def blob(self, request, f, repository, digest):
        data = self.blobs.get((repository, digest))
        if data is None:
            return error(404, "BLOB_UNKNOWN")
        if f.body is not None:
            data = f.body
        fields = [("Content-Type", f.content_type or "application/octet-stream"),
                  ("Accept-Ranges", "bytes"), ("ETag", f.etag)]
        name = digest if f.digest is None else f.digest
        if name:
            fields.append(("Docker-Content-Digest", name))
        if request.range is None or f.ignore_range:
            return Answer(200, fields, data)
        first, last = request.range.removeprefix("bytes=").split("-")
        start = int(first)
        end = min(int(last) + 1 if last else len(data), len(data))
        if start >= len(data):
            return Answer(416, [*fields, ("Content-Range", f"bytes */{len(data)}")])
        said = f.content_range or f"bytes {start}-{end - 1}/{len(data)}"
        return Answer(206, [*fields, ("Content-Range", said)], data[start:end])

    def tag_list(self, request, repository):
        names = self.tags(repository)
        if not names:
            return error(404, "NAME_UNKNOWN")
        fields = [("Content-Type", "application/json")]
        last = request.query.get("last")
        rest = [n for n in names if last is None or n > last]
        if "n" in request.query:
            page = rest[:int(request.query["n"])]
            if page and len(page) < len(rest):
                fields.append(("Link", f"</v2/{repository}/tags/list?last={page[-1]}"
                                       f"&n={request.query['n']}>; rel=\"next\""))
            rest = page
        return Answer(200, fields, json.dumps({"name": repository, "tags": rest}).encode())

    def referrer(self, request, f, repository, digest):
        found = self.referrers.get((repository, digest))
        if found is None:
            return error(404, "NOT_FOUND")
        fields = [("Content-Type", INDEX_TYPE)]
        wanted = request.query.get("artifactType")
        if wanted:
            found = [d for d in found if d.get("artifactType") == wanted]
            fields.append(("OCI-Filters-Applied", "artifactType"))
        index = {"schemaVersion": 2, "mediaType": INDEX_TYPE, "manifests": found}
        return Answer(200, fields, json.dumps(index).encode())

    # --- sending, with what is wrong in it ---

    def send(self, c, request, answer, f):
        body = answer.body + f.extra
        length = len(body) if f.length is None else f.length
        fields = [*answer.fields, *self.fields, *f.fields]
        if f.chunked:
            fields.append(("Transfer-Encoding", "chunked"))
        elif not f.no_length:
            fields.append(("Content-Length", str(length)))
        is_last = request.fields.get("connection", "").lower() == "close"
        if is_last:
            fields.append(("Connection", "close"))
        head = [f"HTTP/1.1 {answer.status} Scripted"]
        head += [f"{name}: {value}" for name, value in fields]
        c.sendall(f.before + ("\r\n".join(head) + "\r\n\r\n").encode("latin-1"))
        if request.method == "HEAD":
            return not is_last
        limit = len(body)
        for bound in (f.truncate_after, f.stall_after):
            limit = limit if bound is None else min(limit, bound)
        self.send_body(c, request, body[:limit], f)
        if f.stall_after is not None:
            self.hold_open(c)
            return False
        if f.half_close:
            c.shutdown(socket.SHUT_WR)
            self.hold_open(c)
            return False
        if limit < len(body) and f.reset:
            c.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        is_whole = limit == len(body) and not f.no_length and f.length is None
        return is_whole and not is_last

    def send_body(self, c, request, body, f):
        view = memoryview(body)
        step = f.drip or 64 * 1024
        at = 0
        while at < len(view):
            end = min(at + step, len(view))
            if f.gate and not f.gate.opened.is_set():
                if at >= f.gate.after:
                    f.gate.reached.set()
                    f.gate.opened.wait()
                else:
                    end = min(end, f.gate.after)
            if f.chunked:
                c.sendall(b"%x\r\n" % (end - at) + view[at:end] + b"\r\n")
            else:
                c.sendall(view[at:end])
            request.sent += end - at
            if self.line:
                self.line.carry(end - at, self)
            at = end
            if f.drip and self.stopping.wait(0.1):
                return
        if f.chunked:
            c.sendall(b"0\r\n\r\n")

    def hold_open(self, c):
        """Say nothing until the peer has closed."""
        while not self.stopping.is_set():
            if select.select([c], [], [], 0.1)[0]:
                if not c.recv(65536):
                    return

    def wait_count(self, count, method=None, where="", timeout=20):
        until(f"the hub was asked {count} times for {method} {where}",
              lambda: self.count(method, where) >= count, timeout)
