# SPDX-License-Identifier: ISC
"""The fault suite: the daemon of the end-to-end tests, in a world that breaks.

The fixtures of tests/e2e are here too. How much is done is said by the environment:
    FAULTS_LEVEL   1 (the default: minutes), 2 (a night), or any number between and beyond
    FAULTS_SEED    another course of what is random
"""

import importlib.util
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

sys.dont_write_bytecode = True
HERE = Path(__file__).parent
E2E = HERE.parent / "e2e"
sys.path[:0] = [str(HERE), str(E2E)]

# Under a name of its own: this file is "conftest" already.
spec = importlib.util.spec_from_file_location("e2e_conftest", E2E / "conftest.py")
e2e_conftest = importlib.util.module_from_spec(spec)
sys.modules[spec.name] = e2e_conftest
spec.loader.exec_module(e2e_conftest)
from e2e_conftest import *  # noqa: E402, F401, F403
from e2e_conftest import pytest_collection_modifyitems, pytest_configure  # noqa: E402, F401

pytest.register_assert_rewrite("rig", "invariants", "operations")

import tally  # noqa: E402
from rig import Rig  # noqa: E402
from shim import build  # noqa: E402


@pytest.fixture(scope="session")
def shim_library(tmp_path_factory):
    return build(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def memory_dir():
    """A directory in memory where that can be: there are hundreds of runs."""
    above = "/dev/shm" if Path("/dev/shm").is_dir() else None
    path = Path(tempfile.mkdtemp(prefix="cachalot-faults-", dir=above))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture
def rig(shim_library, memory_dir, hub, closing):
    """rig(options): a daemon under the shim, with an upstream."""

    def make(options=None, **more):
        return closing(Rig(shim_library, memory_dir, hub, options, **more))

    return make


def pytest_terminal_summary(terminalreporter):
    for line in tally.lines():
        terminalreporter.write_line(line)
