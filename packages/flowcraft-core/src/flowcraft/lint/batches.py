"""Batches: a scatter without its gather or the other way round, and parameters that cannot be."""

from __future__ import annotations

from collections.abc import Iterator

from flowcraft.blueprint import Json
from flowcraft.checks import told
from flowcraft.constructs import GATHER
from flowcraft.lint.issues import LintIssue
from flowcraft.lint.subject import Subject
from flowcraft.shapes import Batch, text_of

__all__ = ["check_batches"]


def check_batches(subject: Subject) -> Iterator[LintIssue]:
    """``BATCH_WITHOUT_GATHER``, ``GATHER_WITHOUT_BATCH`` and ``INVALID_BATCH_OPTION``."""
    gathers: dict[str, Batch] = {}
    for batch in subject.batches:
        yield from _gather(subject, batch, gathers)
        yield from _options(subject, batch)
    for node in subject.blueprint.nodes:
        if node.uses == GATHER and node.id not in gathers:
            yield LintIssue(
                "GATHER_WITHOUT_BATCH", node.id, f"no batch gathers at {node.id!r}",
                "name it in params.gatherNodeId of a scatter, or remove it",
            )  # fmt: skip


def _gather(subject: Subject, batch: Batch, gathers: dict[str, Batch]) -> Iterator[LintIssue]:
    named = subject.nodes[batch.scatter].params.get("gatherNodeId")
    if batch.gather is None:
        what = "does not say where its results are gathered" if named is None else (
            f"gathers at {told(named)}, which is no node that uses {GATHER!r}"
        )  # fmt: skip
        yield LintIssue(
            "BATCH_WITHOUT_GATHER", batch.scatter, f"batch {batch.id!r} {what}",
            f"add a node that uses {GATHER!r}, and name it in params.gatherNodeId of the scatter",
        )  # fmt: skip
        return
    first = gathers.setdefault(batch.gather, batch)
    if first is not batch:
        yield LintIssue(
            "BATCH_WITHOUT_GATHER", batch.scatter,
            f"batch {batch.id!r} gathers at {batch.gather!r}, as {first.id!r} does",
            "give each batch a gather of its own",
        )  # fmt: skip
    between = [edge for edge in subject.out[batch.scatter] if edge.target == batch.gather]
    if not between:
        yield LintIssue(
            "BATCH_WITHOUT_GATHER", batch.scatter, f"batch {batch.id!r} has no edge to its gather {batch.gather!r}",
            f"add the edge {batch.scatter} -> {batch.gather}",
        )  # fmt: skip
    for edge in between:
        if edge.action or edge.condition or edge.transform:
            yield LintIssue(
                "INVALID_BATCH_OPTION", str(edge), f"nothing is decided inside batch {batch.id!r}, on edge {edge}",
                "remove its action, condition and transform, and put them on the edges around the batch",
            )  # fmt: skip


def _options(subject: Subject, batch: Batch) -> Iterator[LintIssue]:
    params = subject.nodes[batch.scatter].params
    for name in ("chunkSize", "concurrency", "itemsPerJob"):
        if params.get(name) is not None and not _whole(params[name], 1):
            yield _wrong(batch, name, params[name], "a whole number of at least 1")
    policy = params.get("onItemError")
    if policy is not None and policy not in ("fail", "collect") and not _whole(policy, 0):
        yield _wrong(batch, "onItemError", policy, "'fail', 'collect' or how many items may fail")
    if params.get("outputKey") is not None and text_of(params["outputKey"]) is None:
        yield _wrong(batch, "outputKey", params["outputKey"], "the name of a context key")
    if params.get("workerParams") is not None and not isinstance(params["workerParams"], dict):
        yield _wrong(batch, "workerParams", params["workerParams"], "an object")


def _whole(value: Json, least: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= least


def _wrong(batch: Batch, name: str, value: Json, wanted: str) -> LintIssue:
    message = f"params.{name} of batch {batch.id!r} is {told(value)}"
    return LintIssue("INVALID_BATCH_OPTION", batch.scatter, message, f"make it {wanted}")
