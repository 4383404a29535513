# SPDX-License-Identifier: ISC
"""The daemon as a service: signals, listeners, systemd."""

import os
import signal
import socket
import stat

import pytest

from lib import image, rawhttp
from lib.hub import Hub
from lib.image import ACCEPT
from lib.paths import HUB, manifest
from lib.process import free_port
from lib.stopped import Stopped
from lib.wait import until

TAG = manifest("library/app", "1")


@pytest.fixture
def item(hub):
    return hub.hold(image.image("service", (1000,)), "library/app", "1")


@pytest.fixture
def daemon(hub, item, cachalot):
    return cachalot({HUB: hub.url})


# --- SIGHUP ---

def test_reload(hub, item, daemon):
    """SIGHUP takes over an upstream, a listener and the log; connections that are open
    go on. Two requests, HEAD and GET, by the listener that came."""
    assert daemon.get(manifest("library/app", "1", "added.test")).status == 404
    with daemon.connect() as c:
        c.request("/v2/")
        c.read_response()
        extra = ("127.0.0.1", free_port())
        daemon.sections["upstream added.test"] = {"url": hub.url}
        daemon.sections["listener extra"] = {"address": "%s:%d" % extra}
        daemon.write_config()
        daemon.hup()
        assert daemon.metric("reloads_total") == 1
        c.request("/v2/")
        assert c.read_response().status == 200
    got = rawhttp.get(extra, manifest("library/app", "1", "added.test"), fields=ACCEPT)
    assert got.body == item.data
    del daemon.sections["listener extra"]
    daemon.write_config()
    daemon.hup()
    with pytest.raises(OSError):
        rawhttp.get(extra, "/v2/")
    assert hub.count("HEAD") == hub.count("GET") == 1


@pytest.mark.parametrize("section, option, value", [
    ("upstream docker.io", "url", "nonsense"), ("listener main", "address", "203.0.113.9:1"),
    ("nonsense", "a", "b")])
def test_reload_of_a_bad_file(hub, item, daemon, section, option, value):
    """A bad file at SIGHUP: the old settings stay, the reason is logged with its line. Two
    requests, HEAD and GET."""
    daemon.sections.setdefault(section, {})[option] = value
    daemon.write_config()
    daemon.hup()
    assert daemon.metric("reload_failures_total") == 1
    assert daemon.get(TAG, fields=ACCEPT).body == item.data
    assert any(line.get("level") in ("error", "warn") and value in line["message"]
               for line in daemon.log_lines() if "message" in line)
    assert hub.count("HEAD") == hub.count("GET") == 1


def test_log_rotation(hub, item, cachalot, tmp_path):
    """The log file is opened again at SIGHUP, after a rotation."""
    log = tmp_path / "cachalot.log"
    daemon = cachalot({HUB: hub.url}, {"log": {"file": log}})
    daemon.get(TAG, fields=ACCEPT)
    until("a line", lambda: "library/app" in log.read_text())
    log.rename(tmp_path / "cachalot.log.1")
    daemon.hup()
    daemon.get(TAG, fields=ACCEPT)
    until("a line in the new file", lambda: log.exists() and "library/app" in log.read_text())


@pytest.mark.threads
def test_storm_of_reloads(hub, item, daemon):
    """Fifty SIGHUPs while clients ask: nobody sees an error. What is held stays: two requests,
    HEAD and GET, for all."""
    for i in range(50):
        daemon.send_signal(signal.SIGHUP)
        assert daemon.get(TAG, fields=ACCEPT).status == 200
    assert daemon.healthy()
    assert hub.count("HEAD") == hub.count("GET") == 1


# --- listeners ---

def test_ipv6(cachalot, closing):
    """A listener on IPv6, and an upstream on IPv6: two requests, HEAD and GET."""
    hub = closing(Hub("::1"))
    item = hub.hold(image.image("service", (1000,)), "library/app", "1")
    address = ("::1", free_port("::1"))
    daemon = cachalot({HUB: hub.url}, {"listener six": {"address": f"[::1]:{address[1]}"}})
    assert rawhttp.get(address, TAG, fields=ACCEPT).body == item.data
    until("the log names the client", lambda: any("::1" in line.get("client", "")
                                                  for line in daemon.access_log()))
    assert hub.count("HEAD") == hub.count("GET") == 1


def test_port_alone(hub, item, cachalot):
    """A port alone is every address of both families. Two requests, HEAD and GET, for both."""
    port = free_port()
    cachalot({HUB: hub.url}, {"listener both": {"address": str(port)}})
    for address in (("127.0.0.1", port), ("::1", port)):
        assert rawhttp.get(address, TAG, fields=ACCEPT).body == item.data
    assert hub.count("HEAD") == hub.count("GET") == 1


def test_unix_socket(hub, item, cachalot, tmp_path):
    """A Unix socket, not for everybody; one that a dead daemon left is replaced."""
    path = tmp_path / "s.sock"
    daemon = cachalot({HUB: hub.url}, {"listener unix": {"address": f"unix:{path}"}})
    assert rawhttp.get(path, TAG, fields=ACCEPT).body == item.data
    assert stat.S_IMODE(path.stat().st_mode) & 0o007 == 0
    daemon.kill()
    daemon.start()
    assert rawhttp.get(path, TAG, fields=ACCEPT).body == item.data


