"""A machine is as large as what a process may use of it."""

import os

import jax
import pytest

from smallnets.measure import machine


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="needs Linux")
def test_cores_are_those_that_a_process_may_use(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: {3, 5, 8})
    assert machine.cores() == 3
    if jax.devices()[0].platform == "cpu":
        assert machine.device_name(jax.devices()[0]).endswith(", 3 cores")
