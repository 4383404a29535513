# SPDX-License-Identifier: ISC
"""The cases of TLS: the same certificate, cipher and number of workers for both servers."""
import json
import os
import shutil
import subprocess

from contestants import TAG, Cachalot, NginxStatic
from stage import MIB, BenchError, call, pinned

IDLE = 10000
IDLE_MIB = 160
BASE_MIB = 16  # of these, what a server takes without connections
# Of descriptors, what a server needs besides its connections.
SPARE_FILES = 500


class TlsDrain:
    """The client (drain_tls.c)."""

    def __init__(self, program):
        self.program = program

    def command(self, server, what, clients, times, path):
        return [self.program, what, str(clients), str(times), f"{server.address}:{server.port}",
                path]

    def run(self, server, cpu, *arguments):
        command = pinned(cpu, self.command(server, *arguments))
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
        if done.returncode != 0:
            raise BenchError(f"{' '.join(command)} ended with {done.returncode}")
        return json.loads(done.stdout)


class TlsNginx(NginxStatic):
    def __init__(self, directory, port, content, certificate, key):
        super().__init__(directory, port, content)
        self.listen = f" ssl; ssl_certificate {certificate}; ssl_certificate_key {key}; " \
                      "ssl_protocols TLSv1.3; ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256; " \
                      "ssl_conf_command Options KTLS"


class TlsCachalot(Cachalot):
    def __init__(self, directory, port, program, upstream, certificate, key):
        super().__init__(directory, port, program, upstream)
        self.listen = f"tls = yes\ncertificate = {certificate}\nkey = {key}"


def make_certificate(directory):
    os.makedirs(directory)
    key, certificate = (os.path.join(directory, name) for name in ("key", "certificate"))
    call("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
         "-subj", "/CN=bench", "-days", "2", "-keyout", key, "-out", certificate)
    os.chmod(key, 0o600)
    return certificate, key


def transfers(b, drain, servers, server_cpu, client_cpu, row_of_medians):
    rows = []
    for clients in (1, 4, 16):
        rounds = []
        for number in range(3 if b.quick else 6):
            for server in servers if number % 2 else servers[::-1]:
                before = server.process.cpu_seconds()
                result = drain.run(server, client_cpu, "get", clients, 2 // clients or 1,
                                   server.blob(b.content.large))
                size = result["bytes"] / 1e9
                if number:
                    rounds.append((server.name, {
                        "rate": size / result["seconds"],
                        "cpu": (server.process.cpu_seconds() - before) / size}))
        who = f"{clients} client{'s' if clients > 1 else ''}"
        rows.append(row_of_medians("tls", f"{who}: throughput", "GB/s", rounds, "rate",
                                   at_least=1.5, of_ratio=True))
        rows.append(row_of_medians("tls", f"{who}: CPU of the server", "s/GB", rounds, "cpu",
                                   at_most=1 / 1.5, of_ratio=True))
    return rows


def connections(b, drain, servers, client_cpu, row_of_medians):
    rounds = []
    for number in range(3 if b.quick else 8):
        for server in servers if number % 2 else servers[::-1]:
            before = server.process.cpu_seconds()
            result = drain.run(server, client_cpu, "open", 8, 1 if b.quick else 3,
                               server.manifest(TAG))
            if number:
                rounds.append((server.name, {
                    "rate": result["connections"] / result["seconds"],
                    "per_cpu": result["connections"] / (server.process.cpu_seconds() - before)}))
    return [row_of_medians("tls", "new connections per second", "req/s", rounds, "rate",
                           at_least=0.95, of_ratio=True),
            row_of_medians("tls", "new connections per second of CPU", "req/s", rounds, "per_cpu",
                           at_least=0.95, of_ratio=True)]


def idle(b, drain, server, client_cpu, make_row):
    """As many idle connections as descriptors allow; the limit is scaled with them."""
    import resource
    count = min(IDLE // 10 if b.quick else IDLE,
                resource.getrlimit(resource.RLIMIT_NOFILE)[1] - SPARE_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE,
                       (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    command = pinned(client_cpu, drain.command(server, "hold", count, "-", "-"))
    child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        if not child.stdout.readline():
            raise BenchError(f"{' '.join(command)} ended early")
        peak = server.process.peak_rss_bytes() / MIB
    finally:
        child.stdin.close()
        child.wait()
    return make_row("tls", f"{count} idle connections: peak RSS", "MiB", {server.name: peak},
                    at_most=BASE_MIB + (IDLE_MIB - BASE_MIB) * count / IDLE
                    if server.name == "cachalot" else None)


def tls(b, server_cpu, client_cpu, row_of_medians, make_row):
    certificate, key = make_certificate(b.scratch())
    drain = TlsDrain(os.path.join(os.path.dirname(b.drain.program), "drain_tls"))
    with b.static() as upstream, \
            TlsNginx(b.scratch(), 8003, b.content, certificate, key) as nginx, \
            TlsCachalot(b.scratch(), 8002, b.program, upstream, certificate, key) as cachalot:
        upstream.start()
        servers = b.contestants(cachalot, nginx)
        for server in servers:
            server.start(server_cpu)
            for path in (server.blob(b.content.large), server.manifest(TAG)):
                drain.run(server, client_cpu, "get", 1, 1, path)
        rows = transfers(b, drain, servers, server_cpu, client_cpu, row_of_medians)
        rows += connections(b, drain, servers, client_cpu, row_of_medians)
        for server in servers:
            server.stop()
            server.start(server_cpu)
            rows.append(idle(b, drain, server, client_cpu, make_row))
    shutil.rmtree(os.path.dirname(key))
    return rows
