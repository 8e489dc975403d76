import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class SharedClock:
    """The CPU-seconds of this process, split equally among the threads at work at the time.

    A library's own threads serve all of them, so that the operating system can't say which of two
    programs under way took the time. Inside ``at_work()``, a call gives the calling thread's share
    so far; all shares together are what the process took while any thread was at work.
    """

    def __init__(self):
        self._lock = threading.Lock()
        self._shares: dict[int, float] = {}
        self._read = time.process_time()

    def __call__(self) -> float:
        with self._lock:
            self._settle()
            return self._shares[threading.get_ident()]

    @contextmanager
    def at_work(self) -> Iterator[None]:
        thread = threading.get_ident()
        with self._lock:
            self._settle()
            self._shares[thread] = 0.0
        try:
            yield
        finally:
            with self._lock:
                self._settle()
                del self._shares[thread]

    def _settle(self) -> None:
        now = time.process_time()
        for thread in self._shares:
            self._shares[thread] += (now - self._read) / len(self._shares)
        self._read = now
