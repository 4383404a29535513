# SPDX-License-Identifier: ISC
"""Fixtures. Everything that is started here ends here."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.dont_write_bytecode = True
sys.path.insert(0, str(Path(__file__).parent))
pytest.register_assert_rewrite("lib")

from lib import isolate  # noqa: E402
from lib.cachalot import Cachalot  # noqa: E402
from lib.disk import mount  # noqa: E402
from lib.hub import Hub  # noqa: E402
from lib.paths import HUB  # noqa: E402
from lib.registry import Registry  # noqa: E402
from lib.sample import DATA  # noqa: E402


def pytest_configure(config):
    config.not_isolated = isolate.enter()


def pytest_report_header(config):
    if config.not_isolated:
        return f"no namespaces ({config.not_isolated}): tests that need them are left out"
    return "in a network namespace of its own"


def pytest_collection_modifyitems(config, items):
    if not config.not_isolated:
        return
    for item in items:
        if item.get_closest_marker("clients") or item.get_closest_marker("mounts"):
            item.add_marker(pytest.mark.skip(reason=f"no namespaces: {config.not_isolated}"))


@pytest.fixture
def closing():
    """Call with what has close(); the last one ends first."""
    kept = []

    def keep(x):
        kept.append(x)
        return x

    yield keep
    failures = []
    for x in reversed(kept):
        try:
            x.close()
        except AssertionError as failure:
            failures.append(failure)
    if failures:
        raise failures[0]


@pytest.fixture
def hub(closing):
    """A scripted upstream."""
    return closing(Hub())


@pytest.fixture
def registry(closing, tmp_path):
    """A real docker-registry."""
    return closing(Registry(tmp_path))


@pytest.fixture
def cachalot(closing, tmp_path, request):
    """cachalot(upstreams, options): a running daemon."""

    def make(upstreams, options=None, start=True, **more):
        daemon = closing(Cachalot(tmp_path, upstreams, options, **more))
        if start:
            daemon.start()
        return daemon

    return make


@pytest.fixture
def upstream(hub):
    """A scripted upstream with the blob of lib/sample.py."""
    hub.hold_blob("library/app", DATA)
    return hub


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 24 MiB."""
    path = tmp_path / "small"
    path.mkdir()
    mount(path, "-t", "tmpfs", "-o", "size=24m")
    yield path
    subprocess.run(["umount", "--lazy", path], check=True)


@pytest.fixture
def impatient(upstream, cachalot):
    """A daemon that gives up soon."""
    return cachalot({HUB: {"url": upstream.url, "retries": 2, "stall-timeout": "1s",
                           "connect-timeout": "2s", "tag-ttl": "0s"}})


@pytest.fixture(scope="session", autouse=True)
def no_proxies():
    """Clients must not go by way of the proxy of the machine that runs the tests."""
    for name in list(os.environ):
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            del os.environ[name]
