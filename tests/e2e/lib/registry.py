# SPDX-License-Identifier: ISC
"""A real docker-registry as upstream; its access log is what tests count."""

import re
import shutil
from dataclasses import dataclass

from lib import image, rawhttp
from lib.process import Process, free_port
from lib.wait import until

LINE = re.compile(r'"(?P<method>[A-Z]+) (?P<path>\S+) HTTP/1\.[01]" (?P<status>\d+) (?P<sent>\d+)')


@dataclass
class Request:
    method: str
    path: str
    status: int
    sent: int


class Registry(Process):
    def __init__(self, directory):
        super().__init__("docker-registry", directory)
        self.address = ("127.0.0.1", free_port())
        self.markers = 0
        self.skip = 0
        self.start()

    def start(self, more=""):
        """With `more` in its configuration, such as who may pull."""
        config = self.directory / "registry.yml"
        config.write_text(
            "version: 0.1\n"
            "log: {level: error}\n"
            f"storage: {{filesystem: {{rootdirectory: {self.directory}/storage}}}}\n"
            f"http: {{addr: '127.0.0.1:{self.address[1]}', secret: e2e}}\n{more}")
        self.spawn([shutil.which("docker-registry"), "serve", config])
        self.wait_accepting(self.address)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.address[1]}"

    def push(self, item, repository, tag):
        image.push(self.address, item, repository, tag)
        self.forget()
        return item

    def untag(self, repository, tag):
        """As when its owner deletes the tag; without a word over HTTP."""
        shutil.rmtree(self.directory / "storage/docker/registry/v2/repositories" / repository /
                      "_manifests/tags" / tag)

    def ask(self, path):
        return rawhttp.get(self.address, path)

    def lines(self):
        return [m for m in map(LINE.search, self.stdout_path.read_text().splitlines()) if m]

    def settled(self):
        """Every line of requests that ended before this call."""
        self.markers += 1
        marker = f"/v2/?marker={self.markers}"
        self.ask(marker)
        until("the registry logged the marker",
              lambda: any(m["path"] == marker for m in self.lines()))
        return [m for m in self.lines() if "?marker=" not in m["path"]]

    def forget(self):
        """Count from here."""
        self.skip = len(self.settled())

    def asked(self, method=None, where=""):
        return [Request(m["method"], m["path"], int(m["status"]), int(m["sent"]))
                for m in self.settled()[self.skip:]
                if where in m["path"] and method in (None, m["method"])]

    def count(self, method=None, where=""):
        return len(self.asked(method, where))

    def bytes_sent(self, where="/blobs/"):
        return sum(r.sent for r in self.asked("GET", where))

    def close(self):
        self.stop()
