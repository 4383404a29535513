# SPDX-License-Identifier: ISC
"""Images as Microsoft makes them: an index by os.version; a base layer that stays for months
and a delta that is new every month; of old ones, a layer that only its urls have."""

import json

from lib.image import DOCKER, Blob, Manifest, index, noise

FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
REPOSITORY = "windows/servercore"


def layer(size, seed):
    return Blob(DOCKER["layer"], noise(size, seed))


def foreign_layer(data, urls):
    return Blob(FOREIGN, data, {"urls": list(urls)})


def windows_image(layers, build, seed=""):
    config = Blob(DOCKER["config"], json.dumps(
        {"os": "windows", "os.version": build, "architecture": "amd64", "seed": seed}).encode())
    document = {"schemaVersion": 2, "mediaType": DOCKER["manifest"],
                "config": config.descriptor(), "layers": [x.descriptor() for x in layers]}
    platform = {"architecture": "amd64", "os": "windows", "os.version": build}
    return Manifest(DOCKER["manifest"], json.dumps(document).encode(), {"platform": platform},
                    [config, *layers])


def servercore(*images):
    return index(images, DOCKER)
