# SPDX-License-Identifier: ISC
"""The cachalot command beside a daemon."""

import json

import pytest

from lib import image
from lib.image import ACCEPT
from lib.paths import HUB, blob, manifest


@pytest.fixture
def item(hub):
    return hub.hold(image.image("command", (4000,)), "library/app", "1")


@pytest.fixture
def daemon(hub, item, cachalot):
    d = cachalot({HUB: hub.url})
    d.get(manifest("library/app", "1"), fields=ACCEPT)
    for each in item.all_blobs():
        d.get(blob("library/app", each.digest))
    d.wait_metric("blobs_stored", len(item.all_blobs()))
    d.wait_metric("manifests_stored", 1)
    return d


def test_status(daemon):
    """`cachalot status` tells people how it goes, and programs in JSON."""
    done = daemon.command("status")
    assert done.returncode == 0 and done.stdout, done
    done = daemon.command("status", "--format", "json")
    assert done.returncode == 0, done
    assert isinstance(json.loads(done.stdout), dict)


def test_ls(daemon, item):
    """`cachalot ls` lists what is held, by its full name, with its digest."""
    done = daemon.command("ls")
    assert done.returncode == 0 and "docker.io/library/app" in done.stdout, done
    done = daemon.command("ls", "--format", "json")
    assert done.returncode == 0, done
    assert item.digest in done.stdout and "docker.io/library/app" in done.stdout
    json.loads(done.stdout)


def test_without_a_daemon(daemon):
    """status without a daemon fails and says so; ls reads the directory."""
    daemon.stop()
    done = daemon.command("status")
    assert done.returncode == 1 and done.stderr, done
    done = daemon.command("ls")
    assert done.returncode == 0 and "docker.io/library/app" in done.stdout, done


@pytest.mark.parametrize("arguments, code", [
    (["frobnicate"], 2), (["status", "--no-such"], 2), (["ls", "--format", "yaml"], 2), ([], 2)])
def test_usage(daemon, arguments, code):
    """Usage errors are 2, with a word of help on standard error."""
    done = daemon.command(*arguments)
    assert done.returncode == code and done.stderr, done


def test_help(daemon):
    """--help lists the commands."""
    done = daemon.command("--help")
    assert done.returncode == 0 and "status" in done.stdout and "ls" in done.stdout
