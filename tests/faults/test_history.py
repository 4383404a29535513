# SPDX-License-Identifier: ISC
"""A soak: clients pull, push, delete, import and export at random from a cache that is too small
for it all, the upstream moves its tags and fails, the disk fails, the daemon is killed, drained
and reloaded; and every read is checked against the history. `make soak HOURS=24` for the long
one; FAULTS_SEED for another course."""

import errno
import os
import random
import shutil
import signal
import threading
import time

import pytest

import invariants
import operations
import shim
import tally
from history import History, Register
from lib import image, rawhttp
from lib.crowd import Crowd
from lib.image import ACCEPT, digest_of
from lib.paths import HUB, blob, manifest
from lib.pusher import Pusher
from lib.wait import until

SECONDS = float(os.environ.get("SOAK_SECONDS", 20 * tally.LEVEL))
SIZE = 24 << 20
UPSTREAM_TAGS = 12
UPSTREAM_IMAGES = 150
PULLERS = 4
PUSHERS = 2

WEATHER = [
    {"truncate_after": 30_000}, {"status": 503}, {"close": True}, {"body": b"wrong"},
    {"stall_after": 10_000}, {"drip": 40_000}, {"ignore_range": True}, {"chunked": True},
]


class World:
    """What everybody shares."""

    def __init__(self, rig):
        self.rig = rig
        self.hub = rig.hub
        self.history = History()
        self.deadline = time.monotonic() + SECONDS
        self.pool = []
        self.items = {}  # digest of a manifest -> image, of those that are at the upstream
        self.tags = {f"t{i}": Register(f"t{i}", self.history) for i in range(UPSTREAM_TAGS)}
        self.is_up = threading.Event()

    def is_over(self):
        return time.monotonic() > self.deadline

    def at_work(self, who, *arguments):
        """What fails ends it for all."""
        try:
            who(*arguments)
        except BaseException:
            self.deadline = 0
            raise

    def rng(self, name):
        return random.Random(f"soak {tally.SEED} {name}")

    def publish(self, rng, tag):
        """The upstream moves a tag."""
        if len(self.pool) < UPSTREAM_IMAGES:
            self.pool.append(image.image(f"{tag}-{rng.random()}",
                                         (rng.randrange(900_000), rng.randrange(9_000))))
        item = rng.choice(self.pool) if rng.random() < 0.3 else self.pool[-1]
        self.items[item.digest] = item
        place = self.tags[tag].begin_write(item.digest)
        self.hub.hold(item, operations.REPOSITORY, tag)
        self.tags[tag].end_write(place)

    def ask(self, path, method="GET"):
        """The answer, or None: nobody may be there."""
        try:
            return self.rig.get(path, method, ACCEPT, 60)
        except (OSError, rawhttp.Closed) as why:
            assert not isinstance(why, TimeoutError), f"no answer to {method} {path}"
            self.is_up.wait(5)
            return None


# --- who is at work ---


def pull(world, rng):
    """By a tag, now and then only a part of it."""
    tag = rng.choice(list(world.tags))
    register = world.tags[tag]
    floor = register.begin_read()
    got = world.ask(manifest(operations.REPOSITORY, tag))
    if got is None or got.status != 200 or not got.complete:
        assert got is None or got.status in (200, 404, 429, *invariants.HONEST), got
        return
    register.end_read(floor, digest_of(got.body), got["Warning"] is not None)
    for each in world.items[digest_of(got.body)].blobs:
        if rng.random() < 0.8:
            answer = world.ask(blob(operations.REPOSITORY, each.digest))
            assert answer is None or answer.status != 404, answer
            invariants.check_answer(answer, each.data)


def puller(world, number):
    rng = world.rng(f"puller {number}")
    while not world.is_over():
        pull(world, rng)


class Team:
    """One that pushes to its own tags, and reads them."""

    def __init__(self, world, number):
        self.world = world
        self.rng = world.rng(f"team {number}")
        self.pusher = Pusher(world.rig.address, f"team/{number}")
        self.tags = {tag: Register(f"{number}:{tag}", world.history) for tag in "abc"}
        self.items = {}

    def __call__(self):
        while not self.world.is_over():
            tag = self.rng.choice(list(self.tags))
            try:
                self.rng.choice((self.push, self.push, self.read, self.read, self.remove))(tag)
            except (OSError, rawhttp.Closed) as why:
                assert not isinstance(why, TimeoutError), "no answer"
                self.world.is_up.wait(5)

    def put_blob(self, each):
        got = self.pusher.post()
        if got.status != 202:
            assert got.status in invariants.HONEST, got
            return False
        got = self.pusher.call("PUT", f"{got['Location']}?digest={each.digest}", each.data)
        assert got.status in (201, 404, *invariants.HONEST), got
        return got.status == 201

    def push(self, tag):
        register = self.tags[tag]
        old = register.last
        seed = f"{register.name}-{self.rng.random()}"
        item = image.image(seed, (self.rng.randrange(200_000),))
        if not all(self.put_blob(each) for each in item.blobs):
            return
        self.items = {d: i for d, i in self.items.items()
                      if any(d in other.now() for other in self.tags.values())}
        self.items[item.digest] = item
        place = register.begin_write(item.digest)
        got = self.pusher.put_manifest(tag, item.data, item.media_type)
        assert got.status in (201, *invariants.HONEST), got
        if got.status == 201:
            register.end_write(place)
            self.drop(old)

    def drop(self, digest):
        """What no tag leads to any more would stay for ever."""
        if digest and all(digest not in other.now() for other in self.tags.values()):
            self.pusher.remove(f"manifests/{digest}")

    def remove(self, tag):
        old = self.tags[tag].last
        place = self.tags[tag].begin_write(None)
        got = self.pusher.remove(f"manifests/{tag}")
        assert got.status in (202, 404, *invariants.HONEST), got
        if got.status in (202, 404):
            self.tags[tag].end_write(place)
            self.drop(old)

    def read(self, tag):
        register = self.tags[tag]
        floor = register.begin_read()
        got = self.pusher.manifest(tag, fields=ACCEPT)
        if got.status in invariants.HONEST or not got.complete:
            return
        assert got.status in (200, 404), got
        register.end_read(floor, digest_of(got.body) if got.status == 200 else None)
        if got.status == 200:
            for each in self.items[digest_of(got.body)].blobs:
                answer = self.pusher.blob(each.digest)
                assert answer.status != 404, f"a layer of {register.name} is lost: {each.digest}"
                invariants.check_answer(answer, each.data)

    def check(self):
        """At the end, when all is well."""
        for tag in self.tags:
            self.read(tag)


