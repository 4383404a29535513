# SPDX-License-Identifier: ISC
"""A daemon under the shim, and what it has acknowledged."""

import os
import signal
import subprocess

import invariants
import powercut
import tally
from lib import rawhttp
from lib.cachalot import Cachalot
from lib.image import ACCEPT
from lib.paths import HUB
from lib.pusher import EVERYBODY
from lib.wait import until
from shim import Shim

SECRET = "s3cret-of-the-upstream"
DESERVED = {0, 1, 2}  # how a program may end by itself: well, or with a complaint


class Rig(Cachalot):
    """The cache is on `disk`, which breaks; the log and the settings are not. What a client was
    promised is kept in `promised`; check() holds the daemon to it."""

    def __init__(self, library, directory, hub, options=None, disk=None, bundles=False,
                 record=None, name="cachalotd"):
        said = {"cache": {"drain-timeout": "5s"}, "log": {"format": "text", "level": "info"},
                **EVERYBODY}
        for section, values in (options or {}).items():
            said[section] = {**said.get(section, {}), **values}
        self.disk = disk or directory / "disk"
        self.disk.mkdir(exist_ok=True)
        self.bundles = directory if bundles else self.disk  # where archives are: elsewhere
        password = directory / "password"
        password.write_text(SECRET + "\n")
        password.chmod(0o600)
        super().__init__(directory, {HUB: {"url": hub.url, "retries": 1, "tag-ttl": "0s",
                                           "username": "robot", "visibility": "public",
                                           "password-file": password}},
                         said, name, self.disk / "cache")
        self.hub = hub
        self.shim = Shim(library, directory, self.disk, self.stderr_path, record)
        self.deserved = set(DESERVED)
        self.failed_commands = 0
        self.promised = {}  # a path, or a digest that the index has: bytes; None: it is deleted

    def launch(self, env=None, wrap=(), **options):
        return super().launch({**self.shim.environment(), **(env or {})}, wrap, **options)

    # --- asking, while anything may break ---

    def ask(self, path, method="GET", fields=(), timeout=20):
        """The answer; None when the connection was closed before it."""
        try:
            return self.get(path, method, fields, timeout)
        except (OSError, rawhttp.Closed) as why:
            assert not isinstance(why, TimeoutError), f"no answer to {method} {path}"
            return None

    def settle(self):
        """Until nothing is under way, or the daemon has ended."""
        def is_settled():
            if self.child.poll() is not None:
                return True
            got = self.ask("/-/metrics")
            return got is None or b"\ncachalot_fetches 0\n" in b"\n" + got.body
        until("nothing is under way", is_settled)

    def broken_command(self, *arguments):
        """The command under the shim: its status; when it failed, it said why."""
        done = subprocess.run(self.command_line(*arguments), capture_output=True, text=True,
                              timeout=60, check=False,
                              env={**os.environ, **self.shim.environment()})
        assert done.returncode >= 0 or done.returncode in self.deserved, done
        assert done.returncode <= 0 or done.stderr.strip(), done
        self.failed_commands += done.returncode > 0
        return done.returncode

    # --- ends and beginnings ---

    def end(self, how):
        """By a signal, or as it was: the status must be one that is deserved."""
        status = self.stop(how)
        assert status in {*self.deserved, -how}, (status, self.stderr_tail())
        if status == -signal.SIGKILL:
            tally.add("kills survived")
        return status

    def restart(self, how=signal.SIGTERM):
        self.end(how)
        self.start()

    def promise(self, what, data):
        """Somebody was told so."""
        self.promised[what] = data
        if self.shim.record:
            powercut.mark(self.shim.record, what)

    def check(self):
        """All invariants that do not depend on what was done."""
        recorded = invariants.check_index(self)
        invariants.check_answers(self)
        invariants.check_secrets(self, [SECRET])
        for what, data in self.promised.items():
            if not what.startswith("/"):
                assert what in recorded, f"taken, and not in the index: {what}"
                continue
            got = self.ask(what, fields=ACCEPT)
            assert got, f"no answer: {what}"
            if data is None:
                assert got.status == 404, f"deleted, and still there: {what}"
            else:
                assert got.status == 200 and got.complete and got.body == data, (what, got)

    def close(self):
        self.shim.disarm()
        super().close()
