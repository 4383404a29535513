# SPDX-License-Identifier: ISC
"""Pushing manifests to local repositories, what refers to them, and deleting them:
distribution-spec 1.1.1 endpoint by endpoint; each scenario names its section ("main": of
the specification's main branch)."""

import itertools
import json

import pytest

from lib import image, rawhttp
from lib.cachalot import Cachalot
from lib.clients import Skopeo, check_dir
from lib.crowd import together
from lib.image import ACCEPT, DOCKER, OCI, digest_of, noise
from lib.paths import HUB
from lib.paths import manifest as manifest_of
from lib.pusher import EVERYBODY, Pusher, begin_request, errors, pages, refused, values
from lib.wait import until

MANIFEST_MAX = 4 * 1024 * 1024
FOREIGN = [
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip",
    "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd",
]
counter = itertools.count(1)


@pytest.fixture(scope="module")
def daemon(tmp_path_factory):
    d = Cachalot(tmp_path_factory.mktemp("push"), {}, EVERYBODY)
    d.start()
    yield d
    d.close()


def some_repository(daemon):
    return Pusher(daemon.address, f"team/manifests-{next(counter)}")


@pytest.fixture
def p(daemon):
    """Who pushes to a repository that nobody else has."""
    return some_repository(daemon)


def small(seed, **more):
    return image.image(f"push {seed}", (100,), **more)


def document(**members):
    """An image manifest without layers, with these members as well."""
    return {"schemaVersion": 2, "mediaType": OCI["manifest"],
            "config": image.Blob(OCI["config"], b"{}").descriptor(), "layers": [], **members}


def text(**members):
    return json.dumps(document(**members)).encode()


@pytest.fixture
def q(p):
    """The same, with the config that document() names."""
    p.push_blob(b"{}")
    return p


def check_held(p, reference, data, media_type):
    """By GET and HEAD, byte for byte."""
    got = p.manifest(reference)
    assert got.status == 200 and got.body == data and got["Content-Type"] == media_type
    digest = got["Docker-Content-Digest"]
    assert digest == digest_of(data, digest.split(":")[0])
    head = p.manifest(reference, "HEAD")
    assert head.status == 200 and head.length == len(data)
    assert head["Docker-Content-Digest"] == digest and head["Content-Type"] == media_type


def check_made(p, made, data, media_type, algorithm="sha256"):
    digest = digest_of(data, algorithm)
    assert made.status == 201 and made["Docker-Content-Digest"] == digest, made
    got = rawhttp.get(p.address, made["Location"], fields=ACCEPT)
    assert got.status == 200 and got.body == data
    check_held(p, digest, data, media_type)


# --- pushing ---


def test_by_tag(p):
    """"Pushing Manifests", end-7a: 201 with the digest and a Location to pull from; by tag
    and by digest it is there byte for byte. Before it is exactly 404."""
    item = small("tag")
    assert p.manifest("1", "HEAD").status == 404
    for blob in item.all_blobs():
        p.push_blob(blob.data)
    refused(p.manifest("1"), 404, "NAME_UNKNOWN")
    made = p.put_manifest("1", item.data)
    check_made(p, made, item.data, OCI["manifest"])
    check_held(p, "1", item.data, OCI["manifest"])
    assert values(made, "OCI-Tag") == [] and made["OCI-Subject"] is None
    refused(p.manifest("2"), 404, "MANIFEST_UNKNOWN")
    refused(p.manifest(digest_of(b"other")), 404, "MANIFEST_UNKNOWN")


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_by_digest(q, algorithm):
    """end-7a: under its digest alone, whatever the algorithm; no tag is made."""
    data = text()
    digest = digest_of(data, algorithm)
    check_made(q, q.put_manifest(digest, data), data, OCI["manifest"], algorithm)
    assert json.loads(q.get("tags/list").body)["tags"] == []


def test_sha512_all_through(p):
    """"Pushing Manifests": an image whose every digest is sha512."""
    config, layer = b'{"a":"b"}', noise(5000, "sha512")
    for data in (config, layer):
        p.push_blob(data, "sha512")

    def descriptor(media_type, data):
        return {"mediaType": media_type, "size": len(data), "digest": digest_of(data, "sha512")}

    data = text(config=descriptor(OCI["config"], config),
                layers=[descriptor(OCI["layer"], layer)])
    check_made(p, p.put_manifest(digest_of(data, "sha512"), data), data, OCI["manifest"], "sha512")
    assert p.blob(digest_of(layer, "sha512")).body == layer


