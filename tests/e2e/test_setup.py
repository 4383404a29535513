# SPDX-License-Identifier: ISC
"""`cachalot setup` and the pages below /-/setup/: what they say is given to real clients, which
then pull through cachalot; and all of it is taken back. The folder `root` stands for / of a
client's machine."""

import json
import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest

from lib import image, intercept, rawhttp
from lib.cachalot import COMMAND
from lib.clients import Containerd, Dockerd, Podman, Skopeo, check_dir
from lib.hosts import known
from lib.image import ACCEPT
from lib.intercept import Door
from lib.internet import Internet
from lib.paths import HUB, MCR, manifest
from lib.process import free_port
from lib.wait import until

NAME = "docker.io/library/app:1"
DAEMON_JSON = "etc/docker/daemon.json"
SETTINGS = '{ "debug" : true,\n  "registry-mirrors": ["http://127.0.0.1:9"], "labels": [] }'


@pytest.fixture
def item(hub):
    return hub.hold(image.image("setup", (4000,), types=image.DOCKER), "library/app", "1")


@pytest.fixture
def daemon(hub, item, cachalot):
    return cachalot({HUB: hub.url, MCR: hub.url})


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "root [1]"
    folder.mkdir()
    return folder


def at(daemon):
    return "%s:%d" % daemon.address


class Setup:
    """The command, for the clients of a machine."""

    def __init__(self, daemon, root):
        self.daemon = daemon
        self.root = root

    def run(self, client, *arguments, host=None, code=0):
        done = self.daemon.command("setup", client, "--root", self.root, "--host",
                                   host or at(self.daemon), *arguments)
        assert done.returncode == code, done
        return done.stdout + done.stderr

    def json(self, client, *arguments, **more):
        return json.loads(self.run(client, "--format", "json", *arguments, **more))

    def changes(self, client, *arguments, **more):
        """{path: what was done}"""
        return {row["path"]: row["change"]
                for row in self.json(client, *arguments, **more)["files"]}


@pytest.fixture
def setup(daemon, root):
    return Setup(daemon, root)


def tree(root):
    """{path: content} of all files."""
    return {str(p.relative_to(root)): p.read_text() for p in root.rglob("*") if p.is_file()}


def write(root, path, text):
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def came_by(daemon, *expected):
    """The doors that content came by, all of them; pings come by none."""
    def doors():
        return {line["door"] for line in daemon.access_log() if line["status"] < 400} - {"-"}
    until("the log has what was asked", lambda: doors() >= set(expected))
    assert doors() == set(expected)


# --- real clients ---


@pytest.mark.clients
def test_docker(daemon, item, setup, root, closing, tmp_path):
    """Docker's settings keep what they hold, and it pulls by the mirror. A check says that the
    files are right, by which door it went, and that it was a hit. Undone they are as they
    were, byte for byte."""
    write(root, DAEMON_JSON, SETTINGS)
    before = tree(root)
    said = setup.run("docker", "--write")
    assert "systemctl reload docker" in said
    written = json.loads((root / DAEMON_JSON).read_text())
    mirror = "http://%s:%d" % daemon.mirror
    assert written == {"debug": True, "registry-mirrors": [mirror, "http://127.0.0.1:9"],
                       "labels": []}
    assert (root / (DAEMON_JSON + ".cachalot-bak")).read_text() == SETTINGS
    containerd = closing(Containerd(tmp_path))
    dockerd = closing(Dockerd(tmp_path, containerd, settings=written))
    dockerd.pull("app:1")
    assert dockerd.image_id("app:1") == item.blobs[0].digest
    came_by(daemon, "mirror")

    said = setup.json("docker", "--check", "--image", "app:1")
    assert said["door"]["listener"] == "hub" and said["door"]["role"] == "mirror"
    assert said["probe"] == {"image": NAME, "status": 200, "hit": True,
                             "cache_status": "cachalot; hit"}
    assert {row["change"] for row in said["files"]} == {"kept"}
    setup.run("docker", "--undo")
    assert tree(root) == before


