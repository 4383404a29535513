# SPDX-License-Identifier: ISC
"""tools/bootstrap run, as the README has it."""

import subprocess
from pathlib import Path

import pytest

from lib import cachalot, rawhttp
from lib.process import Process

BOOTSTRAP = Path(__file__).parents[2] / "tools/bootstrap"


class Bootstrap(Process):
    def close(self):
        assert self.stop() == 0, self.stderr_tail()


@pytest.mark.clients
def test_run(closing, tmp_path):
    """A bare "run" serves on ports 5000 and 5001, the command sees it, SIGTERM ends it."""
    daemon = closing(Bootstrap("bootstrap", tmp_path))
    daemon.spawn([BOOTSTRAP, "run", tmp_path / "var"], {"CACHALOT_BUILD": str(cachalot.BUILD)})
    for port in (5000, 5001):
        daemon.wait_accepting(("127.0.0.1", port), 120)
        assert rawhttp.get(("127.0.0.1", port), "/v2/").status == 200
    for verb in ("status", "ls"):
        subprocess.run([cachalot.COMMAND, "-c", tmp_path / "var/cachalot.ini", verb], check=True,
                       timeout=60)
