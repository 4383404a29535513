# SPDX-License-Identifier: ISC
"""Listeners with TLS: what clients are shown, what they get by it, and what is refused."""

import hashlib
import os
import shutil
import ssl
import subprocess
from pathlib import Path

import pytest

from lib import image, rawhttp
from lib.clients import Containerd, Dockerd, Podman, Skopeo, check_dir
from lib.crowd import together
from lib.image import noise
from lib.intercept import messages
from lib.paths import HUB, blob
from lib.pki import Authority, openssl
from lib.process import free_port
from lib.wait import until

BIG = noise(40_000_000, "large over TLS")
BIG_BLOB = blob("library/app", image.digest_of(BIG))
NAME = "cachalot.test"


class Secure:
    """The TLS listener of a daemon, and clients that trust what it says it is."""

    def __init__(self, daemon, address):
        self.daemon = daemon
        self.address = address
        got = daemon.get("/-/setup/ca.crt")
        self.ca = got.body.decode() if got.status == 200 else None

    def ca_file(self):
        path = self.daemon.directory / "trusted.crt"
        path.write_text(self.ca)
        return path

    def context(self, **more):
        context = ssl.create_default_context(cadata=self.ca)
        for name, value in more.items():
            setattr(context, name, value)
        return context

    def connect(self, context=None, host=NAME, session=None, **more):
        c = rawhttp.Connection(self.address, **more)
        context = context or self.context()
        c.socket = context.wrap_socket(c.socket, server_hostname=host, session=session)
        return c

    def ask(self, path, method="GET", fields=(), **more):
        with self.connect(**more) as c:
            c.request(path, method, [("Connection", "close"), *fields])
            return c.read_response(method)

    def curl(self, *arguments, host=NAME):
        """Exit status, standard output."""
        port = self.address[1]
        done = subprocess.run(["curl", "-sS", "--resolve", f"{host}:{port}:127.0.0.1",
                               *map(str, arguments), f"https://{host}:{port}/v2/"],
                              capture_output=True, text=True, timeout=30, check=False)
        return done.returncode, done.stdout


def listener(address, name="secure", **more):
    return {f"listener {name}": {"role": "registry", "address": "%s:%d" % address, "tls": "yes",
                                 "head-timeout": "5s", **more}}


@pytest.fixture
def secure(upstream, cachalot):
    """With a certificate of the daemon's own authority."""
    address = ("127.0.0.1", free_port())
    upstream.hold_blob("library/app", BIG)
    daemon = cachalot({HUB: upstream.url}, listener(address, names=f"{NAME} 127.0.0.1 ::1"))
    return Secure(daemon, address)


# --- who is there ---

def test_curl(secure):
    """curl with the certificate from /-/setup/ca.crt: TLS 1.2 and 1.3; without it, by another
    name or with TLS 1.1 nothing."""
    trusted = ("--cacert", secure.ca_file())
    for options, said in ((["--tlsv1.2", "--tls-max", "1.2"], 0), (["--tlsv1.3"], 0),
                          (["--tlsv1.0", "--tls-max", "1.1", "--ciphers",
                            "DEFAULT@SECLEVEL=0"], 35)):
        code, out = secure.curl(*trusted, *options)
        assert code == said and (out == "{}") == (said == 0), options
    assert secure.curl(*trusted, host="127.0.0.1")[0] == 0
    assert secure.curl(*trusted, host="other.test")[0] == 60
    assert secure.curl("--capath", "/nowhere")[0] == 60


@pytest.mark.parametrize("host, good", [(NAME, True), ("127.0.0.1", True), ("::1", True),
                                        ("CACHALOT.test", True), ("127.0.0.2", False),
                                        ("x." + NAME, False), ("test", False), ("::2", False)])
