# SPDX-License-Identifier: ISC
"""A small ext4 of the test, on a loop device; it is gone with the namespace at the latest."""

import subprocess

import pytest

from lib.disk import fill


def run(*argv):
    return subprocess.run([str(a) for a in argv], capture_output=True, text=True, check=False)


class Mounted:
    """An image with a file system, for as long as it is needed. What a crash left there is taken
    care of by the kernel, as at any boot."""

    def __init__(self, image, directory):
        self.image = image
        self.path = directory
        self.path.mkdir(exist_ok=True)

    def __enter__(self):
        done = run("mount", "-o", "loop", self.image, self.path)
        assert done.returncode == 0, done
        return self.path

    def __exit__(self, *_):
        done = run("umount", self.path)
        assert done.returncode == 0, done


class SmallDisk:
    def __init__(self, directory, size_bytes, inodes):
        self.image = directory / "small.img"
        self.path = directory / "small"
        self.path.mkdir()
        with open(self.image, "wb") as f:
            f.truncate(size_bytes)
        # No room is kept for root, which the daemon may be.
        made = run("mkfs.ext4", "-q", "-F", "-m", 0, "-N", inodes, self.image)
        if made.returncode == 0:
            made = run("mount", "-o", "loop", self.image, self.path)
        if made.returncode != 0:
            pytest.skip(f"no ext4 on a loop device: {made.stderr.strip()}")

    def remount(self, options):
        done = run("mount", "-o", f"remount,{options}", self.path)
        assert done.returncode == 0, done

    def fill(self, leave_bytes=0):
        """Take all room but some."""
        return fill(self.path / "filler", leave_bytes)

    def take_inodes(self, leave=0):
        """Take all inodes but some."""
        taken = self.path / "taken"
        taken.mkdir()
        made = []
        try:
            while True:
                made.append(taken / str(len(made)))
                made[-1].touch()
        except OSError:
            pass
        for path in made[len(made) - 1 - leave:-1]:
            path.unlink()
        return taken

    def close(self):
        run("umount", "--lazy", self.path)
