# SPDX-License-Identifier: ISC
"""What is compared: cachalotd, nginx and docker-registry, and the upstreams behind them.

Each contestant is configured as a careful operator would: sendfile, no access log, keep-alive
without a limit of requests, the same number of workers.
"""
import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import urllib.request

from stage import MIB, BenchError, Process

REPOSITORY = "bench/image"
TAG = "latest"
MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
# The name under which cachalotd knows the upstream.
REGISTRY = "bench.test"


def descriptor(media_type, digest, size):
    return {"mediaType": media_type, "digest": digest, "size": size}


class Content:
    """A repository of two blobs and a manifest of a usual size, laid out for nginx to serve
    as a registry would, and for docker-registry."""

    def __init__(self, directory, large_bytes, herd_bytes):
        self.tree = os.path.join(directory, "tree")
        self.storage = os.path.join(directory, "registry")
        self.base = os.path.join(self.tree, "v2", REPOSITORY)
        os.makedirs(os.path.join(self.base, "blobs"))
        os.makedirs(os.path.join(self.base, "manifests"))
        self.large_bytes = large_bytes
        self.herd_bytes = herd_bytes
        self.large = self._add_blob(large_bytes)
        self.herd = self._add_blob(herd_bytes)
        self.manifest = self._add_manifest()
        self._link_for_registry()

    def blob_path(self, digest):
        return os.path.join(self.base, "blobs", digest)

    def with_large(self, path):
        """The same, but the large blob is the file at `path`; its bytes must be equal."""
        twin = copy.copy(self)
        twin.tree = tempfile.mkdtemp(dir=os.path.dirname(self.tree))
        twin.base = os.path.join(twin.tree, "v2", REPOSITORY)
        os.makedirs(os.path.join(twin.base, "blobs"))
        os.symlink(path, twin.blob_path(self.large))
        return twin

    def _add_blob(self, size):
        hasher = hashlib.sha256()
        path = os.path.join(self.base, "new")
        with open(path, "wb") as file:
            for start in range(0, size, MIB):
                piece = os.urandom(min(MIB, size - start))
                hasher.update(piece)
                file.write(piece)
        digest = "sha256:" + hasher.hexdigest()
        os.rename(path, self.blob_path(digest))
        return digest

    def _add_manifest(self):
        layer = "application/vnd.oci.image.layer.v1.tar+gzip"
        # Sixteen layers make the 2.5 kB of an ordinary image; only two need exist.
        layers = [descriptor(layer, self.large, self.large_bytes),
                  descriptor(layer, self.herd, self.herd_bytes)]
        layers += [descriptor(layer, "sha256:" + hashlib.sha256(b"%d" % i).hexdigest(), 12345)
                   for i in range(14)]
        config = descriptor("application/vnd.oci.image.config.v1+json", layers[2]["digest"], 12345)
        body = json.dumps({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "config": config,
                           "layers": layers}).encode()
        digest = "sha256:" + hashlib.sha256(body).hexdigest()
        for reference in (digest, TAG):
            with open(os.path.join(self.base, "manifests", reference), "wb") as file:
                file.write(body)
        return digest

    def _link_for_registry(self):
        root = os.path.join(self.storage, "docker", "registry", "v2")
        for digest in (self.large, self.herd):
            name = digest.split(":")[1]
            blob = os.path.join(root, "blobs", "sha256", name[:2], name)
            link = os.path.join(root, "repositories", REPOSITORY, "_layers", "sha256", name)
            os.makedirs(blob)
            os.makedirs(link)
            os.link(self.blob_path(digest), os.path.join(blob, "data"))
            with open(os.path.join(link, "link"), "w") as file:
                file.write(digest)


class Server:
    """A configured program. Subclasses write the configuration and give the command."""

    name = ""
    prefix = "/v2/"  # before the repository, in paths

    def __init__(self, directory, port, address="127.0.0.1"):
        self.directory = directory
        self.port = port
        self.address = address
        self.process = None
        os.makedirs(directory)

    def command(self):
        raise NotImplementedError

    def start(self, cpu=None, wrap=None):
        command = self.command()
        self.process = Process(wrap(command) if wrap else command,
                               os.path.join(self.directory, "output"), cpu)
        self.process.wait_for_port(self.address, self.port, 120 if wrap else 30)
        return self

    def stop(self):
        if self.process:
            self.process.stop()
            self.process = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def write(self, name, text):
        path = os.path.join(self.directory, name)
        with open(path, "w") as file:
            file.write(text)
        return path

    def blob(self, digest):
        return f"{self.prefix}{REPOSITORY}/blobs/{digest}"

    def manifest(self, reference):
        return f"{self.prefix}{REPOSITORY}/manifests/{reference}"

    def head(self, path):
        """The fields of the answer to a HEAD, as a client of a registry would send it."""
        request = urllib.request.Request(f"http://{self.address}:{self.port}{path}", method="HEAD",
                                         headers={"Accept": MANIFEST_TYPE})
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.headers


class Nginx(Server):
    """A frame for the configurations of nginx below."""

    name = "nginx"
    workers = 1
    master = True

    def http(self):
        raise NotImplementedError

    def command(self):
        config = self.write("nginx.conf", f"""
            daemon off;
            master_process {"on" if self.master else "off"};
            user root;
            worker_processes {self.workers};
            worker_rlimit_nofile 65536;
            pid {self.directory}/pid;
            error_log {self.directory}/error.log;
            events {{ worker_connections 8192; }}
            http {{
                access_log off;
                sendfile on;
                tcp_nopush on;
                keepalive_timeout 1h;
                keepalive_requests 1000000000;
                client_body_temp_path {self.directory}/body;
                proxy_temp_path {self.directory}/temp;
                fastcgi_temp_path {self.directory}/fastcgi;
                uwsgi_temp_path {self.directory}/uwsgi;
                scgi_temp_path {self.directory}/scgi;
                {self.http()}
            }}
            """)
        return ["nginx", "-p", self.directory, "-c", config, "-e", f"{self.directory}/error.log"]


