# SPDX-License-Identifier: ISC
"""A disk that fails is not hidden: the daemon serves what it has, and is not ready."""

import errno

import shim
from lib import image
from lib.image import ACCEPT
from lib.paths import manifest
from lib.wait import until


def test_not_ready_when_the_disk_has_failed(rig, hub):
    """After a failed fsync nothing more is written: /-/readyz says why, what is held is served,
    and the status says the same."""
    held = hub.hold(image.image("held", (1000,)), "library/app", "1")
    hub.hold(image.image("next", (1000,)), "library/app", "2")
    daemon = rig().start()
    assert daemon.get(manifest("library/app", "1"), fields=ACCEPT).body == held.data
    daemon.wait_metric("manifests_stored_total", 1)
    assert daemon.get("/-/readyz").status == 200
    daemon.shim.arm(shim.SYNC, errno.EIO, at=1, count=shim.EVER)
    daemon.get(manifest("library/app", "2"), fields=ACCEPT)
    got = until("it is not ready", lambda: (x := daemon.get("/-/readyz")).status == 503 and x)
    assert b"the cache directory could not be written" in got.body
    assert daemon.get("/-/healthz").status == 200
    assert daemon.get(manifest("library/app", held.digest), fields=ACCEPT).body == held.data
    said = daemon.get("/-/api/status").body
    assert b'"ready":false,"reason":"the cache directory' in said
    assert b"nothing more is written" in daemon.get("/-/api/events").body
    daemon.shim.disarm()
