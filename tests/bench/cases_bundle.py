# SPDX-License-Identifier: ISC
"""The case of bundles: export and import against cp and sha256sum of the same bytes, on the same
disk, each synced; and what the commands take that have to do with very many images."""
import hashlib
import http.client
import io
import json
import os
import shutil
import statistics
import subprocess
import tarfile
import time

from cases_push import Layer, PushCachalot, push
from contestants import MANIFEST_TYPE, REPOSITORY, descriptor
from stage import GIB, BenchError

ROUNDS = 3  # and one that is thrown away
LAYERS = 4
RSS_MIB = 50
IMAGES = 10_000
LIST_SECONDS = 0.5


def peak_rss_mib(pid):
    """0 when it has ended."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) / 1024
    except OSError:
        pass
    return 0


def run(arguments):
    """Seconds, and the most memory that was seen in use."""
    peak = 0
    begun = time.monotonic()
    with subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child:
        while True:
            peak = max(peak, peak_rss_mib(child.pid))
            try:
                _, errors = child.communicate(timeout=0.005)
                break
            except subprocess.TimeoutExpired:
                continue
    if child.returncode != 0:
        raise BenchError(f"{arguments}: {child.returncode}: {errors.decode()[-500:]}")
    return time.monotonic() - begun, peak


def put_manifest(server, layers):
    described = [{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": x.digest,
                  "size": x.size} for x in layers]
    body = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": described[0],
                       "layers": described}).encode()
    connection = http.client.HTTPConnection(server.address, server.port, timeout=60)
    connection.request("PUT", f"/v2/{REPOSITORY}/manifests/1", body,
                       {"Content-Type": MANIFEST_TYPE})
    if connection.getresponse().status != 201:
        raise BenchError("the manifest of the bundle was not taken")
    connection.close()


def fill(b, server, size):
    """Push an image of that size; the layers' files go at once."""
    layers = []
    server.start()
    for number in range(LAYERS):
        layer = Layer(b.directory, f"bundle-layer{number}", size // LAYERS)
        push(server, layer)
        os.unlink(layer.path)
        layers.append(layer)
    put_manifest(server, layers)
    return [server.stored_file(x.digest, x.size) for x in layers]


def copy_and_sum(files, directory):
    """Seconds of cp, sync and sha256sum."""
    copies = os.path.join(directory, "copies")
    os.mkdir(copies)
    seconds = run(["cp", *files, copies])[0]
    copied = [os.path.join(copies, os.path.basename(f)) for f in files]
    seconds += run(["sync", *copied])[0]
    seconds += run(["sha256sum", *copied])[0]
    shutil.rmtree(copies)
    return seconds


def command(b, server, *arguments):
    program = os.path.join(os.path.dirname(b.program), "cachalot")
    return run([program, "-C", os.path.join(server.directory, "cache"), *arguments])


def one_round(b, near, far, files, bundle):
    """Seconds of the baseline, of the export and of the import; their peaks."""
    baseline = copy_and_sum(files, b.directory)
    exported, peak = command(b, near, "export", "-o", bundle, f"{REPOSITORY}:1")
    with far:
        far.start()
        imported, other = command(b, far, "import", bundle)
    far.clear()
    os.unlink(bundle)
    return baseline, exported, imported, max(peak, other)


def bundle_case(b, port, upstream, Row):
    size = GIB if b.quick else 4 * GIB
    if b.peers_only:
        return []
    near = PushCachalot(b.scratch(), port, b.program, upstream)
    far = PushCachalot(b.scratch(), port + 10, b.program, upstream)
    with near:
        files = fill(b, near, size)
    rounds = [one_round(b, near, far, files, os.path.join(b.directory, "bundle.tar"))
              for _ in range(ROUNDS + 1 if not b.quick else 2)][1:]
    near.clear()
    rows = []
    for place, what in ((1, "export"), (2, "import")):
        ratio = statistics.median([r[0] / r[place] for r in rounds])
        speed = size / statistics.median([r[place] for r in rounds]) / 1e9
        rows.append(Row("bundle", f"{what} of {size / GIB:g} GiB, to cp + sha256sum", "GB/s",
                        {"cachalot": speed}, ratio, rounds, at_least=0.9, of_ratio=True))
    rows.append(Row("bundle", "peak RSS", "MiB", {"cachalot": max(r[3] for r in rounds)},
                    at_most=RSS_MIB))
    rows.append(Row("bundle", "cp + sync + sha256sum", "GB/s",
                    {"cachalot": size / statistics.median([r[0] for r in rounds]) / 1e9}))
    return rows + many(b, PushCachalot(b.scratch(), port, b.program, upstream), Row)


# --- very many images ---

def describe(media_type, data):
    return descriptor(media_type, "sha256:" + hashlib.sha256(data).hexdigest(), len(data))


def small_image(number):
    """The contents of an image that shares a layer with all others: the manifest is last."""
    kind = "application/vnd.oci.image."
    layers = [b"the layer of all", b"layer %d" % number]
    config = json.dumps({"os": "linux", "architecture": "amd64", "number": number}).encode()
    manifest = json.dumps({
        "schemaVersion": 2, "mediaType": MANIFEST_TYPE,
        "config": describe(kind + "config.v1+json", config),
        "layers": [describe(kind + "layer.v1.tar", x) for x in layers]}).encode()
    return [*layers, config, manifest]


def write_archive(path, count):
    """An image layout of so many images."""
    images, contents = [], {}
    for number in range(count):
        image = small_image(number)
        name = f"docker.io/library/app-{number % 500}:1.{number}"
        images.append({**describe(MANIFEST_TYPE, image[-1]),
                       "annotations": {"org.opencontainers.image.ref.name": name}})
        contents.update({hashlib.sha256(x).hexdigest(): x for x in image})
    entries = {"oci-layout": b'{"imageLayoutVersion":"1.0.0"}',
               "index.json": json.dumps({"schemaVersion": 2, "manifests": images}).encode(),
               **{f"blobs/sha256/{x}": data for x, data in contents.items()}}
    with tarfile.open(path, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name, data in entries.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(data)
            tar.addfile(entry, io.BytesIO(data))


def many(b, server, Row):
    """Commands that see all images: their memory, and the time of a listing."""
    count = IMAGES // 10 if b.quick else IMAGES
    archive, bundle, receipt = (os.path.join(b.directory, x) for x in
                                ("many.tar", "many-bundle.tar", "many.receipt"))
    write_archive(archive, count)
    with server:
        server.start()
    rows = []
    for what, arguments in (("import", ["import", archive]), ("import again", ["import", archive]),
                            ("export", ["export", "--all", "-o", bundle]),
                            ("import of the bundle", ["import", bundle]),
                            ("have", ["have", "-o", receipt]), ("ls", ["ls"])):
        peak = command(b, server, *arguments)[1]
        rows.append(Row("bundle", f"{what}, {count} images: peak RSS", "MiB", {"cachalot": peak},
                        at_most=RSS_MIB))
    seconds = statistics.median([command(b, server, "ls")[0] for _ in range(ROUNDS)])
    rows.append(Row("bundle", f"ls of {count} images", "s", {"cachalot": seconds},
                    at_most=LIST_SECONDS))
    server.clear()
    for path in (archive, bundle, receipt):
        os.unlink(path)
    return rows
