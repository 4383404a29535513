# SPDX-License-Identifier: ISC
"""Many clients at once."""

import threading


class Crowd:
    """Threads that each run one function; join() gives the results in order."""

    def __init__(self):
        self.threads = []
        self.results = []

    def add(self, function, *arguments):
        place = len(self.results)
        self.results.append(None)

        def work():
            try:
                self.results[place] = function(*arguments)
            except BaseException as failure:  # given to whoever joins
                self.results[place] = failure

        thread = threading.Thread(target=work, daemon=True)
        self.threads.append(thread)
        thread.start()
        return self

    def is_busy(self):
        """Whether somebody has not ended yet."""
        return any(thread.is_alive() for thread in self.threads)

    def join(self, timeout=60):
        for thread in self.threads:
            thread.join(timeout)
            assert not thread.is_alive(), "a client is still waiting"
        for result in self.results:
            if isinstance(result, BaseException):
                raise result
        return self.results


def together(count, function):
    """Run function(i) in `count` threads; the results in order."""
    crowd = Crowd()
    for i in range(count):
        crowd.add(function, i)
    return crowd.join()
