# SPDX-License-Identifier: ISC
"""The line between an office and its upstreams: so fast, and it drops."""

import threading
import time


class Line:
    """Every body of the hubs on it passes here. When so many bytes have passed, it drops:
    all connections are cut in the middle of what they carry. With a rate, bytes a second."""

    def __init__(self, drops=(), rate=None):
        self.left = sorted(drops)
        self.rate = rate
        self.dropped = 0
        self.carried = 0
        self.free_at = time.monotonic()
        self.hubs = []
        self.lock = threading.Lock()

    def carry(self, count, hub):
        """Of a hub that has sent so much: returns when the line may take more."""
        with self.lock:
            self.carried += count
            drops = bool(self.left) and self.carried >= self.left[0]
            if drops:
                self.left.pop(0)
                self.dropped += 1
            now = time.monotonic()
            if self.rate:
                self.free_at = max(self.free_at, now) + count / self.rate
            wait = self.free_at - now
        if drops:
            for each in self.hubs:
                each.cut()
        if self.rate and wait > 0:
            hub.stopping.wait(wait)
