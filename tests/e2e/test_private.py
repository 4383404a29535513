# SPDX-License-Identifier: ISC
"""Private stays private: content that a client's own credentials opened is served
from the store only to clients that the upstream accepted for that repository."""

import pytest

from lib import image
from lib.hub import Hub
from lib.image import ACCEPT, digest_of, noise
from lib.paths import HUB, blob, manifest
from lib.private import PrivateHub
from lib.tokens import TokenServer
from lib.windows import foreign_layer, windows_image

SECRET = "acme/secret"
OPEN = "library/app"
ALICE = [("Authorization", "Bearer alice-0123456789")]
BOB = [("Authorization", "Bearer bob-0123456789")]


@pytest.fixture
def hub(closing):
    return closing(PrivateHub(closing(TokenServer(anonymous=False))))


@pytest.fixture
def secret(hub):
    """An image that only alice may pull."""
    hub.accepted[SECRET] = {ALICE[0][1]}
    return hub.hold(image.image("private", (200_000,)), SECRET, "1")


def upstream_of(hub, **options):
    return {"url": hub.url, "realm-hosts": "%s:%d" % hub.tokens.address, "retries": 0, **options}


@pytest.fixture
def daemon(hub, cachalot):
    return cachalot({HUB: upstream_of(hub, **{"tag-ttl": "1h", "proof-ttl": "1h"})})


def layer_of(item):
    return item.layers[0]


def copies(hub, item):
    """How often the layer crossed the line."""
    return sum(r.sent for r in hub.asked("GET", layer_of(item).digest) if r.status == 200) / len(
        layer_of(item).data)


def pull(daemon, item, fields, repository=SECRET, **more):
    """Tag, manifest by digest and layer; the three statuses."""
    answers = [
        daemon.get(manifest(repository, "1"), fields=[*ACCEPT, *fields], **more),
        daemon.get(manifest(repository, item.digest), fields=[*ACCEPT, *fields], **more),
        daemon.get(blob(repository, layer_of(item).digest), fields=fields, **more),
    ]
    for got, data in zip(answers, (item.data, item.data, layer_of(item).data)):
        assert got.status != 200 or got.body == data
    return [got.status for got in answers]


def test_who_may_pull(hub, daemon, secret):
    """Alice pulls with her own credentials, and again from the store. Bob and an
    anonymous client are refused just as by the registry, although every byte is
    held; the line carries the layer once."""
    assert pull(daemon, secret, ALICE) == [200, 200, 200]
    assert pull(daemon, secret, ALICE) == [200, 200, 200]
    assert pull(daemon, secret, BOB) == [401, 401, 401]
    assert pull(daemon, secret, []) == [401, 401, 401]
    assert copies(hub, secret) == 1


def test_blob_first(hub, daemon, secret):
    """A layer alone, asked before anything else is known of its repository."""
    path = blob(SECRET, layer_of(secret).digest)
    assert daemon.get(path).status == 401
    assert daemon.get(path, fields=ALICE).body == layer_of(secret).data
    daemon.wait_idle()
    assert daemon.head(path, fields=ALICE).status == 200
    assert daemon.head(path, fields=BOB).status == 401
    assert daemon.get(path, fields=BOB).status == 401
    assert copies(hub, secret) == 1


def test_challenge_is_passed_on(hub, daemon, secret):
    """The registry's own challenge reaches the client, for it to log in there; a
    mirror never challenges: its client would answer with what is not for us."""
    got = daemon.get(manifest(SECRET, "1"), fields=ACCEPT)
    assert got.status == 401 and got["WWW-Authenticate"] == hub.challenge(SECRET)
    assert b"UNAUTHORIZED" in got.body
    got = daemon.get(f"/v2/{SECRET}/manifests/1", fields=ACCEPT, mirror=True)
    assert got.status == 403 and got["WWW-Authenticate"] is None


def test_proof_lasts(hub, daemon, secret):
    """Within proof-ttl alice is not asked for again: the line is quiet."""
    pull(daemon, secret, ALICE)
    daemon.wait_idle()
    hub.forget()
    assert pull(daemon, secret, ALICE) == [200, 200, 200]
    assert hub.count() == 0


