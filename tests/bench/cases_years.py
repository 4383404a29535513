# SPDX-License-Identifier: ISC
"""The case of a cache that has run for years: a hundred thousand images, a million blobs. What
it costs to start with it, to answer beside it, to evict from it and to scrub it."""
import http.client
import os
import re
import signal
import statistics
import subprocess
import threading
import time

from contestants import MANIFEST_TYPE, REGISTRY, TAG, Cachalot
from stage import MIB, BenchError, drop_from_page_cache, wait_until

IMAGES = 100_000
LAYERS = 9  # with a config and a manifest, and a layer that a hundred share: ten blobs an image
EVICTED = 10_000
SPARE_BYTES = 8 * MIB
ROUNDS = 8  # and one that is thrown away


class YearsCachalot(Cachalot):
    """Its cache is there already; `options` are further lines of [cache]."""

    options = ""

    def command(self):
        command = super().command()
        with open(command[-1], encoding="ascii") as file:
            text = file.read()
        self.write("cachalot.ini", text.replace("[cache]\n", f"[cache]\n{self.options}\n"))
        return command

    def metric(self, name):
        connection = http.client.HTTPConnection(self.address, self.port, timeout=60)
        connection.request("GET", "/-/metrics")
        text = connection.getresponse().read().decode()
        connection.close()
        return int(re.search(rf"^{name} (\d+)$", text, re.M).group(1))


def is_hit(server, path):
    connection = http.client.HTTPConnection(server.address, server.port, timeout=60)
    connection.request("GET", path, headers={"Accept": MANIFEST_TYPE})
    answer = connection.getresponse()
    answer.read()
    connection.close()
    return answer.status == 200 and "hit" in answer.getheader("Cache-Status", "")


def seconds_to_hit(server, path):
    begun = time.monotonic()
    server.start()
    if not is_hit(server, path):
        raise BenchError(f"{path} is not held after a start")
    return time.monotonic() - begun


def starts(b, server, make_row):
    """From the exec to the first answer, however the daemon ended before."""
    index = os.path.join(server.directory, "cache", "db", "data.mdb")
    path = server.manifest(b.content.manifest)
    rows = []
    for what in ("after a clean end", "after a kill", "after a kill, index not in memory"):
        measured = []
        for _ in range(2 if b.quick else 3):
            server.start()
            if "kill" in what:
                server.process.child.send_signal(signal.SIGKILL)
                server.process.child.wait()
            server.stop()
            if "memory" in what:
                os.sync()
                drop_from_page_cache(index)
            measured.append(seconds_to_hit(server, path))
            server.stop()
        rows.append(make_row("years", f"start {what}", "s",
                             {"cachalot": statistics.median(measured)}, rounds=measured, at_most=2))
    return rows


def hits(b, empty, full, cpus, make_row):
    """Small hits beside an index that is nearly empty and one that is not."""
    rounds = {"rate": [], "p99_ms": []}
    for number in range(3 if b.quick else ROUNDS + 1):
        pair = {}
        for server in (empty, full) if number % 2 else (full, empty):
            result = b.drain.run(server, cpu=cpus[1], p=64, t=1,
                                 u=server.manifest(b.content.manifest))
            pair[server] = {"rate": result["requests"] / result["request_seconds"],
                            "p99_ms": result["p99_ms"]}
        if number:
            for key, both in rounds.items():
                both.append((pair[full][key], pair[empty][key]))
    rows = []
    for key, what, unit, limit in (("rate", "hits per second / those of an empty index", "req/s",
                                    {"at_least": 0.9}),
                                   ("p99_ms", "p99 of hits / that of an empty index", "ms",
                                    {"at_most": 1.1})):
        both = rounds[key]
        rows.append(make_row("years", what, unit, {"cachalot": statistics.median(x for x, _ in both)},
                             statistics.median(x / y for x, y in both), both, of_ratio=True, **limit))
    return rows


