"""What no memory holds is refused by arithmetic: at once, and nothing is allocated."""

import importlib
import math
import tracemalloc

import pytest
from hydra import compose, initialize_config_dir

from smallnets.sweep import CONF, VERSION_BASE
from smallnets.tasks.room import check_room, memory, power

BILLION = 1_000_000_000
HUGE = [
    ("random_hierarchy", {"depth": 40}),
    ("random_hierarchy", {"depth": BILLION}),
    ("random_hierarchy", {"branches": BILLION, "depth": 1}),
    ("random_hierarchy", {"symbols": BILLION, "rules": BILLION}),
    ("random_hierarchy", {"train": BILLION}),
    ("sparse_parity", {"bits": BILLION}),
    ("sparse_parity", {"subtasks": BILLION}),
    ("sparse_parity", {"train": BILLION}),
    ("modular_addition", {"modulus": 100_000}),
    ("mqar", {"length": BILLION}),
    ("mqar", {"vocabulary": BILLION}),
    ("mqar", {"train": BILLION}),
    ("teacher_student", {"width": BILLION}),
    ("teacher_student", {"depth": BILLION}),
    ("teacher_student", {"dimension": BILLION}),
    ("teacher_student", {"classes": BILLION}),
    ("teacher_student", {"train": BILLION}),
]


@pytest.mark.parametrize(("task", "huge"), HUGE, ids=lambda each: str(each))
def test_a_task_that_no_memory_holds_is_refused_before_it_is_allocated(task, huge):
    module = importlib.import_module(f"smallnets.tasks.{task}")
    with initialize_config_dir(str(CONF), **VERSION_BASE):
        options = dict(compose(f"task/{task}").task)
    del options["_target_"], options["_partial_"]
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="a task is held in memory, but this one") as raised:
            module.load(**{**options, **huge})
        assert tracemalloc.get_traced_memory()[1] < 1e6
    finally:
        tracemalloc.stop()
    assert "\n" not in str(raised.value)


def test_what_fits_is_taken_and_the_largest_array_is_named():
    check_room(one=(memory() // 4, 1), other=(memory() // 8, 2))
    with pytest.raises(ValueError, match=r"most of them for other \("):
        check_room(one=(memory() // 8, 1), other=(memory() // 4, 4))


def test_a_power_is_exact_or_infinite():
    assert power(2, 40) == 2**40
    assert power(2, 10**9) == math.inf