def test_proof_expires(hub, cachalot, secret):
    """With no proof-ttl each request is shown to the registry, by HEAD; when it no
    longer accepts alice, neither does cachalot."""
    daemon = cachalot({HUB: upstream_of(hub, **{"proof-ttl": "0s"})})
    pull(daemon, secret, ALICE)
    daemon.wait_idle()
    hub.forget()
    assert pull(daemon, secret, ALICE) == [200, 200, 200]
    assert hub.count("GET") == 0 and hub.count("HEAD") == 3
    hub.accepted[SECRET] = set()
    assert pull(daemon, secret, ALICE) == [401, 401, 401]


def test_revoked(hub, cachalot, secret):
    """Whoever the registry refuses gets nothing stale either, though a proof was fresh
    and the manifest is held."""
    daemon = cachalot({HUB: upstream_of(hub, **{"tag-ttl": "0s"})})
    assert pull(daemon, secret, ALICE) == [200, 200, 200]
    hub.accepted[SECRET] = set()
    got = daemon.get(manifest(SECRET, "1"), fields=[*ACCEPT, *ALICE])
    assert got.status == 401 and secret.data not in got.body


def test_upstream_down(hub, daemon, secret):
    """While the registry is down, who has a proof is served; who has none is told
    that it could not be asked, not that there is nothing."""
    pull(daemon, secret, ALICE)
    daemon.wait_idle()
    hub.down()
    assert pull(daemon, secret, ALICE) == [200, 200, 200]
    assert pull(daemon, secret, BOB) == [502, 502, 502]
    assert pull(daemon, secret, []) == [502, 502, 502]


def test_offline_grace(hub, cachalot, secret):
    """offline-grace lets an old proof count while the registry cannot be asked."""
    daemon = cachalot({HUB: upstream_of(hub, **{"proof-ttl": "0s", "offline-grace": "1h"})})
    pull(daemon, secret, ALICE)
    daemon.wait_idle()
    hub.down()
    assert pull(daemon, secret, ALICE) == [200, 200, 200]
    assert pull(daemon, secret, BOB) == [502, 502, 502]


def test_another_repository(hub, daemon, secret):
    """Access is by repository and digest: the secret layer is not to be had through
    an open repository that does not have it."""
    other = hub.hold(image.image("open", (1000,)), OPEN, "1")
    pull(daemon, secret, ALICE)
    daemon.wait_idle()
    path = blob(OPEN, layer_of(secret).digest)
    assert daemon.get(path).status == 404
    assert daemon.head(path).status == 404
    assert daemon.get(path, fields=ALICE).status == 404
    assert daemon.get(manifest(OPEN, secret.digest), fields=ACCEPT).status == 404
    assert pull(daemon, other, [], OPEN) == [200, 200, 200]


def test_shared_layer(hub, daemon, secret):
    """A layer that an open repository has too is public once its registry says so:
    one HEAD, and no second copy."""
    pull(daemon, secret, ALICE)
    daemon.wait_idle()
    layer = layer_of(secret)
    hub.blobs[OPEN, layer.digest] = layer.data
    hub.forget()
    assert daemon.get(blob(OPEN, layer.digest)).body == layer.data
    assert hub.count("HEAD") == 1 and hub.count("GET") == 0


def test_public_is_not_asked_with_credentials(hub, daemon):
    """Credentials of a client are not shown to the registry for what is public, and
    public content is served to everybody."""
    item = hub.hold(image.image("public", (5000,)), OPEN, "1")
    assert pull(daemon, item, ALICE, OPEN) == [200, 200, 200]
    assert pull(daemon, item, [], OPEN) == [200, 200, 200]
    assert not any("authorization" in r.fields for r in hub.asked())


def test_under_way(hub, daemon, secret):
    """A fetch that alice set going is not joined by who may not read it."""
    gate = hub.gate("/blobs/", after=100_000)
    path = blob(SECRET, layer_of(secret).digest)
    c = daemon.connect()
    c.request(path, fields=ALICE)
    gate.wait_reached()
    assert daemon.get(path, fields=BOB).status == 401
    assert daemon.get(blob(OPEN, layer_of(secret).digest)).status == 404
    gate.open()
    assert c.read_response().body == layer_of(secret).data


