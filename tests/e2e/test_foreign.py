# SPDX-License-Identifier: ISC
"""Foreign layers: Windows base layers of old, which the registry does not have, and whose
manifest says where they are."""

import json

import pytest

from lib import image
from lib.hub import Hub
from lib.image import ACCEPT, DOCKER, Blob, Manifest, noise
from lib.paths import HUB, MCR, blob, manifest
from lib.pki import Authority
from lib.windows import foreign_layer
from lib.windows import windows_image as foreign_image

FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
REPOSITORY = "windows/nanoserver"
LAYER = noise(400_000, "foreign layer")
DIGEST = image.digest_of(LAYER)
TAG = manifest(REPOSITORY, "1709", MCR)
PATH = blob(REPOSITORY, DIGEST, MCR)
LINK = "/fwlink/"


def windows_image(urls, seed="foreign"):
    """An image whose one layer is kept elsewhere."""
    config = Blob(DOCKER["config"], json.dumps({"os": "windows", "seed": seed}).encode())
    layer = Blob(FOREIGN, LAYER, {"urls": list(urls)})
    document = {"schemaVersion": 2, "mediaType": DOCKER["manifest"],
                "config": config.descriptor(), "layers": [layer.descriptor()]}
    return Manifest(DOCKER["manifest"], json.dumps(document).encode(), {}, [config, layer])


@pytest.fixture
def store(closing):
    """Where the layer is: another host, as Microsoft's."""
    store = closing(Hub("127.0.0.2"))
    store.blobs["store", DIGEST] = LAYER
    return store


def url_in(store, digest=DIGEST):
    return f"{store.url}/v2/store/blobs/{digest}"


@pytest.fixture
def world(hub, cachalot):
    """world(urls, hosts): a daemon that has pulled the manifest."""
    def make(urls, hosts, tag="1709", daemon=None, **options):
        item = windows_image(urls, tag)
        hub.hold(item, REPOSITORY, tag)
        hub.blobs.pop((REPOSITORY, DIGEST), None)
        daemon = daemon or cachalot({MCR: {"url": hub.url, "retries": 1, "foreign-hosts": hosts,
                                           "stall-timeout": "1s", **options}})
        got = daemon.get(manifest(REPOSITORY, tag, MCR), fields=ACCEPT)
        assert got.status == 200 and got.body == item.data
        return daemon

    return make


def host_of(store):
    return "%s:%d" % store.address


def test_registry_first(hub, world, store):
    """The registry has the layer after all: nobody else is asked."""
    daemon = world([url_in(store)], host_of(store))
    hub.blobs[REPOSITORY, DIGEST] = LAYER
    assert daemon.get(PATH).body == LAYER
    assert store.count() == 0


@pytest.mark.parametrize("status", [404, 401, 403])
def test_then_its_url(hub, world, store, status):
    """The registry has it not, or not for us: the url of the manifest is asked, once,
    anonymously; the next client is served from the store."""
    daemon = world([url_in(store)], host_of(store))
    hub.fault("/blobs/", status=status)
    alice = [("Authorization", "Bearer alice"), ("Cookie", "a=b")]
    for fields in ([], alice, []):
        got = daemon.get(PATH, fields=fields)
        assert got.status == 200 and got.body == LAYER
    daemon.wait_idle()
    asked, = store.requests
    assert not {"authorization", "cookie", "proxy-authorization"} & set(asked.fields)
    assert hub.count("GET", "/blobs/") == 1 and daemon.holds(DIGEST)


def test_credentials_stay_with_the_registry(hub, world, store):
    """What a client gave for the registry is not shown elsewhere, though the registry was
    asked with it."""
    daemon = world([url_in(store)], host_of(store))
    hub.fault("/blobs/", status=401, times=1)
    store.fault("/blobs/", status=404, times=1)
    got = daemon.get(PATH, fields=[("Authorization", "Bearer alice")])
    assert any("authorization" in r.fields for r in hub.requests)
    assert all("authorization" not in r.fields for r in store.requests) and store.count() >= 1
    assert got.status in (200, 401, 403, 404)


def test_a_link_that_redirects(hub, world, store, closing):
    """A go.microsoft.com link of 2016 that leads to the store: each host is on the list."""
    links = closing(Hub("127.0.0.3"))
    links.fault(LINK, redirect=url_in(store))
    daemon = world([f"{links.url}{LINK}?linkid=837858"], [host_of(links), host_of(store)])
    assert daemon.get(PATH).body == LAYER
    assert links.count() == 1 and store.count() == 1