def test_with_tags(q):
    """main, end-7b: by digest with tag parameters: each is said in OCI-Tag, and is there."""
    data = text(annotations={"a": "tags"})
    made = q.put_manifest(f"{digest_of(data)}?tag=one&tag=Two_2.x&tag=one", data)
    check_made(q, made, data, OCI["manifest"])
    assert set(values(made, "OCI-Tag")) == {"one", "Two_2.x"}
    for tag in ("one", "Two_2.x"):
        check_held(q, tag, data, OCI["manifest"])


def test_with_many_long_tags(q):
    """As many and as long as they may be: all are said, and how long the answer is."""
    data = text(annotations={"many": "tags"})
    tags = [f"t{i:02}" + "x" * 125 for i in range(32)]
    query = "&".join(f"tag={t}" for t in tags)
    made = q.put_manifest(f"{digest_of(data)}?{query}", data)
    check_made(q, made, data, OCI["manifest"])
    assert values(made, "OCI-Tag") == tags and made["Content-Length"] == "0"


def test_tag_moves(q):
    """"Pushing Manifests": a tag that is pushed again leads to the new manifest; the old one
    stays under its digest."""
    old, new = text(annotations={"v": "1"}), text(annotations={"v": "2"})
    for data in (old, new, old, new, new):
        assert q.put_manifest("latest", data).status == 201
        check_held(q, "latest", data, OCI["manifest"])
    check_held(q, digest_of(old), old, OCI["manifest"])


def test_not_modified(q):
    """RFC 9110 section 13.1.2: a tag that has not moved is not sent again."""
    data = text()
    q.put_manifest("1", data)
    got = q.manifest("1", fields=[("If-None-Match", f'"{digest_of(data)}"')])
    assert got.status == 304


@pytest.mark.parametrize("media_type, data", [
    (OCI["manifest"], text()),
    (DOCKER["manifest"], text(mediaType=DOCKER["manifest"])),
    (OCI["index"], b'{"schemaVersion":2,"manifests":[]}'),
    (DOCKER["index"], json.dumps({"schemaVersion": 2, "mediaType": DOCKER["index"],
                                  "manifests": []}).encode()),
    ("application/vnd.oci.artifact.manifest.v1+json",
     b'{"mediaType":"application/vnd.oci.artifact.manifest.v1+json","artifactType":"a/b"}'),
    ("application/vnd.example.anything.v7+json", b'{"what": ["it", "likes"]}'),
], ids=lambda x: x if isinstance(x, str) else "")
def test_media_types(q, media_type, data):
    """"Pushing Manifests": every media type is kept with the manifest; that of Docker, of
    an index, of an artifact, and one that nobody knows."""
    check_made(q, q.put_manifest("1", data, media_type), data, media_type)
    check_held(q, "1", data, media_type)


def test_without_media_type(q):
    """image-spec 1.1: mediaType may be left out; the Content-Type tells, and its
    parameters do not count."""
    data = json.dumps({k: v for k, v in document().items() if k != "mediaType"}).encode()
    made = q.put_manifest("1", data, OCI["manifest"] + "; charset=utf-8")
    check_made(q, made, data, OCI["manifest"])


def test_type_of_others(daemon, q):
    """Who pushes the same bytes under another type changes nothing for those that have them."""
    data = json.dumps({k: v for k, v in document(annotations={"a": "b"}).items()
                       if k != "mediaType"}).encode()
    assert q.put_manifest("1", data, OCI["manifest"]).status == 201
    other = some_repository(daemon)
    other.push_blob(b"{}")
    made = other.put_manifest("1", data, DOCKER["manifest"])
    check_made(other, made, data, DOCKER["manifest"])
    check_held(q, "1", data, OCI["manifest"])
    check_held(q, digest_of(data), data, OCI["manifest"])
    check_held(other, "1", data, DOCKER["manifest"])


