# SPDX-License-Identifier: ISC
"""One image, a real registry, cachalotd between, and four real clients; no internet.

Everything runs in a network namespace with nothing but loopback, keeps its state in one
temporary directory, and is ended and removed at the end. Started by "tools/bootstrap demo".
"""

import os
import shutil
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from lib import image, isolate
from lib.cachalot import Cachalot
from lib.clients import Containerd, Dockerd, Podman, Skopeo
from lib.registry import Registry

LAYER_BYTES = 30_000_000
LAYERS = 3
REPOSITORY = "library/demo"
REFERENCE = f"docker.io/{REPOSITORY}:1"


def say(text=""):
    print(text, flush=True)


def mb(count):
    return f"{count / 1e6:.1f} MB"


def pulls(stack, directory, cachalot):
    """[(client, door, a function that pulls the image)]"""
    prefix = "%s:%d" % cachalot.address
    url = "http://%s:%d" % cachalot.address
    mirror_url = "http://%s:%d" % cachalot.mirror

    skopeo = Skopeo(directory, "docker.io", f"{prefix}/docker.io")
    podman = Podman(directory, "docker.io", f"{prefix}/docker.io")
    stack.callback(podman.close)
    containerd = Containerd(directory)
    stack.callback(containerd.close)
    containerd.use("docker.io", url)
    dockerd = Dockerd(directory, containerd, mirror_url)
    stack.callback(dockerd.close)
    return [
        ("skopeo", "prefix: a mirror in registries.conf", lambda: skopeo.copy(REFERENCE)),
        ("podman", "prefix: a mirror in registries.conf", lambda: podman.pull(REFERENCE)),
        ("containerd", "ns: hosts.toml", lambda: containerd.pull(REFERENCE)),
        ("dockerd", "mirror: registry-mirrors", lambda: dockerd.pull(REFERENCE)),
    ]


def demo(stack, directory):
    say(f"The upstream: a docker-registry, with an image of {LAYERS} layers, "
        f"{mb(LAYERS * LAYER_BYTES)} that do not compress.")
    registry = Registry(directory)
    stack.callback(registry.close)
    registry.push(image.image("demo", (LAYER_BYTES,) * LAYERS, image.DOCKER), REPOSITORY, "1")

    say(f"cachalotd, for which docker.io is {registry.url}.")
    cachalot = Cachalot(directory, {"docker.io": registry.url})
    stack.callback(cachalot.close)
    cachalot.start()

    say(f"Four clients pull {REFERENCE}, none of which has it:")
    say()
    say(f"{'client':<12}{'door':<38}{'seconds':>8}{'from the line':>15}{'to the client':>15}")
    for name, door, pull in pulls(stack, directory, cachalot):
        before = cachalot.metrics()
        began = time.monotonic()
        pull()
        seconds = time.monotonic() - began
        cachalot.wait_idle()
        after = cachalot.metrics()
        line, lan = (after[m] - before[m] for m in
                     ("cachalot_upstream_bytes_total", "cachalot_client_bytes_total"))
        say(f"{name:<12}{door:<38}{seconds:>8.1f}{mb(line):>15}{mb(lan):>15}")

    totals = cachalot.metrics()
    line, lan = totals["cachalot_upstream_bytes_total"], totals["cachalot_client_bytes_total"]
    say()
    say(f"The registry's own log: {registry.count()} requests, "
        f"{registry.count('GET', '/blobs/')} of them for blobs, {mb(registry.bytes_sent(''))} sent.")
    say(f"Crossed the line: {mb(line)}. Served to clients: {mb(lan)}. "
        f"Saved: {mb(lan - line)}, {100 * (lan - line) / lan:.0f} %.")
    assert registry.count("GET", "/blobs/") == LAYERS + 1, "a blob crossed the line twice"


def main():
    for name in list(os.environ):
        if name.lower() in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            del os.environ[name]
    why_not = isolate.enter()
    if why_not:
        sys.exit(f"demo: cannot make a network namespace: {why_not} (root is needed)")
    directory = Path(tempfile.mkdtemp(prefix="cachalot-demo-"))
    try:
        with ExitStack() as stack:
            demo(stack, directory)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    main()
