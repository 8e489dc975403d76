"""Counts are whole numbers, and what is none gets one line that names it."""

import pytest

from smallnets.tasks.whole import check_whole


def test_whole_numbers_pass():
    check_whole({"train": 1, "test": 10**9}, least=1)
    check_whole({"validation": 0}, least=0)


@pytest.mark.parametrize("value", [0, -1, 1.0, "1", None, True])
def test_others_do_not(value):
    with pytest.raises(ValueError, match=f"^test must be a whole number from 1, but is {value!r}:"):
        check_whole({"train": 3, "test": value}, least=1)