@pytest.mark.parametrize("pushed_first", [False, True], ids=["pulled", "pushed"])
def test_type_of_an_upstream(hub, cachalot, pushed_first):
    """Nor for those who pull them from a registry, whoever came first."""
    config = image.Blob(OCI["config"], b'{"os":"linux"}')
    data = json.dumps({"schemaVersion": 2, "config": config.descriptor(), "layers": []}).encode()
    hub.hold(image.Manifest(OCI["manifest"], data, {}, [config]), "library/app", "1")
    daemon = cachalot({HUB: {"url": hub.url, "tag-ttl": "1h"}}, EVERYBODY)

    def pull():
        got = daemon.get(manifest_of("library/app", "1"), fields=ACCEPT)
        assert got.status == 200 and got.body == data
        assert got["Content-Type"] == OCI["manifest"]

    if not pushed_first:
        pull()
    other = Pusher(daemon.address, "team/app")
    other.push_blob(config.data)
    made = other.put_manifest("1", data, DOCKER["manifest"])
    check_made(other, made, data, DOCKER["manifest"])
    pull()
    pull()
    check_held(other, "1", data, DOCKER["manifest"])


@pytest.mark.parametrize("length", [3_900_000, MANIFEST_MAX - 1, MANIFEST_MAX])
def test_large(q, length):
    """"Pushing Manifests": up to 4 MiB, by a whole body and a chunked one."""
    data = text(annotations={"x": ""})
    data = data.replace(b'"x": ""', b'"x": "' + b"a" * (length - len(data)) + b'"')
    assert len(data) == length
    check_made(q, q.put_manifest("1", data), data, OCI["manifest"])
    chunks = [data[i:i + 100_000] for i in range(0, length, 100_000)]
    check_made(q, q.put_manifest("2", chunks), data, OCI["manifest"])


@pytest.mark.parametrize("count", [4096, 4097])
def test_many_descriptors(q, count):
    """A manifest of this many layers is work for everybody who waits for the disk."""
    layers = [{"mediaType": FOREIGN[0], "digest": digest_of(b"%d" % i), "size": 1}
              for i in range(count - 1)]
    got = q.put_manifest("1", text(layers=layers))
    if count == 4096:
        assert got.status == 201
    else:
        detail = refused(got, 400, "MANIFEST_INVALID")
        assert "4097 descriptors" in detail and "4096" in detail


def test_many_large_at_once(cachalot):
    """All large ones that are under way have 64 MiB; above that clients come again later.
    Small ones go on; so do large ones when there is room again."""
    daemon = cachalot({}, EVERYBODY)
    q = Pusher(daemon.address, "team/app")
    q.push_blob(b"{}")
    data = text(annotations={"x": "a" * 1_000_000})
    path, fields = q.path("manifests/1"), [("Content-Type", OCI["manifest"])]
    held = [daemon.connect() for _ in range(16)]
    for c in held:
        begin_request(c, "PUT", path, MANIFEST_MAX, fields)
        c.send(bytes(MANIFEST_MAX - 1))
    daemon.wait_metric("manifest_body_bytes", 16 * MANIFEST_MAX)
    for body in (data, [data[:300_000], data[300_000:]]):
        got = q.put_manifest("1", body)
        refused(got, 503, "UNKNOWN")
        assert int(got["Retry-After"]) > 0
    assert q.put_manifest("1", text()).status == 201
    for c in held:
        c.close()
    until("there is room", lambda: daemon.metric("manifest_body_bytes") == 0)
    assert q.put_manifest("1", data).status == 201
    until("nothing is held", lambda: daemon.metric("manifest_body_bytes") == 0)


@pytest.mark.parametrize("chunked", [False, True], ids=["whole", "chunked"])
def test_too_large(q, chunked):
    """"Pushing Manifests": beyond 4 MiB is 413, by a whole body and a chunked one."""
    data = text() + b" " * MANIFEST_MAX
    body = [data[i:i + 100_000] for i in range(0, len(data), 100_000)] if chunked else data
    refused(q.put_manifest("1", body), 413, "SIZE_INVALID")
    assert q.manifest("1").status == 404


