"""Everything that was recorded of a campaign, in one place for the checker."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict

from flowcraft import FlowRuntime
from flowcraft.graph import compile_graph
from flowcraft.model import TERMINAL

from .backends import reached
from .checker import Evidence
from .evidence import Outage, Story, Strike, collect, read_clocks, read_executions, read_resends
from .settings import Settings
from .shapes import Order

__all__ = ["gather"]


async def gather(
    settings: Settings, orders: Sequence[Order], address: str, *, started: Collection[str], strikes: Sequence[Strike],
    outages: Sequence[Outage], troubles: Sequence[str], messages_left: int,
) -> Evidence:  # fmt: skip
    """Read the journals and the store, and leave what was done beside them."""
    for name, found in (("strikes", strikes), ("outages", outages)):
        rows = json.dumps([asdict(each) for each in found], indent=1, default=sorted)
        settings.place.joinpath(f"{name}.json").write_text(rows, encoding="utf-8")
    async with reached(settings, FlowRuntime(), address) as adapter:
        stories = {
            order.run_id: await collect(adapter, order.run_id, compile_graph(order.blueprint)) for order in orders
        }
    journals = sorted(settings.place.glob("worker-*.journal"))
    return Evidence(
        executions=[execution for path in journals for execution in read_executions(path)],
        strikes=strikes,
        stories=stories,
        allowed={order.run_id: order.allowed for order in orders},
        started=started,
        resends=[sent for path in journals for sent in read_resends(path)],
        outages=outages,
        clocks=[clock for path in journals for clock in read_clocks(path)],
        troubles=[*troubles, *(_slow(settings, stories) if settings.calm else [])],
        messages_left=messages_left,
    )


def _slow(settings: Settings, stories: Mapping[str, Story]) -> list[str]:
    """Where nobody dies, nothing waits for a lease to expire: what is handed back is taken at once."""
    limit = 0.75 * settings.lease_ttl
    return [
        f"{story.run} took {story.events[-1].at - story.events[0].at:.1f} s: something in it was not handed back"
        for story in stories.values()
        if story.status in TERMINAL and limit > 20 and story.events[-1].at - story.events[0].at > limit
    ]
