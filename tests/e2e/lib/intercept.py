# SPDX-License-Identifier: ISC
"""The intercepting doors of a daemon, as their clients see them; and an internet of a few
registries, with their real names."""

import json
import re
import ssl

from lib import rawhttp
from lib.process import free_port

ON_LOOPBACK = "127.0.0.1"


def options(address=None, role="intercept", name="door", **more):
    """Of a daemon with such a listener; returns (address, options)."""
    address = address or (ON_LOOPBACK, free_port())
    return address, {f"listener {name}": {"role": role, "address": "%s:%d" % address, **more}}


class Door:
    """The proxy at `address` of the daemon, and TLS of those who trust its authority."""

    def __init__(self, daemon, address):
        self.daemon = daemon
        self.address = address

    # --- the authority ---

    def ca(self):
        """What clients are given to trust."""
        got = self.daemon.get("/-/setup/ca.crt")
        assert got.status == 200 and got["Content-Type"] == "application/x-x509-ca-cert"
        return got.body.decode()

    def ca_file(self):
        path = self.daemon.directory / "trusted.crt"
        path.write_text(self.ca())
        return path

    def context(self, **more):
        """Of a client that trusts it and nobody else."""
        context = ssl.create_default_context(cadata=self.ca())
        for name, value in more.items():
            setattr(context, name, value)
        return context

    # --- CONNECT ---

    def raw(self, **more):
        return rawhttp.Connection(self.address, **more)

    def connect(self, target, fields=()):
        """CONNECT; the connection and the answer (without a body when it is 200)."""
        c = self.raw()
        c.request(target, "CONNECT", [("Host", target), *fields])
        head = c.read_head()
        if head.status != 200:
            c.read_body(head)
        return c, head

    def open(self, host, context=None, sni=None):
        """Within TLS to the host."""
        c, head = self.connect(f"{host}:443")
        assert head.status == 200, head
        return c.secure(context or self.context(), sni or host)

    def ask(self, host, path, method="GET", fields=(), context=None):
        """One request by CONNECT and TLS, as of the host itself."""
        with self.open(host, context) as c:
            c.request(path, method, [("Host", host), ("Connection", "close"), *fields])
            return c.read_response(method)

    def error(self, target):
        """What a CONNECT that is refused is told; the connection ends when that is said."""
        c, head = self.connect(target)
        with c:
            assert head["connection"] != "close" or c.at_end()
            assert head.status >= 500 or head["connection"] == "close"
        said = json.loads(head.body)["errors"][0] if head.body else {}
        return head.status, said.get("message", "") + " " + str(said.get("detail", ""))


class DnsDoor(Door):
    """The same where the name leads to us: TLS at once."""

    def open(self, host, context=None, sni=None):
        c = self.raw()
        return c.secure(context or self.context(), sni or host)


def messages(daemon, pattern):
    """Lines of its log that match."""
    return [line["message"] for line in daemon.log_lines()
            if re.search(pattern, line.get("message", ""))]
