# SPDX-License-Identifier: ISC
"""Doors and names: whatever way a name came, one repository is meant."""

import json

import pytest

from lib import image
from lib.image import ACCEPT
from lib.paths import HUB, MCR


@pytest.fixture
def item(hub):
    return hub.hold(image.image("doors", (3000,)), "library/app", "1")


@pytest.fixture
def daemon(hub, cachalot):
    return cachalot({HUB: hub.url, MCR: hub.url, "registry.test:5443": hub.url})


SAME = [
    "/v2/docker.io/library/app{}", "/v2/docker.io/app{}", "/v2/index.docker.io/library/app{}",
    "/v2/registry-1.docker.io/app{}", "/v2/Docker.IO/app{}", "/docker.io/v2/library/app{}",
    "/docker.io/v2/app{}", "/v2/library/app{}?ns=docker.io", "/v2/app{}?ns=docker.io",
    "/v2/library/app{}?ns=index.docker.io", "/v2/library/app{}?ns=DOCKER.io",
]


def test_one_name(hub, daemon, item):
    """Every spelling of a name, by every door: one HEAD, one manifest and each blob
    once."""
    layer = item.layers[0]
    for form in SAME:
        got = daemon.get(form.format("/manifests/1"), fields=ACCEPT)
        assert got.status == 200 and got.body == item.data, form
        got = daemon.get(form.format(f"/blobs/{layer.digest}"))
        assert got.status == 200 and got.body == layer.data, form
    for name in ("library/app", "app"):
        for query in ("", "?ns=docker.io"):
            got = daemon.get(f"/v2/{name}/manifests/1{query}", fields=ACCEPT, mirror=True)
            assert got.body == item.data
    assert hub.count("HEAD") <= 1
    assert hub.count("GET", "/manifests/") == 1 and hub.count("GET", "/blobs/") == 1


def test_ns_and_prefix(hub, daemon, item):
    """containerd with a path in its host's URL sends both: the same repository is meant. One
    HEAD of the tag and one GET of its manifest for both ways."""
    got = daemon.get("/v2/docker.io/library/app/manifests/1?ns=docker.io", fields=ACCEPT)
    assert got.status == 200 and got.body == item.data
    got = daemon.get("/docker.io/v2/library/app/manifests/1?ns=docker.io", fields=ACCEPT)
    assert got.status == 200 and got.body == item.data
    assert hub.count("HEAD", "/manifests/1") == hub.count("GET", item.digest) == 1
    assert hub.count() == 2


def test_ns_is_said_back(hub, daemon, item):
    """With ns the answer says whose content it is; without, it does not. Two requests, HEAD
    and GET, for both."""
    got = daemon.get("/v2/library/app/manifests/1?ns=docker.io", fields=ACCEPT)
    assert got["OCI-Namespace"] == "docker.io"
    got = daemon.get("/v2/docker.io/library/app/manifests/1", fields=ACCEPT)
    assert got["OCI-Namespace"] is None
    assert hub.count() == 2


def test_port_is_part_of_the_host(hub, daemon):
    """registry.test:5443 is configured; registry.test is somebody else, for whom nobody is
    asked: two requests, HEAD and GET of the tag that is there."""
    item = hub.hold(image.image("port", (100,)), "team/app", "1")
    got = daemon.get("/v2/registry.test:5443/team/app/manifests/1", fields=ACCEPT)
    assert got.body == item.data
    assert daemon.get("/v2/registry.test/team/app/manifests/1").status == 404
    assert hub.count() == 2


def test_mcr_has_no_library(hub, daemon):
    """library/ is docker.io's alone."""
    item = hub.hold(image.image("mcr", (100,)), "nanoserver", "1")
    got = daemon.get("/v2/mcr.microsoft.com/nanoserver/manifests/1", fields=ACCEPT)
    assert got.status == 200 and got.body == item.data
    assert hub.asked("GET")[0].path.startswith("/v2/nanoserver/")


@pytest.mark.parametrize("path", [
    "/v2/evil.example/app/manifests/1", "/evil.example/v2/app/manifests/1",
    "/v2/app/manifests/1?ns=evil.example", "/v2/localhost/app/manifests/1",
    "/v2/127.0.0.1:80/app/manifests/1", "/v2/docker.io.evil.example/app/manifests/1",
    "/v2/evil.example/app/blobs/sha256:" + "0" * 64, "/v2/evil.example/app/tags/list",
])
def test_unknown_registry(hub, daemon, path):
    """A registry that is not configured: 404 NAME_UNKNOWN that says how to add it, and
    no traffic."""
    got = daemon.get(path)
    assert got.status == 404
    error = json.loads(got.body)["errors"][0]
    assert error["code"] == "NAME_UNKNOWN"
    assert "[upstream " in json.dumps(error)
    assert hub.count() == 0 and daemon.metric("upstream_requests_total") == 0


def test_local_name(hub, daemon, item):
    """A name without a registry is a local one at the registry listener, and nobody's
    until it is pushed: the upstream is not asked."""
    got = daemon.get("/v2/library/app/manifests/1")
    assert got.status == 404 and b"NAME_UNKNOWN" in got.body
    assert hub.count() == 0


def test_mirror_serves_one_upstream(hub, daemon, item):
    """At a mirror of docker.io a ns of another registry is refused."""
    got = daemon.get("/v2/library/app/manifests/1?ns=mcr.microsoft.com", mirror=True)
    assert got.status in (400, 404)
    assert hub.count() == 0


def test_credentials_of_clients_stay_here(hub, daemon, item):
    """What a client sends to authenticate is not passed on for what is public, no
    cookie ever, and neither is logged."""
    daemon.get("/v2/library/app/manifests/1", mirror=True,
               fields=[*ACCEPT, ("Authorization", "Basic c2VjcmV0OnNlY3JldA=="),
                       ("Cookie", "a=b")])
    daemon.get("/v2/docker.io/library/app/manifests/1",
               fields=[*ACCEPT, ("Authorization", "Basic c2VjcmV0OnNlY3JldA==")])
    assert hub.count() > 0
    assert not any("authorization" in r.fields or "cookie" in r.fields for r in hub.asked())
    assert "c2VjcmV0" not in daemon.stderr_path.read_text()