@pytest.mark.clients
def test_docker_by_a_name(daemon, item, setup, root, closing, tmp_path):
    """Plain HTTP at a name that is not loopback's: the engine is told that it is so, beside
    what it was told before, and pulls by the prefix. Undone it is as it was."""
    host = "cachalot.test:%d" % daemon.address[1]
    write(root, DAEMON_JSON, '{"insecure-registries": ["other:1"]}')
    before = tree(root)
    with known(tmp_path, "cachalot.test"):
        setup.run("docker", "--write", host=host)
        written = json.loads((root / DAEMON_JSON).read_text())
        assert written["insecure-registries"] == [host, "other:1"]
        dockerd = closing(Dockerd(tmp_path, closing(Containerd(tmp_path)), settings=written))
        dockerd.pull(f"{host}/{NAME}")
        assert dockerd.image_id(f"{host}/{NAME}") == item.blobs[0].digest
    came_by(daemon, "prefix")
    setup.run("docker", "--undo", host=host)
    assert tree(root) == before


@pytest.mark.clients
def test_containerd(daemon, item, setup, root, closing, tmp_path):
    """containerd reads hosts.toml, and asks with ns."""
    containerd = closing(Containerd(tmp_path))
    containerd.hosts_dir = root / "etc/containerd/certs.d"
    setup.run("containerd", "--write")
    containerd.pull(NAME)
    assert containerd.digest(NAME) == item.digest
    came_by(daemon, "ns")
    said = setup.json("containerd", "--check", "--image", NAME)
    assert said["probe"]["hit"] and said["door"]["role"] == "registry"
    setup.run("containerd", "--undo")
    assert tree(root) == {}


@pytest.mark.clients
def test_podman_and_skopeo(daemon, item, setup, root, closing, tmp_path):
    """podman and skopeo read registries.conf, and put the registry before the name."""
    setup.run("podman", "--write")
    conf = root / "etc/containers/registries.conf.d/50-cachalot.conf"
    podman = closing(Podman(tmp_path, env={"CONTAINERS_REGISTRIES_CONF": str(conf)}))
    podman.pull(NAME)
    assert podman.digest(NAME) == item.digest
    skopeo = Skopeo(tmp_path)
    skopeo.options += ["--registries-conf", conf]
    check_dir(skopeo.copy(NAME), item)
    came_by(daemon, "prefix")
    assert setup.json("podman", "--check", "--image", NAME)["probe"]["hit"]
    setup.run("podman", "--undo")
    assert tree(root) == {}


def drop_in(root, unit):
    """The environment that systemd gives to the unit."""
    text = (root / f"etc/systemd/system/{unit}.service.d/cachalot.conf").read_text()
    return dict(re.findall(r'^Environment="(\w+)=(.*)"$', text, re.MULTILINE))


@pytest.fixture
def internet(closing, tmp_path):
    return closing(Internet(tmp_path / "internet"))


@pytest.mark.clients
def test_proxy(internet, cachalot, root, closing, tmp_path):
    """The authority and the proxy are all that an engine needs for Microsoft's registry; a check
    goes the same way: by the proxy, within TLS, trusting that file. `cachalot ca show`
    has the same fingerprint."""
    address, options = intercept.options()
    daemon = cachalot(internet.upstreams, options)
    item = internet.mcr.hold(image.image("proxied", types=image.DOCKER), "dotnet/runtime", "8.0")
    name = f"{MCR}/dotnet/runtime:8.0"
    setup = Setup(daemon, root)
    before = setup.run("proxy", "--check", "--image", name, code=1)
    assert "curl" in before
    said = setup.run("proxy", "--write")
    assert "update-ca-certificates" in said
    crt = root / "usr/local/share/ca-certificates/cachalot.crt"
    env = {**drop_in(root, "docker"), "SSL_CERT_FILE": str(crt), "SSL_CERT_DIR": "/nowhere"}
    assert env["HTTPS_PROXY"] == "http://%s:%d" % address and "127.0.0.1" in env["NO_PROXY"]
    dockerd = closing(Dockerd(tmp_path, closing(Containerd(tmp_path)), env=env))
    dockerd.pull(name)
    assert dockerd.image_id(name) == item.blobs[0].digest
    came_by(daemon, "intercept")
    said = setup.json("proxy", "--check", "--image", name)
    assert said["door"]["opened_as"] == MCR and said["door"]["proxy"] and said["door"]["tls"]
    assert said["probe"]["hit"]
    shown = json.loads(daemon.command("ca", "show", "--format", "json").stdout)["sha256"]
    for text in (crt.read_text(), setup.run("proxy"), setup.run("windows")):
        assert shown in text
    setup.run("proxy", "--undo")
    assert tree(root) == {}


