# SPDX-License-Identifier: ISC
"""A CONNECT proxy that keeps what it was asked, and what went through in the clear."""

import base64
import socket
import threading

from lib.process import free_port


class Tunnel:
    def __init__(self, user=None, password=None):
        self.address = ("127.0.0.1", free_port())
        self.wanted = None
        if user:
            self.wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        self.refuse = None       # a status in place of 200
        self.names = {}          # name -> address, as the proxy resolves
        self.heads = []          # of requests to the proxy itself
        self.sent = b""          # what clients sent through it
        self.lock = threading.Lock()
        self.listener = socket.create_server(self.address, backlog=64)
        threading.Thread(target=self.accept, daemon=True).start()

    @property
    def url(self):
        return "http://%s:%d" % self.address

    @property
    def targets(self):
        return [head.split(" ")[1] for head in self.heads]

    def close(self):
        if self.listener.fileno() >= 0:
            self.listener.shutdown(socket.SHUT_RDWR)
            self.listener.close()

    def accept(self):
        while True:
            try:
                c, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        with c:
            data = b""
            while b"\r\n\r\n" not in data:
                more = c.recv(65536)
                if not more:
                    return
                data += more
            head, rest = data.split(b"\r\n\r\n", 1)
            with self.lock:
                self.heads.append(head.decode("latin-1"))
            status = self.judge(head.decode("latin-1"))
            if status != 200:
                c.sendall(b"HTTP/1.1 %d Refused\r\nX-Proxy: yes\r\nContent-Length: 0\r\n\r\n"
                          % status)
                return
            host, port = head.split(b" ")[1].decode().rsplit(":", 1)
            host = host.strip("[]")
            try:
                far = socket.create_connection((self.names.get(host, host), int(port)), timeout=20)
            except OSError:
                c.sendall(b"HTTP/1.1 503 Unreachable\r\nContent-Length: 0\r\n\r\n")
                return
            c.sendall(b"HTTP/1.1 200 Connected\r\nX-Proxy: yes\r\nContent-Length: 7\r\n\r\n")
            with far:
                back = threading.Thread(target=self.copy, args=(far, c, False), daemon=True)
                back.start()
                if rest:
                    far.sendall(rest)
                self.copy(c, far, True)
                back.join()

    def judge(self, head):
        if not head.startswith("CONNECT "):
            return 405
        if self.refuse:
            return self.refuse
        fields = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
        if self.wanted and fields.get("Proxy-Authorization") != self.wanted:
            return 407
        return 200

    def copy(self, source, to, keep):
        try:
            while data := source.recv(65536):
                if keep:
                    with self.lock:
                        self.sent += data
                to.sendall(data)
            to.shutdown(socket.SHUT_WR)
        except OSError:
            pass
