# SPDX-License-Identifier: ISC
"""The one place where tests wait: for a condition, with a deadline."""

import threading
import time


class TooLate(AssertionError):
    pass


def until(what, condition, timeout=20.0, step=0.01):
    """Return the first true value of condition(); TooLate(what) at the deadline."""
    end = time.monotonic() + timeout
    pause = threading.Event()
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise TooLate(f"not within {timeout} s: {what}")
        pause.wait(step)
