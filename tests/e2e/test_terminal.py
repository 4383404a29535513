# SPDX-License-Identifier: ISC
"""What the command shows on a screen of 80 columns: nothing is wrapped, columns line up."""

import os
import re

import pytest

from lib import image
from lib.bundle import pull_all
from lib.paths import HUB, MCR
from lib.pusher import EVERYBODY, Pusher
from lib.tmux import COLUMNS, LINES, Screen
from lib.wait import until
from lib.windows import layer, servercore, windows_image

SERVERCORE = "windows/servercore"
LONG = "a-team-with-a-long-name/and-an-application-with-a-longer-one"

pytestmark = pytest.mark.clients


@pytest.fixture
def daemon(hub, cachalot):
    """One with short names and long ones, small sizes and large ones."""
    made = cachalot({HUB: hub.url, MCR: hub.url}, EVERYBODY)
    core = hub.hold(servercore(windows_image([layer(3_000_000, "base"), layer(400_000, "delta")],
                                             "10.0.20348.2849")), SERVERCORE, "ltsc2022")
    pull_all(made, core, SERVERCORE, "ltsc2022", MCR)
    app = hub.hold(image.image("terminal", (90_000, 700)), "library/app", "1")
    pull_all(made, app, "library/app", "1")
    signature = image.artifact("terminal-signature", app)
    pull_all(made, hub.hold(signature, "library/app"), "library/app", signature.digest)
    Pusher(made.address, LONG).push(image.image("terminal-long", (5_000_000,)), "2026.11.24-rc1")
    made.app = app
    return made


@pytest.fixture
def screen(closing):
    return closing(Screen())


def check_width(lines):
    lines = list(lines)
    for line in lines:
        assert len(line) <= COLUMNS, "\n".join(lines)


def check_table(lines, head):
    """From the line that begins so to the next empty one: where the heads have a gap there is
    one in every row."""
    first = next(i for i, x in enumerate(lines) if x.split()[:1] == [head])
    rows = []
    for line in lines[first:]:
        if not line.strip():
            break
        rows.append(line.ljust(COLUMNS))
    assert len(rows) > 1, "\n".join(lines)
    blank = [all(row[i] == " " for row in rows) for i in range(COLUMNS)]
    lanes = len(re.findall(r"(?:^|0)(1{2,})(?=0)", "".join("01"[x] for x in blank)))
    heads = len(re.split(r" {2,}", rows[0].strip()))
    assert lanes >= heads - 1, (heads, lanes, "\n".join(rows))


def show(lines):
    path = os.environ.get("CACHALOT_SCREENS")
    if path:
        with open(path, "a", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n" + "=" * COLUMNS + "\n")


CASES = [
    (["status"], None), (["ls"], "REFERENCE"), (["ls", "a-team"], "REFERENCE"),
    (["inspect", "docker.io/library/app:1"], None),
    (["inspect", f"{MCR}/{SERVERCORE}:ltsc2022"], None), (["why", "LAYER"], None),
    (["duplicates"], None), (["pin", "docker.io/library/app:1"], None), (["pin"], "REFERENCE"),
    (["check"], None), (["gc", "--dry-run"], None), (["have", "-o", "FILE"], None),
    (["fetch", "docker.io/library/app:1", f"{MCR}/{SERVERCORE}:ltsc2022"], "REFERENCE"),
    (["export", "-o", "BUNDLE", "docker.io/library/app:1", f"{LONG}:2026.11.24-rc1"], None),
    (["import", "BUNDLE"], "REFERENCE"), (["help"], None),
    *((["help", x], None) for x in ("fetch", "gc", "check", "ca", "setup", "export", "import")),
    (["export", "-o", "BUNDLE", "docker.io/library/nothing:1"], None),
    (["ls", "--nonsense"], None),
]


def test_commands(daemon, screen, tmp_path):
    """Each command in turn, also those that fail."""
    words = {"LAYER": daemon.app.layers[0].digest, "FILE": tmp_path / "r",
             "BUNDLE": tmp_path / "b.tar"}
    for arguments, head in CASES:
        lines, _ = screen.run(daemon.command_line(*(words.get(x, x) for x in arguments)))
        show([f"$ cachalot {' '.join(arguments)}", *lines])
        assert lines, arguments
        # Sentences of what went wrong, and paths of this test, are as long as they are.
        check_width(x for x in lines if not x.startswith("cachalot: ")
                    and str(tmp_path) not in x)
        if head:
            check_table(lines, head)


def test_top(daemon, screen):
    """It fits on the screen, and leaves it as it was."""
    screen.begin(daemon.command_line("top"))
    lines = until("it is drawn", lambda: any("blobs with" in x for x in screen.lines())
                  and screen.lines())
    show(lines)
    assert len(lines) <= LINES
    check_width(x for x in lines if str(daemon.cache) not in x)
    screen.keys("q")
    until("it has ended", screen.has_ended)


def test_bars(hub, daemon, screen, tmp_path):
    """Bars of what takes long: one line that is drawn anew, with a rate and what is left."""
    big = hub.hold(image.image("bars", (6_000_000,)), "library/bars", "1")
    gate = hub.gate(big.layers[0].digest, after=2_000_000)
    screen.begin(daemon.command_line("fetch", "docker.io/library/bars:1"))
    gate.wait_reached()
    lines = until("a bar is drawn", lambda: any("[#" in x for x in screen.lines())
                  and screen.lines())
    show(lines)
    check_width(lines)
    assert sum("[#" in x for x in lines) == 1
    gate.open()
    until("it has ended", screen.has_ended, 60)
    lines = screen.lines()
    assert not any("[#" in x for x in lines), lines
    check_table(lines, "REFERENCE")


def test_no_colour(daemon, closing):
    """Heads are bold, unless NO_COLOR says no."""
    for env, expected in (({}, True), ({"NO_COLOR": "1"}, False)):
        screen = closing(Screen({"PS1": "", **env}))
        screen.run(daemon.command_line("ls"))
        assert bool(screen.colours()) is expected, screen.lines("-e")
