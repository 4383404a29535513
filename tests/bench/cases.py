# SPDX-License-Identifier: ISC
"""The cases: each sets its scene, measures, and returns rows of the table.

Rounds of the contestants are interleaved and the first is thrown away: the machine may be
shared, and it is slow after idling. What is compared is the median of the ratios that the
rounds gave. Servers run on processor 0 and the client on processor 1, except where a case says
otherwise.
"""
import os
import re
import shutil
import statistics
import tempfile

import cases_bundle
import cases_many
import cases_push
import cases_tls
import cases_years
from contestants import TAG, Cachalot, Content, NginxCache, NginxStatic, Paced, Registry
from stage import (FAR_ADDRESS, GIB, MIB, BenchError, Drain, Line, drop_from_page_cache,
                   wait_until, warm_memory, warm_page_cache)

SERVER_CPU = 0
CLIENT_CPU = 1
LINE_MBIT = 400
# Of the case "pieces": what a connection may, and what the line does.
CONNECTION_MBIT = 100
WIDE_LINE_MBIT = 800

UPSTREAM_PORT = 8001
CACHALOT_PORT = 8002
NGINX_PORT = 8003
REGISTRY_PORT = 8004

NAMES = ("cachalot", "nginx", "docker-registry")
UNITS = {"x": "{:.3f} x", "s": "{:.3f} s", "ms": "{:.2f} ms", "GB/s": "{:.2f} GB/s",
         "s/GB": "{:.3f} s/GB", "req/s": "{:,.0f}/s", "Ir": "{:,.0f}", "MiB": "{:.1f} MiB"}


class Row:
    """A line of the table. The target bounds cachalot's own value, or its ratio to nginx."""

    def __init__(self, case, what, unit, values, ratio=None, rounds=None, at_most=None,
                 at_least=None, of_ratio=False):
        self.case, self.what, self.unit, self.values = case, what, unit, values
        self.ratio, self.rounds = ratio, rounds
        self.at_most, self.at_least, self.of_ratio = at_most, at_least, of_ratio

    def verdict(self):
        judged = self.ratio if self.of_ratio else self.values.get("cachalot")
        if judged is None or (self.at_most is None and self.at_least is None):
            return ""
        good = (self.at_most is None or judged <= self.at_most) and (
            self.at_least is None or judged >= self.at_least)
        return "ok" if good else "short"

    def target(self):
        form = UNITS["x" if self.of_ratio else self.unit]
        if self.at_most is not None:
            return "<= " + form.format(self.at_most)
        return "" if self.at_least is None else ">= " + form.format(self.at_least)

    def cells(self):
        def show(value, unit):
            return "" if value is None else UNITS[unit].format(value)
        return [self.case, self.what, *(show(self.values.get(name), self.unit) for name in NAMES),
                show(self.ratio, "x"), self.target(), self.verdict()]

    def record(self):
        return {"case": self.case, "what": self.what, "unit": self.unit, "values": self.values,
                "ratio": self.ratio, "at_most": self.at_most, "at_least": self.at_least,
                "of_ratio": self.of_ratio, "verdict": self.verdict(), "rounds": self.rounds}


class Bench:
    """What every case needs: the content, the client, the scale."""

    def __init__(self, directory, drain, program, content, quick, congestion, peers_only):
        self.directory = directory
        self.drain = Drain(drain)
        self.program = program
        self.content = content
        self.quick = quick
        self.congestion = congestion
        self.peers_only = peers_only
        self.used = 0

    def scratch(self):
        self.used += 1
        return os.path.join(self.directory, f"run{self.used}")

    def static(self, port=UPSTREAM_PORT):
        return NginxStatic(self.scratch(), port, self.content)

    def cachalot(self, upstream):
        return Cachalot(self.scratch(), CACHALOT_PORT, self.program, upstream)

    def nginx(self, upstream, buffers=""):
        return NginxCache(self.scratch(), NGINX_PORT, upstream, buffers)

    def registry(self, upstream):
        return Registry(self.scratch(), REGISTRY_PORT, upstream=upstream)

    def contestants(self, *servers):
        """Those that take part: cachalot is left out when only the peers are wanted."""
        return [s for s in servers if not (self.peers_only and isinstance(s, Cachalot))]

    def fill(self, server, path):
        """Get a thing into the cache of a server; afterwards it is held."""
        self.drain.run(server, path, c=1)
        if isinstance(server, Cachalot):
            wait_until(lambda: "hit" in server.head(path).get("Cache-Status", ""),
                       f"a hit of {path}")


