"""The nearest message of a kind, and whether a nearer one may still come."""

from __future__ import annotations

import pytest

from wesam_ros.data.stamps import JUMP_NS, Runs, StampRing, nearest


def ring(stamps: tuple[int, ...], slop: int) -> StampRing:
    made = StampRing(slop)
    for stamp in stamps:
        made.add(stamp, f"message {stamp}")
    return made


@pytest.mark.parametrize(
    ("stamps", "stamp", "slop", "match"),
    [
        ((), 100, 20, None),
        ((100,), 100, 0, 100),
        ((99,), 100, 0, None),
        ((99,), 100, 1, 99),
        ((101,), 100, 1, 101),
        ((80, 119), 100, 20, 119),
        ((79, 121), 100, 20, None),
        ((90, 110), 100, 20, 90),  # as near: the earlier one, so that the order of arrival does not matter
        ((110, 90), 100, 20, 90),
        ((99, 100, 101), 100, 20, 100),
        ((99, 133, 166), 133, 20, 133),
        ((120,), 100, 20, 120),
        ((0, 0), 0, 20, 0),
    ],
)
def test_the_match_is_exact_else_the_nearest_within_the_slop(stamps: tuple[int, ...], stamp: int, slop: int, match: int | None) -> None:
    assert ring(stamps, slop).match(stamp) == match


@pytest.mark.parametrize(
    ("stamps", "stamp", "settled", "likely"),
    [
        ((), 100, False, False),
        ((67,), 100, False, False),  # its own may come
        ((100,), 100, True, True),
        ((134,), 100, True, True),  # stamps have got past it
        ((66, 99), 100, False, True),  # the next comes after 33, 32 too late
        ((99,), 100, False, False),  # nobody knows yet when the next comes
        ((75, 85, 95), 100, False, True),  # the next is as near at best
        ((72, 80, 88), 100, False, False),  # the next may be at 96
        ((33, 67), 100, False, False),  # beyond the slop: the next may be within
    ],
)
def test_a_match_is_settled_where_no_nearer_one_can_come(stamps: tuple[int, ...], stamp: int, settled: bool, likely: bool) -> None:
    made = ring(stamps, 20)
    assert (made.is_settled(stamp), made.is_likely_settled(stamp)) == (settled, likely)
    made.passed(stamp)
    assert made.is_settled(stamp)


@pytest.mark.parametrize(
    ("length", "oldest", "kept"),
    [(3, None, (3, 4, 5)), (3, 4, (3, 4, 5)), (1, 4, (3, 4, 5)), (2, 1, (1, 2, 3, 4, 5)), (9, None, (1, 2, 3, 4, 5))],
)
def test_what_images_may_still_want_is_kept(length: int, oldest: int | None, kept: tuple[int, ...]) -> None:
    made = ring((1, 2, 3, 4, 5), 1)
    made.prune(length, oldest)
    assert tuple(made.messages) == kept


def test_nearest_of_none() -> None:
    assert nearest((), 5) is None


def test_runs_begin_where_stamps_go_back_by_far() -> None:
    runs = Runs()
    assert [runs.of(stamp * JUMP_NS // 2) for stamp in (0, 2, 4, 3, 2, 9, 0, 1, 9)] == [0, 0, 0, 0, 0, 0, 1, 1, 1]
