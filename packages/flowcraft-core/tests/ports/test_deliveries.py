"""What the queues have in common, where no server is needed to see it. The rest is in the tests of each queue."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from flowcraft.deliveries import DeliveryBlock, HeldDelivery
from flowcraft.errors import Unavailable
from flowcraft.model import Job

JOB = Job("run", "node", 1, 1, "nonce")


class Calls:
    """A queue that only remembers what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def settle(self, delivery: HeldDelivery) -> None:
        self.asked.append("settle")

    async def retry(self, delivery: HeldDelivery, delay: float) -> None:
        self.asked.append(f"retry {delay}")

    async def bury(self, delivery: HeldDelivery, reason: str) -> None:
        self.asked.append(f"bury {reason}")

    async def extend(self, delivery: HeldDelivery, seconds: float) -> None:
        self.asked.append(f"extend {seconds}")


class Block(DeliveryBlock[HeldDelivery]):
    """One message at a time, for as long as there is room."""

    def __init__(self, home: Calls, prefetch: int, *, stop: Exception | None = None, leave: Exception | None = None):
        super().__init__(prefetch)
        self.home = home
        self.trouble = stop, leave
        self.left: list[HeldDelivery] | None = None

    async def enter(self) -> None: ...

    async def more(self) -> None:
        if self.free > 0:
            self.hold([HeldDelivery(self.home, JOB, redelivered=False)])
        else:
            self.end()

    async def stop(self) -> None:
        if self.trouble[0] is not None:
            raise self.trouble[0]

    async def leave(self, held: Sequence[HeldDelivery]) -> None:
        self.left = list(held)
        if self.trouble[1] is not None:
            raise self.trouble[1]


@pytest.mark.parametrize("first", ["ack", "retry", "reject", "settled"])
async def test_a_delivery_ends_once(first: str) -> None:
    home = Calls()
    async with Block(home, 1) as batches:
        (delivery,) = await anext(batches)
        await delivery.extend(3.0)
        if first == "settled":
            delivery.settled()
        else:
            await {"ack": delivery.ack, "retry": delivery.retry, "reject": lambda: delivery.reject("why")}[first]()
        ended = {"ack": ["settle"], "retry": ["retry 0.0"], "reject": ["bury why"], "settled": []}[first]
        assert home.asked == ["extend 3.0", *ended]
        await delivery.ack()
        await delivery.retry(delay=1.0)
        await delivery.reject("again")
        await delivery.extend(4.0)
        delivery.settled()
        assert home.asked == ["extend 3.0", *ended]


async def test_what_nobody_holds_cannot_be_ended() -> None:
    home = Calls()
    await HeldDelivery(home, JOB, redelivered=False).ack()
    assert home.asked == []


async def test_no_more_than_prefetch_are_in_hand_and_the_rest_is_handed_back() -> None:
    block = Block(Calls(), 3)
    async with block as batches:
        taken = [delivery async for batch in batches for delivery in batch]
        assert (len(taken), block.free, block.over) == (3, 0, True)
        await taken[0].ack()
        assert block.free == 1
    assert block.left == taken[1:]


async def test_what_is_in_hand_is_handed_back_also_if_stopping_fails() -> None:
    block = Block(Calls(), 3, stop=Unavailable("the server is gone"))
    with pytest.raises(Unavailable):
        async with block as batches:
            taken = await anext(batches)
    assert block.left == list(taken)


async def test_leaving_does_not_fail_when_the_server_is_in_trouble() -> None:
    async with Block(Calls(), 3, leave=Unavailable("the server is gone")) as batches:
        await anext(batches)


async def test_a_defect_is_not_hidden_by_leaving() -> None:
    with pytest.raises(ZeroDivisionError):
        async with Block(Calls(), 3, leave=ZeroDivisionError()) as batches:
            await anext(batches)