def median(values):
    return statistics.median(values) if values else None


def row_of_medians(case, what, unit, rounds, key, **limits):
    """A row of one measure; its ratio is that to nginx, round by round. `rounds` has pairs of a
    server's name and what was measured."""
    columns = {name: [measured[key] for server, measured in rounds if server == name]
               for name in NAMES}
    ratios = [mine / theirs for mine, theirs in zip(columns["cachalot"], columns["nginx"])]
    return Row(case, what, unit, {name: median(values) for name, values in columns.items()},
               median(ratios), columns, **limits)


def row_of_least(case, what, unit, rounds, key, **limits):
    """As row_of_medians, of each server's least. A host that takes memory back and gives it again
    adds to what a write costs, by halves and more, and never takes anything away."""
    columns = {name: [measured[key] for server, measured in rounds if server == name]
               for name in NAMES}
    least = {name: min(values) for name, values in columns.items() if values}
    ratio = least["cachalot"] / least["nginx"] if {"cachalot", "nginx"} <= least.keys() else None
    return Row(case, what, unit, least, ratio, columns, **limits)


# --- 1: the herd ---

def herd(b):
    """Eight clients want one absent blob over a slow line, within half a second."""
    rounds = []
    line = Line(LINE_MBIT, b.congestion)
    try:
        with Registry(b.scratch(), UPSTREAM_PORT, FAR_ADDRESS, storage=b.content.storage,
                      wrap=line.wrap) as upstream:
            upstream.start()
            direct_path = upstream.blob(b.content.herd)
            b.drain.run(upstream, direct_path, CLIENT_CPU, c=1)
            direct = median([b.drain.run(upstream, direct_path, CLIENT_CPU, c=1)["seconds"]
                             for _ in range(1 if b.quick else 3)])
            for make, count in ((b.cachalot, 1 if b.quick else 3), (b.nginx, 1), (b.registry, 1)):
                for _ in range(count):
                    server = make(upstream)
                    if b.contestants(server):
                        rounds.append((server.name, herd_round(b, line, server, direct)))
    finally:
        line.close()
    rows = []
    for key, what, unit, limit in (
            ("line", "bytes over the line / blob", "x", {"at_most": 1.07}),
            ("first", "first byte of the body, worst client", "s", {"at_most": 0.1}),
            ("slowest", "slowest client / direct download", "x", {"at_most": 1.03})):
        rows.append(row_of_medians("herd", what, unit, rounds, key, **limit))
    return rows


def herd_round(b, line, server, direct):
    with server.start(SERVER_CPU):
        before = line.bytes()
        result = b.drain.run(server, server.blob(b.content.herd), CLIENT_CPU, c=8, s=500)
        after = line.bytes()
    shutil.rmtree(server.directory)
    size = b.content.herd_bytes
    return {"line": (after[0] - before[0]) / size, "line_back": (after[1] - before[1]) / size,
            "first": max(c["first_body"] for c in result["clients"]),
            "first_of_head": max(c["first_byte"] for c in result["clients"]),
            "slowest": max(c["finished"] for c in result["clients"]) / direct, "direct": direct}


# --- 2: large hits ---