def asked_in_time(b, server, cpu):
    """p99 of a second of hits on a timetable."""
    return b.drain.run(server, cpu=cpu, p=8, i=2000, t=1,
                       u=server.manifest(b.content.manifest))["p99_ms"]


def eviction(b, server, cpus, make_row):
    """Hits while a pull has images evicted."""
    before = [asked_in_time(b, server, cpus[1]) for _ in range(6)][1:]
    count = server.metric("cachalot_evicted_blobs_total")
    pull = threading.Thread(target=b.drain.run, args=(server, server.blob(b.content.herd)),
                            kwargs={"c": 1})
    pull.start()
    beside = []
    last = count
    while True:
        beside.append(asked_in_time(b, server, cpus[1]))
        now = server.metric("cachalot_evicted_blobs_total")
        if now == last and now - count >= (EVICTED // 10 if b.quick else EVICTED):
            break
        if len(beside) > 120:
            raise BenchError(f"{now - count} blobs were evicted in two minutes")
        last = now
    pull.join()
    worst = max(beside[:-1])
    return make_row("years", f"p99 of hits while {last - count} blobs are evicted / before", "ms",
                    {"cachalot": worst}, worst / statistics.median(before), [before, beside],
                    at_most=2, of_ratio=True)


def set_options(server, options):
    """By a reload."""
    before = server.metric("cachalot_reloads_total")
    server.options = options
    server.command()
    server.process.child.send_signal(signal.SIGHUP)
    wait_until(lambda: server.metric("cachalot_reloads_total") > before, "the reload")


def scrubbing(b, server, cpus, make_row):
    """What hits lose while all is read again at the usual rate."""
    path = server.blob(b.content.large)
    rounds = []

    def rate():
        result = b.drain.run(server, path, cpus[1], c=1, r=4)
        return result["bytes"] / 1e9 / result["seconds"]

    b.fill(server, path)
    for number in range(3 if b.quick else ROUNDS + 1):
        set_options(server, "size = 0\nscrub = 0")
        alone = rate()
        set_options(server, "size = 0\nscrub = 1s")
        read = server.metric("cachalot_scrub_blobs_total")
        wait_until(lambda: server.metric("cachalot_scrub_blobs_total") > read, "the scrubber")
        beside = rate()
        if number:
            rounds.append((beside, alone))
    return make_row("years", "throughput of a hit while all is scrubbed / else", "GB/s",
                    {"cachalot": statistics.median(x for x, _ in rounds)},
                    statistics.median(x / y for x, y in rounds), rounds, at_least=0.95,
                    of_ratio=True)


def years_case(b, upstream, servers, cpus, make_row):
    if b.peers_only:
        return []
    empty, full = servers
    images = IMAGES // 10 if b.quick else IMAGES
    cache = os.path.join(full.directory, "cache")
    os.mkdir(cache, 0o700)
    years = os.path.join(os.path.dirname(b.drain.program), "years")
    if subprocess.run([years, cache, REGISTRY, str(images), str(LAYERS)]).returncode != 0:
        raise BenchError("the cache of years was not made")
    with upstream, empty, full:
        upstream.start()
        for server in servers:
            server.start()
            for path in (server.manifest(TAG), server.manifest(b.content.manifest)):
                b.fill(server, path)
            server.stop()
        rows = starts(b, full, make_row)
        full.start()
        wait_until(lambda: full.metric("cachalot_cache_blobs") >= images, "the count of blobs")
        held = full.metric("cachalot_cache_bytes")
        full.stop()
        full.options = f"size = {(held + SPARE_BYTES) // 1024}KiB\nevict-to = 99%"
        for server in servers:
            server.start(cpus[0])
        rows += hits(b, empty, full, cpus, make_row)
        rows.append(eviction(b, full, cpus, make_row))
        rows.append(scrubbing(b, full, cpus, make_row))
    return rows