def test_resumed(world, store):
    """The line breaks in the middle: it is continued with Range, from there."""
    store.fault("/blobs/", truncate_after=150_000, times=1)
    daemon = world([url_in(store)], host_of(store))
    assert daemon.get(PATH).body == LAYER
    assert [r.range for r in store.requests] == [None, "bytes=150000-"]


LARGE = noise(3_000_000, "large foreign layer")


def large_world(hub, cachalot, urls):
    """A layer that is worth keeping when the line breaks, named with this url by a manifest
    of the same repository of each of these registries; returns the daemon and the layer's
    path in each."""
    digest = image.digest_of(LARGE)
    upstreams = {}
    for registry, (host, url) in urls.items():
        item = foreign_image([foreign_layer(LARGE, [url])], "10.0.17763.1", registry)
        hub.hold(item, REPOSITORY, registry)
        del hub.blobs[REPOSITORY, digest]
        upstreams[registry] = {"url": hub.url, "retries": 0, "foreign-hosts": host_of(host)}
    daemon = cachalot(upstreams)
    for registry in urls:
        got = daemon.get(manifest(REPOSITORY, registry, registry), fields=ACCEPT)
        assert got.status == 200
    daemon.wait_idle()
    return daemon, [blob(REPOSITORY, digest, registry) for registry in urls]


def break_off(daemon, path):
    assert not daemon.get(path).complete
    daemon.wait_idle()


@pytest.mark.parametrize("restart", [False, True])
def test_left_half_way(hub, store, cachalot, restart):
    """A later pull through the same repository goes on where the line broke, once the
    registry has said again that it has it not."""
    url = url_in(store, store.hold_blob("store", LARGE))
    daemon, (path,) = large_world(hub, cachalot, {MCR: (store, url)})
    store.fault("/blobs/", truncate_after=2_000_000, times=1)
    break_off(daemon, path)
    if restart:
        daemon.stop()
        daemon.start()
    assert daemon.get(path).body == LARGE
    assert [r.range for r in store.requests] == [None, "bytes=2000000-"]


@pytest.mark.parametrize("registry_has_it", [False, True])
def test_left_half_way_by_another(hub, store, cachalot, evil, registry_has_it):
    """What a url of another repository's manifest left is not gone on with: it may be
    anything. Nor does the registry, when it has the layer, finish what a url began."""
    bad = evil.hold_blob("store", noise(len(LARGE), "not the layer"))
    good = store.hold_blob("store", LARGE)
    daemon, (theirs, ours) = large_world(hub, cachalot, {HUB: (evil, url_in(evil, bad)),
                                                         MCR: (store, url_in(store, good))})
    evil.fault("/blobs/", truncate_after=2_000_000)
    break_off(daemon, theirs)
    if registry_has_it:
        hub.blobs[REPOSITORY, good] = LARGE
    assert daemon.get(ours).body == LARGE
    asked, = hub.asked("GET", "/blobs/")[-1:] if registry_has_it else store.requests
    assert asked.range is None and daemon.metric("verify_failures_total") == 0


def test_each_url_in_turn(world, store, closing):
    """The first url is 404, the second wants to know who we are, the third answers
    nonsense, the fourth cannot be reached, the fifth has it."""
    bad = [closing(Hub(f"127.0.0.{i}")) for i in (3, 4, 5)]
    bad[1].fault("/", status=401, fields=(("WWW-Authenticate", 'Basic realm="give"'),))
    bad[2].fault("/", raw=b"nonsense\r\n")
    gone = "127.0.0.6:9"
    daemon = world([*(url_in(b) for b in bad), f"http://{gone}/x", url_in(store)],
                   [*(host_of(b) for b in bad), gone, host_of(store)])
    assert daemon.get(PATH).body == LAYER
    assert [b.count() for b in bad] == [1, 1, 1] and store.count() == 1


def refused(daemon, status=404):
    got = daemon.get(PATH)
    assert got.status == status, got
    assert got["WWW-Authenticate"] is None
    return got.body.decode()


