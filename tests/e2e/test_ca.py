# SPDX-License-Identifier: ISC
"""cachalot's own certificate authority, by the command: what it makes, what clients with OpenSSL
think of it, and what is refused."""

import http.server
import json
import os
import shutil
import ssl
import subprocess
import threading

import pytest

from lib.cachalot import COMMAND
from lib.pki import openssl

NAMES = ("docker.io", "*.example.com", "192.0.2.1")


class Ca:
    """`cachalot ca` for a directory of the test."""

    def __init__(self, directory, settings=()):
        self.cache = directory / "cache"
        self.cache.mkdir(mode=0o700)
        self.directory = self.cache / "ca"
        self.key = self.directory / "ca.key"
        self.certificate = self.directory / "ca.crt"
        self.config = directory / "cachalot.ini"
        self.config.write_text("\n".join(["[cache]", f"path = {self.cache}", *settings, ""]))

    def __call__(self, *arguments, command=COMMAND, **options):
        return subprocess.run([command, "-c", self.config, "ca", *arguments], timeout=60,
                              capture_output=True, text=True, check=False, **options)

    def made(self, *names):
        done = self("init", *(names or NAMES))
        assert done.returncode == 0, done
        return self

    def shown(self):
        done = self("show", "--format", "json")
        assert done.returncode == 0, done
        return json.loads(done.stdout)


@pytest.fixture
def ca(tmp_path):
    return Ca(tmp_path)


def refused(done, code, *words):
    """It exits so, prints nothing but a line on standard error, with these words in it."""
    assert done.returncode == code and not done.stdout, done
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith("cachalot: "), done
    for word in words:
        assert word in done.stderr, done


# --- the command ---

def test_init_and_show(ca):
    """init makes a key that only its owner reads, and says what it made; show says it again."""
    done = ca("init", *NAMES)
    assert done.returncode == 0 and not done.stderr, done
    for name in (*NAMES, "SHA-256", "days left", "ca cert"):
        assert name in done.stdout, done
    assert ca.directory.stat().st_mode & 0o777 == 0o700
    assert ca.key.stat().st_mode & 0o777 == 0o600
    shown = ca.shown()
    assert shown["names"] == list(NAMES) and shown["directory"] == str(ca.directory)
    assert 3640 < shown["days_left"] <= 3650
    assert shown["subject"].startswith("CN=cachalot CA ")
    said = openssl("x509", "-in", ca.certificate, "-noout", "-fingerprint", "-sha256").decode()
    assert said.strip().split("=")[1] == shown["sha256"]
    done = ca("show")
    assert done.returncode == 0 and shown["sha256"] in done.stdout, done
    assert ca("show", "-q").stdout == ""


def test_cert(ca):
    """cert prints the certificate as it is on the disk, and openssl reads it."""
    ca.made()
    done = ca("cert")
    assert done.returncode == 0 and done.stdout == ca.certificate.read_text()
    text = openssl("x509", "-noout", "-text", input=done.stdout.encode()).decode()
    for words in ("CA:TRUE, pathlen:0", "Name Constraints: critical", "DNS:docker.io",
                  "prime256v1"):
        assert words in text


def test_init_twice(ca):
    """A second init is refused, names the way out and changes nothing."""
    key = ca.made().key.read_text()
    refused(ca("init", "docker.io"), 1, "cachalot ca rotate")
    assert ca.key.read_text() == key


def test_rotate(ca):
    """rotate keeps the old one and says that clients must trust the new."""
    before = ca.made().shown()
    old = ca.key.read_text(), ca.certificate.read_text()
    done = ca("rotate", "mcr.microsoft.com")
    assert done.returncode == 0 and "must trust" in done.stdout and "SIGHUP" in done.stdout, done
    after = ca.shown()
    assert after["names"] == ["mcr.microsoft.com"] and after["sha256"] != before["sha256"]
    kept = [ca.directory / f"{name}.old" for name in ("ca.key", "ca.crt")]
    assert tuple(x.read_text() for x in kept) == old
    assert all(x.stat().st_mode & 0o777 == 0o600 for x in kept)
    assert sorted(x.name for x in ca.directory.iterdir()) == [
        "ca.crt", "ca.crt.old", "ca.key", "ca.key.old"]


def test_json(ca):
    """With --format json what is made is told as show tells it, and nothing else."""
    for action in ("init", "rotate"):
        done = ca(action, "docker.io", "--format", "json")
        assert done.returncode == 0, done
        made, shown = json.loads(done.stdout), ca.shown()
        # A second between the two may be the one that ends a day.
        assert made.pop("days_left") - shown.pop("days_left") in (0, 1)
        assert made == shown


def test_none(ca):
    """Where there is none: 5, and what to do."""
    for action in (["show"], ["cert"], ["rotate", "docker.io"]):
        refused(ca(*action), 5, "cachalot ca init", str(ca.directory))


@pytest.mark.parametrize("arguments", [
    [], ["frobnicate"], ["show", "x"], ["cert", "x"], ["init", "no name"], ["init", ""],
    ["init", "1.2.3"], ["init", "a.b:443"], ["init", "*"], ["init", "docker.io", "a\nb"]])