def test_bytes_stay(q):
    """"Pushing Manifests": unknown members, odd white space, escapes, the order of what is
    there and a line's end at the end are kept byte for byte."""
    data = (b'{ "zz" : {"deep":[1,2.50,1e3,null,true]},\r\n\t"schemaVersion":2, "layers":[],'
            b'"x-\\u00e9\\/": "\xc3\xa9\\ud83d\\ude00", "config":'
            + json.dumps(document()["config"]).encode() + b'}\n\n')
    check_made(q, q.put_manifest("1", data), data, OCI["manifest"])


def test_index_nested(p):
    """image-spec 1.1 "Image Index": an index of an index of images."""
    children = [small("nested 1"), small("nested 2", architecture="arm64")]
    inner = image.index(children)
    for child in children:
        p.push(child)
    for each in (inner, image.index([inner])):
        check_made(p, p.put_manifest("outer", each.data, each.media_type), each.data, OCI["index"])


def test_index_sparse(p):
    """image-spec 1.1 "Image Index": an index may name manifests that are not here (of
    platforms that nobody here has)."""
    here, elsewhere = small("sparse 1"), small("sparse 2")
    p.push(here)
    item = image.index([here, elsewhere])
    check_made(p, p.put_manifest("1", item.data, item.media_type), item.data, OCI["index"])
    assert p.manifest(here.digest).status == 200 and p.manifest(elsewhere.digest).status == 404


def test_artifact(p):
    """image-spec 1.1 "Guidelines for Artifact Usage": artifactType, and the empty config."""
    item = image.artifact("alone", small("alone"))
    p.push(item, "1")
    check_held(p, "1", item.data, OCI["manifest"])


@pytest.mark.parametrize("media_type", FOREIGN)
def test_foreign_layer_absent(q, media_type):
    """"Pushing Manifests", image-spec "Non-Distributable Layers": such a layer need not be
    here, with urls or without; the manifest keeps them."""
    layer = image.Blob(media_type, b"elsewhere", {"urls": ["https://example.com/layer"]})
    for urls in (layer.descriptor(), {**layer.descriptor(), "urls": []}):
        data = text(layers=[urls])
        check_made(q, q.put_manifest("1", data), data, OCI["manifest"])
    assert not q.has_blob(layer.digest)


def test_foreign_layer_here(q):
    """The mirror of what is not to be distributed: such a layer is pushed and pulled as any
    other blob."""
    layer = image.Blob(FOREIGN[1], noise(9000, "foreign"), {"urls": ["https://example.com/x"]})
    q.push_blob(layer.data)
    data = text(layers=[layer.descriptor()])
    check_made(q, q.put_manifest("1", data), data, OCI["manifest"])
    assert q.blob(layer.digest).body == layer.data


@pytest.mark.clients
def test_layout(cachalot, tmp_path):
    """After a drain the cache directory is an OCI image layout of what was pushed, too: by
    repository and tag; a tag that was deleted is not in it, and the manifest that it had
    stands there without one."""
    daemon = cachalot({}, EVERYBODY)
    p = Pusher(daemon.address, "team/app")
    item = p.push(small("layout"), "1.0")
    untagged = p.push(small("deleted"), "2.0")
    assert p.remove("manifests/2.0").status == 202
    assert daemon.stop() == 0
    entries = json.loads((daemon.cache / "index.json").read_text())["manifests"]
    names = {e["digest"]: e["annotations"].get("org.opencontainers.image.ref.name")
             for e in entries}
    assert names == {item.digest: "team/app:1.0", untagged.digest: None}
    check_dir(Skopeo(tmp_path).copy_layout(daemon.cache, "team/app:1.0"), item)


# --- refused ---


def missing(answer):
    """The digests that a refusal names."""
    return set(refused(answer, 404, "MANIFEST_BLOB_UNKNOWN").split(", "))


def test_missing_blobs(p):
    """"Pushing Manifests", "Error Codes": each blob that is missing is named; what is here
    is not, and nothing is kept. When all are here it is taken."""
    item = image.image("missing", (100, 200, 300))
    digests = [b.digest for b in item.blobs]
    assert missing(p.put_manifest("1", item.data)) == set(digests)
    for i, blob in enumerate(item.blobs):
        p.push_blob(blob.data)
        got = p.put_manifest("1", item.data)
        if digests[i + 1:]:
            assert missing(got) == set(digests[i + 1:])
            assert p.manifest("1").status == 404 and p.manifest(item.digest).status == 404
    check_made(p, got, item.data, OCI["manifest"])