@pytest.fixture
def secure(hub, item, cachalot):
    """A daemon whose registry speaks TLS by its own authority; it is asked at its mirror."""
    port = free_port()
    return cachalot({HUB: hub.url}, {
        "listener main": {"role": "mirror", "upstream": HUB},
        "listener secure": {"role": "registry", "address": f"127.0.0.1:{port}", "tls": "yes",
                            "names": "127.0.0.1"}})


@pytest.mark.clients
def test_containerd_with_tls(secure, item, root, closing, tmp_path):
    """Where the registry speaks TLS the authority goes with the files, and is believed; when TLS
    is gone so are they."""
    setup = Setup(secure, root)
    containerd = closing(Containerd(tmp_path))
    containerd.hosts_dir = root / "etc/containerd/certs.d"
    setup.run("containerd", "--write")
    containerd.pull(NAME)
    assert containerd.digest(NAME) == item.digest
    said = setup.json("containerd", "--check", "--image", NAME)
    assert said["door"]["listener"] == "secure" and said["door"]["tls"] and said["probe"]["hit"]
    assert "etc/docker/certs.d/cachalot-ca.crt" in {p.lstrip("/") for p in setup.changes(
        "docker", "--dry-run")}
    secure.sections["listener secure"].update({"tls": "no", "names": ""})
    secure.write_config()
    secure.hup()
    done = setup.changes("containerd", "--write")
    assert done["/etc/containerd/certs.d/cachalot-ca.crt"] == "removed"
    assert done["/etc/containerd/certs.d/docker.io/hosts.toml"] == "replaced"


def test_tls_wants_a_name(secure):
    """Clients check names: the command does not guess one."""
    done = secure.command("setup", "podman")
    assert done.returncode == 2 and "--host NAME" in done.stderr


# --- files ---


def test_again_and_to_another(daemon, setup, root):
    """Done again it changes nothing. For another name what was set for the first one goes."""
    write(root, DAEMON_JSON, SETTINGS)
    setup.run("docker", "--write")
    first = tree(root)
    assert set(setup.changes("docker", "--write").values()) == {"kept"}
    assert tree(root) == first
    port = daemon.address[1]
    would = setup.changes("docker", "--dry-run", host=f"localhost:{port}")
    assert would["/" + DAEMON_JSON] == "merged"
    assert tree(root) == first
    setup.run("docker", "--write", host=f"localhost:{port}")
    mirrors = json.loads((root / DAEMON_JSON).read_text())["registry-mirrors"]
    assert mirrors == ["http://localhost:%d" % daemon.mirror[1], "http://127.0.0.1:9"]
    setup.run("docker", "--undo", "--dry-run")
    assert (root / "etc/docker/certs.d/docker.io/hosts.toml").exists()
    setup.run("docker", "--undo")
    assert tree(root) == {DAEMON_JSON: SETTINGS}
    said = setup.run("docker", "--undo", code=5)
    assert "nothing" in said


def test_without_settings_before(setup, root):
    """Settings that were not there are gone after it; the daemon is not needed for that."""
    setup.run("docker", "--write")
    setup.daemon.stop()
    setup.run("docker", "--undo")
    assert tree(root) == {}
    assert not (root / "etc/docker/certs.d/docker.io").exists()


def test_changed_between(daemon, setup, root):
    """What people change after it stays when it is undone."""
    write(root, DAEMON_JSON, SETTINGS)
    setup.run("docker", "--write")
    now = json.loads((root / DAEMON_JSON).read_text())
    now["registry-mirrors"].insert(0, "http://new:1")
    now["live-restore"] = True
    del now["debug"]
    write(root, DAEMON_JSON, json.dumps(now))
    setup.run("docker", "--undo")
    assert json.loads((root / DAEMON_JSON).read_text()) == {
        "registry-mirrors": ["http://new:1", "http://127.0.0.1:9"], "labels": [],
        "live-restore": True}
    assert set(tree(root)) == {DAEMON_JSON}


