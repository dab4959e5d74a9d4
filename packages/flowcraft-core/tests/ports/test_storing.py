"""What run stores have in common: one call of `commit` with many changes is told as one, certain only where all is."""

from __future__ import annotations

import pytest

from flowcraft.errors import Misconfigured, PayloadTooLarge, SerializationError, Unavailable, UnknownOutcome
from flowcraft.model import Event, ValueKey
from flowcraft.storing import MAX_VALUE_BYTES, check_values, event_rows, raise_for_any


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


def test_a_value_of_the_limit_is_taken_and_one_byte_more_is_named() -> None:
    full = {ValueKey("context", "full"): bytes(MAX_VALUE_BYTES)}
    check_values("run", full)
    with pytest.raises(PayloadTooLarge, match=r"output 'more', visit 3\) of 'run' has 1,048,577 bytes"):
        check_values("run", full | {ValueKey("output", "more", 3): bytes(MAX_VALUE_BYTES + 1)})


def test_a_store_may_have_a_limit_of_its_own() -> None:
    values = {ValueKey("context", "k"): bytes(11)}
    check_values("run", values, 11)
    with pytest.raises(PayloadTooLarge, match="the limit is 10"):
        check_values("run", values, 10)


def test_events_with_a_number_become_rows_and_are_read_again() -> None:
    stored = Event("run", 7, "node:completed", 1.5, "a", 2, 1, {"took": 0.1}).with_head(b"head")
    hint = Event("run", 0, "hint", 1.5, data={"what": {1, 2}})  # never encoded
    ((seq, text),) = event_rows([hint, stored])
    assert Event.from_json("run", seq, text) == stored


@pytest.mark.parametrize("data", [{"set": {1}}, {(1, 2): 3}])
def test_an_event_that_is_no_json_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(SerializationError):
        event_rows([Event("run", 1, "type", 0.0, data=data)])