def test_mirror_is_read_only(daemon):
    """Nothing can be pushed at a mirror."""
    got = daemon.get("/v2/library/app/blobs/uploads/", "POST", [("Content-Length", "0")],
                     mirror=True)
    assert got.status in (404, 405)


def test_address_in_use(hub, cachalot):
    """An address that is taken: the daemon does not start, and names it."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = "127.0.0.1:%d" % taken.getsockname()[1]
        daemon = cachalot({HUB: hub.url}, {"listener main": {"address": where}}, start=False)
        daemon.launch()
        assert daemon.join(20) not in (0, -6, -11)
        assert where in daemon.stderr_path.read_text()


def test_connection_limit(hub, item, cachalot):
    """max-connections: those beyond it wait or are refused, and are served when others
    have gone."""
    daemon = cachalot({HUB: hub.url}, {"listener main": {"max-connections": 5}})
    held = [daemon.connect() for _ in range(5)]
    for c in held:
        c.request("/v2/")
        assert c.read_response().status == 200
    late = daemon.connect()
    late.request("/v2/")
    for c in held:
        c.close()
    try:
        assert late.read_response().status in (200, 503)
    except (rawhttp.Closed, ConnectionResetError):
        pass
    assert daemon.get(TAG, fields=ACCEPT).body == item.data


@pytest.mark.slow
def test_out_of_descriptors(hub, item, cachalot):
    """More clients than the limit of open files: no spin, no crash, and served again when
    they have gone."""
    daemon = cachalot({HUB: hub.url}, start=False)
    daemon.start(wrap=["prlimit", "--nofile=64:64"])
    held = []
    for _ in range(150):
        try:
            c = daemon.connect(timeout=1)
            held.append(c)
            c.request("/v2/")
        except OSError:
            break
    for c in held:
        c.close()
    until("it serves again", lambda: daemon.get(TAG, fields=ACCEPT).body == item.data)


# --- systemd ---

def test_notify(hub, item, cachalot, tmp_path):
    """sd_notify: READY=1 once it serves, RELOADING and READY at SIGHUP, STOPPING=1."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(path))
        s.settimeout(20)

        def told(word):
            while True:
                said = s.recv(4096).decode().splitlines()
                if word in said:
                    return said

        daemon = cachalot({HUB: hub.url}, start=False)
        daemon.launch(env={"NOTIFY_SOCKET": str(path)})
        told("READY=1")
        assert daemon.get(TAG, fields=ACCEPT).status == 200
        daemon.send_signal(signal.SIGHUP)
        told("RELOADING=1")
        told("READY=1")
        daemon.child.terminate()
        told("STOPPING=1")
        assert daemon.join() == 0


@pytest.mark.parametrize("name", ["worker", "storage", "upstream", "cachalotd"])
def test_watchdog(hub, cachalot, tmp_path, name):
    """WATCHDOG=1 comes again and again, until a thread stands still; then not any more, though
    others go on, until it moves again. The log says which."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(path))

        def is_told():
            """What was said before does not count, nor what was said meanwhile."""
            s.settimeout(1)
            try:
                return s.recv(4096) == b"WATCHDOG=1"
            except TimeoutError:
                return False

        daemon = cachalot({HUB: hub.url}, start=False)
        daemon.start(env={"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "400000"})
        for _ in range(3):
            until("a sign of life", is_told)
        with Stopped(daemon, name):
            until("no sign of life", lambda: not is_told())
            if name != "cachalotd":
                until("the log names it", lambda: any(
                    name in line.get("message", "") and "not answered" in line["message"]
                    for line in daemon.log_lines()))
        until("a sign of life", is_told)


def test_watchdog_of_another(hub, cachalot, tmp_path):
    """WATCHDOG_PID is another process, as where a shell has started it: nothing is said."""
    path = tmp_path / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(path))
        s.settimeout(1)
        cachalot({HUB: hub.url}, start=False).start(
            env={"NOTIFY_SOCKET": str(path), "WATCHDOG_USEC": "40000", "WATCHDOG_PID": "1"})
        assert s.recv(4096) == b"READY=1"
        with pytest.raises(TimeoutError):
            s.recv(4096)


@pytest.mark.parametrize("name", ["main", "unknown"])
def test_socket_activation(hub, item, cachalot, name):
    """A socket that the service manager has bound is used, by its name or by its port;
    who connected before the start is served."""
    with socket.socket() as passed:
        passed.bind(("127.0.0.1", 0))
        passed.listen()
        address = passed.getsockname()
        daemon = cachalot({HUB: hub.url}, {"listener main": {"address": "%s:%d" % address}},
                          start=False)
        daemon.address = address
        early = rawhttp.Connection(address)
        early.request(TAG, fields=ACCEPT)
        daemon.launch(env={"LISTEN_FDS": "1", "LISTEN_FDNAMES": name},
                      wrap=["sh", "-c", 'export LISTEN_PID=$$; exec "$@"', "sh"],
                      pass_fds=(3,), preexec_fn=lambda: os.dup2(passed.fileno(), 3))
        assert early.read_response().body == item.data
        early.close()
        assert daemon.stop() == 0
