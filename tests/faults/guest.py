# SPDX-License-Identifier: ISC
"""A machine of its own for the daemon, emulated, whose power can be cut: Debian's kernel, a disk
with a real ext4, and nothing else but the daemon. tools/bootstrap brings the kernel."""

import lzma
import platform
import re
import shutil
import signal
import socket
import struct
import subprocess
from pathlib import Path

from lib.cachalot import DAEMON
from lib.wait import until
from rig import Rig

QEMU = "qemu-system-x86_64"
KERNEL = Path(__file__).parents[2] / "build/guest"
MODULES = ("virtio_pci", "virtio_blk", "virtio_net", "dm-log-writes")
HOST = "10.0.2.2"  # the loopback address of the host, as QEMU shows it
PROGRAMS = ("/bin/busybox", "/sbin/dmsetup")

INIT = """#!/bin/busybox sh
PATH=/bin:/sbin
for dir in proc sys dev tmp disk; do busybox mkdir -p /$dir; done
busybox mount -t proc proc /proc
busybox mount -t sysfs sys /sys
busybox mount -t devtmpfs dev /dev
for module in {modules}; do busybox insmod /modules/$module; done
busybox ip link set lo up
busybox ip addr add 10.0.2.15/24 dev eth0
busybox ip link set eth0 up
disk=/dev/vda
if busybox test -b /dev/vdb; then
    size=$(busybox cat /sys/block/vda/size)
    dmsetup create --noudevsync disk --table "0 $size log-writes /dev/vda /dev/vdb"
    disk=/dev/dm-0
    while read -r mark; do
        dmsetup message disk 0 mark "$mark" && echo "$mark"
    done </dev/ttyS1 >/dev/ttyS1 &
fi
busybox mount -t ext4 $disk /disk && busybox mkdir -p -m 700 /disk/cache &&
    /bin/cachalotd -f -c /etc/cachalot.ini
busybox poweroff -f
"""


def lacking():
    """Why there can be no guest here; None when there can."""
    if platform.machine() != "x86_64":
        return "guests are x86-64"
    for program in (QEMU, *PROGRAMS):
        if not shutil.which(program):
            return f"no {program}"
    return None if list(KERNEL.glob("boot/vmlinuz-*")) else f"no kernel in {KERNEL}"


# --- its kernel's modules ---


def module_files():
    """name: its bytes, in the order in which they can be loaded."""
    paths = {p.name.split(".")[0].replace("-", "_"): p for p in KERNEL.glob("**/kernel/**/*.ko*")}
    loaded = {}

    def load(name):
        if name in loaded or name not in paths:  # what is not there is built in
            return
        data = paths[name].read_bytes()
        if paths[name].suffix == ".xz":
            data = lzma.decompress(data)
        for other in re.search(rb"\0depends=([^\0]*)\0", data)[1].decode().split(","):
            load(other.replace("-", "_"))
        loaded[name] = data

    for name in MODULES:
        load(name.replace("-", "_"))
    return loaded


# --- its first file system ---


