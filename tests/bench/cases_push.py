# SPDX-License-Identifier: ISC
"""The cases of pushes, against docker-registry as a registry of its own: fresh stores, all
processors for everybody, since hashing and the disk are what counts."""
import hashlib
import http.client
import json
import os
import selectors
import socket
import threading
import time

from contestants import MANIFEST_TYPE, REPOSITORY, Cachalot, Registry
from stage import GIB, MIB, BenchError

ROUNDS = 3  # and one that is thrown away
LAYERS = 5  # of an image that Docker pushes at once
MANIFESTS = 3000
MANIFEST_CLIENTS = 32
RSS_MIB = 64


class PushCachalot(Cachalot):
    prefix = "/v2/"

    def __init__(self, directory, port, program, upstream):
        super().__init__(directory, port, program, upstream)
        self.listen = "\n[access everybody]\nallow = pull push"


class Layer:
    """A file of bytes that nobody has seen, and its digest."""

    def __init__(self, directory, name, size):
        self.path = os.path.join(directory, name)
        self.size = size
        digest = hashlib.sha256()
        with open(self.path, "wb") as file:
            for _ in range(size // MIB):
                piece = os.urandom(MIB)
                digest.update(piece)
                file.write(piece)
        self.digest = "sha256:" + digest.hexdigest()


def begin_upload(server):
    connection = http.client.HTTPConnection(server.address, server.port, timeout=60)
    connection.request("POST", f"/v2/{REPOSITORY}/blobs/uploads/")
    answer = connection.getresponse()
    answer.read()
    connection.close()
    if answer.status != 202:
        raise BenchError(f"{server.name}: an upload began with {answer.status}")
    return answer.headers["Location"].split(f":{server.port}", 1)[-1]


def push(server, layer):
    """As containerd does: POST, then one PUT with all of it."""
    location = begin_upload(server)
    mark = "&" if "?" in location else "?"
    head = (f"PUT {location}{mark}digest={layer.digest} HTTP/1.1\r\nHost: bench\r\n"
            f"Content-Type: application/octet-stream\r\nContent-Length: {layer.size}\r\n\r\n")
    with socket.create_connection((server.address, server.port), timeout=300) as s, \
            open(layer.path, "rb") as file:
        s.sendall(head.encode())
        s.sendfile(file)
        status = s.recv(65536).split(b"\r\n", 1)[0]
    if b" 201 " not in status:
        raise BenchError(f"{server.name}: an upload ended with {status}")


def time_all(job, layers):
    """Seconds that it takes with all of them at once."""
    failures = []

    def run(layer):
        try:
            job(layer)
        except (OSError, BenchError) as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(layer,)) for layer in layers]
    begun = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return time.monotonic() - begun


def push_all(server, layers):
    return time_all(lambda layer: push(server, layer), layers)


def write_all(layers):
    """Seconds that the disk alone takes for the same bytes, synced."""
    def copy_one(layer):
        path = layer.path + ".copy"
        with open(layer.path, "rb") as source, open(path, "wb") as copy:
            while os.sendfile(copy.fileno(), source.fileno(), None, 8 * MIB) > 0:
                pass
            os.fsync(copy.fileno())
        os.unlink(path)

    return time_all(copy_one, layers)


def manifests(layer):
    """Requests that each put another manifest under another tag."""
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": layer.digest,
              "size": layer.size}
    for number in range(MANIFESTS):
        body = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config,
                           "layers": [config], "annotations": {"n": str(number)}}).encode()
        yield (f"PUT /v2/{REPOSITORY}/manifests/t{number} HTTP/1.1\r\nHost: bench\r\n"
               f"Content-Type: {MANIFEST_TYPE}\r\nContent-Length: {len(body)}\r\n\r\n"
               ).encode() + body


def put_manifests(server, layer):
    """Manifests a second, from clients that each wait for their answers."""
    requests = manifests(layer)
    selector = selectors.DefaultSelector()
    done = 0
    begun = time.monotonic()
    for _ in range(MANIFEST_CLIENTS):
        s = socket.create_connection((server.address, server.port), timeout=60)
        selector.register(s, selectors.EVENT_READ)
        s.sendall(next(requests))
    while selector.get_map():
        for key, _ in selector.select():
            answer = key.fileobj.recv(65536)
            if not answer.startswith(b"HTTP/1.1 201"):
                raise BenchError(f"{server.name}: a manifest was answered {answer[:300]}")
            done += 1
            following = next(requests, None)
            if following:
                key.fileobj.sendall(following)
            else:
                selector.unregister(key.fileobj)
                key.fileobj.close()
    return done / (time.monotonic() - begun)


def median(values):
    return sorted(values)[len(values) // 2]


def rounds_of(b, ports, upstream, what):
    """What each contestant measured in each round, on a fresh store."""
    measured = {"cachalot": [], "docker-registry": []}
    for number in range(ROUNDS + 1 if not b.quick else 2):
        servers = [Registry(b.scratch(), ports[1])]
        if not b.peers_only:
            servers.insert(number % 2, PushCachalot(b.scratch(), ports[0], b.program, upstream))
        for server in servers:
            with server:
                server.start()
                value = what(server)
            server.clear()
            if number > 0:
                measured[server.name].append(value)
    return measured


def row(Row, what, unit, measured, **limits):
    mine, theirs = measured["cachalot"], measured["docker-registry"]
    ratio = median([a / b for a, b in zip(mine, theirs)]) if mine else None
    values = {name: median(said) for name, said in measured.items() if said}
    return Row("push", what, unit, values, ratio, measured, **limits)


def push_case(b, ports, upstream, Row):
    layer = Layer(b.directory, "layer", (GIB // 4 if b.quick else GIB))
    layers = [Layer(b.directory, f"layer{i}", (64 if b.quick else 256) * MIB)
              for i in range(LAYERS)]
    peaks = []

    def one(server):
        speed = layer.size / push_all(server, [layer]) / 1e9
        if server.name == "cachalot":
            peaks.append(server.process.peak_rss_bytes() / MIB)
        return speed

    def many(server):
        return sum(x.size for x in layers) / push_all(server, layers) / 1e9

    def documents(server):
        push(server, layers[0])
        return put_manifests(server, layers[0])

    rows = [row(Row, f"a layer of {layer.size / GIB:g} GiB: throughput", "GB/s",
                rounds_of(b, ports, upstream, one), at_least=1.5, of_ratio=True),
            row(Row, f"{LAYERS} layers at once: throughput", "GB/s",
                rounds_of(b, ports, upstream, many))]
    disk = sum(x.size for x in layers) / median([write_all(layers)
                                                 for _ in range(3)]) / 1e9
    rows.append(Row("push", "the same, by the disk alone", "GB/s", {"cachalot": disk}))
    rows.append(row(Row, "manifests a second", "req/s",
                    rounds_of(b, ports, upstream, documents), at_least=1000))
    if peaks:
        rows.append(Row("push", "peak RSS over the layer", "MiB", {"cachalot": max(peaks)},
                        at_most=RSS_MIB))
    return rows