def test_a_challenge_there_is_a_failure(world, store):
    """A host that asks for credentials gets none, and the client does not hear of it."""
    store.fault("/", status=401,
                fields=(("WWW-Authenticate", f'Bearer realm="{store.url}/token",service="x"'),))
    daemon = world([url_in(store)], host_of(store))
    assert "answered 401" in refused(daemon)
    assert store.count() == 1


def test_host_that_is_not_listed(hub, world, store):
    """The manifest names a host that foreign-hosts does not: it is not asked, and the
    error names the option."""
    daemon = world([url_in(store)], ["go.microsoft.com", "*.127.0.0.2"])
    said = refused(daemon)
    assert "foreign-hosts" in said and host_of(store) in said
    assert store.count() == 0
    assert hub.count("GET", "/blobs/") == 1


def test_no_host_is_listed(world, store):
    """foreign-hosts is empty: none."""
    daemon = world([url_in(store)], "")
    assert "foreign-hosts" in refused(daemon)
    assert store.count() == 0


def test_redirect_to_a_host_that_is_not_listed(world, store, closing):
    """A listed host leads to another that is not: refused at that hop."""
    links = closing(Hub("127.0.0.3"))
    links.fault(LINK, redirect=url_in(store))
    daemon = world([f"{links.url}{LINK}"], host_of(links))
    got = daemon.get(PATH)
    assert got.status == 502 and b"foreign-hosts" in got.body
    assert store.count() == 0 and links.count() >= 1


def test_private_address_behind_a_pattern(world, store):
    """A host that a pattern lets in must have a public address; one that is named need
    not."""
    daemon = world([f"https://store.localhost:{store.address[1]}/x"], "*.localhost")
    got = daemon.get(PATH)
    assert got.status == 502 and b"not public" in got.body
    assert store.count() == 0


def test_http_behind_a_pattern(world, store):
    """Without TLS only a named host, and only where the registry is asked so too."""
    daemon = world([f"http://store.localhost:{store.address[1]}/x"], "*.localhost")
    assert "not by https" in refused(daemon)


@pytest.mark.parametrize("wrong", [{"body": noise(len(LAYER), "evil")}, {"body": LAYER + b"x"},
                                   {"body": LAYER[:-1]}, {"extra": b"x", "no_length": True}],
                         ids=["bytes", "longer", "shorter", "endless"])
def test_wrong_content(world, store, wrong):
    """Size and digest are the manifest's: what differs is not stored, and no client gets
    the whole of it."""
    store.fault("/blobs/", **wrong)
    daemon = world([url_in(store)], host_of(store))
    got = daemon.get(PATH)
    assert got.status != 200 or not got.complete
    daemon.wait_idle()
    assert not daemon.holds(DIGEST)
    store.heal()
    assert daemon.get(PATH).body == LAYER


def check_right_or_cut(got):
    if got.status == 200 and got.complete:
        assert got.body == LAYER
    else:
        assert got.status in (200, 502)


@pytest.fixture
def evil(closing):
    """Another host, which a manifest names before the store."""
    return closing(Hub("127.0.0.3"))


@pytest.mark.parametrize("wrong", [{"body": noise(len(LAYER), "evil")}, {"body": LAYER + b"x"},
                                   {"body": LAYER[:-1]}, {"extra": b"x", "no_length": True},
                                   {"body": LAYER[:-1], "no_length": True}],
                         ids=["bytes", "longer", "shorter", "endless", "cut"])
def test_wrong_content_and_another_url(world, store, evil, wrong):
    """The first of two urls gives something else than the layer. As long as no client got a
    byte of that, none sees a fault; else its body is cut, and whoever asks next, maybe for
    the rest, is served from the second url, without a byte of the first."""
    evil.blobs["store", DIGEST] = LAYER
    evil.fault("/blobs/", **wrong)
    daemon = world([url_in(evil), url_in(store)], [host_of(evil), host_of(store)])
    got = daemon.get(PATH)
    check_right_or_cut(got)
    daemon.wait_idle()
    asked = evil.count()
    got = daemon.get(PATH)
    assert got.status == 200 and got.body == LAYER
    assert evil.count() == asked and store.count() >= 1