def hits(b):
    """A held blob, page cache warm, against nginx sending the same file by sendfile."""
    rows = []
    with b.static() as upstream, b.static(NGINX_PORT) as nginx, b.cachalot(upstream) as cachalot:
        upstream.start()
        servers = b.contestants(cachalot, nginx)
        for server in servers:
            server.start(SERVER_CPU)
            b.fill(server, server.blob(b.content.large))
        if cachalot in servers:
            # One file for both: how it lies in the page cache weighs more than who sends it.
            nginx.content = b.content.with_large(cachalot.stored_file(b.content.large,
                                                                      b.content.large_bytes))
            nginx.stop()
            nginx.start(SERVER_CPU)
        for clients in (1, 4, 16):
            repeats = 4 // clients or 1
            rounds = []
            for number in range(4 if b.quick else 12):
                for server in servers if number % 2 else servers[::-1]:
                    measured = throughput(b, server, CLIENT_CPU, c=clients, r=repeats)
                    if number:
                        rounds.append((server.name, measured))
            who = f"{clients} client{'s' if clients > 1 else ''}"
            rows.append(row_of_medians("hits", f"{who}: throughput", "GB/s", rounds, "rate",
                                       at_least=0.95, of_ratio=True))
            rows.append(row_of_medians("hits", f"{who}: CPU of the server", "s/GB", rounds, "cpu",
                                       at_most=1.0, of_ratio=True))
    return rows


def throughput(b, server, cpu, **options):
    before = server.process.cpu_seconds()
    result = b.drain.run(server, server.blob(b.content.large), cpu, **options)
    spent = server.process.cpu_seconds() - before
    return {"rate": result["bytes"] / 1e9 / result["seconds"],
            "cpu": spent / (result["bytes"] / 1e9),
            "client_cpu": result["cpu_seconds"] / (result["bytes"] / 1e9)}


# --- 3: manifests ---

def manifests(b):
    """Small hits over 64 connections, against nginx with the same in its cache."""
    rows = []
    kinds = (("fresh tag", TAG), ("digest", b.content.manifest))
    with b.static() as upstream, b.cachalot(upstream) as cachalot, b.nginx(upstream) as nginx, \
            b.registry(upstream) as registry:
        upstream.start()
        servers = b.contestants(cachalot, nginx, registry)
        for server in servers:
            server.start(SERVER_CPU)
            for _, reference in kinds:
                b.fill(server, server.manifest(reference))
        for kind, reference in kinds:
            rounds = []
            for number in range(3 if b.quick else 6):
                for server in servers if number % 2 else servers[::-1]:
                    if server is registry and number > 1:
                        continue
                    measured = request_rate(b, server, reference, 1 if b.quick else 3)
                    if number:
                        rounds.append((server.name, measured))
            rows.append(row_of_medians("manifests", f"by {kind}: requests per second of CPU",
                                       "req/s", rounds, "per_cpu", at_least=1.5, of_ratio=True))
            rows.append(row_of_medians("manifests", f"by {kind}: requests per second", "req/s",
                                       rounds, "rate"))
        for server in servers:
            server.stop()
        for kind, reference in kinds:
            mine, theirs = (instructions(b, server, reference) if server in servers else None
                            for server in (cachalot, nginx))
            rows.append(Row("manifests", f"by {kind}: user instructions per request", "Ir",
                            {"cachalot": mine, "nginx": theirs}, at_most=12000))
    return rows


def request_rate(b, server, reference, seconds):
    before = server.process.cpu_seconds()
    result = b.drain.run(server, cpu=CLIENT_CPU, p=64, u=server.manifest(reference), t=seconds)
    spent = server.process.cpu_seconds() - before
    return {"rate": result["requests"] / result["request_seconds"],
            "per_cpu": result["requests"] / spent, "p99_ms": result["p99_ms"]}


