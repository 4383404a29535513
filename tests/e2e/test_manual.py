# SPDX-License-Identifier: ISC
"""What the manual page and the README tell people to type is typed here, as it is written."""

import json
import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from lib import image, terminal
from lib.bundle import keys, pull_all
from lib.cachalot import COMMAND
from lib.clients import Containerd, Dockerd, Podman
from lib.hosts import known
from lib.intercept import options as intercept_options
from lib.paths import HUB, MCR
from lib.pusher import EVERYBODY, Pusher
from lib.wait import until
from lib.windows import layer, servercore, windows_image

pytestmark = pytest.mark.clients

SOURCE = Path(__file__).parent / "../.."
MANUAL = (SOURCE / "tools/cachalot.1").read_text()
README = (SOURCE / "README").read_text()
HOST = "cachalot.lan"
SERVERCORE = "windows/servercore"
# Everything that the commands may write is laid over what the machine has, and goes with it.
SHELL = """
set -e
hosts=$(cat /etc/hosts)
mount -t tmpfs tmpfs {layers}
for folder in etc usr/local; do
    mkdir -p {layers}/$folder/upper {layers}/$folder/work
    mount -t overlay overlay -o lowerdir=/$folder,upperdir={layers}/$folder/upper,workdir=\
{layers}/$folder/work /$folder
done
mkdir -p /usr/local/share/ca-certificates
echo "$hosts" >/etc/hosts
set +e
. {script}
"""


class Desk:
    """Where somebody types: a folder, and programs that talk to the daemon of the test.
    What lines that are given together write outside of it is gone afterwards."""

    def __init__(self, daemon, directory):
        self.daemon = daemon
        self.directory = directory / "desk"
        self.directory.mkdir()
        self.programs = directory / "programs"
        self.programs.mkdir()
        self.layers = directory / "layers"
        self.layers.mkdir()
        self.program("cachalot", [COMMAND, "-c", daemon.config_path])
        self.program("systemctl", ["/bin/true"])
        # Scripts restart what they have set up.
        self.program("update-ca-certificates", ["/bin/true"])

    def program(self, name, argv):
        path = self.programs / name
        path.write_text(f'#!/bin/sh\nexec {shlex.join(map(str, argv))} "$@"\n')
        path.chmod(0o755)

    def type(self, *lines, code=0):
        """Each line must do."""
        script = self.directory / ".typed"
        script.write_text("".join(f"{line}\nresult=$?\n[ $result = {code} ] || exit 99\n"
                                  for line in lines))
        done = subprocess.run(["unshare", "--mount", "/bin/bash", "-o", "pipefail", "-c",
                               SHELL.format(layers=self.layers, script=script)],
                              cwd=self.directory, capture_output=True, text=True, timeout=120,
                              env={**os.environ, "PATH": f"{self.programs}:{os.environ['PATH']}"},
                              check=False)
        assert done.returncode == 0, (lines, done)
        return done.stdout


@pytest.fixture
def hosts(tmp_path):
    """The machine knows cachalot.lan."""
    with known(tmp_path, HOST):
        yield


class Office:
    """A daemon on the usual ports, with what the examples name."""

    def __init__(self, hub, cachalot, **sections):
        self.hub = hub
        daemon = cachalot({HUB: hub.url, MCR: hub.url, "quay.io": hub.url},
                          {**EVERYBODY, "listener main": {"address": "127.0.0.1:5000"},
                           "listener hub": {"address": "127.0.0.1:5001"}, **sections},
                          start=False)
        daemon.address, daemon.mirror = ("127.0.0.1", 5000), ("127.0.0.1", 5001)
        self.daemon = daemon.start()
        self.base = layer(50_000, "manual base")
        self.core = hub.hold(servercore(windows_image([self.base], "10.0.20348.1")), SERVERCORE,
                             "ltsc2022")
        pull_all(daemon, self.core, SERVERCORE, "ltsc2022", MCR)
        self.alpine = self.hold("library/alpine", "3.20", HUB)
        # What "setup --check" asks for.
        self.hold("library/hello-world", "latest")

    def hold(self, repository, tag, registry=None):
        """An image at the upstream; when its registry is named it is pulled, too."""
        made = self.hub.hold(image.image(repository, (9000,), image.DOCKER), repository, tag)
        if registry:
            pull_all(self.daemon, made, repository, tag, registry)
        return made


@pytest.fixture
def office(hub, cachalot, hosts):
    return Office(hub, cachalot)