def test_what_was_there_is_not_taken(daemon, setup, root):
    """A mirror that somebody had set by hand is not cachalot's to take away."""
    text = json.dumps({"registry-mirrors": ["http://%s:%d" % daemon.mirror]})
    write(root, DAEMON_JSON, text)
    assert setup.changes("docker", "--write")["/" + DAEMON_JSON] == "kept"
    setup.run("docker", "--undo")
    assert tree(root) == {DAEMON_JSON: text}


@pytest.mark.parametrize("text, word", [
    ("{", "correct it"), ("[]", "correct it"), ('{"a":1,"a":2}', "correct it"),
    ('{"registry-mirrors": "http://a"}', "by hand"), ("\ufeff{}", "correct it"),
    ('{"registry-mirrors": null}', "by hand")])
def test_settings_that_cannot_be_merged(setup, root, text, word):
    """They are left as they are, it is said what to do, and the rest is done."""
    write(root, DAEMON_JSON, text)
    assert word in setup.run("docker", "--write", code=3)
    assert (root / DAEMON_JSON).read_text() == text
    assert (root / "etc/docker/certs.d/docker.io/hosts.toml").exists()
    setup.run("docker", "--undo", code=3 if word == "correct it" else 0)
    assert tree(root) == {DAEMON_JSON: text}


def test_an_empty_file_is_settings(setup, root):
    write(root, DAEMON_JSON, "\n")
    setup.run("docker", "--write")
    setup.run("docker", "--undo")
    assert tree(root) == {DAEMON_JSON: "\n"}


def test_files_of_others(setup, root):
    """Files that cachalot did not write are not touched, neither then nor later; nor are those
    of its own for another client."""
    path = "etc/containerd/certs.d/docker.io/hosts.toml"
    write(root, path, 'server = "https://mine.example"\n')
    said = setup.run("containerd", "--write", code=3)
    assert path in said and "cachalot setup containerd" in said
    setup.run("containerd", "--undo")
    assert tree(root) == {path: 'server = "https://mine.example"\n'}
    setup.run("podman", "--write")
    before = tree(root)
    setup.run("containerd", "--undo", code=5)
    assert tree(root) == before


def test_mode_and_link(setup, root):
    """The file keeps its mode, and a link to it stays one."""
    write(root, "srv/settings.json", SETTINGS)
    (root / "srv/settings.json").chmod(0o600)
    (root / "etc/docker").mkdir(parents=True)
    (root / DAEMON_JSON).symlink_to("../../srv/settings.json")
    setup.run("docker", "--write")
    assert (root / DAEMON_JSON).is_symlink()
    assert (root / "srv/settings.json").stat().st_mode & 0o777 == 0o600
    assert "http://127.0.0.1:9" in (root / "srv/settings.json").read_text()
    setup.run("docker", "--undo")
    assert (root / "srv/settings.json").read_text() == SETTINGS


def test_red_hat(internet, cachalot, root):
    """Where the system keeps its authorities as Red Hat does, that is where it goes."""
    _, options = intercept.options()
    setup = Setup(cachalot(internet.upstreams, options), root)
    (root / "etc/pki/ca-trust/source/anchors").mkdir(parents=True)
    assert "/etc/pki/ca-trust/source/anchors/cachalot.crt" in setup.changes("proxy", "--write")
    setup.run("proxy", "--undo")
    assert tree(root) == {} and (root / "etc/pki/ca-trust/source/anchors").is_dir()


# --- checking ---


def test_check(daemon, hub, setup, root):
    """A miss and then a hit; a machine that is not set up; an image that is not there; a
    registry that does not answer; a daemon that does not."""
    said = setup.run("podman", "--check", "--image", "app:1", code=3)
    assert "miss" in said and "--write" in said and "0 as they should be" in said
    setup.run("podman", "--write")
    said = setup.run("podman", "--check", "--image", NAME)
    assert "hit" in said and "listener main, role registry" in said
    assert "not there" in setup.run("podman", "--check", "--image", "app:nope", code=5)
    assert "no image" in setup.run("podman", "--check", "--image", "APP", code=2)
    hub.close()
    said = setup.run("podman", "--check", "--image", "app:other", code=1)
    assert "upstream" in said
    daemon.stop()
    said = setup.run("podman", "--check", "--image", NAME, code=1)
    assert "--host" in said