def instructions(b, server, reference):
    """User instructions per request: the difference of a long run and a short one."""
    counts = (500, 1500) if b.quick else (1000, 5000)
    totals = []
    if hasattr(server, "master"):
        server.master = False
    for count in counts:
        folder = tempfile.mkdtemp(dir=server.directory)
        server.start(wrap=lambda command, out=folder: [
            "chrt", "-o", "0", "valgrind", "--tool=callgrind", f"--callgrind-out-file={out}/%p", *command])
        b.drain.run(server, p=64, n=count, u=server.manifest(reference))
        server.stop()
        total = 0
        for name in os.listdir(folder):
            with open(os.path.join(folder, name)) as file:
                total += sum(int(n) for n in re.findall(r"^totals: (\d+)", file.read(), re.M))
        if not total:
            raise BenchError(f"callgrind counted nothing for {server.name}")
        totals.append(total)
    return (totals[1] - totals[0]) / (counts[1] - counts[0])


# --- 4: a miss that no line holds back ---

# What an operator could do for nginx in this case alone: it costs 128 KiB a request elsewhere.
LARGE_BUFFERS = "proxy_buffers 16 128k; proxy_buffer_size 128k; proxy_busy_buffers_size 1m;"


def miss(b):
    """One client and an absent blob over loopback, with all processors for every program."""
    rounds, tuned = [], []
    large = b.content.blob_path(b.content.large)
    with b.static() as upstream:
        upstream.start()
        for number in range(3 if b.quick else 8):
            for mark, server in (("cachalot", b.cachalot(upstream)), ("nginx", b.nginx(upstream)),
                                 ("tuned", b.nginx(upstream, LARGE_BUFFERS))):
                if not b.contestants(server):
                    continue
                os.sync()
                with server.start():
                    warm_memory(3 * os.path.getsize(large))
                    measured = throughput(b, server, None, c=1)
                if number and mark != "tuned":
                    rounds.append((mark, measured))
                if number and mark != "nginx":
                    tuned.append((server.name, measured))
                shutil.rmtree(server.directory)
    return [row_of_medians("miss", "throughput", "GB/s", rounds, "rate", at_least=1.0,
                           of_ratio=True),
            row_of_medians("miss", "CPU of the server", "s/GB", rounds, "cpu"),
            row_of_least("miss", "CPU of the server, its least disturbed round", "s/GB", rounds,
                         "cpu", at_most=1.2),
            row_of_medians("miss", "throughput, nginx with large buffers", "GB/s", tuned, "rate"),
            row_of_medians("miss", "CPU, nginx with large buffers", "s/GB", tuned, "cpu")]


# --- pieces of one blob ---

def pieces(b):
    """A cold blob from an upstream that limits each connection, and over a plain line."""
    rows = []
    content = Content(os.path.join(b.directory, "pieces"), (128 if b.quick else 512) * MIB, MIB)
    line = Line(WIDE_LINE_MBIT, b.congestion)

    def start(upstream):
        upstream.start()
        b.drain.run(upstream, upstream.manifest(TAG), c=1)
        return b.drain.run(upstream, upstream.blob(content.large), c=1)["seconds"]

    try:
        with Paced(b.scratch(), UPSTREAM_PORT, content, CONNECTION_MBIT, FAR_ADDRESS,
                   line.wrap) as upstream:
            direct = start(upstream)
            for connections, at_least in ((4, 3.5), (8, 6.5)):
                rows.append(pieces_row(b, upstream, content, direct, connections,
                                       f"each connection limited, {connections} of them",
                                       at_least=at_least))
        with NginxStatic(b.scratch(), UPSTREAM_PORT, content, FAR_ADDRESS) as upstream:
            upstream.start(wrap=line.wrap)
            direct = statistics.median(
                b.drain.run(upstream, upstream.blob(content.large), c=1)["seconds"]
                for _ in range(1 if b.quick else 3))
            for connections in (4, 8):
                rows.append(pieces_row(b, upstream, content, direct, connections,
                                       f"the line limits, {connections} connections",
                                       at_least=0.97))
    finally:
        line.close()
    return rows