@pytest.fixture
def desk(office, tmp_path):
    return Desk(office.daemon, tmp_path)


# --- the manual ---

def examples():
    section = MANUAL.split("\n.Sh EXAMPLES\n")[1].split("\n.Sh ")[0]
    return [line.removeprefix(".Dl ") for line in section.splitlines() if line.startswith(".Dl ")]


def test_examples(office, desk, tmp_path):
    """The examples of the manual page, one after another at one desk."""
    private, public = keys(tmp_path, "our")
    for path in (private, public):
        path.rename(desk.directory / path.name)
    (desk.directory / "images.txt").write_text(
        f"{MCR}/{SERVERCORE}:ltsc2022  # Windows\n\ndocker.io/library/alpine:3.20\n")
    written = examples()
    assert len(written) >= 12
    assert sum("0f5a1c2b3d4e" in line for line in written) == 1
    # A digest cannot be written before there is a layer.
    said = desk.type(*[x.replace("0f5a1c2b3d4e", office.base.digest[7:19]) for x in written])
    assert office.base.digest in said and f"{MCR}/{SERVERCORE}:ltsc2022" in said
    assert (desk.directory / "dvd/bundle-0001.tar").exists()


ALPINE = "docker.io/library/alpine:3.20"
# How each way to call each command, by the manual's own lines, is called.
CALLS = {
    "status": ["status"],
    "top": [],  # in a terminal, below
    "ls [--names] [pattern]": ["ls", "ls --names alp"],
    "inspect ref | digest": [f"inspect {ALPINE}", "inspect DIGEST"],
    "why digest | ref": ["why DIGEST", f"why {ALPINE}"],
    "pin [ref ...]": [f"pin {ALPINE}", "pin"],
    "unpin ref ...": [f"unpin {ALPINE}"],
    "rm ref | digest ...": ["rm team/app:1", "rm team/app@TEAM"],
    "check [--fix] [--quick] [--rebuild]": ["check --quick", "check"],
    "gc [--dry-run] [--now]": ["gc --dry-run", "gc", "gc --now"],
    "duplicates": ["duplicates"],
    "fetch [-d] reference ... [--platform platform]": [
        f"fetch {ALPINE} --platform linux/amd64", f"fetch -d {ALPINE}"],
    "export -o FILE [option ...] [reference ...]": [f"export -o x.tar {ALPINE}",
                                                    "export -o - --all > all.tar"],
    "have [-o FILE] [--sign KEY]": ["have", "have -o r --sign our.key"],
    "import [option ...] FILE | DIR | - ...": ["import x.tar", "import - < all.tar",
                                               "import --verify-only x.tar"],
    "ca init [name ...]": ["ca init mcr.microsoft.com"],
    "ca show": ["ca show"],
    "ca cert": ["ca cert"],
    "ca rotate [name ...]": ["ca rotate mcr.microsoft.com"],
    "setup client [option ...]": [f"setup {x} --host {HOST}" for x in
                                  ("docker", "containerd", "podman", "k3s", "windows")],
    "completion bash | zsh": ["completion bash", "completion zsh"],
    "help [command]": ["help", "help ls"],
    "version": ["version"],
}


def call_of(line):
    """ "ls [--names] [pattern]" of ".It Cm ls Oo Fl -names Oc Op Ar pattern"."""
    out, ends = [], 0  # of Op, which ends with the line
    for word in line.removeprefix(".It Cm ").split():
        if word in ("Oo", "Op"):
            out.append("[")
            ends += word == "Op"
        elif word == "Oc":
            out.append("]")
        elif word == "Fl":
            out.append("-")
        elif word not in ("Ar", "Cm", "Ns"):
            out.append(word)
    text = " ".join(out) + " ]" * ends
    text = re.sub(r"- (-?\w)", r"-\1", text)
    return text.replace("[ ", "[").replace(" ]", "]")


def test_calls(office, desk, tmp_path):
    """Each command in each way that the manual's line says."""
    said = [call_of(x) for x in re.findall(r"^\.It Cm .*$", MANUAL, re.M)]
    assert said == list(CALLS)
    private, _ = keys(tmp_path, "our")
    private.rename(desk.directory / "our.key")
    team = image.image("team", (1000,))
    Pusher(office.daemon.address, "team/app").push(team, "1")
    calls = [x.replace("DIGEST", office.alpine.layers[0].digest).replace("TEAM", team.digest)
             for each in CALLS.values() for x in each]
    desk.type(*[f"cachalot {x}" for x in calls])
    top = terminal.Terminal([COMMAND, "-c", office.daemon.config_path, "top"])
    try:
        top.until("it shows what is held", lambda: "blobs with" in top.text)
        top.press("q")
        assert top.wait() == 0
    finally:
        top.close()


