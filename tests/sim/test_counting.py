"""Counting against limits."""

from __future__ import annotations

import pytest

from openbell_sim.counting import FixedWindow, SlidingSecond, scaled


@pytest.mark.parametrize(("scale", "most"), [(1, 50), (0.1, 5), (0.001, 1), (0, 0), (2, 100)])
def test_a_small_scale_leaves_one_and_only_zero_lifts_a_limit(scale: float, most: int) -> None:
    assert scaled(50, scale) == most


def test_a_sliding_second_frees_each_request_a_second_after_it() -> None:
    limit = SlidingSecond(2)
    assert [limit.take("a", at) for at in (0.0, 0.5, 0.9, 1.0, 1.4, 1.5)] == [
        True, True, False, True, False, True,
    ]  # fmt: skip
    assert limit.take("b", 1.5)


def test_a_fixed_window_forgets_all_at_once() -> None:
    window = FixedWindow(60)
    assert [window.add("a", 2, at) for at in (0.0, 59.9, 60.0)] == [2, 4, 2]
    assert (window.ends_s(0.0), window.ends_s(59.9), window.ends_s(60.0)) == (60, 60, 120)