def common(a, b):
    """How many bytes are the same from the front."""
    return next((i for i, (x, y) in enumerate(zip(a, b)) if x != y), min(len(a), len(b)))


@pytest.mark.parametrize("restart", [False, True])
def test_left_half_way(hub, cachalot, closing, restart):
    """What a broken pull of alice's leaves goes on for her alone. Whoever has an open
    repository of which a manifest names her layer, with the url and the size of any other
    file, is not sent her bytes, though they are not verified yet."""
    hub.accepted[SECRET] = {ALICE[0][1]}
    layer = layer_of(hub.hold(image.image("private", (6_000_000,)), SECRET, "1"))
    store = closing(Hub("127.0.0.2"))
    other = noise(7_000_000, "any file of an allowed host")
    url = f"{store.url}/v2/store/blobs/{store.hold_blob('store', other)}"
    bait = foreign_layer(other, [url])
    bait.extra["digest"] = layer.digest
    hub.hold(windows_image([bait], "10.0.17763.1"), "evil/app", "1")
    del hub.blobs["evil/app", bait.digest]
    daemon = cachalot({HUB: upstream_of(hub, **{"foreign-hosts": "%s:%d" % store.address,
                                                "tag-ttl": "1h"})})
    assert daemon.get(manifest("evil/app", "1"), fields=ACCEPT).status == 200
    daemon.wait_idle()

    hub.fault(SECRET + "/blobs/", truncate_after=4_000_000)
    path = blob(SECRET, layer.digest)
    assert not daemon.get(path, fields=ALICE).complete
    daemon.wait_idle()
    if restart:
        daemon.stop()
        daemon.start()
    got = daemon.get(blob("evil/app", layer.digest))
    assert common(got.body, layer.data) < 10
    assert all(r.range is None for r in store.requests) and store.count() == 1
    daemon.wait_idle()
    hub.heal()
    assert daemon.get(path, fields=ALICE).body == layer.data


def test_goes_on_for_alice(hub, daemon):
    """Her own next pull has the rest alone fetched."""
    hub.accepted[SECRET] = {ALICE[0][1]}
    layer = layer_of(hub.hold(image.image("private", (6_000_000,)), SECRET, "1"))
    path = blob(SECRET, layer.digest)
    hub.fault("/blobs/", truncate_after=4_000_000)
    assert not daemon.get(path, fields=ALICE).complete
    daemon.wait_idle()
    hub.heal()
    hub.forget()
    assert daemon.get(path, fields=BOB).status == 401
    assert daemon.get(path, fields=ALICE).body == layer.data
    assert "bytes=4000000-" in [r.range for r in hub.asked("GET", layer.digest)]
    assert hub.bytes_sent() < 2_010_000


def test_no_credential_leaks(hub, daemon, secret):
    """No credential appears in the log, nor in the metrics."""
    pull(daemon, secret, ALICE)
    pull(daemon, secret, BOB)
    text = daemon.stderr_path.read_text() + daemon.get("/-/metrics").body.decode()
    assert "0123456789" not in text


class Foreign:
    """A private image with a layer that only its url has."""

    def __init__(self, hub, store):
        data = noise(150_000, "private foreign")
        self.hub, self.store = hub, store
        self.layer = foreign_layer(data, [f"{store.url}/v2/store/blobs/{digest_of(data)}"])
        self.item = windows_image([self.layer], "10.0.17763.1")
        store.blobs["store", self.layer.digest] = data
        hub.accepted[SECRET] = {ALICE[0][1]}
        hub.hold(self.item, SECRET, "windows")
        del hub.blobs[SECRET, self.layer.digest]

    def options(self, **options):
        return upstream_of(self.hub, **{"foreign-hosts": "%s:%d" % self.store.address,
                                        "tag-ttl": "1h", **options})

    def pull(self, daemon, fields):
        """The tag, then the layer; the two statuses."""
        got = daemon.get(manifest(SECRET, "windows"), fields=[*ACCEPT, *fields])
        return [got.status, self.get(daemon, fields).status]

    def get(self, daemon, fields, repository=SECRET):
        got = daemon.get(blob(repository, self.layer.digest), fields=fields)
        assert got.status != 200 or got.body == self.layer.data
        return got