def test_usage(ca, arguments):
    """Usage errors and names that are none are 2, and nothing is made."""
    done = ca(*arguments)
    assert done.returncode == 2 and done.stderr and not done.stdout, done
    assert not ca.directory.exists()


def test_settings(tmp_path):
    """Without names they come from the settings, by the daemon that is beside the command; so
    does the directory."""
    elsewhere = tmp_path / "elsewhere"
    ca = Ca(tmp_path, ["[intercept]", f"ca = {elsewhere}", "[listener door]", "role = intercept",
                       "address = 127.0.0.1:3128", "[upstream mcr.microsoft.com]",
                       "url = https://mcr.microsoft.com"])
    done = ca("init", "--format", "json")
    assert done.returncode == 0, done
    shown = json.loads(done.stdout)
    assert shown["directory"] == str(elsewhere) and "mcr.microsoft.com" in shown["names"]
    done = ca("rotate")
    assert done.returncode == 0 and "mcr.microsoft.com" in done.stdout, done


def test_no_host_in_the_settings(tmp_path):
    """Settings that make the daemon serve nothing by TLS, or that are wrong: 2, and what to do."""
    ca = Ca(tmp_path, ["[listener main]", "role = registry", "address = 127.0.0.1:5000"])
    refused(ca("init"), 2, "no host", "NAME")
    ca.config.write_text("[nonsense]\n")
    done = ca("init")
    assert done.returncode == 2 and "nonsense" in done.stderr and "NAME" in done.stderr, done


def test_no_daemon(ca, tmp_path):
    """A command without the daemon beside it or in the path asks for names."""
    alone = tmp_path / "bin" / "cachalot"
    alone.parent.mkdir()
    shutil.copy(COMMAND, alone)
    refused(ca("init", command=alone, env={**os.environ, "PATH": str(tmp_path / "empty")}), 1,
            "cachalotd", "NAME")
    sbin = tmp_path / "sbin" / "cachalotd"
    sbin.parent.mkdir()
    sbin.write_text("#!/bin/sh\necho one.example\necho two.example\n")
    sbin.chmod(0o755)
    assert ca("init", command=alone).returncode == 0
    assert ca.shown()["names"] == ["one.example", "two.example"]


# --- what is refused ---

@pytest.mark.parametrize("mode", [0o644, 0o640, 0o620, 0o604])
def test_open_key(ca, mode):
    """A key that others can get at is refused by all that use it, and replaced by rotate."""
    ca.made()
    ca.key.chmod(mode)
    for action in ("show", "cert"):
        refused(ca(action), 1, str(ca.key), "chmod 0600")
    assert ca("rotate", "docker.io").returncode == 0
    assert ca("show").returncode == 0


def test_open_directory(ca):
    """So is a directory that others can get into, whatever is in it."""
    ca.made()
    ca.directory.chmod(0o755)
    for action in (["show"], ["cert"], ["rotate", "docker.io"]):
        refused(ca(*action), 1, "chmod 0700", str(ca.directory))


def test_missing_and_mismatched(ca):
    """A key without its certificate, or the other way round, or with that of another: 4."""
    ca.made()
    key, certificate = ca.key.read_text(), ca.certificate.read_text()
    ca.key.unlink()
    refused(ca("show"), 4, f"{ca.key} is missing", "rotate")
    assert ca("rotate", "docker.io").returncode == 0
    ca.certificate.unlink()
    refused(ca("show"), 4, f"{ca.certificate} is missing", "rotate")
    ca.certificate.write_text(certificate)
    refused(ca("cert"), 4, "is not the key of", "rotate")
    ca.key.write_text(key)
    assert ca("show").returncode == 0


def test_foreign_authority(ca):
    """A CA without limits, from elsewhere, is not taken: 4."""
    ca.made()
    openssl("req", "-x509", "-new", "-key", ca.key, "-subj", "/CN=any", "-days", 10, "-addext",
            "basicConstraints=critical,CA:TRUE,pathlen:0", "-addext",
            "keyUsage=critical,keyCertSign", "-out", ca.certificate)
    refused(ca("show"), 4, "name constraints")


# --- what clients think, with the key in the hands of a thief ---

def leaf(ca, directory, names):
    """A certificate for a server with these names, signed with the key of the CA by openssl."""
    key, request, made = (directory / f"leaf.{x}" for x in ("key", "csr", "pem"))
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", key, "-out", request, "-subj", "/O=thief",
            "-addext", f"subjectAltName={names}")
    openssl("x509", "-req", "-in", request, "-CA", ca.certificate, "-CAkey", ca.key,
            "-set_serial", 4711, "-copy_extensions", "copy", "-days", 1, "-out", made)
    return key, made


ACCEPTED = ["DNS:docker.io", "DNS:auth.docker.io", "DNS:cdn.example.com", "IP:192.0.2.1",
            "DNS:docker.io,IP:192.0.2.1"]