def test_pieces_of_two_urls(world, store, evil):
    """The first url breaks in the middle, the second goes on, and the whole is wrong: which
    of them is to blame nobody knows. In the end the layer comes from the right one."""
    evil.blobs["store", DIGEST] = LAYER
    evil.fault("/blobs/", truncate_after=100_000, body=noise(len(LAYER), "evil"), times=1)
    evil.fault("/blobs/", body=noise(len(LAYER), "evil"))
    daemon = world([url_in(evil), url_in(store)], [host_of(evil), host_of(store)])

    def served():
        got = daemon.get(PATH)
        check_right_or_cut(got)
        daemon.wait_idle()
        return got.status == 200 and got.complete

    assert [served() for _ in range(3)][-1]


def test_every_url_is_wrong(world, store, evil):
    """None of the urls has the layer: nothing is stored, and they are tried again, for it
    may be there later."""
    for host in (store, evil):
        host.blobs["store", DIGEST] = LAYER
        host.fault("/blobs/", body=noise(len(LAYER), "evil"))
    daemon = world([url_in(evil), url_in(store)], [host_of(evil), host_of(store)])
    for _ in range(3):
        got = daemon.get(PATH)
        assert got.status != 200 or not got.complete
        daemon.wait_idle()
    assert not daemon.holds(DIGEST) and min(store.count(), evil.count()) >= 1
    evil.heal()
    store.heal()
    assert daemon.get(PATH).body == LAYER


def test_urls_of_another_repository(hub, world, store):
    """What a manifest says of a layer is for its own repository: through another one, of
    which no manifest names the layer, its urls are not asked."""
    daemon = world([url_in(store)], host_of(store))
    assert daemon.get(blob("windows/other", DIGEST, MCR)).status == 404
    assert store.count() == 0
    assert daemon.get(PATH).body == LAYER


def test_a_hundred_urls(world, store):
    """A manifest with a hundred urls: eight count, each once."""
    store.fault("/", status=404)
    urls = [f"{store.url}/v2/store/{i // 2}" for i in range(100)]
    daemon = world(urls, host_of(store))
    refused(daemon)
    assert 1 <= store.count() <= 8
    paths = [r.path for r in store.requests]
    assert len(paths) == len(set(paths))


@pytest.mark.parametrize("url", ["file:///etc/passwd", "ftp://127.0.0.2/x", "http://", "x", "",
                                 "http://user:password@127.0.0.2/x", "https://127.0.0.2:99999/",
                                 "http://127.0.0.2/\r\nX: y"])
def test_bad_urls(world, url):
    """What is no url of a layer is passed over."""
    daemon = world([url], "127.0.0.2")
    assert daemon.get(PATH).status in (404, 502)


def test_urls_of_another_registry(hub, cachalot, closing, store):
    """What a manifest of one registry says of a layer is not believed for another's."""
    evil = closing(Hub())
    item = windows_image([url_in(store)])
    evil.hold(item, "evil/app", "1")
    daemon = cachalot({MCR: {"url": hub.url, "retries": 0, "foreign-hosts": host_of(store)},
                       "quay.io": {"url": evil.url, "retries": 0}})
    assert daemon.get(manifest("evil/app", "1", "quay.io"), fields=ACCEPT).status == 200
    assert daemon.get(PATH).status == 404
    assert store.count() == 0


def test_https(hub, cachalot, closing, tmp_path):
    """As Microsoft has it: registry and store by https; http is refused then, even for a
    host that is named."""
    authority = Authority(tmp_path)
    context = authority.context("IP:127.0.0.1,IP:127.0.0.2")
    registry = closing(Hub(tls=context))
    store = closing(Hub("127.0.0.2", tls=context))
    plain = closing(Hub("127.0.0.2"))
    store.blobs["store", DIGEST] = plain.blobs["store", DIGEST] = LAYER
    daemon = cachalot({MCR: {"url": registry.url, "retries": 0, "foreign-hosts": "127.0.0.2",
                             "not-found-ttl": "0", "ca-file": authority.certificate}})
    for tag, where in (("plain", plain), ("secure", store)):
        registry.hold(windows_image([url_in(where)], tag), REPOSITORY, tag)
        registry.blobs.pop((REPOSITORY, DIGEST), None)
        assert daemon.get(manifest(REPOSITORY, tag, MCR), fields=ACCEPT).status == 200
        if where is plain:
            assert "not by https" in refused(daemon)
    assert daemon.get(PATH).body == LAYER
    assert plain.count() == 0 and store.count() == 1
