# SPDX-License-Identifier: ISC
"""A blob that the scripted upstream holds, and what may become of it."""

from lib import image
from lib.image import noise
from lib.paths import blob

SIZE = 1_100_000
DATA = noise(SIZE, "sample")
DIGEST = image.digest_of(DATA)
BLOB = blob("library/app", DIGEST)
OTHER = noise(SIZE, "other")  # of the same length


def check_never_wrong(got):
    """An error, a body that is cut short, or the true one."""
    if got.status == 200 and got.complete:
        assert got.body == DATA
    else:
        assert got.status in (200, 502, 503, 504), got


def check_heals(daemon, upstream):
    """Nothing wrong is stored, and when the upstream is well all is served."""
    daemon.wait_idle()
    assert daemon.stored() <= {DIGEST}
    upstream.heal()
    got = daemon.get(BLOB)
    assert got.status == 200 and got.complete and got.body == DATA
    assert daemon.get("/-/healthz").status == 200
