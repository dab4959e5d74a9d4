"""After a commit: who is told what, and which visits their submitters go on with."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import replace
from typing import Any

from flowcraft.engine.head import group_size
from flowcraft.engine.inputs import input_plan
from flowcraft.engine.slots import node_of
from flowcraft.engine.transition import Completed, Failed
from flowcraft.errors import PayloadTooLarge
from flowcraft.folding import Applied, Fold, Keeper, Kept, Result, Stale, Submission, job_of
from flowcraft.model import ErrorInfo
from flowcraft.runstate import RunState
from flowcraft.writing import Aftermath

__all__ = ["answer", "answer_all", "claims_for", "too_large", "unkeep"]


def answer(submission: Submission, result: Result, aftermath: Aftermath | None) -> None:
    """Tell the submitter; its delivery is acked by ``aftermath``, unless that is None."""
    if not submission.future.done():
        submission.future.set_result(result)
    if aftermath is not None and submission.delivery is not None:
        aftermath.deliveries.append(submission.delivery)


def answer_all(
    planned: Fold,
    state: RunState,
    aftermath: Aftermath,
    *,
    acked: bool,
    on_revoked: Sequence[Callable[[Sequence[str]], None]],
) -> None:
    """A fold is committed and ``state`` is the run as it is now. ``acked``: the store acked the deliveries with it."""
    effects = planned.effects
    aftermath.told += [event.told() for event in planned.change.events]
    if effects.revoked:
        graph, run_id = state.graph, state.run_id
        revoked = [job_of(graph, run_id, node, activation, "").claim_key for node, activation in effects.revoked]
        aftermath.revoked += revoked
        for listener in on_revoked:
            listener(revoked)
    for submission in planned.submissions:
        kept = _kept(state, submission, planned, aftermath)
        result = Applied(effects, effects.terminal, kept) if submission.applied else Stale()
        settled = kept is not None or (acked and submission.kept is None)
        answer(submission, result, None if settled else aftermath)


def _kept(state: RunState, submission: Submission, planned: Fold, aftermath: Aftermath) -> Kept | None:
    """The visit that its submitter goes on with, if its lease was won and the submitter is still there."""
    if submission.kept is None or submission.keeper is None:
        return None
    job, node = submission.kept
    head = state.committed()
    activation = head.active.get(node)
    won = job.claim_key in planned.claimed
    if won and not submission.future.done() and activation is not None and activation.nonce == job.nonce:
        plan = input_plan(state.graph, head, node)
        values = {key: state.values[key] for key in plan.keys if key in state.values}
        runs = node_of(node) if activation.runs < 0 else activation.runs
        return Kept(job, state.graph, node, runs, plan, values, head.depth, group_size(head, node))
    if won:
        submission.keeper.forget([job.claim_key])
    aftermath.jobs.append(job)
    return None


def claims_for(folds: Sequence[Fold]) -> list[Coroutine[Any, Any, None]]:
    """Leases for what submitters keep, one call for each keeper, to be taken while the commits are on their way."""
    wanted: dict[int, tuple[Keeper, dict[str, Fold]]] = {}
    for planned in folds:
        for submission in planned.submissions:
            if submission.kept is not None and submission.keeper is not None:
                _, keys = wanted.setdefault(id(submission.keeper), (submission.keeper, {}))
                keys[submission.kept[0].claim_key] = planned
    return [_claim(keeper, keys) for keeper, keys in wanted.values()]


async def _claim(keeper: Keeper, folds: dict[str, Fold]) -> None:
    won = await keeper.claim(list(folds))
    for (key, planned), granted in zip(folds.items(), won, strict=True):
        if granted:
            planned.claimed.add(key)


def unkeep(planned: Fold) -> None:
    """The fold was not committed: what it made READY never was."""
    for submission in planned.submissions:
        if submission.kept is not None and submission.keeper is not None:
            submission.keeper.forget([submission.kept[0].claim_key])
        submission.kept = None


def too_large(submission: Submission, error: Exception) -> bool:
    """Turn an outcome that can never be stored into the failure of its node; False if that is not the trouble.

    What the node said is the first that goes.
    """
    event = submission.event
    if not isinstance(error, PayloadTooLarge) or not isinstance(event, Completed | Failed):
        return False
    if event.notes is not None:
        submission.event = replace(event, notes=None)
        return True
    if isinstance(event, Failed):
        return False
    submission.event = Failed(event.visit, ErrorInfo("PayloadTooLarge", str(error)), retryable=False)
    return True
