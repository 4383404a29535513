# SPDX-License-Identifier: ISC
"""A client of the push API, distribution-spec 1.1.1 "Push": it sends exactly what it is told.

    p = Pusher(daemon.address, "team/app")
    s = p.begin()
    s.patch(b"abc", start=0)
    assert s.put(digest_of(b"abc")).status == 201
"""

import json
import socket

from lib import rawhttp
from lib.image import OCI, digest_of

# Who may push is not the matter of these tests.
EVERYBODY = {"access everybody": {"allow": "pull push delete"}}


def chunked(*parts):
    """The chunked coding of a body of these parts."""
    return b"".join(b"%x\r\n%b\r\n" % (len(p), p) for p in parts if p) + b"0\r\n\r\n"


def values(answer, name):
    """All values of a field, in order."""
    return [v for n, v in answer.fields if n == name.lower()]


def errors(answer):
    """The errors of distribution-spec 1.1.1 "Error Codes", of an answer that is one."""
    assert answer.complete and answer["Content-Type"] == "application/json", answer
    found = json.loads(answer.body)["errors"]
    assert found and all(e["code"] and e["message"] for e in found), found
    return found


def refused(answer, status, code):
    """The detail of an error that must be this one."""
    assert answer.status == status, answer
    assert errors(answer)[0]["code"] == code, answer
    return errors(answer)[0].get("detail")


def begin_request(c, method, path, length, fields=()):
    """The head of a request with a body of this length; None: it is chunked."""
    # The body must not wait until the head is acknowledged.
    c.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    how = ("Transfer-Encoding", "chunked") if length is None else ("Content-Length", length)
    c.request(path, method, [how, *fields])


def open_request(c, method, path, length, fields=()):
    """The same, and wait until the body is waited for: a session is busy from here on."""
    begin_request(c, method, path, length, [("Expect", "100-continue"), *fields])
    got = c.read_head()
    assert got.status == 100, got


def read_answer(c, method="GET"):
    """The next answer that is final."""
    while True:
        got = c.read_head()
        if got.status != 100:
            return c.read_body(got, method)


def call(address, method, path, body=b"", fields=(), timeout=60):
    """One request on a connection of its own. A body that is a list is sent chunked."""
    with rawhttp.Connection(address, timeout) as c:
        is_chunked = isinstance(body, list)
        fields = [*fields, ("Connection", "close")]
        begin_request(c, method, path, None if is_chunked else len(body), fields)
        c.send(chunked(*body) if is_chunked else body)
        return read_answer(c, method)


def with_digest(location, digest):
    return f"{location}{'&' if '?' in location else '?'}digest={digest}"


def range_of(start, data):
    """As distribution-spec 1.1.1 "Pushing a blob in chunks" has it: no unit, inclusive."""
    if start is None or not data:
        return []
    return [("Content-Range", f"{start}-{start + len(data) - 1}")]


class Session:
    """An upload session, followed from Location to Location as the specification wants."""

    def __init__(self, pusher, answer):
        self.pusher = pusher
        self.location = None
        self.take(answer)

    def take(self, answer):
        if answer.status in (202, 204) and answer["Location"]:
            self.location = answer["Location"]
            assert self.location.startswith("/v2/"), self.location
        return answer

    @property
    def id(self):
        return self.location.rsplit("/", 1)[1]

    def call(self, method, body=b"", fields=()):
        return self.take(self.pusher.call(method, self.location, body, fields))

    def patch(self, body, start=None, fields=()):
        return self.call("PATCH", body, [*range_of(start, body), *fields])

    def put(self, digest, body=b"", start=None, fields=()):
        return self.pusher.call("PUT", with_digest(self.location, digest), body,
                                [*range_of(start, body), *fields])

    def status(self):
        return self.call("GET")

    def cancel(self):
        return self.pusher.call("DELETE", self.location)

    def received(self):
        """What the session says that it has, up to the last byte."""
        got = self.status()
        assert got.status == 204, got
        return got["Range"]


