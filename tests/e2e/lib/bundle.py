# SPDX-License-Identifier: ISC
"""Bundles between two daemons: the commands, and tars made by hand."""

import io
import subprocess
import tarfile

from lib.image import ACCEPT
from lib.paths import HUB, blob, manifest
from lib.wait import until

# How a daemon is launched that has no network but its own loopback.
ALONE = ("unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh")


def succeed(daemon, *arguments):
    done = daemon.command(*arguments)
    assert done.returncode == 0, done
    return done


def export(daemon, *arguments):
    return succeed(daemon, "export", *arguments)


def import_(daemon, *arguments):
    return succeed(daemon, "import", *arguments)


def carry(near, far, path, *references):
    export(near, "-o", path, *references)
    return import_(far, path)


def have(daemon, path, *options, force=False):
    """Write its receipt; returns the path."""
    assert force or not path.exists()
    succeed(daemon, "have", "-o", path, *options)
    return path


def pull_all(daemon, item, repository, reference, registry=HUB):
    """Pull all of an image or index, until the daemon has stored it."""
    before = daemon.stored()
    answer = daemon.get(manifest(repository, reference, registry), fields=ACCEPT)
    assert answer.status == 200 and answer.body == item.data, answer
    for each in item.all_manifests():
        daemon.get(manifest(repository, each.digest, registry), fields=ACCEPT)
    for each in item.all_blobs():
        assert daemon.get(blob(repository, each.digest, registry)).body == each.data
    wait_recorded(daemon, item)
    assert before <= daemon.stored()


def wait_recorded(daemon, item):
    """Until the index has all of it: a receipt names what is recorded."""
    wanted = {x.digest for x in (*item.all_manifests(), *item.all_blobs())}

    def recorded():
        done = daemon.command("have")
        assert done.returncode == 0, done
        return wanted <= set(done.stdout.splitlines())

    until("all of it is stored", recorded)


def listing(path):
    """The names in a tar, in order."""
    with tarfile.open(path) as tar:
        return tar.getnames()


def tar_bytes(entries):
    """A tar of (name, data) pairs."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in entries:
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))
    return out.getvalue()


def keys(directory, name):
    """An Ed25519 key pair: the paths of both parts."""
    private, public = directory / f"{name}.key", directory / f"{name}.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", private], check=True,
                   capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", private, "-pubout", "-out", public], check=True,
                   capture_output=True)
    return private, public