def test_names(secure, host, good):
    """The certificate is for each of `names` and for nothing else: Python and OpenSSL agree."""
    try:
        secure.ask("/v2/", host=host)
        accepted = True
    except ssl.SSLCertVerificationError:
        accepted = False
    assert accepted == good
    kind = "-verify_ip" if ":" in host or host[0].isdigit() else "-verify_hostname"
    done = subprocess.run(["openssl", "s_client", "-connect", "%s:%d" % secure.address, "-CAfile",
                           secure.ca_file(), kind, host, "-verify_return_error"],
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    assert (done.returncode == 0) == good, done


def test_alpn(secure):
    """http/1.1 is chosen, also where a client would rather have h2; a client that speaks nothing
    else than h2 is told so, and one that says nothing is served."""
    for offered, chosen in ((["http/1.1"], "http/1.1"), (["h2", "http/1.1"], "http/1.1"),
                            ([], None)):
        context = secure.context()
        if offered:
            context.set_alpn_protocols(offered)
        with secure.connect(context) as c:
            assert c.socket.selected_alpn_protocol() == chosen
    context = secure.context()
    context.set_alpn_protocols(["h2"])
    with pytest.raises(ssl.SSLError, match="(?i)no.application.protocol"):
        secure.connect(context)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_resumption(secure, version):
    """A client that comes again resumes its session, and again after that; after a reload it
    makes a new one."""
    context = secure.context(maximum_version=version)
    session = None
    for i in range(3):
        with secure.connect(context, session=session) as c:
            c.request("/v2/")
            assert c.read_response().status == 200
            assert c.socket.session_reused == (i > 0)
            session = c.socket.session
    secure.daemon.hup()
    with secure.connect(context, session=session) as c:
        c.request("/v2/")
        assert c.read_response().status == 200


@pytest.mark.parametrize("version", ["-tls1_2", "-tls1_3"])
def test_resumption_by_openssl(secure, tmp_path, version):
    """The same by `openssl s_client`, between two runs of it."""
    kept = tmp_path / "session"
    options = ["openssl", "s_client", "-connect", "%s:%d" % secure.address, version, "-CAfile",
               secure.ca_file(), "-ign_eof"]
    ask = "GET /v2/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    for more, words in ((["-sess_out", kept], "New, TLSv1"), (["-sess_in", kept], "Reused, TLSv1")):
        done = subprocess.run([*options, *more], input=ask, capture_output=True, text=True,
                              timeout=30, check=False)
        assert words in done.stdout and "HTTP/1.1 200" in done.stdout, done


def test_kernel_is_told(secure):
    """It is in the log who encrypts, once for each start."""
    assert len(messages(secure.daemon, "TLS is encrypted")) == 1


# --- content ---

@pytest.mark.threads
def test_large_blob(secure, upstream):
    """40 MB over TLS, to ten clients at once while they come, then from the store: each byte
    right, one request upstream."""
    for _ in range(2):
        for got in together(10, lambda i: secure.ask(BIG_BLOB)):
            assert got.status == 200 and got.complete and got.body == BIG
        secure.daemon.wait_idle()
    assert upstream.count("GET", image.digest_of(BIG)) <= 4
    assert upstream.bytes_sent() == len(BIG)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("ciphers", ["ECDHE+AESGCM", "ECDHE+CHACHA20"])
def test_ciphers(secure, version, ciphers):
    """By each of the ciphers: each byte right. Those of old are refused."""
    context = secure.context(maximum_version=version)
    context.set_ciphers(ciphers)
    assert secure.ask(BIG_BLOB, context=context).body == BIG
    if version == ssl.TLSVersion.TLSv1_2:
        context.set_ciphers("AES128-SHA:ECDHE+AES:!AESGCM")
        with pytest.raises(ssl.SSLError):
            secure.connect(context)


@pytest.mark.parametrize("said, start, end", [
    ("bytes=0-0", 0, 1), ("bytes=16383-16384", 16383, 16385), ("bytes=65535-65536", 65535, 65537),
    ("bytes=-1", len(BIG) - 1, len(BIG)), ("bytes=1000000-", 1_000_000, len(BIG)),
    ("bytes=262143-524288", 262143, 524289)])
def test_ranges(secure, said, start, end):
    """Parts, about the edges of records and batches too."""
    for _ in range(2):
        got = secure.ask(BIG_BLOB, fields=[("Range", said)])
        assert got.status == 206 and got.body == BIG[start:end]
        assert got["Content-Range"] == f"bytes {start}-{end - 1}/{len(BIG)}"


def test_head_and_keep_alive(secure):
    """HEAD, GET and an error on one connection, sent together and byte by byte."""
    with secure.connect() as c:
        for path, method in ((BIG_BLOB, "HEAD"), (BIG_BLOB, "GET"), ("/v2/none/x", "GET"),
                             ("/v2/", "GET")):
            c.request(path, method)
            got = c.read_response(method)
            assert got.status == (404 if "none" in path else 200)
            assert got.length == len(got.body) or method == "HEAD" and got.length == len(BIG)
        one = b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n"
        c.send(one * 50)
        for _ in range(50):
            assert c.read_response().body == b"{}"
        for byte in one:
            c.send(bytes([byte]))
        assert c.read_response().body == b"{}"
    until("the handshakes are counted",
          lambda: secure.daemon.metric("tls_handshakes_total") == 1)


def read_slowly(c):
    """The body in small steps: its SHA-256."""
    found = hashlib.sha256(c.buffer)
    left = len(BIG) - len(c.buffer)
    while left:
        data = c.socket.recv(3000)
        assert data
        found.update(data)
        left -= len(data)
    return found.hexdigest()


@pytest.mark.threads
def test_slow_readers(secure):
    """Thirty clients that take little, of whom some stop: the others are served meanwhile, and
    memory does not grow by what waits for them."""
    assert secure.ask(BIG_BLOB).body == BIG
    slow = []
    for _ in range(30):
        c = secure.connect(receive_buffer=4096)
        c.request(BIG_BLOB)
        assert c.read_head().status == 200
        slow.append(c)
    assert secure.ask(BIG_BLOB).body == BIG
    pages = int(open(f"/proc/{secure.daemon.child.pid}/statm").read().split()[1])
    assert pages * os.sysconf("SC_PAGE_SIZE") < 400_000_000
    wanted = hashlib.sha256(BIG).hexdigest()
    assert read_slowly(slow[0]) == read_slowly(slow[1]) == wanted
    for c in slow:
        c.close()
    until("they are gone", lambda: secure.daemon.metric("connections") == 1)


def test_stalled_reader(upstream, cachalot):
    """A client that takes nothing is let go after stall-timeout."""
    upstream.hold_blob("library/app", BIG)
    address = ("127.0.0.1", free_port())
    daemon = cachalot({HUB: upstream.url},
                      listener(address, names=NAME, **{"stall-timeout": "1s"}))
    secure = Secure(daemon, address)
    with secure.connect(receive_buffer=4096) as c:
        c.request(BIG_BLOB)
        c.read_head()
        until("it is let go", lambda: any(x.get("outcome") == "client-stalled"
                                          for x in daemon.access_log()))


def test_cut_short(secure, upstream):
    """The upstream breaks and does not come back: the body ends before its length, by the end
    of TLS, which no client takes for the whole."""
    secure.daemon.sections[f"upstream {HUB}"]["retries"] = 0
    secure.daemon.write_config()
    secure.daemon.hup()
    upstream.fault("/blobs/", truncate_after=1_000_000)
    port = secure.address[1]
    done = subprocess.run(["curl", "-sS", "--cacert", secure.ca_file(), "--resolve",
                           f"{NAME}:{port}:127.0.0.1", "-o", "/dev/null",
                           f"https://{NAME}:{port}{BIG_BLOB}"], capture_output=True, text=True,
                          timeout=60, check=False)
    assert done.returncode == 18, done
    upstream.heal()
    assert secure.ask(BIG_BLOB).body == BIG


def test_clients_that_leave(secure):
    """In the middle of a handshake, of a request, of a body; with FIN and with RST."""
    for i in range(60):
        c = rawhttp.Connection(secure.address, receive_buffer=4096)
        if i % 3 == 0:
            c.send(b"\x16\x03\x01\x02\0\x01\0")
        else:
            c.secure(secure.context(), NAME)
            c.send(b"GET /v2/ HTT" if i % 3 == 1 else
                   f"GET {BIG_BLOB} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            if i % 3 == 2:
                c.read_head()
        if i % 2:
            c.socket.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER: RST
        c.close()
    until("they are gone", lambda: secure.daemon.metric("connections") == 1)
    assert secure.ask(BIG_BLOB).body == BIG


@pytest.mark.parametrize("said", [b"GET /v2/ HTTP/1.1\r\nHost: x\r\n\r\n", b"\0" * 50,
                                  b"\x16\x03", b"\x15\x03\x03\0\x02\x02\x28",
                                  b"\x16\x03\x03\xff\xff" + b"x" * 99],
                         ids=["http", "zeros", "cut", "alert", "long"])
def test_no_tls(secure, said):
    """What is not TLS is not answered by HTTP; the daemon says who it was, and goes on."""
    with rawhttp.Connection(secure.address) as c:
        c.send(said)
        c.socket.shutdown(1)
        try:
            while c.receive():
                pass
        except OSError:
            pass
        assert b"HTTP/1.1" not in c.buffer
    secure.daemon.wait_metric("tls_failures_total", 1)
    until("it is in the log", lambda: messages(secure.daemon, "no TLS with 127.0.0.1"))
    assert secure.ask("/v2/").status == 200


def test_drain(secure, upstream):
    """SIGTERM: a body under way comes to its end, a connection that waits is closed."""
    gate = upstream.gate("/blobs/", after=500_000)
    idle = secure.connect()
    idle.request("/v2/")
    idle.read_response()
    with secure.connect() as c:
        c.request(BIG_BLOB)
        got = c.read_head()
        gate.wait_reached()
        secure.daemon.send_signal(15)
        assert idle.at_end()
        gate.open()
        assert c.read_body(got).body == BIG
    assert secure.daemon.join() == 0


# --- certificates from files ---

class Files:
    """A certificate and its key, of an authority of the test."""

    def __init__(self, directory):
        self.directory = directory / "pki"
        self.directory.mkdir()
        self.authority = Authority(self.directory)
        self.certificate = directory / "server.pem"
        self.key = directory / "server.key"
        self.issue()

    def issue(self, names=f"DNS:{NAME}"):
        self.authority.context(names)
        shutil.copy(self.directory / "leaf.pem", self.certificate)
        shutil.copy(self.directory / "leaf.key", self.key)
        self.key.chmod(0o600)
        return self

    @property
    def options(self):
        return {"certificate": self.certificate, "key": self.key}


@pytest.fixture
def files(tmp_path):
    return Files(tmp_path)


@pytest.fixture
def filed(upstream, cachalot, files):
    """A daemon with a certificate from files; it needs no authority of its own."""
    address = ("127.0.0.1", free_port())
    daemon = cachalot({HUB: upstream.url}, listener(address, **files.options))
    secure = Secure(daemon, address)
    assert secure.ca is None and not (daemon.cache / "ca").exists()
    secure.ca = files.authority.certificate.read_text()
    return secure


def serial(secure, **more):
    with secure.connect(**more) as c:
        return c.socket.getpeercert()["serialNumber"]


def test_certificate_files(filed, files):
    """They are shown, whatever name a client asks for."""
    assert filed.ask("/v2/").status == 200
    with pytest.raises(ssl.SSLCertVerificationError):
        filed.ask("/v2/", host="other.test")
    files.key.chmod(0o640)
    filed.daemon.hup()
    assert filed.daemon.metric("reload_failures_total") == 0


def test_chain(filed, files):
    """An intermediate in the file is sent with it."""
    below = files.authority.intermediate()
    below.context(f"DNS:{NAME}")
    files.certificate.write_bytes((below.directory / "leaf.pem").read_bytes() +
                                  below.certificate.read_bytes())
    shutil.copy(below.directory / "leaf.key", files.key)
    files.key.chmod(0o600)
    filed.daemon.hup()
    assert filed.ask("/v2/").status == 200


def test_new_certificate(filed, files):
    """SIGHUP takes a new certificate and key; connections that are open go on."""
    old = serial(filed)
    with filed.connect() as c:
        c.request("/v2/")
        assert c.read_response().status == 200
        files.issue()
        assert serial(filed) == old
        filed.daemon.hup()
        assert serial(filed) != old
        c.request("/v2/")
        assert c.read_response().status == 200


def spoil_missing_key(files):
    files.key.unlink()
    return ["server.key", "No such file"]


def spoil_missing_certificate(files):
    files.certificate.unlink()
    return ["server.pem"]


def spoil_key_mode(files):
    files.key.chmod(0o644)
    return ["server.key", "0600"]


def spoil_key_writable(files):
    files.key.chmod(0o620)
    return ["server.key", "0600"]


def spoil_key_of_another(files):
    kept = files.certificate.read_bytes()
    files.issue()
    files.certificate.write_bytes(kept)
    return ["server.key", "mismatch"]


def spoil_key_garbage(files):
    files.key.write_text("no key\n")
    return ["server.key"]


def spoil_certificate_garbage(files):
    files.certificate.write_text("no certificate\n")
    return ["server.pem"]


def spoil_empty(files):
    files.certificate.write_text("")
    return ["server.pem"]


def spoil_directory(files):
    files.key.unlink()
    files.key.mkdir(mode=0o700)
    return ["server.key"]


def spoil_key_locked(files):
    locked = openssl("pkey", "-in", files.key, "-aes256", "-passout", "pass:secret")
    files.key.write_bytes(locked)
    return ["server.key"]


SPOILS = [value for name, value in sorted(globals().items()) if name.startswith("spoil_")]


@pytest.mark.parametrize("spoil", SPOILS, ids=[x.__name__.removeprefix("spoil_") for x in SPOILS])
def test_bad_files(filed, files, spoil):
    """A key that is not there, that others may read, of another certificate, with a passphrase,
    and what is none: at a reload the old ones stay, a start is refused; both say which file
    it is and why."""
    assert filed.ask("/v2/").status == 200
    words = spoil(files)
    filed.daemon.hup()
    assert filed.daemon.metric("reload_failures_total") == 1
    assert filed.ask("/v2/").status == 200
    assert filed.daemon.stop() == 0
    seen = len(filed.daemon.stderr_path.read_text())
    filed.daemon.launch(start_new_session=True)
    assert filed.daemon.join() != 0
    said = filed.daemon.stderr_path.read_text()
    for word in [*words, "[listener secure]"]:
        assert word in said[:seen] and word in said[seen:], said
    filed.daemon.child = None


# --- real clients ---

@pytest.mark.clients
def test_go_clients(secure, upstream, closing, tmp_path):
    """skopeo, podman and containerd with our authority where they look for it: they verify by
    name and by address, pull, and refuse another authority."""
    item = upstream.hold(image.image("go"), "library/go", "1")
    place = "127.0.0.1:%d" % secure.address[1]
    trusted, other = tmp_path / "trusted.d", tmp_path / "other.d"
    for folder in (trusted, other):
        folder.mkdir()
    shutil.copy(secure.ca_file(), trusted / "ca.crt")
    (tmp_path / "pki").mkdir()
    shutil.copy(Authority(tmp_path / "pki").certificate, other / "ca.crt")
    name = f"{place}/{HUB}/library/go:1"

    skopeo = Skopeo(tmp_path, verify=True)
    check_dir(skopeo.copy(name, "--src-cert-dir", trusted), item)
    with pytest.raises(AssertionError, match="x509|certificate"):
        skopeo.copy(name, "--src-cert-dir", other)
    podman = closing(Podman(tmp_path))
    podman.pull(name, "--cert-dir", trusted)
    assert podman.digest(name) == item.digest
    containerd = closing(Containerd(tmp_path))
    containerd.use(HUB, f"https://{place}", trusted / "ca.crt")
    containerd.pull(f"{HUB}/library/go:1")
    assert containerd.digest(f"{HUB}/library/go:1") == item.digest
    containerd.use(HUB, f"https://{place}", other / "ca.crt")
    with pytest.raises(AssertionError, match="x509|certificate"):
        containerd.pull(f"{HUB}/library/go:1", namespace="other")
    secure.daemon.wait_idle()
    assert upstream.count("GET", "/library/go/manifests/") == 1
    for each in item.all_blobs():
        assert upstream.count("GET", each.digest) == 1


class Settings:
    """An empty directory in the place of a client's settings, in this mount namespace."""

    def __init__(self, path):
        if not os.path.isdir(path):
            pytest.skip(f"no {path} to mount upon")
        self.path = Path(path)
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)

    def close(self):
        subprocess.run(["umount", "--lazy", str(self.path)], check=True)


OFFICE = "10.20.30.40"  # of a network of one's own: an engine is not told to trust loopback


@pytest.mark.clients
def test_http_and_https(upstream, cachalot, closing, tmp_path):
    """An engine that was told nothing refuses plain HTTP, and says why; over TLS, with our
    authority in its certs.d, it pulls without insecure-registries."""
    subprocess.run(["ip", "address", "replace", f"{OFFICE}/32", "dev", "lo"], check=True)
    item = upstream.hold(image.image("office", types=image.DOCKER), "library/office", "1")
    plain, address = (OFFICE, free_port(OFFICE)), (OFFICE, free_port(OFFICE))
    options = listener(address, names=OFFICE)
    options["listener plain"] = {"role": "registry", "address": "%s:%d" % plain}
    secure = Secure(cachalot({HUB: upstream.url}, options), address)

    settings = closing(Settings("/etc/docker"))
    dockerd = closing(Dockerd(tmp_path, closing(Containerd(tmp_path))))
    name = "%s:%d/docker.io/library/office:1"
    with pytest.raises(AssertionError, match="server gave HTTP response to HTTPS client"):
        dockerd.pull(name % plain)
    with pytest.raises(AssertionError, match="x509"):
        dockerd.pull(name % address)
    assert upstream.count() == 0
    folder = settings.path / "certs.d" / ("%s:%d" % address)
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_text(secure.ca)
    dockerd.pull(name % address)
    assert dockerd.image_id(name % address) == item.blobs[0].digest
    assert upstream.count("GET", "/manifests/") == 1