class Pusher:
    """A client that pushes to one repository."""

    def __init__(self, address, repository):
        self.address = address
        self.repository = repository

    def path(self, rest):
        return f"/v2/{self.repository}/{rest}"

    def call(self, method, path, body=b"", fields=()):
        return call(self.address, method, path, body, fields)

    def get(self, rest, method="GET", fields=()):
        return rawhttp.get(self.address, self.path(rest), method, fields)

    # --- blobs ---

    def post(self, query="", body=b"", fields=()):
        return self.call("POST", self.path("blobs/uploads/") + query, body, fields)

    def begin(self, query=""):
        got = self.post(query)
        assert got.status == 202, got
        return Session(self, got)

    def blob(self, digest, method="GET", fields=()):
        return self.get(f"blobs/{digest}", method, fields)

    def has_blob(self, digest):
        """As clients ask before they push: 200 or 404, nothing else."""
        got = self.blob(digest, "HEAD")
        assert got.status in (200, 404), got
        return got.status == 200

    def push_blob(self, data, algorithm="sha256"):
        """By POST and PUT; its digest."""
        digest = digest_of(data, algorithm)
        got = self.begin().put(digest, data)
        assert got.status == 201, got
        return digest

    # --- manifests ---

    def put_manifest(self, reference, data, media_type=OCI["manifest"], fields=()):
        return self.call("PUT", self.path(f"manifests/{reference}"), data,
                         [("Content-Type", media_type), *fields])

    def manifest(self, reference, method="GET", fields=()):
        return self.get(f"manifests/{reference}", method, fields)

    def push(self, item, tag=None):
        """All of an image or index; under its digest when there is no tag."""
        for blob in item.all_blobs():
            self.push_blob(blob.data)
        for each in item.all_manifests():
            reference = tag if tag and each is item else each.digest
            got = self.put_manifest(reference, each.data, each.media_type)
            assert got.status == 201, got
        return item

    def remove(self, rest):
        return self.call("DELETE", self.path(rest))


# --- the styles of an upload ---


def begin_for(p, digest):
    """A session that is told the algorithm, where it is not the usual one."""
    algorithm = digest.split(":")[0]
    return p.begin("" if algorithm == "sha256" else f"?digest-algorithm={algorithm}")


def post(p, data, digest):
    return p.post(f"?digest={digest}", data)


def post_chunked(p, data, digest):
    return p.post(f"?digest={digest}", [data])


def post_put(p, data, digest):
    return begin_for(p, digest).put(digest, data)


def post_put_chunked(p, data, digest):
    return begin_for(p, digest).put(digest, [data])


def post_patch_put(p, data, digest):
    """As skopeo does."""
    s = begin_for(p, digest)
    assert s.patch(data).status == 202
    return s.put(digest)


def post_patch_chunked_put(p, data, digest):
    """As Docker does."""
    s = begin_for(p, digest)
    half = len(data) // 2
    assert s.patch([data[:half], data[half:]]).status == 202
    return s.put(digest)


def send_chunks(s, data):
    """Three chunks at most, each with its Content-Range."""
    step = len(data) // 3 + 1
    for start in range(0, max(len(data), 1), step):
        got = s.patch(data[start:start + step], start)
        assert got.status == 202, got


def post_chunks_put(p, data, digest):
    s = begin_for(p, digest)
    send_chunks(s, data)
    return s.put(digest)


def post_chunks_put_last(p, data, digest):
    s = begin_for(p, digest)
    half = len(data) // 2
    send_chunks(s, data[:half])
    return s.put(digest, data[half:], half)


STYLES = (post, post_chunked, post_put, post_put_chunked, post_patch_put,
          post_patch_chunked_put, post_chunks_put, post_chunks_put_last)


# --- lists ---


def next_page(answer):
    """Where the Link of a list leads: a path, or None at the end."""
    link = answer["Link"]
    if link is None:
        return None
    assert link.startswith("</v2/") and link.endswith('>; rel="next"'), link
    return link[1:link.index(">")]


def pages(address, path, limit=100):
    """All pages of a list, as answers."""
    found = []
    while path:
        got = rawhttp.get(address, path)
        assert got.status == 200 and got.complete, got
        found.append(got)
        assert len(found) <= limit, "the pages do not end"
        path = next_page(got)
    return found