def test_usage(daemon, setup):
    for arguments, word in ((["docker", "--write", "--undo"], "one or the other"),
                            (["docker", "--check", "--dry-run"], "--dry-run"),
                            (["windows", "--write"], "-Undo"), (["emacs"], "containerd")):
        assert word in setup.run(*arguments, code=2)
    for host in ("a_b", "a:0", "a:65536", "a:x", "", "a/b", "$(x)", "[::1"):
        done = daemon.command("setup", "docker", "--host", host)
        assert done.returncode == 2 and "--host" in done.stderr, (host, done)


def test_whom_it_asks(daemon, hub, cachalot):
    """By itself it asks the daemon of this machine, for clients of this machine. A name that
    leads nowhere from here is taken as what others call it."""
    done = daemon.command("setup", "docker")
    assert done.returncode == 0 and "http://127.0.0.1:%d" % daemon.mirror[1] in done.stdout, done
    done = daemon.command("setup", "docker", "--host", "cachalot.test")
    assert done.returncode == 0 and "http://cachalot.test:%d" % daemon.mirror[1] in done.stdout
    assert "instead" in done.stderr
    # hub is no cachalot.
    done = daemon.command("setup", "docker", "--host", "%s:%d" % hub.address)
    assert "no cachalot" in done.stderr
    daemon.stop()
    for arguments in ([], ["--host", "cachalot.test"], ["--host", at(daemon)]):
        done = daemon.command("setup", "docker", *arguments)
        assert done.returncode == 1 and "--host" in done.stderr, done


# --- what is printed ---


@pytest.mark.parametrize("client", ["docker", "containerd", "podman", "k3s"])
def test_printed(setup, root, client):
    """What is printed has each file that is written, as it is written; nothing is."""
    text = setup.run(client)
    said = setup.json(client)
    assert tree(root) == {}
    setup.run(client, "--write")
    for file in said["files"]:
        assert file["path"] in text and file["content"] in text
        written = (root / file["path"].lstrip("/")).read_text()
        if file["kind"] == "merge":
            assert json.loads(written) == json.loads(file["content"])
        else:
            assert written == file["content"]
        if file["path"].endswith((".toml", ".conf")):
            tomllib.loads(file["content"])
    code = text.split("\n# --- ")[0]
    assert all(line.startswith("#") for line in code.splitlines() if line)


def test_k3s(setup, root):
    """registries.yaml, which is a list of strings in two levels, and of nothing else."""
    yaml = pytest.importorskip("yaml")
    said = setup.json("k3s")
    url = "http://" + at(setup.daemon)
    found = yaml.safe_load(said["files"][0]["content"])
    assert found["mirrors"][HUB] == {"endpoint": [url]} and found["mirrors"][MCR] == {
        "endpoint": [url]}
    assert "configs" not in found


# --- the pages ---


def page(daemon, name, address=None):
    host = "%s:%d" % (address or daemon.address)
    return rawhttp.get(address or daemon.address, f"/-/setup/{name}", "GET", [("Host", host)], 30)


def script(daemon, name, root, *arguments, code=0, path=os.environ["PATH"]):
    got = page(daemon, name)
    assert got.status == 200, got
    done = subprocess.run(["/bin/sh", "-s", "--", *arguments], input=got.body,
                          capture_output=True, timeout=60, check=False,
                          env={"PATH": str(path), "DESTDIR": str(root)})
    assert done.returncode == code, done
    return done.stderr.decode()


@pytest.mark.parametrize("client", ["docker", "containerd", "podman", "k3s"])
def test_scripts_do_what_the_command_does(daemon, setup, tmp_path, root, client):
    """The scripts write the same files, also twice, and take them back; each can undo what
    the other did."""
    theirs = tmp_path / "theirs"
    if client == "docker":
        write(root, DAEMON_JSON, SETTINGS)
        write(theirs, DAEMON_JSON, SETTINGS)
    before = tree(root)
    setup.run(client, "--write")
    script(daemon, f"{client}.sh", theirs)
    script(daemon, f"{client}.sh", theirs)
    assert tree(theirs) == tree(root)
    script(daemon, f"{client}.sh", root, "--undo")
    assert tree(root) == before
    Setup(daemon, theirs).run(client, "--undo")
    assert tree(theirs) == before


