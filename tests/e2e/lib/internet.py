# SPDX-License-Identifier: ISC
"""Docker Hub and the Microsoft registry with the hosts around them, by their names, at public
addresses, with certificates of an authority of their own; all within the network namespace
of the tests. Close it and nobody answers."""

import shutil
import ssl

from lib import rawhttp
from lib.hub import Answer, Hub
from lib.names import NameServer, Outside
from lib.paths import HUB, MCR
from lib.pki import Authority
from lib.registry import Registry
from lib.tokens import GuardedHub, TokenServer

HUB_HOST = "registry-1.docker.io"
HUB_CDN = "production.cloudflare.docker.com"
AUTH = "auth.docker.io"
MCR_CDN = "eastus.data.mcr.microsoft.com"
LINKS = "go.microsoft.com"
LAYERS = "winlayers.cdn.mscr.io"
# Of nobody's that is configured.
ELSEWHERE = "elsewhere.example"
ECHO = "echo.pattern.example"

ADDRESSES = {name: f"203.0.113.{i}" for i, name in enumerate(
    (HUB_HOST, "index.docker.io", HUB_CDN, AUTH, MCR, MCR_CDN, LINKS, LAYERS, ELSEWHERE,
     ECHO), 10)}


class Redirecting:
    """A registry whose blobs are elsewhere, as those of both are."""

    cdn = None

    def answer(self, request, f):
        answer = super().answer(request, f)
        if answer.status in (200, 206) and "/blobs/" in request.path and request.method == "GET":
            return Answer(307, [("Location", f"https://{self.cdn}{request.path}?verify=1")])
        return answer


class DockerHub(Redirecting, GuardedHub):
    cdn = HUB_CDN

    def admits(self, request):
        """At /v2/ every token is good, one without a scope too: that is how a login is tried."""
        token = request.fields.get("authorization", "").removeprefix("Bearer ")
        return (request.path.rstrip("/") == "/v2" and token in self.tokens.issued or
                super().admits(request))


class Microsoft(Redirecting, Hub):
    cdn = MCR_CDN


class Internet:
    def __init__(self, directory, users=None):
        directory.mkdir()
        self.directory = directory
        self.authority = Authority(directory)
        self.context = self.authority.context(",".join(f"DNS:{name}" for name in ADDRESSES))
        self.names = NameServer(directory)
        self.outside = Outside(ADDRESSES.values())
        for name, address in ADDRESSES.items():
            self.names.answers[name] = [(address,)]
        with self.outside.entered():
            self.start(users)

    def start(self, users):
        self.tokens = TokenServer(ADDRESSES[AUTH], self.context, users, port=443)
        self.hub = DockerHub(self.tokens, host=ADDRESSES[HUB_HOST], tls=self.context, port=443)
        self.hub.realm = f"https://{AUTH}/token"
        self.mcr, self.hub_cdn, self.mcr_cdn, self.links, self.layers, self.elsewhere = (
            kind(ADDRESSES[name], self.context, 443) for kind, name in (
                (Microsoft, MCR), (Hub, HUB_CDN), (Hub, MCR_CDN), (Hub, LINKS), (Hub, LAYERS),
                (Hub, ELSEWHERE)))
        self.hub_cdn.blobs, self.mcr_cdn.blobs = self.hub.blobs, self.mcr.blobs

    @property
    def servers(self):
        return (self.tokens, self.hub, self.mcr, self.hub_cdn, self.mcr_cdn, self.links,
                self.layers, self.elsewhere)

    @property
    def upstreams(self):
        """For the configuration of a daemon: where they are is what it has to find out."""
        return {name: {"ca-file": self.authority.certificate, "retries": 1, "tag-ttl": "1h"}
                for name in (HUB, MCR)}

    def trusting(self, ca):
        """A file with the authority of the internet, and this one."""
        path = self.directory / "roots.pem"
        path.write_text(self.authority.certificate.read_text() + ca)
        return path

    def client_context(self):
        """Of a client that trusts the internet, and us not."""
        return ssl.create_default_context(cafile=self.authority.certificate)

    def hold_foreign(self, digest, data, link):
        """A layer that is behind a link of Microsoft's alone."""
        self.layers.blobs["store", digest] = data
        return self.links.fault(link, redirect=f"https://{LAYERS}/v2/store/blobs/{digest}")

    def count(self, method=None, where=""):
        return sum(x.count(method, where) for x in self.servers)

    def forget(self):
        for x in self.servers:
            x.forget()

    def cut(self):
        """The line is cut."""
        for x in self.servers:
            if x.listener:
                x.down()

    def close(self):
        for x in self.servers:
            x.close()
        self.outside.close()
        self.names.close()


class PublicRegistry(Registry):
    """A real docker-registry in the place of one of them."""

    def __init__(self, directory, internet, name):
        self.internet = internet
        self.name_on_line = name
        super().__init__(directory)

    def start(self, more=""):
        self.address = (ADDRESSES[self.name_on_line], 443)
        made = self.internet.directory
        for kind in ("pem", "key"):
            shutil.copy(made / f"leaf.{kind}", self.directory / f"registry.{kind}")
        config = self.directory / "registry.yml"
        config.write_text(
            "version: 0.1\n"
            "log: {level: error}\n"
            f"storage: {{filesystem: {{rootdirectory: {self.directory}/storage}}}}\n"
            f"http: {{addr: '{self.address[0]}:443', secret: e2e, tls: {{"
            f"certificate: {self.directory}/registry.pem, key: {self.directory}/registry.key}}}}\n"
            f"{more}")
        with self.internet.outside.entered():
            self.spawn([shutil.which("docker-registry"), "serve", config])
        self.wait_accepting(self.address)

    def ask(self, path):
        with rawhttp.Connection(self.address) as c:
            c.secure(self.internet.client_context(), self.name_on_line)
            c.request(path, fields=[("Host", self.name_on_line), ("Connection", "close")])
            return c.read_head()