def test_missing_many(q):
    """The same of more blobs than an answer has room for: some are named."""
    layers = [image.Blob(OCI["layer"], b"%d" % i).descriptor() for i in range(1000)]
    named = missing(q.put_manifest("1", text(layers=layers)))
    assert named and named <= {d["digest"] for d in layers}


def test_blob_of_another_repository(daemon, q):
    """"Pushing Manifests": a blob that another repository has is missing here, until it is
    mounted."""
    other = some_repository(daemon)
    layer = image.Blob(OCI["layer"], noise(500, "elsewhere"))
    other.push_blob(layer.data)
    data = text(layers=[layer.descriptor()])
    assert missing(q.put_manifest("1", data)) == {layer.digest}
    assert q.post(f"?mount={layer.digest}&from={other.repository}").status == 201
    check_made(q, q.put_manifest("1", data), data, OCI["manifest"])


def test_blob_deleted(q):
    """"Deleting Blobs": what was deleted is missing for the next manifest."""
    layer = image.Blob(OCI["layer"], noise(500, "deleted"))
    q.push_blob(layer.data)
    q.remove(f"blobs/{layer.digest}")
    assert missing(q.put_manifest("1", text(layers=[layer.descriptor()]))) == {layer.digest}


def test_wrong_digest(q):
    """"Pushing Manifests": by a digest that is not that of the body: 400, nothing kept."""
    for algorithm in ("sha256", "sha512"):
        wrong = digest_of(b"another", algorithm)
        refused(q.put_manifest(wrong, text()), 400, "DIGEST_INVALID")
        assert q.manifest(wrong).status == 404
    for reference in ("sha256:baddigeststring", "sha256:" + "A" * 64, "md5:" + "0" * 32):
        refused(q.put_manifest(reference, text()), 400, "DIGEST_INVALID")
    assert q.manifest(digest_of(text())).status == 404


@pytest.mark.parametrize("media_type, members", [
    (OCI["manifest"], {"mediaType": DOCKER["manifest"]}),
    (DOCKER["manifest"], {}),
    (OCI["index"], {}),
    (OCI["manifest"], {"mediaType": 5}),
    (OCI["manifest"], {"mediaType": ""}),
    (OCI["manifest"], {"manifests": []}),
    (OCI["manifest"], {"mediaType": None, "manifests": []}),
    (OCI["index"], {"mediaType": None, "manifests": []}),
    (OCI["index"], {"mediaType": None, "manifests": [], "config": None}),
    (OCI["index"], {"mediaType": None, "manifests": [], "layers": None}),
    ("application/vnd.example+json", {"mediaType": None}),
])
def test_ambiguous(q, media_type, members):
    """CVE-2021-41190, "Pushing Manifests": a mediaType that is not the Content-Type, and
    what could be read as an image and as an index, is 400."""
    refused(q.put_manifest("1", text(**members), media_type), 400, "MANIFEST_INVALID")
    assert q.manifest("1").status == 404


@pytest.mark.parametrize("media_type", [
    "", "json", "application/", "/json", "application/a/b", "application/a b", "application/a,b/c",
    "application/\"a\"", "application/a<script>", "*/*", "text/plain\x01",
    "a" * 300, "text/html", "Text/HTML; charset=utf-8", "text/plain", "text/x"])
def test_content_type(q, media_type):
    """"Pushing Manifests": without a Content-Type that is one (RFC 6838 section 4.2) nobody
    could say later what it is; and none is a page for browsers: 400."""
    for data in (text(), text(mediaType=None), b'{"schemaVersion":2,"x":"<script>"}'):
        got = q.call("PUT", q.path("manifests/1"), data, [("Content-Type", media_type)])
        assert got.status == 400, got
        assert q.manifest("1").status == 404


def test_no_sniffing(q):
    """What was pushed is for browsers what it is said to be, and nothing else."""
    data = text(annotations={"page": "<!doctype html><script>alert(1)</script>"})
    assert q.put_manifest("1", data).status == 201
    digest = q.push_blob(b"<!doctype html><script>alert(1)</script>")
    for method in ("GET", "HEAD"):
        for got in (q.manifest("1", method), q.blob(digest, method)):
            assert got.status == 200 and got["X-Content-Type-Options"] == "nosniff", got


