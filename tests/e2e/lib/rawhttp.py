# SPDX-License-Identifier: ISC
"""An HTTP/1.1 client that sends exact bytes and sees exactly what came back."""

import socket


class Response:
    def __init__(self, status, version, fields):
        self.status = status
        self.version = version
        self.fields = fields  # [(name in lower case, value)], in order
        self.body = b""
        self.complete = False  # the body had the length that was announced

    def __getitem__(self, name):
        """The one value of a field; None when absent, an error when repeated."""
        values = [v for n, v in self.fields if n == name.lower()]
        assert len(values) <= 1, f"{name} repeated: {values}"
        return values[0] if values else None

    @property
    def length(self):
        value = self["content-length"]
        return None if value is None else int(value)

    def __repr__(self):
        return f"<{self.status} {self.fields} body={self.body[:200]!r} ({len(self.body)})>"


class Closed(Exception):
    """The peer closed before a whole response head."""


class Connection:
    """One connection to (host, port) or to a Unix socket's path."""

    def __init__(self, address, timeout=30, receive_buffer=None, source=None):
        family = socket.AF_UNIX
        if isinstance(address, tuple):
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.socket = socket.socket(family, socket.SOCK_STREAM)
        self.socket.settimeout(timeout)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source:
            self.socket.bind((source, 0))
        self.socket.connect(address if isinstance(address, tuple) else str(address))
        self.buffer = b""

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.close()

    def close(self):
        self.socket.close()

    def secure(self, context, host=None):
        """From here on within TLS; `host` is asked for, and must be in the certificate when
        the context checks that. Returns self."""
        assert not self.buffer, self.buffer
        self.socket = context.wrap_socket(self.socket, server_hostname=host)
        return self

    def send(self, data):
        self.socket.sendall(data)

    def request(self, path, method="GET", fields=(), version="HTTP/1.1"):
        lines = [f"{method} {path} {version}"]
        if not any(n.lower() == "host" for n, _ in fields):
            lines.append("Host: cachalot.test")
        lines += [f"{n}: {v}" for n, v in fields]
        self.send(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))

    def receive(self):
        """More bytes into the buffer; False at the end of the stream."""
        data = self.socket.recv(1 << 20)
        self.buffer += data
        return bool(data)

    def read_head(self):
        while b"\r\n\r\n" not in self.buffer:
            if not self.receive():
                raise Closed(f"end of stream after {self.buffer!r}")
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        lines = head.decode("latin-1").split("\r\n")
        version, status, _ = lines[0].split(" ", 2)
        fields = []
        for line in lines[1:]:
            name, value = line.split(":", 1)
            fields.append((name.lower(), value.strip()))
        return Response(int(status), version, fields)

    def read_some(self, count):
        """Exactly `count` bytes of what follows, less at the end of the stream."""
        while len(self.buffer) < count and self.receive():
            pass
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def read_body(self, response, method="GET"):
        """Read the body that belongs to a head. Stays short when the peer closed."""
        if method == "HEAD" or response.status in (204, 304):
            response.complete = True
            return response
        parts = []
        left = response.length
        while left > 0 and (self.buffer or self.receive()):
            parts.append(self.buffer[:left])
            self.buffer = self.buffer[left:]
            left -= len(parts[-1])
        response.body = b"".join(parts)
        response.complete = left == 0
        return response

    def read_response(self, method="GET"):
        return self.read_body(self.read_head(), method)

    def at_end(self):
        """Whether the peer has closed cleanly and nothing more came."""
        return not self.buffer and not self.receive()


def get(address, path, method="GET", fields=(), timeout=30):
    """One request on a connection of its own."""
    with Connection(address, timeout) as c:
        c.request(path, method, [*fields, ("Connection", "close")])
        return c.read_response(method)


def head(address, path, fields=(), timeout=30):
    return get(address, path, "HEAD", fields, timeout)


def exchange(address, data, timeout=30):
    """Send bytes, read responses until the peer closes: [Response]."""
    responses = []
    with Connection(address, timeout) as c:
        c.send(data)
        while True:
            try:
                responses.append(c.read_response())
            except Closed:
                return responses