class Archive:
    """The "newc" form of cpio, which the kernel unpacks."""

    def __init__(self, path):
        self.path = path
        self.known = set()
        self.out = bytearray()

    def entry(self, name, mode, data=b""):
        fields = (len(self.out) + 1, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        for part in ("070701" + "".join(f"{n:08x}" for n in fields) + name + "\0").encode(), data:
            self.out += part + bytes(-(len(self.out) + len(part)) % 4)

    def add(self, name, data, mode=0o755):
        for above in reversed([str(p) for p in Path(name).parents][:-1]):
            if above not in self.known:
                self.known.add(above)
                self.entry(above, 0o040755)
        self.entry(name, 0o100000 | mode, data)

    def add_program(self, path, name=None):
        """A program with its libraries, as ldd(1) tells of them."""
        self.add((name or path).lstrip("/"), Path(path).read_bytes())
        told = subprocess.run(["ldd", path], capture_output=True, text=True, check=False).stdout
        for library in re.findall(r"(/\S+) \(0x", told):
            if library not in self.known:
                self.known.add(library)
                self.add(library.lstrip("/"), Path(library).read_bytes())

    def close(self):
        self.entry("TRAILER!!!", 0)
        self.path.write_bytes(self.out)


def make_system(directory):
    """All but the settings; the path of the archive."""
    archive = Archive(directory / "system")
    for program in PROGRAMS:
        archive.add_program(program)
    archive.add_program(DAEMON, "bin/cachalotd")
    modules = module_files()
    for name, data in modules.items():
        archive.add(f"modules/{name}", data)
    archive.add("init", INIT.format(modules=" ".join(modules)).encode())
    archive.add("etc/passwd", b"root:x:0:0::/:/bin/sh\n")
    archive.close()
    return archive.path


class Guest(Rig):
    """A daemon in a machine; `image` is its disk. Ending it by SIGKILL cuts its power: what its
    kernel had not given to the disk is gone."""

    def __init__(self, system, library, directory, hub, disks):
        self.system = system
        self.disks = disks
        self.marks = []
        super().__init__(library, directory, hub, name="guest", disk=directory / "none")

    def write_config(self):
        """Into an archive of its own, which the kernel unpacks over the other."""
        outer, sections = self.sections, {name: dict(said) for name, said in self.sections.items()}
        sections["cache"].update({"path": "/disk/cache", "user": "root", "sandbox": "no"})
        sections["admin"]["socket"] = "/tmp/cachalot.sock"
        sections["listener main"]["address"] = f"0.0.0.0:{self.address[1]}"
        sections["listener hub"]["address"] = f"0.0.0.0:{self.mirror[1]}"
        password = self.directory / "password"
        for name, said in sections.items():
            if name.startswith("upstream "):
                said["url"] = said["url"].replace("127.0.0.1", HOST)
                said["password-file"] = "/etc/password"
        self.sections = sections
        super().write_config()
        self.sections = outer
        archive = Archive(self.directory / "settings")
        archive.add("etc/cachalot.ini", self.config_path.read_bytes())
        archive.add("etc/password", password.read_bytes(), 0o600)
        archive.close()
        both = self.directory / "initrd"
        both.write_bytes(self.system.read_bytes() + archive.path.read_bytes())

    def start(self, **options):
        """An emulated processor beside other work is in no hurry."""
        self.launch(**options)
        until("the guest's daemon is healthy", lambda: self.check_alive() and self.healthy(), 120)
        return self

    def launch(self, env=None, wrap=(), **options):
        port = self.address[1]
        self.spawn([
            QEMU, "-machine", "q35,accel=tcg", "-cpu", "max", "-m", "512", "-no-reboot",
            "-display", "none", "-nodefaults", "-serial", "stdio",
            "-serial", f"unix:{self.directory}/marks,server=on,wait=off",
            "-kernel", next(KERNEL.glob("boot/vmlinuz-*")), "-initrd", self.directory / "initrd",
            "-append", "console=ttyS0 quiet panic=-1",
            "-netdev", f"user,id=net,hostfwd=tcp:127.0.0.1:{port}-:{port}",
            "-device", "virtio-net-pci,netdev=net,romfile=",
            *(x for disk in self.disks for x in ("-drive", f"file={disk},format=raw,if=virtio")),
        ], **options)
        return self

    def stderr_tail(self):
        """What it said on its console."""
        return self.stdout_path.read_text(errors="replace")[-4000:]

    def promise(self, what, data):
        """With a log of the disk it says there, too, that this was acknowledged."""
        super().promise(what, data)
        if len(self.disks) > 1:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as line:
                line.settimeout(20)
                line.connect(f"{self.directory}/marks")
                line.sendall(b"%d\n" % len(self.marks))
                self.marks.append((what, data))
                while not line.recv(100).endswith(b"\n"):
                    pass

    def cut(self):
        self.stop(signal.SIGKILL)
        assert self.child.returncode == -signal.SIGKILL, self.stderr_tail()


# --- what the disk was told ---

MAGIC = 0x6A736677736872
IS_BARRIER, IS_DISCARD, IS_MARK = 1 | 2, 4, 8


def read_log(path):
    """Of the kernel's dm-log-writes: (offset, bytes, flags) of each write; of a mark its text."""
    with open(path, "rb") as f:
        magic, _, count, unit = struct.unpack("<QQQI", f.read(28))
        assert magic == MAGIC
        at = unit
        for _ in range(count):
            f.seek(at)
            sector, sectors, flags, length = struct.unpack("<QQQQ", f.read(32))
            at += unit
            if flags & IS_MARK:
                yield 0, f.read(length).rstrip(b"\0"), flags
                continue
            f.seek(at)
            size = 0 if flags & IS_DISCARD else sectors * unit
            yield sector * unit, f.read(size), flags
            at += size


def count_marks(path):
    return sum(1 for _, _, flags in read_log(path) if flags & IS_MARK)
