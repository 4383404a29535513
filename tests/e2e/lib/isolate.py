# SPDX-License-Identifier: ISC
"""A network namespace with nothing but loopback, and a private mount namespace.

No client under test can reach a real registry, whatever it falls back to, and what
tests mount disappears with them.
"""

import ctypes
import os
import subprocess

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000

# State that clients keep outside of the directories they can be told.
SCRATCH = ("/var/lib/containers", "/run/containers")


def run(*argv):
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL)


def enter():
    """Move this process into new namespaces. Returns why not, or None."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET | CLONE_NEWNS) != 0:
        return os.strerror(ctypes.get_errno())
    run("mount", "--make-rprivate", "/")
    run("ip", "link", "set", "lo", "up")
    fast_loopback()
    for path in SCRATCH:
        if os.path.isdir(path):
            run("mount", "-t", "tmpfs", "tmpfs", path)
    return None


def fast_loopback():
    """A pacing default (BBR) throttles loopback; the result is best effort."""
    for prefix in ("127.0.0.0/8", "127.0.0.1"):
        subprocess.run(["ip", "route", "replace", "table", "local", "local", prefix, "dev", "lo",
                        "proto", "kernel", "scope", "host", "src", "127.0.0.1",
                        "congctl", "cubic"],
                       check=False, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
