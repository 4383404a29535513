# SPDX-License-Identifier: ISC
"""What a power cut may leave, from the record of the shim: every state that POSIX allows.

What was written is on the disk when its file was synced; what a name means, when its directory
was. Until then it may be there, be lost, or be there in part; a file may have its new size and
zeros in place of its bytes; and of two changes the later one may be there without the earlier
one. A disk that has lost its power may be kinder than this, but must not need to be.
"""

import fcntl
import hashlib
import os
import random
from dataclasses import dataclass, field

SECTOR = 512


# --- the record ---


@dataclass
class Event:
    word: str
    inode: int
    number: int
    data: bytes

    @property
    def paths(self):
        return [part.decode() for part in self.data.split(b"\0") if part]


def mark(path, text):
    """Say in the record that something was acknowledged."""
    with open(path, "ab", buffering=0) as f:
        fcntl.flock(f, fcntl.LOCK_EX)
        data = text.encode()
        f.write(b"mark 0 0 %d\n" % len(data) + data)


def read(path):
    events = []
    with open(path, "rb") as f:
        while head := f.readline():
            word, inode, number, length = head.split()
            events.append(Event(word.decode(), int(inode), int(number), f.read(int(length))))
    return events


# --- the disk ---


@dataclass(eq=False)
class File:
    durable: bytearray = field(default_factory=bytearray)
    pending: list = field(default_factory=list)  # (offset, bytes), or (size, None): truncated

    @staticmethod
    def apply(content, offset, data):
        if data is None:
            del content[offset:]
            content.extend(bytes(offset - len(content)))
            return
        content.extend(bytes(max(0, offset - len(content))))
        content[offset:offset + len(data)] = data

    def sync(self):
        for change in self.pending:
            self.apply(self.durable, *change)
        self.pending.clear()


@dataclass(eq=False)
class Directory:
    durable: dict = field(default_factory=dict)
    pending: list = field(default_factory=list)  # [(name, File, Directory or None)]: at once
    now: dict = field(default_factory=dict)

    def change(self, *names):
        self.pending.append(names)
        self.now.update(names)

    def sync(self):
        for names in self.pending:
            self.durable.update(names)
        self.pending.clear()


class Disk:
    """As the program sees it, with what of it is safe."""

    def __init__(self, root):
        self.root = str(root)
        self.top = Directory()
        self.inodes = {os.stat(root).st_ino: self.top}
        self.marks = []
        self.all = [self.top]

    def find(self, path):
        """(directory, name) of a path."""
        at = self.top
        *above, name = os.path.relpath(path, self.root).split("/")
        for part in above:
            at = at.now[part]
        return at, name

    def make(self, event, thing):
        at, name = self.find(event.paths[0])
        at.change((name, thing))
        self.inodes[event.number] = thing
        self.all.append(thing)

    def do(self, event):
        getattr(self, "do_" + event.word.replace("-", "_"))(event)

    def do_mark(self, event):
        self.marks.append(event.data.decode())

    def do_create(self, event):
        self.make(event, File())

    def do_directory(self, event):
        self.make(event, Directory())

    def do_write(self, event):
        self.inodes[event.inode].pending.append((event.number, event.data))

    def do_write_through(self, event):
        File.apply(self.inodes[event.inode].durable, event.number, event.data)

    def do_truncate(self, event):
        self.inodes[event.inode].pending.append((event.number, None))

    def do_sync(self, event):
        if event.number == 0 and event.inode in self.inodes:
            self.inodes[event.inode].sync()

    def do_remove(self, event):
        at, name = self.find(event.paths[0])
        at.change((name, None))

    def do_rename(self, event):
        (at, name), (to, new) = map(self.find, event.paths)
        thing = at.now[name]
        if at is to:
            at.change((name, None), (new, thing))
        else:
            at.change((name, None))
            to.change((new, thing))

    def do_link(self, event):
        (at, name), (to, new) = map(self.find, event.paths)
        to.change((new, at.now[name]))


# --- what is left of it ---


class Strict:
    """Nothing that was not synced."""

    def names(self, directory):
        return []

    def content(self, file):
        return file.durable


class Kind(Strict):
    """Everything: as if only the program had been killed."""

    def names(self, directory):
        return directory.pending

    def content(self, file):
        content = bytearray(file.durable)
        for change in file.pending:
            File.apply(content, *change)
        return content


class NamesOnly(Kind):
    """Names and sizes, with zeros in place of new bytes."""

    def content(self, file):
        content = bytearray(file.durable)
        for offset, data in file.pending:
            if data is None:
                File.apply(content, offset, None)
            else:
                content.extend(bytes(max(0, offset + len(data) - len(content))))
        return content


class BytesOnly(Kind):
    """Bytes, but no names."""

    def names(self, directory):
        return []


class Some(Kind):
    """Some names, in any order, and some sectors of some writes."""

    def __init__(self, seed):
        self.rng = random.Random(seed)

    def names(self, directory):
        return [names for names in directory.pending if self.rng.random() < 0.5]

    def content(self, file):
        content = bytearray(file.durable)
        for offset, data in file.pending:
            if data is None or self.rng.random() < 0.3:
                File.apply(content, offset, data)
                continue
            for at in range(0, len(data), SECTOR):
                if self.rng.random() < 0.6:
                    File.apply(content, offset + at, data[at:at + SECTOR])
        return content


def lay_out(disk, model):
    """{relative path: bytes, or None for a directory}"""
    found = {}

    def walk(directory, path):
        entries = dict(directory.durable)
        for names in model.names(directory):
            entries.update(names)
        for name, thing in entries.items():
            if isinstance(thing, File):
                found[path + name] = bytes(model.content(thing))
            elif thing is not None:
                found[path + name] = None
                walk(thing, f"{path}{name}/")

    walk(disk.top, "")
    return found


def fingerprint(tree):
    total = hashlib.sha256()
    for path in sorted(tree):
        data = tree[path]
        total.update(repr((path, data and hashlib.sha256(data).digest())).encode())
    return total.digest()


def states(events, root, seed):
    """(how it came about, tree, what was acknowledged before), each tree once: after each
    event, by each model."""
    disk = Disk(root)
    seen = set()
    for n, event in enumerate(events):
        disk.do(event)
        if event.word == "mark":
            continue
        for model in (Strict(), Kind(), NamesOnly(), BytesOnly(), Some(f"{seed} {n}")):
            tree = lay_out(disk, model)
            key = fingerprint(tree), len(disk.marks)
            if key not in seen:
                seen.add(key)
                yield f"{type(model).__name__} after {n}, {event.word}", tree, list(disk.marks)


def write(tree, root):
    """Make the tree under an empty directory, as its owner would have it."""
    for path in sorted(tree):
        at = root / path
        if tree[path] is None:
            at.mkdir(mode=0o700)
        else:
            at.write_bytes(tree[path])
            at.chmod(0o600)
