"""One call of `commit` with many changes is told as one: certain only where all of it is."""

from __future__ import annotations

import pytest

from flowcraft.errors import Misconfigured, Unavailable, UnknownOutcome
from flowcraft_redis.store import raise_for_any


def test_no_error_is_no_error() -> None:
    raise_for_any([1, 0, [b"t"]])


def test_all_refused_means_that_none_was_applied() -> None:
    with pytest.raises(Unavailable):
        raise_for_any([Unavailable("a"), Unavailable("b")])


@pytest.mark.parametrize("other", [1, UnknownOutcome("?")])
def test_some_refused_is_of_unknown_outcome(other: object) -> None:
    with pytest.raises(UnknownOutcome):
        raise_for_any([Unavailable("a"), other])


def test_a_mistake_is_not_hidden_by_what_was_applied() -> None:
    with pytest.raises(UnknownOutcome, match="why"):
        raise_for_any([1, Misconfigured("why")])


def test_a_defect_is_told() -> None:
    with pytest.raises(ZeroDivisionError):
        raise_for_any([1, ZeroDivisionError()])
