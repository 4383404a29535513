# SPDX-License-Identifier: ISC
"""cachalotd -t and -T: configurations are checked, and shown as they are in effect."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from lib.cachalot import DAEMON
from lib.paths import HUB


@pytest.fixture
def daemon(hub, cachalot):
    return cachalot({HUB: hub.url})


def run(*arguments):
    return subprocess.run([DAEMON, *map(str, arguments)], capture_output=True, text=True,
                          timeout=20, check=False)


def test_check_good(daemon):
    """-t says that a configuration is good, beside a running daemon."""
    done = run("-t", "-c", daemon.config_path)
    assert done.returncode == 0, done


@pytest.mark.parametrize("text, line, words", [
    ("[cache]\npath = relative/path\n", 2, ["path", "absolute"]),
    ("[cache]\nlength = 5GiB\n", 2, ["length"]),
    ("[chache]\npath = /x\n", 1, ["chache"]),
    ("[listener]\naddress = 5000\n", 1, ["listener"]),
    ("[listener a]\naddress = 5000\nrole = boss\n", 3, ["role", "registry", "mirror"]),
    ("[listener a]\naddress = 500000\n", 2, ["address"]),
    ("[listener a]\naddress = 5000\nhead-timeout = 10\n", 3, ["head-timeout", "10s"]),
    ("[upstream docker.io]\nurl = ftp://x\n", 2, ["url", "https://"]),
    ("[upstream docker.io]\ntag-ttl = soon\n", 2, ["tag-ttl", "60s"]),
    ("[upstream https://docker.io/]\nurl = http://x\n", 1, ["upstream"]),
    ("[upstream docker.io]\nretries = -1\n", 2, ["retries"]),
    ("[log]\nlevel = loud\n", 2, ["level", "debug"]),
    ("[cache]\nworkers = 9999999999999999999999\n", 2, ["workers"]),
    ("path = /x\n", 1, ["path"]),
    ("[cache]\npath /x\n", 2, []),
    ("[cache\n", 1, []),
    ("[cache]\npath = /" + "x" * 5000 + "\n", 2, []),
])
def test_check_bad(tmp_path, text, line, words):
    """A bad configuration: exit status 2, and file, line, option and accepted form are
    named."""
    path = tmp_path / "bad.ini"
    path.write_text(text)
    done = run("-t", "-c", path)
    assert done.returncode == 2, done
    assert f"{path}:{line}:" in done.stderr, done.stderr
    for word in words:
        assert word in done.stderr, done.stderr
    assert run("-f", "-c", path).returncode == 2


SECRETS = {
    "missing": (lambda path: path.unlink(), "cannot be read"),
    "empty": (lambda path: path.write_text(""), "has no secret"),
    "open": (lambda path: path.chmod(0o644), "open to every user"),
    "folder": (lambda path: (path.unlink(), path.mkdir()), "not a regular file"),
    "lines": (lambda path: path.write_text("one\ntwo\n"), "several lines"),
}


@pytest.mark.parametrize("option, more", [
    ("password-file", "username = office"),
    ("proxy-password-file", "proxy = http://127.0.0.1:9\nproxy-username = office")])
@pytest.mark.parametrize("wrong", SECRETS)
def test_password_files(tmp_path, option, more, wrong):
    """-t opens the files with passwords, as the daemon does at its start: one that is of no
    use is an error that names option, upstream and file, and shows nothing of it."""
    spoil, words = SECRETS[wrong]
    secret = tmp_path / "secret"
    secret.write_text("s3same\n")
    secret.chmod(0o600)
    path = tmp_path / "cachalot.ini"
    path.write_text(f"[cache]\npath = {tmp_path}/cache\n[upstream quay.io]\n{more}\n"
                    f"{option} = {secret}\n")
    done = run("-t", "-c", path)
    assert done.returncode == 0, done
    spoil(secret)
    for mode in ("-t", "-f"):
        done = run(mode, "-c", path)
        assert done.returncode == 2, done
        for word in (f"{path}:3: upstream.{option}: [upstream quay.io]", str(secret), words):
            assert word in done.stderr, done.stderr
        assert "s3same" not in done.stderr


def test_a_password_file_that_cannot_be_read(tmp_path):
    """The same of one that this user may not read: root neither, without its capabilities."""
    secret = tmp_path / "secret"
    secret.write_text("s3same\n")
    secret.chmod(0)
    path = tmp_path / "cachalot.ini"
    path.write_text(f"[upstream quay.io]\nusername = office\npassword-file = {secret}\n")
    drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    done = subprocess.run([*(drop if os.geteuid() == 0 else []), DAEMON, "-t", "-c", path],
                          capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 2 and f"{secret} cannot be read: Permission denied" in done.stderr


def test_a_password_file_at_reload(hub, cachalot, tmp_path):
    """A password file that is of no use at a reload: the settings stay as they are."""
    daemon = cachalot({HUB: hub.url})
    daemon.sections[f"upstream {HUB}"].update({"username": "office",
                                               "password-file": tmp_path / "missing"})
    daemon.write_config()
    daemon.hup()
    assert daemon.metric("reload_failures_total") == 1
    assert any("password-file" in str(line) for line in daemon.log_lines())


def test_all_errors_at_once(tmp_path):
    """Each error is told, not only the first."""
    path = tmp_path / "bad.ini"
    path.write_text("[cache]\nworkers = x\n[log]\nlevel = y\nformat = z\n")
    said = run("-t", "-c", path).stderr
    assert all(f"{path}:{line}:" in said for line in (2, 4, 5)), said


def test_no_such_file(tmp_path):
    """A file that was named and is not there is an error."""
    done = run("-t", "-c", tmp_path / "none.ini")
    assert done.returncode == 2 and "none.ini" in done.stderr


def test_dump(daemon, tmp_path):
    """-T writes what is in effect as a file that gives the same."""
    first = run("-T", "-c", daemon.config_path)
    assert first.returncode == 0 and f"path = {daemon.cache}" in first.stdout
    again = tmp_path / "again.ini"
    again.write_text(first.stdout)
    assert run("-T", "-c", again).stdout == first.stdout


def test_conf_d(daemon, tmp_path):
    """Files of conf.d add to the main one, in the order of their names."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "20-b.ini").write_text("[upstream quay.io]\ntag-ttl = 2m\n")
    (tmp_path / "conf.d" / "10-a.ini").write_text("[upstream quay.io]\ntag-ttl = 1m\nretries = 9\n")
    (tmp_path / "conf.d" / "note.txt").write_text("not read")
    said = run("-T", "-c", daemon.config_path).stdout
    quay = said.split("[upstream quay.io]")[1].split("[")[0]
    assert "tag-ttl = 2m" in quay and "retries = 9" in quay