# --- the README ---

# Lines that begin so are not for a test: who runs them, or what else tests them.
ELSEWHERE = {
    "tools/bootstrap": "test_bootstrap, and who begins with the README",
    "Invoke-WebRequest": "no Windows here: test_windows_script reads it",
    "powershell": "no Windows here",
    "htpasswd": "it asks for a password: test_access_clients",
    "docker login": "it asks for a password: test_access_clients",
    "apt-get": "the test of the package",
    "dpkg-buildpackage": "the test of the package",
    "podman build": "the test of the container",
    "podman run": "the test of the container",
    "podman exec": "the test of the container",
    "autoreconf": "tools/bootstrap does so",
    "mkdir": "tools/bootstrap does so",
    "../configure": "tools/bootstrap does so",
}
PROGRAMS = ("cachalot", "build/cachalot", "curl", "docker", "podman", "skopeo")


def readme_lines():
    """What stands four columns in: commands, lines that go on put together; without the words
    that explain them at the right."""
    text = re.sub(r"[\\`]\n +", "", README)
    found = [re.sub(r"   +\S.*", "", x.removeprefix("    ")) for x in text.splitlines()
             if re.match(r"    \S", x)]
    return [x for x in found if re.match(r"[./\w-]+ ", x)]


def is_command(line):
    return line.split()[0] in PROGRAMS


def commands_of_readme():
    return [x for x in readme_lines()
            if is_command(x) and not any(x.startswith(y) for y in ELSEWHERE)]


def test_readme_is_read():
    """Every program that the README names in such a line is known here."""
    sections = README.split("The two commands\n")[1].split("Where things are\n")[0]
    for line in readme_lines():
        if line in sections and not re.search(r" = |^\[|^\{", line):
            assert is_command(line) or any(line.startswith(x) for x in ELSEWHERE), line
    assert len(commands_of_readme()) >= 20


@pytest.fixture
def tour(hub, cachalot, hosts, tmp_path, closing):
    """The README's machine: with Docker and podman, and an address for the proxy."""
    _, door = intercept_options(("127.0.0.1", 3128))
    office = Office(hub, cachalot, **door)
    for repository, tag in (("prometheus/node-exporter", "latest"),
                            ("windows/nanoserver", "ltsc2022"), ("library/app", "1")):
        office.hold(repository, tag)
    # The Docker of this machine takes no image of Windows.
    office.hold(SERVERCORE, "ltsc2022")
    desk = Desk(office.daemon, tmp_path)
    docker = closing(Dockerd(tmp_path, closing(Containerd(tmp_path)), settings={
        "insecure-registries": [f"{HOST}:5000"]}))
    podman = closing(Podman(tmp_path))
    desk.program("docker", ["/usr/bin/docker", "--host", f"unix://{docker.socket}", "--config",
                            docker.home])
    desk.program("podman", ["env", *(f"{k}={v}" for k, v in podman.env.items()),
                            "/usr/bin/podman", *podman.options])
    (desk.directory / "build").mkdir()
    (desk.directory / "build/cachalot").symlink_to(COMMAND)
    (desk.directory / "var").mkdir()
    (desk.directory / "var/cachalot.ini").symlink_to(office.daemon.config_path)
    docker.docker("pull", f"{HOST}:5000/docker.io/library/app:1")
    docker.docker("tag", f"{HOST}:5000/docker.io/library/app:1", "app")
    desk.office = office
    return desk


def test_readme(tour):
    """The README from its beginning to its end."""
    written = [re.sub(r"^docker (pull|push)", r"docker \1 -q", x) for x in commands_of_readme()]
    office = tour.office
    office.daemon.command("rm", f"{MCR}/{SERVERCORE}:ltsc2022")
    said = tour.type(*written)
    assert "cachalot_" in said and "library/alpine" in said
    tags = Pusher(office.daemon.address, "team/app").get("tags/list")
    assert json.loads(tags.body)["tags"] == ["5.1"]
    until("the doors were used", lambda: {x.get("door") for x in office.daemon.access_log()}
          >= {"prefix", "local"})
