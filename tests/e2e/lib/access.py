# SPDX-License-Identifier: ISC
"""Who may do what: users with passwords, and clients at other addresses.

    users = PasswordFile(tmp_path / "htpasswd", alice=ALICE)
    daemon = cachalot({}, {**users.options, **rule("team", users="alice", allow="pull push")})
    client = Client(daemon.address, user=("alice", ALICE), source="127.0.0.2")
    assert client.begin_push("team/app").status == 202
"""

import json

from lib import rawhttp
from lib.clients import run
from lib.pusher import begin_request, read_answer
from lib.tokens import basic

# Bad for quoting, for colons and for what is no ASCII.
ALICE = "s3same: \"open\" \\ ünlocked"
BOB = "another-good-password"


class PasswordFile:
    """One that htpasswd keeps."""

    def __init__(self, path, **users):
        self.path = path
        path.touch(0o600)
        for name, password in users.items():
            self.set(name, password)

    def set(self, name, password, cost=5):
        run(["htpasswd", "-B", "-C", cost, "-b", self.path, name, password])

    def remove(self, name):
        run(["htpasswd", "-D", self.path, name])

    @property
    def options(self):
        return {"auth": {"password-file": self.path}}


def rule(name, **said):
    """A section [access NAME]."""
    return {f"access {name}": said}


def bearer(token):
    return "Bearer " + token


class Client:
    """One at an address, who says who he is at each request (or not)."""

    def __init__(self, address, user=None, token=None, source=None):
        self.address = address
        self.source = source
        self.fields = []
        if user:
            self.fields = [("Authorization", basic(*user))]
        elif token:
            self.fields = [("Authorization", bearer(token))]

    def call(self, method, path, body=b"", fields=()):
        with rawhttp.Connection(self.address, source=self.source) as c:
            begin_request(c, method, path, len(body),
                          [*self.fields, *fields, ("Connection", "close")])
            c.send(body)
            return read_answer(c, method)

    def get(self, path, fields=()):
        return self.call("GET", path, fields=fields)

    # What takes the right to pull, to push and to delete, and changes nothing.

    def tags(self, repository):
        return self.get(f"/v2/{repository}/tags/list")

    def begin_push(self, repository):
        return self.call("POST", f"/v2/{repository}/blobs/uploads/")

    def delete(self, repository):
        return self.call("DELETE", f"/v2/{repository}/blobs/sha256:{'0' * 64}")

    def rights(self, repository):
        """What it may do there: letters of "pull", "push" and "delete"; an upper-case one
        when a login is asked for in place of it."""
        letters = ""
        for letter, got in (("l", self.tags(repository)), ("s", self.begin_push(repository)),
                            ("d", self.delete(repository))):
            assert got.status in (200, 202, 404, 401, 403), got
            if got.status == 401:
                assert got["WWW-Authenticate"], got
                letters += letter.upper()
            elif got.status != 403:
                letters += letter
        return letters

    def token(self, path="/-/token", fields=()):
        """One of cachalot's own."""
        got = self.get(path, fields)
        assert got.status == 200, got
        return json.loads(got.body)["token"]
