# SPDX-License-Identifier: ISC
"""The system calls that etc/cachalot.service leaves to the daemon.

As a program: unit.py UID PROGRAM ARGUMENT... becomes that user and executes the program under
that filter, but for one thing stricter: what systemd would refuse kills.
"""

import ctypes
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

UNIT = Path(__file__).parents[3] / "etc/cachalot.service"

KILL = 0x80000000
ALLOW = 0x7FFF0000
NO_SUCH_FAMILY = 0x00050000 | 97  # EAFNOSUPPORT
EQUAL, MASKED_EQUAL = 4, 7
WRITE, EXECUTE = 2, 4  # PROT_*
PR_SET_NO_NEW_PRIVS = 38
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10, "AF_NETLINK": 16}


class Comparison(ctypes.Structure):
    _fields_ = [("arg", ctypes.c_uint), ("op", ctypes.c_int), ("a", ctypes.c_uint64),
                ("b", ctypes.c_uint64)]


def is_there():
    return shutil.which("systemd-analyze") is not None


def values(option):
    return [line.split("=", 1)[1] for line in UNIT.read_text().splitlines()
            if line.startswith(option + "=")]


def members(name):
    """The system calls of a name: a group of systemd's, or one call."""
    if not name.startswith("@"):
        return {name}
    said = subprocess.run(["systemd-analyze", "syscall-filter", name], check=True,
                          capture_output=True, text=True).stdout
    words = re.findall(r"^ +([@\w-]+)$", said, re.M)
    assert words, name
    return set().union(*map(members, words))


def system_calls():
    """Those that are allowed."""
    allowed = members("@default")
    for value in values("SystemCallFilter"):
        named = set().union(*map(members, value.lstrip("~").split()))
        allowed = allowed - named if value.startswith("~") else allowed | named
    return allowed


class Filter:
    def __init__(self):
        self.lib = ctypes.CDLL("libseccomp.so.2", use_errno=True)
        self.lib.seccomp_init.restype = ctypes.c_void_p
        self.lib.seccomp_rule_add_array.argtypes = [ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int,
                                                    ctypes.c_uint, ctypes.POINTER(Comparison)]
        self.lib.seccomp_load.argtypes = [ctypes.c_void_p]
        self.context = self.lib.seccomp_init(KILL)
        assert self.context

    def add(self, call, *comparisons, action=ALLOW):
        number = self.lib.seccomp_syscall_resolve_name(call.encode())
        if number >= 0:  # else it is one of other machines
            wanted = (Comparison * len(comparisons))(*comparisons)
            assert self.lib.seccomp_rule_add_array(self.context, action, number, len(comparisons),
                                                   wanted) == 0, call

    def load(self):
        assert self.lib.seccomp_load(self.context) == 0


def make():
    made = Filter()
    for call in sorted(system_calls() - {"mmap", "mprotect", "socket"}):
        made.add(call)
    assert values("MemoryDenyWriteExecute") == ["yes"]
    for pages in (0, WRITE, EXECUTE):
        made.add("mmap", Comparison(2, MASKED_EQUAL, WRITE | EXECUTE, pages))
    made.add("mprotect", Comparison(2, MASKED_EQUAL, EXECUTE, 0))
    allowed = values("RestrictAddressFamilies")[0].split()
    for name, family in FAMILIES.items():
        made.add("socket", Comparison(0, EQUAL, family, 0),
                 action=ALLOW if name in allowed else NO_SUCH_FAMILY)
    return made


def main(uid, program, *arguments):
    made = make()
    fd = os.open(program, os.O_RDONLY | os.O_CLOEXEC)
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    assert ctypes.CDLL(None).prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    made.load()
    os.execve(fd, [program, *arguments], os.environ)


if __name__ == "__main__":
    main(int(sys.argv[1]), *sys.argv[2:])