def test_scripts_take_care(daemon, root):
    """They too leave others' files alone, and settings that they cannot merge."""
    write(root, "etc/docker/certs.d/docker.io/hosts.toml", "# mine\n")
    write(root, DAEMON_JSON, '{"registry-mirrors": "x"}')
    said = script(daemon, "docker.sh", root, code=1)
    assert "not one of cachalot's" in said and "something else" in said
    assert (root / DAEMON_JSON).read_text() == '{"registry-mirrors": "x"}'
    assert (root / "etc/docker/certs.d/docker.io/hosts.toml").read_text() == "# mine\n"
    script(daemon, "docker.sh", root, "--frob", code=2)


def test_script_without_python(daemon, tmp_path, root):
    """Without python3 settings are made and taken away, but not changed: that is said."""
    path = tmp_path / "bin"
    path.mkdir()
    for program in ("cat", "cmp", "dirname", "grep", "head", "id", "mkdir", "mv", "rm", "rmdir"):
        (path / program).symlink_to(shutil.which(program))
    script(daemon, "docker.sh", root, path=path)
    script(daemon, "docker.sh", root, path=path)
    mirrors = json.loads((root / DAEMON_JSON).read_text())["registry-mirrors"]
    assert mirrors == ["http://%s:%d" % daemon.mirror]
    script(daemon, "docker.sh", root, "--undo", path=path)
    assert tree(root) == {}
    write(root, DAEMON_JSON, SETTINGS)
    said = script(daemon, "docker.sh", root, path=path, code=1)
    assert "without python3" in said and mirrors[0] in said
    script(daemon, "docker.sh", root, "--undo", path=path)
    assert tree(root) == {DAEMON_JSON: SETTINGS}


@pytest.mark.clients
def test_files_from_pages(daemon, item, root, closing, tmp_path):
    """What a page says, as it is: podman pulls by it; containerd by the files of its script."""
    conf = tmp_path / "50-cachalot.conf"
    conf.write_bytes(page(daemon, "podman.conf").body)
    podman = closing(Podman(tmp_path, env={"CONTAINERS_REGISTRIES_CONF": str(conf)}))
    podman.pull(NAME)
    assert podman.digest(NAME) == item.digest
    script(daemon, "containerd.sh", root)
    containerd = closing(Containerd(tmp_path))
    containerd.hosts_dir = root / "etc/containerd/certs.d"
    containerd.pull(NAME)
    came_by(daemon, "prefix", "ns")


def test_the_proxys_script(internet, cachalot, root):
    address, options = intercept.options()
    daemon = cachalot(internet.upstreams, options)
    said = script(daemon, "proxy.sh", root)
    assert "restart" in said
    written = tree(root)
    assert drop_in(root, "containerd")["HTTPS_PROXY"] == "http://%s:%d" % address
    Setup(daemon, root).run("proxy", "--write")
    assert tree(root) == written
    script(daemon, "proxy.sh", root, "--undo")
    assert tree(root) == {}


def test_pages(daemon):
    """The list, with no page that is not there; nothing in it is loaded from elsewhere, and
    nothing keeps it."""
    got = page(daemon, "")
    assert got.status == 200 and got["Content-Type"].startswith("text/html")
    assert "default-src 'none'" in got["Content-Security-Policy"]
    assert got["X-Content-Type-Options"] == "nosniff" and got["Cache-Control"] == "no-store"
    for name in re.findall(r'href="/-/setup/([^"]*)"', got.body.decode()):
        there = page(daemon, name)
        assert there.status == 200 and there.length == len(there.body) > 0
    assert "proxy.sh" not in got.body.decode()
    for name in ("proxy.sh", "nothing", "docker.sh/x", "..", "windows.ps1x"):
        assert page(daemon, name).status == 404
    assert daemon.get("/-/setup/docker.sh", "POST").status == 405
    head = daemon.head("/-/setup/docker.sh", fields=[("Host", at(daemon))])
    assert head.status == 200 and head.length > 1000 and head.body == b""