def test_usage():
    """Unknown options: exit status 2, and the usage."""
    done = run("--no-such-option")
    assert done.returncode == 2 and "sage" in done.stderr


def test_compose():
    """What compose.yaml says of the image is what the Containerfile and cachalot.ini say."""
    yaml = pytest.importorskip("yaml")
    etc = Path(__file__).parents[2] / "etc"
    compose = yaml.safe_load((etc / "container/compose.yaml").read_text())
    service, = compose["services"].values()
    context = (etc / "container" / service["build"]["context"]).resolve()
    words = [line.split() for line in (context / service["build"]["dockerfile"]).read_text()
             .splitlines() if line.strip()]
    settings = (etc / "cachalot.ini").read_text()
    exposed, = (line[1:] for line in words if line[0] == "EXPOSE")
    assert service["ports"] == [f"{port}:{port}" for port in exposed]
    assert all(f"\naddress = {port}\n" in settings for port in exposed)
    volume, = (line[1] for line in words if line[0] == "VOLUME")
    assert service["volumes"] == [f"{name}:{volume}" for name in compose["volumes"]]
    assert f"path = {volume}\n" in settings
    drain = re.search(r"^#?drain-timeout = (\d+)s$", settings, re.MULTILINE)
    assert int(service["stop_grace_period"].removesuffix("s")) > int(drain[1])