def pieces_row(b, upstream, content, direct, connections, what, **limits):
    """How much faster a client of cachalotd has the blob than one who asks the upstream."""
    ratios = []
    for _ in range(1 if b.quick else 3):
        server = Cachalot(b.scratch(), CACHALOT_PORT, b.program, upstream, connections=connections)
        with server.start():
            b.drain.run(server, server.manifest(TAG), c=1)
            measured = b.drain.run(server, server.blob(content.large), c=1)["seconds"]
        shutil.rmtree(server.directory)
        ratios.append(direct / measured)
    return Row("pieces", f"{what}: speed / direct", "x", {"cachalot": median(ratios)}, rounds=ratios,
               **limits)


# --- 5: a cold disk ---

def disk(b):
    """Manifest hits on the worker that serves a blob which is not in the page cache."""
    rounds = []
    with b.static() as upstream, b.cachalot(upstream) as cachalot, b.nginx(upstream) as nginx:
        upstream.start()
        servers = b.contestants(cachalot, nginx)
        for server in servers:
            server.start(SERVER_CPU)
            b.fill(server, server.manifest(TAG))
            b.fill(server, server.blob(b.content.large))
        for number in range(3 if b.quick else 6):
            for server in servers:
                os.sync()
                drop_from_page_cache(server.stored_file(b.content.large, b.content.large_bytes))
                result = b.drain.run(server, server.blob(b.content.large), CLIENT_CPU, c=1, p=8,
                                     u=server.manifest(TAG), i=2000)
                if number:
                    rounds.append((server.name, {
                        "p99": result["p99_ms"], "max": result["max_ms"],
                        "rate": b.content.large_bytes / 1e9 / result["seconds"]}))
    return [row_of_medians("disk", "manifest hits beside a cold blob: p99", "ms", rounds, "p99",
                           at_most=3.0),
            row_of_medians("disk", "the worst of them", "ms", rounds, "max"),
            row_of_medians("disk", "throughput of the cold blob", "GB/s", rounds, "rate")]


# --- 6: memory ---

def memory(b):
    """Two hundred clients of one absent blob. No peer: nginx would fetch two hundred copies."""
    if b.peers_only:
        return []
    with b.static() as upstream, b.cachalot(upstream) as cachalot:
        upstream.start()
        cachalot.start(SERVER_CPU)
        b.drain.run(cachalot, cachalot.blob(b.content.large), CLIENT_CPU, c=200, s=500)
        peak = cachalot.process.peak_rss_bytes() / MIB
    return [Row("memory", f"200 clients of a cold {b.content.large_bytes / GIB:g} GiB: peak RSS",
                "MiB", {"cachalot": peak}, at_most=40)]


# --- 7: TLS ---

def tls(b):
    """A held blob over TLS, new TLS connections, idle ones, against nginx."""
    return cases_tls.tls(b, SERVER_CPU, CLIENT_CPU, row_of_medians, Row)


# --- 8: pushes ---

def push(b):
    """A layer, five at once, and manifests, against docker-registry as a registry."""
    ports = (CACHALOT_PORT, REGISTRY_PORT)
    return cases_push.push_case(b, ports, b.static(), Row)


# --- 9: bundles ---

def bundle(b):
    """Export and import, against cp and sha256sum of the same bytes."""
    return cases_bundle.bundle_case(b, CACHALOT_PORT, b.static(), Row)


# --- 10: many clients ---

def many(b):
    """Idle connections, and slow readers beside a client that hurries. No peer."""
    upstream = b.static()
    return cases_many.many_case(b, upstream, b.cachalot(upstream), SERVER_CPU, CLIENT_CPU, Row)


# --- 11: years ---

def years(b):
    """A million blobs: the start, hits beside them, eviction. No peer."""
    upstream = b.static()
    servers = [cases_years.YearsCachalot(b.scratch(), port, b.program, upstream)
               for port in (CACHALOT_PORT, CACHALOT_PORT + 10)]
    return cases_years.years_case(b, upstream, servers, (SERVER_CPU, CLIENT_CPU), Row)


CASES = {"herd": herd, "hits": hits, "manifests": manifests, "miss": miss, "pieces": pieces,
         "disk": disk, "memory": memory, "tls": tls, "push": push, "bundle": bundle,
         "many": many, "years": years}