def test_no_content_type(q):
    """The same when there is none."""
    refused(q.call("PUT", q.path("manifests/1"), text()), 400, "MANIFEST_INVALID")


def test_together(q):
    """Eight clients push one manifest under one tag, and eight others: 201 for all, and the
    tag leads to one of them."""
    same = text(annotations={"same": "x"})
    for got in together(8, lambda i: q.put_manifest("same", same)):
        check_made(q, got, same, OCI["manifest"])
    each = [text(annotations={"i": str(i)}) for i in range(8)]
    assert [a.status for a in together(8, lambda i: q.put_manifest("each", each[i]))] == [201] * 8
    assert q.manifest("each").body in each
    for data in each:
        check_held(q, digest_of(data), data, OCI["manifest"])


# --- referrers ---


def listed(got):
    """The descriptors of a list of referrers."""
    assert got.status == 200 and got["Content-Type"] == OCI["index"], got
    found = json.loads(got.body)
    assert found["schemaVersion"] == 2 and found["mediaType"] == OCI["index"]
    return found["manifests"]


def all_listed(p, digest, query=""):
    answers = pages(p.address, p.path(f"referrers/{digest}{query}"))
    return [d for got in answers for d in listed(got)]


def push_referrer(q, subject, media_type=OCI["manifest"], **members):
    """A manifest that refers to a subject; the descriptor that must be listed."""
    subject = {k: v for k, v in subject.descriptor().items() if k != "platform"}
    data = text(mediaType=media_type, subject=subject, **members)
    digest = digest_of(data)
    made = q.put_manifest(digest, data, media_type)
    assert made.status == 201 and made["OCI-Subject"] == subject["digest"], made
    wanted = {"mediaType": media_type, "digest": digest, "size": len(data),
              "artifactType": members.get("artifactType", OCI["config"])}
    if "annotations" in members:
        wanted["annotations"] = members["annotations"]
    return wanted


def by_digest(descriptors):
    return sorted(descriptors, key=lambda d: d["digest"])


@pytest.mark.parametrize("pushed_first", [True, False], ids=["subject first", "subject last"])
def test_subject(q, pushed_first):
    """"Pushing Manifests with Subject": OCI-Subject, whether or not the subject is here; it
    is listed with its artifactType (its config's media type without) and annotations."""
    subject = small("subject")
    if pushed_first:
        q.push(subject, "1")
    wanted = [push_referrer(q, subject, artifactType="application/vnd.sbom"),
              push_referrer(q, subject, annotations={"org.example.a": "\u00e9 \"b\""}),
              push_referrer(q, subject, DOCKER["manifest"])]
    assert by_digest(all_listed(q, subject.digest)) == by_digest(wanted)
    q.push(subject, "1")
    assert by_digest(all_listed(q, subject.digest)) == by_digest(wanted)


def test_referrer_is_index(q):
    """"Listing Referrers": an index without artifactType has none in the list."""
    subject = small("of an index")
    data = json.dumps({"schemaVersion": 2, "mediaType": OCI["index"], "manifests": [],
                       "subject": subject.descriptor()}).encode()
    made = q.put_manifest("1", data, OCI["index"])
    assert made.status == 201 and made["OCI-Subject"] == subject.digest
    assert all_listed(q, subject.digest) == [
        {"mediaType": OCI["index"], "digest": digest_of(data), "size": len(data)}]


def test_filter(q):
    """"Listing Referrers": by artifactType, which is said in OCI-Filters-Applied."""
    subject = small("filter")
    a, b = (push_referrer(q, subject, artifactType=t, annotations={"n": n})
            for t, n in (("a/a+x", "1"), ("b/b", "1")))
    for query, wanted in (("a/a%2Bx", [a]), ("a/a+x", [a]), ("b/b", [b]), ("c/c", [])):
        got = q.get(f"referrers/{subject.digest}?artifactType={query}")
        assert listed(got) == wanted
        assert got["OCI-Filters-Applied"] == "artifactType"
    got = q.get(f"referrers/{subject.digest}")
    assert by_digest(listed(got)) == by_digest([a, b]) and got["OCI-Filters-Applied"] is None


