"""What a bus tells crosses a server as one message for the events of a run that come together."""

from __future__ import annotations

import pytest

from flowcraft.model import Event
from flowcraft.subscriptions import decode_events, encode_events


def test_events_arrive_as_they_were_told() -> None:
    events = [Event('r "1" ü', 3, "node:completed", 1.5, "a", 2, 1, {"took": [None]}), Event('r "1" ü', 0, "hint", 2.0)]
    assert decode_events(encode_events('r "1" ü', events)) == events


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"[]", b"7", b"{}", b'["r",1]', b'["r",1,{}]', b'["r",1,2]', b'"text"', b"[" * 100_000]
)
def test_a_foreign_message_tells_nothing(data: bytes) -> None:
    assert decode_events(data) == []
