import threading
import time

import pytest

from smallnets.measure.energy import SharedClock


def spin(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass


def test_alone_it_is_the_clock_of_the_process():
    clock = SharedClock()
    spin(0.05)  # before any work: nobody's
    with clock.at_work():
        spin(0.1)
        assert clock() == pytest.approx(0.1, abs=0.04)
    with pytest.raises(KeyError):
        clock()


def test_two_share_what_is_taken_while_both_are_at_work():
    clock, shares = SharedClock(), {}
    barrier = threading.Barrier(2)

    def work(name: str, seconds: float) -> None:
        with clock.at_work():
            barrier.wait()
            spin(seconds)
            barrier.wait()
            shares[name] = clock()
            barrier.wait()

    before = time.process_time()
    threads = [threading.Thread(target=work, args=each) for each in (("a", 0.2), ("b", 0.0))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    taken = time.process_time() - before
    assert shares["a"] == pytest.approx(shares["b"], abs=0.02)
    assert shares["a"] + shares["b"] == pytest.approx(taken, abs=0.05)