def test_referrer_pages(q):
    """"Listing Referrers": page by page with n, filtered and not: each one once."""
    subject = small("pages")
    made = [push_referrer(q, subject, artifactType=f"t/{i % 2}", annotations={"i": str(i)})
            for i in range(10)]
    path = q.path(f"referrers/{subject.digest}")
    answers = pages(q.address, path + "?n=3")
    assert [len(listed(a)) for a in answers] == [3, 3, 3, 1]
    assert [d for a in answers for d in listed(a)] == by_digest(made)
    answers = pages(q.address, path + "?n=2&artifactType=t%2F1")
    assert all(a["OCI-Filters-Applied"] == "artifactType" for a in answers)
    assert [d for a in answers for d in listed(a)] == by_digest(made[1::2])
    assert len(pages(q.address, path)) == 1


def test_referrers_of_nothing(daemon, q):
    """"Listing Referrers": of a subject without any, and in a repository that was never
    seen, the list is empty: 200, never 404. A bad digest is 400."""
    for p in (q, some_repository(daemon)):
        assert listed(p.get(f"referrers/{digest_of(b'nothing')}")) == []
        assert listed(p.get(f"referrers/{digest_of(b'nothing', 'sha512')}")) == []
        refused(p.get("referrers/sha256:bad"), 400, "DIGEST_INVALID")
    assert q.get(f"referrers/{digest_of(b'nothing')}", "HEAD").status == 200


def test_referrers_of_another_repository(daemon, q):
    """"Listing Referrers": of this repository alone."""
    subject = small("here")
    push_referrer(q, subject)
    other = some_repository(daemon)
    other.push_blob(b"{}")
    assert all_listed(other, subject.digest) == []
    push_referrer(other, subject, artifactType="x/y")
    assert len(all_listed(q, subject.digest)) == 1


def test_fallback_tag(q):
    """"Referrers Tag Schema": what clients noted under the tag of the subject's digest is
    listed too, once; only what is here, and only while the tag leads there."""
    subject = small("fallback")
    known = push_referrer(q, subject, artifactType="t/known")
    noted = text(artifactType="t/noted", annotations={"by": "tag"})
    assert q.put_manifest(digest_of(noted), noted).status == 201
    descriptor = {"mediaType": OCI["manifest"], "digest": digest_of(noted), "size": len(noted),
                  "artifactType": "t/noted", "annotations": {"by": "tag"}}
    absent = image.Blob(OCI["manifest"], b"absent").descriptor()
    data = json.dumps({"schemaVersion": 2, "mediaType": OCI["index"],
                       "manifests": [known, descriptor, absent]}).encode()
    tag = subject.digest.replace(":", "-")
    assert q.put_manifest(tag, data, OCI["index"]).status == 201
    assert by_digest(all_listed(q, subject.digest)) == by_digest([known, descriptor])
    assert all_listed(q, subject.digest, "?artifactType=t/noted") == [descriptor]
    assert q.remove(f"manifests/{tag}").status == 202
    assert all_listed(q, subject.digest) == [known]


def test_large_fallback_tag(q):
    """An index of more than 256 KiB under such a tag adds nothing: it would be parsed at each
    request, while others wait."""
    subject = small("large fallback")
    noted = text(annotations={"of": "a large list"})
    assert q.put_manifest(digest_of(noted), noted).status == 201
    descriptor = image.Blob(OCI["manifest"], noted).descriptor()
    tag = subject.digest.replace(":", "-")
    for size, listed in ((200_000, [digest_of(noted)]), (270_000, [])):
        data = json.dumps({"schemaVersion": 2, "mediaType": OCI["index"],
                           "manifests": [descriptor], "annotations": {"x": "a" * size}}).encode()
        assert q.put_manifest(tag, data, OCI["index"]).status == 201
        assert [d["digest"] for d in all_listed(q, subject.digest)] == listed


def test_fallback_tag_of_something_else(q):
    """"Referrers Tag Schema": an image under such a tag adds nothing, and harms nothing; the
    tag of a sha512 digest is cut."""
    subject = small("no fallback")
    q.put_manifest(subject.digest.replace(":", "-"), text())
    assert all_listed(q, subject.digest) == []
    noted = text(annotations={"of": "sha512"})
    q.put_manifest("noted", noted)
    descriptor = image.Blob(OCI["manifest"], noted).descriptor()
    data = json.dumps({"schemaVersion": 2, "manifests": [descriptor]}).encode()
    digest = digest_of(b"subject", "sha512")
    tag = "sha512-" + digest.split(":")[1][:64]
    assert q.put_manifest(tag, data, OCI["index"]).status == 201
    assert [d["digest"] for d in all_listed(q, digest)] == [digest_of(noted)]


