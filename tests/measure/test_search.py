"""Where a cost that rises or falls crosses a target."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from smallnets.measure.search import crossing, outwards


@settings(deadline=None, max_examples=100)
@given(
    slope=st.sampled_from([-7.0, -0.3, 0.3, 7.0]),
    start=st.integers(1, 400),
    most=st.integers(400, 3000),
    target=st.floats(-4000, 4000),
)
def test_it_is_the_nearest_of_all_that_are_admissible(slope, start, most, target):
    def at(value: int) -> float | None:
        return slope * value if value <= most else None

    found = crossing(at, start, target)
    nearest = min(abs(slope * value - target) for value in range(1, most + 1))
    assert abs(slope * found - target) == pytest.approx(nearest)


def test_few_are_looked_at():
    looked = []

    def at(value: int) -> float:
        looked.append(value)
        return 3.0 * value

    assert crossing(at, 32, 3000.0) == 1000
    assert len(looked) <= 22


def test_it_starts_where_a_size_is_admissible():
    with pytest.raises(ValueError, match="admissible, but 5 is not"):
        crossing(lambda value: None, 5, 1.0)


def test_outwards_the_nearest_come_first():
    assert list(outwards(2, 3)) == [2, 3, 1, 4, 5]
