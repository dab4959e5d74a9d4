"""What a worker has in hand: the visit at work, and the place in the worker's concurrency that it takes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Literal

from flowcraft.blueprint import Node
from flowcraft.constructs import WEBHOOK
from flowcraft.engine.head import Head, group_size
from flowcraft.engine.inputs import InputPlan, input_plan
from flowcraft.engine.slots import node_of
from flowcraft.engine.transition import Visit
from flowcraft.errors import AdapterError
from flowcraft.folding import Kept
from flowcraft.graph import Graph
from flowcraft.limits import Permit
from flowcraft.model import Job, ValueKey
from flowcraft.ports import Delivery
from flowcraft.runstate import slot_of

__all__ = ["Cause", "Slot", "Work", "end_delivery", "keep_delivery"]

#: Why the worker cancels a visit: somebody else has it or wants it ended, or the process goes.
Cause = Literal["lost", "shutdown"]
_LOG = logging.getLogger("flowcraft.worker")


@dataclass(frozen=True, slots=True)
class Work:
    """An activation that is current and claimed. ``values`` are those of its input that are known already."""

    job: Job
    graph: Graph
    node: int
    runs: int
    plan: InputPlan
    values: Mapping[ValueKey, bytes]
    depth: int
    size: int

    @staticmethod
    def of(job: Job, graph: Graph, head: Head, known: Mapping[ValueKey, bytes]) -> Work:
        """For an active node of ``head``."""
        slot = slot_of(graph, job.node, job.item)
        runs = head.active[slot].runs
        plan = input_plan(graph, head, slot)
        values = {key: known[key] for key in plan.keys if key in known}
        runs = node_of(slot) if runs < 0 else runs
        return Work(job, graph, slot, runs, plan, values, head.depth, group_size(head, slot))

    @staticmethod
    def kept(kept: Kept) -> Work:
        """For what a commit of this worker made READY."""
        return Work(kept.job, kept.graph, kept.node, kept.runs, kept.plan, kept.values, kept.depth, kept.size)

    @property
    def definition(self) -> Node:
        """The node whose function runs."""
        return self.graph.nodes[self.runs]

    @property
    def visit(self) -> Visit:
        """The fence."""
        return Visit(self.node, self.job.nonce, self.job.visit, self.job.attempt)

    @property
    def is_webhook(self) -> bool:
        """Whether it is a webhook, not a subflow, of the nodes that have no function."""
        return self.definition.uses == WEBHOOK

    @property
    def extra(self) -> dict[str, object]:
        """For the log."""
        return {"run_id": self.job.run_id, "node_id": self.job.node, "attempt": self.job.attempt}


class Slot:
    """One place of a worker's concurrency. Its delivery stays in hand through all steps of a chain.

    So the queue counts it against the prefetch, and the worker never has more in hand than it may. A visit that the
    ticker woke for its own worker comes without a delivery. ``permit``: what limits allow the visit at hand.
    """

    __slots__ = ("cause", "delivery", "job", "key", "permit", "poisoned", "running", "since", "steps", "task")

    def __init__(self, job: Job, delivery: Delivery | None, since: float) -> None:
        self.delivery = delivery
        self.job = job
        self.key = job.claim_key
        self.since = since
        self.steps = 0
        self.permit: Permit | None = None
        self.running = False
        self.poisoned = False
        self.cause: Cause | None = None
        self.task: asyncio.Task[None] | None = None

    def lose(self) -> None:
        """The lease is gone: cancel the user code, if it runs; an outcome that is being committed goes its way."""
        if self.running and self.cause is None and self.task is not None:
            self.cause = "lost"
            self.task.cancel()

    def shut(self) -> None:
        """The process goes: cancel the user code, if it runs, and begin no other."""
        running = self.running and self.cause is None
        self.cause = self.cause or "shutdown"
        if running and self.task is not None:
            self.task.cancel()


async def end_delivery(ending: Awaitable[None]) -> None:
    """Await an ack, a retry or the like; if the broker does not take it, the message comes again by itself."""
    try:
        await ending
    except AdapterError as error:
        _LOG.warning("a delivery could not be ended: %s", error)


async def keep_delivery(delivery: Delivery, seconds: float) -> None:
    """Extend it. To be gathered: a task that is cancelled before its first step has not made the call."""
    await end_delivery(delivery.extend(seconds))
