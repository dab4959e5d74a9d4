"""Whole systems: every construct comes to the same, whatever goes wrong, at whichever call of a port."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from flowcraft.conformance.checks import Check, Collection
from flowcraft.conformance.env import Env
from flowcraft.conformance.system.passes import doubled_and_lost, killed, unanswered, wiped
from flowcraft.conformance.system.steered import STEERED
from flowcraft.conformance.system.stories import STORIES
from flowcraft.conformance.system.story import Story

__all__ = ["checks"]


@dataclass(frozen=True, slots=True)
class _Trouble:
    name: str
    level: int
    contract: str
    why: str
    run: Callable[[Env, Story], Awaitable[None]]


_TROUBLES: Final = (
    _Trouble(
        "killed", 2,
        "comes to the same if its worker is killed after any call of a port; only what it had begun is executed again",
        "P1, P2, P3. Faults F13, F14, F15, F17, F20: a process dies between claim, execution, commit, publish and ack.",
        killed,
    ),
    _Trouble(
        "unanswered", 2,
        "comes to the same, executing nothing twice, if the answer to any write is lost, whether it was applied, or "
        "not, or is applied late",
        "P2, P3. Faults F23, F24, F33: whoever guesses what became of a write loses an outcome, or counts it twice.",
        unanswered,
    ),
    _Trouble(
        "doubled-and-lost", 3,
        "comes to the same, executing nothing twice, if messages come three times, late and in any order, and if every "
        "first message is lost",
        "P3, P7. Faults F1, F2, F4, F5, F15, F27: a message is a doorbell and carries no authority.",
        doubled_and_lost,
    ),
    _Trouble(
        "wiped", 3,
        "comes to the same if coordination forgets everything at any moment",
        "P6. Faults F32, F35, F71: leases, counts and slots keep work from being done twice, never from being right.",
        wiped,
    ),
)  # fmt: skip

#: Which mutants of the engine are planted for a check.
_KILLS: Final[Mapping[str, tuple[str, ...]]] = {
    "system.chain.unanswered": ("engine-unknown-means-failed",),
    "system.fan.unanswered": ("engine-unknown-means-done",),
    "system.long-node.doubled-and-lost": ("engine-without-leases",),
    "system.conditions.doubled-and-lost": ("engine-never-resends",),
    "system.sleep.killed": ("engine-never-wakes",),
    "system.failure.killed": ("engine-failed-is-dead",),
    "system.loop.killed": ("engine-exit-dies-early",),
    "system.fan.killed": ("engine-join-fires-early",),
    "system.conditions.killed": ("engine-join-counts",),
    "system.any-join.killed": ("engine-losers-run-on",),
    "system.batch.killed": ("engine-item-ends-another",),
    "system.retry.killed": ("engine-retry-keeps-activation",),
    "system.context.killed": ("engine-writes-lost",),
    "system.wait.killed": ("engine-signal-twice",),
    "system.cancel.killed": ("engine-children-go-on",),
}


def _checks() -> Iterator[Check]:
    for story in (*STORIES, *STEERED):
        topic = Collection("system", story.name)
        for trouble in _TROUBLES:
            _add(topic, story, trouble)
        yield from topic


def _add(topic: Collection, story: Story, trouble: _Trouble) -> None:
    async def run(env: Env) -> None:
        await trouble.run(env, story)

    run.__doc__ = f"{story.what[0].upper()}{story.what[1:]} {trouble.contract}.\n\n{trouble.why}"
    kills = _KILLS.get(f"system.{story.name}.{trouble.name}", ())
    topic.check(trouble.name, level=trouble.level, kills=kills, timeout=60.0)(run)


checks: Final = tuple(_checks())
