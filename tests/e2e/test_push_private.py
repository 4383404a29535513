# SPDX-License-Identifier: ISC
"""What pushers cannot have or spoil by naming it: a manifest of a local repository may name any
digest, and any url for it."""

import json
import threading

import pytest

from lib import image
from lib.hub import Hub
from lib.image import ACCEPT, DOCKER, Blob, Manifest, noise
from lib.paths import HUB, MCR, blob, manifest
from lib.pusher import EVERYBODY, Pusher
from lib.windows import foreign_layer
from test_private import ALICE, SECRET, PrivateHub, TokenServer, layer_of, upstream_of

OTHER = noise(700_000, "another file of the same size")


def push_name_of(daemon, layer, url):
    """Push a manifest that says that the layer is to be had at the url; returns its path."""
    config = Blob(DOCKER["config"], b"{}")
    foreign = foreign_layer(layer.data, [url])
    document = {"schemaVersion": 2, "mediaType": DOCKER["manifest"],
                "config": config.descriptor(), "layers": [foreign.descriptor()]}
    item = Manifest(DOCKER["manifest"], json.dumps(document).encode(), {}, [config])
    image.push(daemon.address, item, "evil/app", "1")
    return f"/v2/evil/app/blobs/{layer.digest}"


@pytest.fixture
def private_hub(closing):
    hub = closing(PrivateHub(closing(TokenServer(anonymous=False))))
    hub.accepted[SECRET] = {ALICE[0][1]}
    return hub


@pytest.fixture
def elsewhere(closing):
    """A host that manifests may send to, with a file that is not the layer."""
    store = closing(Hub("127.0.0.2"))
    store.blobs["store", image.digest_of(OTHER)] = OTHER
    return store


def url_in(store):
    return f"{store.url}/v2/store/blobs/{image.digest_of(OTHER)}"


def test_fetch_of_somebody_else(private_hub, cachalot):
    """While who may pulls a private layer, it is not there for who only knows its digest, nor
    afterwards."""
    item = private_hub.hold(image.image("private", (3_000_000,)), SECRET, "1")
    layer = layer_of(item)
    daemon = cachalot({HUB: upstream_of(private_hub)}, EVERYBODY)
    assert daemon.get(manifest(SECRET, "1"), fields=[*ACCEPT, *ALICE]).status == 200
    path = push_name_of(daemon, layer, "http://127.0.0.9/x")
    gate = private_hub.gate("/blobs/", after=1_000_000)
    got = {}
    alice = threading.Thread(
        target=lambda: got.update(alice=daemon.get(blob(SECRET, layer.digest), fields=ALICE)))
    alice.start()
    gate.wait_reached()
    assert daemon.get(path).status == 404
    gate.open()
    alice.join()
    assert got["alice"].body == layer.data
    daemon.wait_idle()
    assert daemon.get(path).status == 404 and daemon.head(path).status == 404


def test_a_private_repository_has_it_too(private_hub, cachalot):
    """A layer that is in a private and in a public repository comes from the public one, and
    nobody hears of the other."""
    seed = ("shared", (300_000,))
    private_hub.hold(image.image(*seed), SECRET, "1")
    item = private_hub.hold(image.image(*seed, annotations={"n": "public"}), "library/app", "1")
    daemon = cachalot({HUB: upstream_of(private_hub)}, EVERYBODY)
    assert daemon.get(manifest(SECRET, "1"), fields=[*ACCEPT, *ALICE]).status == 200
    assert daemon.get(manifest("library/app", "1"), fields=ACCEPT).status == 200
    path = push_name_of(daemon, layer_of(item), "http://127.0.0.9/x")
    assert daemon.get(path).body == layer_of(item).data


def test_only_a_private_repository_has_it(private_hub, elsewhere, cachalot):
    """A layer that only a private repository is known to have is not there, wherever a pusher
    says that it is; the repository is not named."""
    item = private_hub.hold(image.image("private", (300_000,)), SECRET, "1")
    daemon = cachalot({HUB: upstream_of(private_hub), MCR: {
        "url": elsewhere.url, "foreign-hosts": "%s:%d" % elsewhere.address}}, EVERYBODY)
    assert daemon.get(manifest(SECRET, "1"), fields=[*ACCEPT, *ALICE]).status == 200
    path = push_name_of(daemon, layer_of(item), url_in(elsewhere))
    got = daemon.get(path)
    assert got.status == 404 and b"acme" not in got.body and elsewhere.count() == 0


def test_nobody_spoils_a_public_layer(hub, elsewhere, cachalot):
    """A pusher names a layer of Hub's, with the url of something else: it is had from Hub."""
    item = hub.hold(image.image("public", (300_000,)), "library/app", "1")
    daemon = cachalot({HUB: {"url": hub.url, "foreign-hosts": "%s:%d" % elsewhere.address}},
                      EVERYBODY)
    assert daemon.get(manifest("library/app", "1"), fields=ACCEPT).status == 200
    path = push_name_of(daemon, layer_of(item), url_in(elsewhere))
    assert daemon.get(path).body == layer_of(item).data
    daemon.wait_idle()
    assert daemon.get(blob("library/app", layer_of(item).digest)).body == layer_of(item).data
    assert hub.count("GET", "/blobs/") == 1 and elsewhere.count() == 0