# --- deleting ---


def tags_of(p):
    return json.loads(p.get("tags/list").body)["tags"]


def test_delete_tag(q):
    """"Deleting tags", end-9: 202; the manifest stays under its digest and its other tags.
    Again is 404."""
    data = text()
    for tag in ("one", "two"):
        q.put_manifest(tag, data)
    assert q.remove("manifests/one").status == 202
    refused(q.manifest("one"), 404, "MANIFEST_UNKNOWN")
    refused(q.remove("manifests/one"), 404, "MANIFEST_UNKNOWN")
    check_held(q, "two", data, OCI["manifest"])
    check_held(q, digest_of(data), data, OCI["manifest"])
    assert tags_of(q) == ["two"]


def test_delete_manifest(q):
    """"Deleting Manifests", end-9: 202; gone by its digest and by each of its tags at once,
    the others stay; the repository is still there. A push brings it back, its tags not."""
    data, other = text(), text(annotations={"an": "other"})
    for tag in [f"t{i}" for i in range(40)]:
        q.put_manifest(tag, data)
    q.put_manifest("other", other)
    assert q.remove(f"manifests/{digest_of(data)}").status == 202
    for reference in ("t0", "t39", digest_of(data)):
        refused(q.manifest(reference), 404, "MANIFEST_UNKNOWN")
        refused(q.remove(f"manifests/{reference}"), 404, "MANIFEST_UNKNOWN")
    assert tags_of(q) == ["other"]
    check_held(q, "other", other, OCI["manifest"])
    assert q.remove(f"manifests/{digest_of(other)}").status == 202
    assert tags_of(q) == []
    assert q.put_manifest(digest_of(data), data).status == 201
    check_held(q, digest_of(data), data, OCI["manifest"])
    assert tags_of(q) == []


def test_delete_in_one_repository(daemon, q):
    """"Deleting Manifests": of this repository alone."""
    data = text()
    other = some_repository(daemon)
    other.push_blob(b"{}")
    for p in (q, other):
        assert p.put_manifest("1", data).status == 201
    assert q.remove(f"manifests/{digest_of(data)}").status == 202
    check_held(other, "1", data, OCI["manifest"])
    check_held(other, digest_of(data), data, OCI["manifest"])


def test_delete_referrer(q):
    """"Deleting Manifests": what referred is listed no longer; pushed again it is."""
    subject = small("delete referrer")
    wanted = push_referrer(q, subject, artifactType="t/x")
    assert q.remove(f"manifests/{wanted['digest']}").status == 202
    assert all_listed(q, subject.digest) == []
    assert push_referrer(q, subject, artifactType="t/x") == wanted
    assert all_listed(q, subject.digest) == [wanted]


def test_delete_subject(q):
    """"Deleting Manifests": what refers to it stays, and stays listed."""
    subject = q.push(small("delete subject"), "1")
    wanted = push_referrer(q, subject)
    assert q.remove(f"manifests/{subject.digest}").status == 202
    assert all_listed(q, subject.digest) == [wanted]


def test_delete_by_the_other_way(p):
    """A manifest's bytes are a blob too: deleted as one it is no manifest either, and its
    tags are gone."""
    item = p.push(small("as a blob"), "1")
    assert p.blob(item.digest).body == item.data
    assert p.remove(f"blobs/{item.digest}").status == 202
    assert p.manifest("1").status == 404 and p.manifest(item.digest).status == 404
    assert tags_of(p) == []


def test_delete_what_is_not_there(daemon, q):
    """"Deleting Manifests": 404 of what was never there, and of a repository that was never
    seen."""
    for p in (q, some_repository(daemon)):
        for reference in ("1", digest_of(b"nothing")):
            got = p.remove(f"manifests/{reference}")
            assert got.status == 404
            assert errors(got)[0]["code"] in ("MANIFEST_UNKNOWN", "NAME_UNKNOWN")
