# SPDX-License-Identifier: ISC
"""A static HTTP server whose connections are each limited, as a CDN or a line may limit them.

    paced.py ADDRESS PORT ROOT BYTES_PER_SECOND

The limit is the kernel's own pacing of a TCP connection (SO_MAX_PACING_RATE), so it holds from
the first byte of a connection to its last, whatever number of requests it carries: nginx's
limit_rate would grant each request the bytes of a second at once.
"""
import os
import re
import socket
import socketserver
import sys

SO_MAX_PACING_RATE = 47


class Handler(socketserver.StreamRequestHandler):
    def setup(self):
        super().setup()
        self.request.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, self.server.rate)
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def handle(self):
        while self.answer():
            pass

    def answer(self):
        line = self.rfile.readline().decode("latin-1").split()
        if len(line) != 3:
            return False
        first, last = 0, None
        for field in iter(self.rfile.readline, b"\r\n"):
            asked = re.fullmatch(rb"range: *bytes=(\d+)-(\d*)\r\n", field.lower())
            if asked:
                first, last = int(asked[1]), int(asked[2]) if asked[2] else None
        path = os.path.join(self.server.root, line[1].lstrip("/"))
        try:
            file = open(path, "rb")
        except OSError:
            self.wfile.write(b"HTTP/1.1 404 No\r\nContent-Length: 0\r\n\r\n")
            return True
        with file:
            size = os.fstat(file.fileno()).st_size
            end = size if last is None else min(last + 1, size)
            is_part = first > 0 or last is not None
            kind = self.server.manifest_type if "/manifests/" in path else "application/octet-stream"
            head = [f"HTTP/1.1 {206 if is_part else 200} Paced", "Accept-Ranges: bytes",
                    f"Content-Type: {kind}", f"Content-Length: {end - first}"]
            if is_part:
                head.append(f"Content-Range: bytes {first}-{end - 1}/{size}")
            self.wfile.write(("\r\n".join(head) + "\r\n\r\n").encode())
            while first < end and line[0] == "GET":
                first += os.sendfile(self.request.fileno(), file.fileno(), first, end - first)
        return True


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 128
    manifest_type = "application/vnd.oci.image.manifest.v1+json"

    def handle_error(self, request, client_address):
        """A client that went away is none."""


def main():
    address, port, root, rate = sys.argv[1:]
    server = Server((address, int(port)), Handler)
    server.root, server.rate = root, int(rate)
    server.serve_forever()


if __name__ == "__main__":
    main()