def courier(world):
    """Imports and exports beside the daemon."""
    rng = world.rng("courier")
    importing, exporting = operations.Import(world.rig), world.rig.disk.parent / "soak.tar"
    number = 0
    while not world.is_over():
        number += 1
        if rng.random() < 0.5:
            item, path = importing.prepare(f"soak-{number}")
            world.rig.broken_command("import", path)
            path.unlink()
        else:
            tag = rng.choice(list(world.tags))
            status = world.rig.broken_command("export", "-o", exporting,
                                              f"{HUB}/{operations.REPOSITORY}:{tag}")
            assert exporting.exists() == (status == 0)
            exporting.unlink(missing_ok=True)
        world.history.note("carried", number)


def publisher(world):
    """The upstream moves tags, and has its bad moments."""
    rng = world.rng("publisher")
    while not world.is_over():
        world.publish(rng, rng.choice(list(world.tags)))
        if rng.random() < 0.3:
            world.hub.fault(rng.choice(["/blobs/", "/manifests/"]), times=rng.randrange(1, 4),
                            **rng.choice(WEATHER))
            world.history.note("weather")
        pause(world, rng.uniform(0.05, 0.6))
        if rng.random() < 0.3:
            world.hub.heal()
        world.hub.forget()


def pause(world, seconds):
    end = min(time.monotonic() + seconds, world.deadline)
    until("a moment", lambda: time.monotonic() > end, seconds + 5)


def nemesis(world):
    """It ends the daemon in one way or another, and starts it again."""
    rng = world.rng("nemesis")
    rig = world.rig
    while not world.is_over():
        pause(world, rng.uniform(0.5, 4))
        how = rng.choice(["kill", "kill", "drain", "reload", "disk", "disk-full", "kill-start"])
        world.history.note(how)
        tally.add("soak events")
        if how == "reload":
            rig.send_signal(signal.SIGHUP)
            continue
        if how.startswith("disk"):
            rig.shim.arm(shim.CHANGES, errno.EIO if how == "disk" else errno.ENOSPC,
                         rng.randrange(1, 60), rng.choice([1, 5, shim.EVER]))
            pause(world, rng.uniform(0.1, 1))
            tally.add("faults injected", rig.shim.failed)
            rig.shim.disarm()
        world.is_up.clear()
        rig.end(signal.SIGTERM if how == "drain" else signal.SIGKILL)
        if how == "kill-start":
            rig.launch()
            pause(world, rng.uniform(0, 0.1))
            rig.end(signal.SIGKILL)
        rig.start()
        world.is_up.set()


# --- what must hold in the end ---


def check_end(world, teams, seconds=60):
    """The world is well again: all is there, all can be had, nothing is left over."""
    rig = world.rig
    world.hub.heal()
    rig.restart()
    rig.check()
    for team in teams:
        team.check()
    rng = world.rng("end")
    for tag, register in world.tags.items():
        until(f"{tag} is as the upstream has it",
              lambda t=tag, r=register: digest_of(world.ask(
                  manifest(operations.REPOSITORY, t)).body) == r.last, seconds)
    pull(world, rng)
    rig.settle()
    invariants.check_nothing_left(rig)
    baseline = invariants.Baseline(rig)
    rig.check()
    baseline.check()


@pytest.mark.slow
def test_soak(rig):
    daemon = rig({"cache": {"size": f"{SIZE}B", "min-free": "0", "push-grace": "1h",
                            "drain-timeout": "1s"},
                  "log": {"level": "warn", "access": "no"}}).start()
    world = World(daemon)
    world.is_up.set()
    for tag in world.tags:
        world.publish(world.rng(tag), tag)
    teams = [Team(world, i) for i in range(PUSHERS)]
    crowd = Crowd()
    for i in range(PULLERS):
        crowd.add(world.at_work, puller, world, i)
    for team in teams:
        crowd.add(world.at_work, team)
    for who in (courier, publisher, nemesis):
        crowd.add(world.at_work, who, world)
    try:
        crowd.join(SECONDS + 120)
        check_end(world, teams)
    except AssertionError as failure:
        failure.add_note(f"seed {tally.SEED}\n{world.history.tail()}\n{daemon.stderr_tail()}")
        raise
    tally.add("reads checked", world.history.counts["read"])
    tally.add("writes remembered", world.history.counts["written"])
