"""Pages and cursors, which every store and queue makes in the same way."""

from __future__ import annotations

import math

import pytest

from flowcraft.errors import InvalidRequest
from flowcraft.model import Page, RunSummary
from flowcraft.paging import decode_cursor, decode_due, decode_list, due_cursor, encode_cursor, page_of


@pytest.mark.parametrize(
    ("rows", "page"),
    [
        ([], Page(())),
        ([1], Page((1,))),
        ([1, 2], Page((1, 2))),
        ([1, 2, 3], Page((1, 2), "2")),
    ],
)
def test_one_row_more_than_a_page_tells_that_there_are_others(rows: list[int], page: Page[int]) -> None:
    assert page_of(rows, 2, str) == page


def test_a_page_without_room_has_no_place_to_go_on_from() -> None:
    assert page_of([1], 0, str) == Page(())


@pytest.mark.parametrize("at", [0.0, -1.5, 1e300, 0.1 + 0.2])
@pytest.mark.parametrize("last", ["", 'a "text", ü', "\x00"])
def test_a_cursor_is_read_as_it_was_made(at: float, last: str) -> None:
    assert decode_cursor(encode_cursor(at, last), str) == (at, last)


def test_the_first_page_begins_before_all_or_after_all() -> None:
    assert decode_due(None) == (-math.inf, "")
    assert decode_list(None) == (math.inf, 0)


def test_what_is_due_at_one_time_is_told_apart_by_its_id() -> None:
    row = RunSummary("r1", "running", "b", "h", 1.0, 2.0, 3.0, "t")
    assert decode_due(due_cursor(row)) == (3.0, "r1")


@pytest.mark.parametrize(
    "after", ['[1,"a"]', "[NaN,1]", "[Infinity,1]", '["1",1]', "[1" + "0" * 400 + ",1]", "{}", "1"]
)
def test_a_cursor_that_no_listing_made_is_refused(after: str) -> None:
    with pytest.raises(InvalidRequest, match="not a cursor"):
        decode_list(after)


def test_a_cursor_of_another_listing_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="not a cursor"):
        decode_due(encode_cursor(1.0, 7))
