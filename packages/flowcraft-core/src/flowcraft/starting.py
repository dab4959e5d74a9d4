"""Starts that were checked and encoded, and the documents that they become."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from flowcraft.engine.draft import Draft
from flowcraft.engine.transition import Effects
from flowcraft.folding import Rules, fold_events, head_index, job_of
from flowcraft.graph import Graph
from flowcraft.history import carrying
from flowcraft.model import NewRun, ValueKey
from flowcraft.runstate import pack_head

__all__ = ["Start", "new_run"]


@dataclass(frozen=True, slots=True)
class Start:
    """All that a run is made of. ``input`` and the values of ``context`` are stored as they are: the codec was at work
    already.

    ``fingerprint`` tells a repeated start from another one; ``told`` is what it was made of, where that is at hand.
    ``parent``: the run, node and item that waits for this run, if it is a subflow, and ``depth`` how deep it is nested.
    """

    graph: Graph
    run_id: str
    fingerprint: str
    input: bytes
    context: Mapping[str, bytes] = field(default_factory=dict[str, bytes])
    parent: tuple[str, str, int] | None = None
    depth: int = 0
    told: Sequence[object] | None = None


def new_run(
    draft: Draft,
    effects: Effects,
    run_id: str,
    fingerprint: str,
    *,
    rules: Rules,
    values: Mapping[ValueKey, bytes] | None = None,
) -> NewRun:
    """The document of a run whose first draft is sealed; ``values`` beside those that the draft wrote."""
    graph, head, now = draft.graph, draft.head, draft.now
    packed = pack_head(graph.content_hash, head)
    events = fold_events(graph, run_id, head, effects, now, rules.codec)
    written = cast("Mapping[ValueKey, bytes]", effects.values)  # cells are bytes here
    return NewRun(
        run_id=run_id,
        fingerprint=fingerprint,
        token=draft.nonce,
        head=packed,
        index=head_index(head, now, rules.retention),
        created_at=now,
        blueprint_id=graph.blueprint.id,
        blueprint_hash=graph.content_hash,
        values={**(values or {}), **written},
        jobs=[job_of(graph, run_id, slot, activation, rules.queue_name) for slot, activation in effects.ready],
        events=carrying(events, b"", packed) if rules.limits.history else events,
    )