REFUSED = ["DNS:evil.example", "DNS:docker.io,DNS:evil.example", "DNS:example.com", "DNS:io",
           "DNS:xdocker.io", "IP:192.0.2.2", "IP:127.0.0.1", "IP:::1", "IP:2001:db8::1",
           "email:a@docker.io", "URI:https://docker.io/"]


@pytest.mark.parametrize("names", ACCEPTED + REFUSED)
def test_openssl_verify(ca, tmp_path, names):
    """`openssl verify` accepts what the CA is for and refuses all else."""
    _, made = leaf(ca.made(), tmp_path, names)
    done = subprocess.run(["openssl", "verify", "-purpose", "sslserver", "-CAfile",
                           ca.certificate, made], capture_output=True, text=True, check=False)
    if names in ACCEPTED:
        assert done.returncode == 0, done
    else:
        assert done.returncode != 0 and "subtree violation" in done.stderr, done


@pytest.mark.parametrize("only, others", [
    ("2001:db8::1", ["DNS:docker.io", "IP:2001:db8::2", "IP:192.0.2.1"]),
    ("docker.io", ["IP:192.0.2.1", "IP:::1", "IP:0.0.0.0"])])
def test_kinds_that_are_not_named(ca, tmp_path, only, others):
    """A CA for one kind of name is for none of another."""
    ca.made(only)
    for names in others:
        _, made = leaf(ca, tmp_path, names)
        done = subprocess.run(["openssl", "verify", "-CAfile", ca.certificate, made],
                              capture_output=True, text=True, check=False)
        assert done.returncode != 0 and "subtree violation" in done.stderr, (names, done)


def handshake(ca, directory, names, host):
    """Python's client, which trusts the CA, and a server with such a certificate, in memory."""
    key, made = leaf(ca, directory, names)
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(made, key)
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = server_context.wrap_bio(to_server, to_client, server_side=True)
    client = ssl.create_default_context(cadata=ca("cert").stdout).wrap_bio(
        to_client, to_server, server_hostname=host)
    waiting = {client, server}
    while waiting:
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.discard(side)
            except ssl.SSLWantReadError:
                pass
    return client.version()


def test_handshake(ca, tmp_path):
    """A client that trusts the CA talks to the hosts it is for, and to no other."""
    ca.made()
    assert handshake(ca, tmp_path, "DNS:docker.io", "docker.io") == "TLSv1.3"
    assert handshake(ca, tmp_path, "IP:192.0.2.1", "192.0.2.1") == "TLSv1.3"
    for host in ("evil.example", "example.com"):
        with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
            handshake(ca, tmp_path, f"DNS:docker.io,DNS:{host}", host)


class Nothing(http.server.BaseHTTPRequestHandler):
    """A registry that has nothing."""

    def do_GET(self):
        self.send_error(404)

    def log_message(self, *_):
        pass


@pytest.mark.clients
@pytest.mark.parametrize("name, said", [("localhost", "404 (not found)"),
                                        ("docker.io", "not authorized to sign for this name")])
def test_go(ca, tmp_path, name, said):
    """What Go makes of it, by skopeo: it speaks to a host that the CA is for, and hears that
    there is nothing; not to one that the CA is not for, whoever has signed with its key."""
    ca.made(name)
    key, made = leaf(ca, tmp_path, "DNS:localhost")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    trusted = tmp_path / "trusted"
    trusted.mkdir()
    shutil.copy(ca.certificate, trusted / "ca.crt")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Nothing) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        done = subprocess.run(["skopeo", "inspect", "--cert-dir", trusted,
                               f"docker://localhost:{server.server_port}/library/app:1"],
                              capture_output=True, text=True, timeout=60, check=False)
        server.shutdown()
    assert done.returncode != 0 and said in done.stderr.lower(), done.stderr


def test_authority_below(ca, tmp_path):
    """It cannot be the root of another CA, which could leave its own limits out."""
    ca.made()
    key, request, made = (tmp_path / f"below.{x}" for x in ("key", "csr", "pem"))
    openssl("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
            "-keyout", key, "-out", request, "-subj", "/CN=below",
            "-addext", "basicConstraints=critical,CA:TRUE")
    openssl("x509", "-req", "-in", request, "-CA", ca.certificate, "-CAkey", ca.key,
            "-set_serial", 1, "-copy_extensions", "copy", "-days", 1, "-out", made)
    below = Ca.__new__(Ca)
    below.key, below.certificate = key, made
    _, server = leaf(below, tmp_path, "DNS:docker.io")
    done = subprocess.run(["openssl", "verify", "-CAfile", ca.certificate, "-untrusted", made,
                           server], capture_output=True, text=True, check=False)
    assert done.returncode != 0 and "path length" in done.stderr, done


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files of others")
def test_root_and_the_user_of_the_daemon(ca):
    """What root makes in the cache of another user is that user's."""
    os.chown(ca.cache, 1, 1)
    ca.made()
    assert ca("rotate", "docker.io").returncode == 0
    for path in (ca.directory, *ca.directory.iterdir()):
        assert (path.stat().st_uid, path.stat().st_gid) == (1, 1), path
    assert ca("show").returncode == 0
    os.chown(ca.key, 2, 2)
    refused(ca("show"), 1, "chown 1", str(ca.key))
