# SPDX-License-Identifier: ISC
"""Paths of the prefix door, and of the others by their names."""

HUB = "docker.io"
MCR = "mcr.microsoft.com"


def manifest(repository, reference, registry=HUB):
    return f"/v2/{registry}/{repository}/manifests/{reference}"


def blob(repository, digest, registry=HUB):
    return f"/v2/{registry}/{repository}/blobs/{digest}"


def tags(repository, query="", registry=HUB):
    return f"/v2/{registry}/{repository}/tags/list{query}"


def referrers(repository, digest, query="", registry=HUB):
    return f"/v2/{registry}/{repository}/referrers/{digest}{query}"
