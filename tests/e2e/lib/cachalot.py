# SPDX-License-Identifier: ISC
"""A cachalotd of the test: its configuration, log, metrics and cache directory."""

import hashlib
import json
import os
import pwd
import signal
import subprocess
from pathlib import Path

from lib import rawhttp
from lib.process import Process, free_port
from lib.wait import until

BUILD = Path(os.environ.get("CACHALOT_BUILD",
                            Path(__file__).parent / "../../../build")).resolve()
DAEMON = BUILD / "cachalotd"
COMMAND = BUILD / "cachalot"

SANITIZER_WORDS = ("AddressSanitizer", "ThreadSanitizer", "LeakSanitizer", "runtime error:")


class Cachalot(Process):
    """Listeners: `address` (registry) and `mirror` (docker.io, when it is configured).

    `upstreams` is {registry: url, list of urls, or {option: value}}; `options` are
    {section: {option: value}} that are merged over the defaults of the tests.
    """

    def __init__(self, directory, upstreams, options=None, name="cachalotd", cache=None):
        super().__init__(name, directory)
        self.cache = Path(cache or directory / "cache")
        self.config_path = directory / f"{name}.ini"
        self.address = ("127.0.0.1", free_port())
        self.mirror = ("127.0.0.1", free_port()) if "docker.io" in upstreams else None
        self.admin_socket = directory / f"{name}.sock"
        self.sections = {
            # Who runs the tests owns their directories, even where there is a user cachalot.
            "cache": {"path": self.cache, "user": pwd.getpwuid(os.geteuid()).pw_name,
                      "workers": 2},
            "log": {"format": "json", "level": "debug"},
            "admin": {"socket": self.admin_socket},
            "listener main": {"role": "registry", "address": "%s:%d" % self.address},
        }
        if self.mirror:
            self.sections["listener hub"] = {"role": "mirror", "upstream": "docker.io",
                                             "address": "%s:%d" % self.mirror}
        for registry, said in upstreams.items():
            if not isinstance(said, dict):
                said = {"url": said}
            self.sections[f"upstream {registry}"] = {"connect-timeout": "2s",
                                                     "stall-timeout": "5s", **said}
        for section, said in (options or {}).items():
            self.sections.setdefault(section, {}).update(said)
        self.write_config()

    def write_config(self):
        lines = []
        for section, said in self.sections.items():
            lines.append(f"[{section}]")
            for option, value in said.items():
                if isinstance(value, (list, tuple)):
                    value = " ".join(map(str, value))
                lines.append(f"{option} = {value}")
        self.config_path.write_text("\n".join(lines) + "\n")

    # --- life ---

    def launch(self, env=None, wrap=(), **options):
        """Start without waiting."""
        assert DAEMON.exists(), f"{DAEMON} is not built"
        self.spawn([*wrap, DAEMON, "-f", "-c", self.config_path], env, **options)
        return self

    def start(self, **options):
        self.launch(**options)
        until("cachalotd is healthy", lambda: self.check_alive() and self.healthy(), 30)
        return self

    def healthy(self):
        try:
            return self.get("/-/healthz", timeout=2).status == 200
        except (OSError, rawhttp.Closed):
            return False

    def hup(self):
        """Reload; returns when the daemon has taken or refused it."""
        def done():
            m = self.metrics()
            return m["cachalot_reloads_total"] + m["cachalot_reload_failures_total"]
        before = done()
        self.send_signal(signal.SIGHUP)
        until("the daemon took the configuration or refused it", lambda: done() > before)

    def close(self):
        """The end of each test: it drains, says nothing bad, and the store is sound."""
        if self.child is None:
            return
        if self.running():
            assert self.stop() == 0, self.stderr_tail()
        complaints = self.stderr_path.read_text(errors="replace")
        assert not any(word in complaints for word in SANITIZER_WORDS), complaints[-8000:]
        self.check_store()

    # --- asking it ---

    def get(self, path, method="GET", fields=(), timeout=30, mirror=False):
        return rawhttp.get(self.mirror if mirror else self.address, path, method, fields, timeout)

    def head(self, path, fields=(), timeout=30, mirror=False):
        return self.get(path, "HEAD", fields, timeout, mirror)

    def connect(self, **options):
        return rawhttp.Connection(self.address, **options)

    def metrics(self):
        text = self.get("/-/metrics").body.decode()
        lines = [line for line in text.splitlines() if line and not line.startswith("#")]
        return {name: float(value) for name, value in (x.rsplit(" ", 1) for x in lines)}

    def metric(self, name):
        return self.metrics()[f"cachalot_{name}"]

    def wait_metric(self, name, value, timeout=20):
        """Wait until a metric is at least `value`."""
        until(f"{name} is {value}", lambda: self.metric(name) >= value, timeout)

    def wait_idle(self):
        """Until no fetch is under way and what was fetched is published."""
        until("no fetch is under way", lambda: self.metric("fetches") == 0)

    def command_line(self, *arguments):
        """How `cachalot` is run against this daemon."""
        return [COMMAND, "-c", self.config_path, *map(str, arguments)]

    def command(self, *arguments):
        """Run `cachalot` against this daemon."""
        return subprocess.run(self.command_line(*arguments), capture_output=True, text=True,
                              timeout=60, check=False)

    def status(self):
        """What `cachalot status` tells programs."""
        done = self.command("status", "--format", "json")
        assert done.returncode == 0, done
        return json.loads(done.stdout)

    def upstream_status(self, registry):
        """The same of one upstream."""
        return next(x for x in self.status()["daemon"]["upstreams"] if x["registry"] == registry)

    # --- its log ---

    def log_lines(self):
        lines = self.stderr_path.read_text(errors="replace").splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    def access_log(self):
        """Access lines of content: what tests themselves ask under /-/ is left out."""
        return [line for line in self.log_lines()
                if "method" in line and line.get("door") != "admin"]

    def wait_access(self, count):
        """That many access lines, exactly."""
        until(f"{count} access lines", lambda: len(self.access_log()) >= count)
        lines = self.access_log()
        assert len(lines) == count, lines
        return lines

    # --- its cache directory ---

    def blob_path(self, digest):
        algorithm, value = digest.split(":")
        return self.cache / "blobs" / algorithm / value

    def holds(self, digest):
        return self.blob_path(digest).exists()

    def stored(self):
        """Digests of the files in blobs/."""
        return {f"{p.parent.name}:{p.name}" for p in self.cache.glob("blobs/*/*")}

    def partials(self):
        return sorted(self.cache.glob("partial/*"))

    def check_store(self):
        """Every published file has the digest of its name."""
        for path in self.cache.glob("blobs/*/*"):
            with open(path, "rb") as f:
                found = hashlib.file_digest(f, path.parent.name).hexdigest()
            assert found == path.name, f"{path} has the digest {found}"
