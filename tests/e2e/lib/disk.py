# SPDX-License-Identifier: ISC
"""Disks that are small, and full."""

import subprocess


def mount(path, *options):
    subprocess.run(["mount", *options, "tmpfs", path], check=True)


def fill(path, leave_bytes=0):
    """Take all room but some; the file that takes it."""
    with open(path, "wb", buffering=0) as f:
        for step in (1 << 20, 4096):
            try:
                while f.write(bytes(step)):
                    pass
            except OSError:
                pass
        f.truncate(max(0, f.tell() - leave_bytes))
    return path