class NginxStatic(Nginx):
    """The tree of Content by sendfile: the upstream of misses, and the peer of large hits."""

    listen = ""  # what follows the address

    def __init__(self, directory, port, content, address="127.0.0.1"):
        super().__init__(directory, port, address)
        self.content = content

    def http(self):
        return f"""
                server {{
                    listen {self.address}:{self.port} backlog=4096{self.listen};
                    root {self.content.tree};
                    types {{ }}
                    default_type application/octet-stream;
                    location = /v2/ {{ return 200 "{{}}"; }}
                    location ~ /manifests/ {{
                        default_type {MANIFEST_TYPE};
                        add_header Docker-Content-Digest {self.content.manifest};
                    }}
                }}"""


class Paced(Server):
    """The same tree, each connection limited (paced.py)."""

    name = "paced"

    def __init__(self, directory, port, content, mbit, address, wrap):
        super().__init__(directory, port, address)
        self.content = content
        self.mbit = mbit
        self.wrap = wrap

    def command(self):
        return self.wrap([sys.executable, os.path.join(os.path.dirname(__file__), "paced.py"),
                          self.address, str(self.port), self.content.tree,
                          str(self.mbit * 1000 * 1000 // 8)])


class NginxCache(Nginx):
    """proxy_cache with its lock, which by default would end after 5 s; `buffers` are directives of
    size, the defaults when empty."""

    def __init__(self, directory, port, upstream, buffers=""):
        super().__init__(directory, port)
        self.upstream = upstream
        self.buffers = buffers

    def http(self):
        return f"""
                proxy_cache_path {self.directory}/cache levels=1:2 keys_zone=zone:16m
                                 max_size=100g inactive=1d use_temp_path=off;
                upstream registry {{
                    server {self.upstream.address}:{self.upstream.port};
                    keepalive 8;
                }}
                server {{
                    listen {self.address}:{self.port} backlog=4096;
                    location / {{
                        proxy_pass http://registry;
                        proxy_http_version 1.1;
                        proxy_set_header Connection "";
                        proxy_cache zone;
                        proxy_cache_lock on;
                        proxy_cache_lock_age 1h;
                        proxy_cache_lock_timeout 1h;
                        proxy_cache_valid 200 1d;
                        {self.buffers}
                    }}
                }}"""

    def clear(self):
        shutil.rmtree(os.path.join(self.directory, "cache"), ignore_errors=True)

    def stored_file(self, digest, size):
        """The file that holds a blob: the only one at least as large."""
        del digest
        for folder, _, names in os.walk(os.path.join(self.directory, "cache")):
            for name in names:
                path = os.path.join(folder, name)
                if os.path.getsize(path) >= size:
                    return path
        raise BenchError("nginx has not kept the blob")


class Registry(Server):
    """docker-registry: with an upstream in proxy mode, else the real registry upstream."""

    name = "docker-registry"

    def __init__(self, directory, port, address="127.0.0.1", upstream=None, storage=None, wrap=None):
        super().__init__(directory, port, address)
        self.upstream = upstream
        self.storage = storage or os.path.join(directory, "storage")
        self.wrap = wrap

    def command(self):
        proxy = ""
        if self.upstream:
            proxy = f"proxy: {{remoteurl: 'http://{self.upstream.address}:{self.upstream.port}'}}\n"
        config = self.write("config.yml", "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
                            f"storage: {{filesystem: {{rootdirectory: {self.storage}}}}}\n"
                            f"http: {{addr: '{self.address}:{self.port}'}}\n" + proxy)
        command = ["docker-registry", "serve", config]
        return self.wrap(command) if self.wrap else command

    def clear(self):
        shutil.rmtree(self.storage, ignore_errors=True)


class Cachalot(Server):
    name = "cachalot"
    prefix = f"/v2/{REGISTRY}/"
    listen = ""  # further options of the listener

    def __init__(self, directory, port, program, upstream, workers=1, connections=4):
        super().__init__(directory, port)
        self.program = program
        self.upstream = upstream
        self.workers = workers
        self.connections = connections

    def command(self):
        config = self.write("cachalot.ini", f"""
[cache]
path = {self.directory}/cache
workers = {self.workers}

[log]
access = no

[admin]
socket = {self.directory}/admin.sock

[listener bench]
role = registry
address = {self.address}:{self.port}
{self.listen}

[upstream {REGISTRY}]
url = http://{self.upstream.address}:{self.upstream.port}
tag-ttl = 1h
connections = {self.connections}
""")
        return [self.program, "-f", "-c", config]

    def clear(self):
        shutil.rmtree(os.path.join(self.directory, "cache"), ignore_errors=True)

    def stored_file(self, digest, size):
        path = os.path.join(self.directory, "cache", "blobs", *digest.split(":"))
        if os.path.getsize(path) != size:
            raise BenchError("cachalotd has not kept the blob")
        return path


def versions(program):
    """What is compared, for the heading and the record."""
    nginx = subprocess.run(["nginx", "-v"], stderr=subprocess.PIPE, text=True).stderr.split("/")[-1]
    registry = subprocess.run(["docker-registry", "--version"], stdout=subprocess.PIPE, text=True)
    mine = subprocess.run([program, "-V"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    return {"nginx": nginx.strip(), "docker-registry": registry.stdout.split()[-1],
            "cachalotd": mine.stdout.strip()}