def test_windows(daemon, setup):
    """The script that is served is the one that the command prints: for the mirror, where there
    is no proxy."""
    got = page(daemon, "windows.ps1")
    assert got.status == 200 and got.body.decode() == setup.run("windows")
    text = got.body.decode("ascii")
    assert "$mirrorUrl = 'http://%s:%d'\n" % daemon.mirror in text
    assert "$Mode = 'Mirror'" in text
    assert "$registry = '%s'\n$registryIsPlain = $false\n" % at(daemon) in text
    assert "function Get-CachalotImage(" in text and "'insecure-registries'" not in text


@pytest.mark.parametrize("host", ["a_b", "a~b:1", "-x", "a..b"])
def test_hosts_that_no_script_says(daemon, host):
    """A Host that is no name for clients is in no script, nor is one in the answer."""
    for name in ("", "docker.sh", "windows.ps1", "podman.conf"):
        got = daemon.get(f"/-/setup/{name}", fields=[("Host", host)])
        assert got.status == 400 and host not in got.body.decode()
    for bad in ('a"b', "a'b", "a<b", "a$(x)", "a b"):
        assert daemon.get("/-/setup/docker.sh", fields=[("Host", bad)]).status == 400


# --- the doctor ---


def test_doctor(internet, cachalot, tmp_path):
    """It tells by which door a client came: each listener, and within the TLS of a host that is
    intercepted, where nothing else of /-/ is ours."""
    port, dns = free_port(), free_port()
    address, options = intercept.options()
    options["listener secure"] = {"role": "registry", "address": f"127.0.0.1:{port}",
                                  "tls": "yes", "names": "127.0.0.1"}
    options["listener dns"] = {"role": "tls-intercept", "address": f"127.0.0.1:{dns}"}
    daemon = cachalot(internet.upstreams, options)
    door = Door(daemon, address)

    def ask(at=None):
        return json.loads(page(daemon, "doctor.json", at).body)

    said = ask()
    assert (said["listener"], said["role"], said["tls"]) == ("main", "registry", False)
    assert said["client"] == "127.0.0.1" and said["host"] == "127.0.0.1"
    assert said["ca"] == door.ca() and set(said["registries"]) >= {HUB, MCR}
    assert said["doors"]["proxy"]["port"] == address[1]
    said = ask(daemon.mirror)
    assert (said["listener"], said["mirror_of"]) == ("hub", HUB)
    said = ask(address)
    assert said["role"] == "intercept" and not said["proxy"]

    got = door.ask(MCR, "/-/setup/doctor.json")
    said = json.loads(got.body)
    assert got.status == 200 and said["proxy"] and said["opened_as"] == MCR
    text = door.ask(MCR, "/-/setup/doctor").body.decode()
    assert f"What is pulled from {MCR} comes by way of cachalot" in text
    said = json.loads(intercept.DnsDoor(daemon, ("127.0.0.1", dns)).ask(
        MCR, "/-/setup/doctor.json").body)
    assert said["role"] == "tls-intercept" and said["opened_as"] == MCR and not said["proxy"]
    assert internet.count() == 0
    for other in ("/-/setup/docker.sh", "/-/healthz"):
        door.ask(MCR, other)
    assert internet.count() == 2
    with rawhttp.Connection(("127.0.0.1", port)) as c:
        c.secure(door.context(), "127.0.0.1")
        c.request("/-/setup/doctor.json", "GET", [("Host", f"127.0.0.1:{port}")])
        said = json.loads(c.read_response("GET").body)
    assert said["tls"] and said["listener"] == "secure"
    assert said["doors"]["registry"] == {"port": port, "tls": True, "own_authority": True}


def test_help(daemon):
    """Each option is in the help, and in the manual page."""
    done = subprocess.run([COMMAND, "help", "setup"], capture_output=True, text=True, timeout=30,
                          check=True)
    manual = (Path(__file__).parent / "../../tools/cachalot.1").read_text()
    for option in ("host", "write", "undo", "check", "dry-run", "image", "root"):
        assert f"--{option} " in done.stdout and f".It Fl -{option}" in manual


def test_pulls_are_still_pulls(daemon, item):
    """Below /v2/ nothing has changed."""
    assert daemon.get(manifest("library/app", "1"), fields=ACCEPT).status == 200