@pytest.fixture
def foreign(hub, closing):
    return Foreign(hub, closing(Hub("127.0.0.2")))


@pytest.mark.parametrize("ttl", ["1h", "0s"])
def test_foreign_layer(hub, cachalot, foreign, ttl):
    """A foreign layer of a private image is served as all else of its repository: to alice,
    whose proof is fresh or is asked for by a manifest, as the registry has not the layer;
    not to bob, nor through another repository. Its url is asked once, anonymously."""
    daemon = cachalot({HUB: foreign.options(**{"proof-ttl": ttl})})
    assert foreign.pull(daemon, BOB) == [401, 401]
    assert foreign.pull(daemon, ALICE) == [200, 200]
    daemon.wait_idle()
    assert foreign.pull(daemon, ALICE) == [200, 200]
    for fields in (BOB, []):
        assert foreign.pull(daemon, fields) == [401, 401]
        assert foreign.get(daemon, fields, OPEN).status == 404
    assert daemon.head(blob(SECRET, foreign.layer.digest), fields=ALICE).status == 200
    assert daemon.head(blob(SECRET, foreign.layer.digest), fields=BOB).status == 401
    asked, = foreign.store.requests
    assert "authorization" not in asked.fields
    hub.accepted[SECRET] = set()
    if ttl == "0s":
        assert foreign.pull(daemon, ALICE) == [401, 401]


def test_urls_of_a_private_manifest(hub, cachalot, foreign):
    """Where a private manifest says that a layer is, is not asked for who asks through a
    repository of which no manifest names it; nor for bob, before anybody has the layer."""
    daemon = cachalot({HUB: foreign.options()})
    assert daemon.get(manifest(SECRET, "windows"), fields=[*ACCEPT, *ALICE]).status == 200
    assert foreign.get(daemon, BOB).status == 401
    assert foreign.get(daemon, [], OPEN).status == 404
    assert foreign.store.count() == 0
    assert foreign.get(daemon, ALICE).status == 200


def test_restart(hub, daemon, secret):
    """After a restart the repository is still known to be private; proofs are not
    kept on the disk."""
    pull(daemon, secret, ALICE)
    daemon.wait_idle()
    daemon.stop()
    daemon.start()
    hub.forget()
    assert pull(daemon, secret, []) == [401, 401, 401]
    assert pull(daemon, secret, ALICE) == [200, 200, 200]
    assert hub.bytes_sent() == 0


def test_private_upstream(hub, cachalot, tmp_path):
    """Content of an upstream whose configured credentials are private is refused as
    long as no access rule opens it, and the registry is not asked."""
    password = tmp_path / "password"
    password.write_text("s3cret\n")
    password.chmod(0o600)
    daemon = cachalot({HUB: {"url": hub.url, "username": "acme", "password-file": password,
                             "visibility": "private"}})
    hub.hold(image.image("x", (1000,)), SECRET, "1")
    got = daemon.get(manifest(SECRET, "1"), fields=ACCEPT)
    assert got.status == 403 and b"visibility" in got.body
    assert hub.count() == 0


def test_loop(hub, cachalot):
    """Two caches that are each other's upstream: the request that comes back is
    answered 508, not sent round for ever."""
    daemon = cachalot({HUB: {"url": hub.url, "retries": 0}})
    hub.hold(image.image("loop", (1000,)), OPEN, "1")
    daemon.get(manifest(OPEN, "1"), fields=ACCEPT)
    seen = hub.asked()[0].fields["cdn-loop"]
    got = daemon.get(manifest(OPEN, "2"), fields=[*ACCEPT, ("CDN-Loop", f"other, {seen}")])
    assert got.status == 508
    daemon.get(manifest(OPEN, "3"), fields=[*ACCEPT, ("CDN-Loop", "other")])
    assert hub.asked(where="/manifests/3")[0].fields["cdn-loop"] == f"other, {seen}"
