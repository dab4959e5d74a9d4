"""Functions that nodes need and the registry does not have, or has in another version."""

from __future__ import annotations

import difflib
from collections.abc import Iterator

from flowcraft.constructs import BUILT_IN, LOOP, kind_of
from flowcraft.lint.issues import LintCode, LintIssue
from flowcraft.lint.subject import Subject
from flowcraft.registry import Registry
from flowcraft.scopes import LOOP_CONTROLLER

__all__ = ["check_functions"]


def check_functions(subject: Subject) -> Iterator[LintIssue]:
    """``MISSING_NODE_IMPLEMENTATION``, ``FUNCTION_VERSION_MISMATCH`` and ``INVALID_BATCH_WORKER_KEY``."""
    registry = subject.registry
    for batch in subject.batches:
        if batch.worker is None:
            yield LintIssue(
                "INVALID_BATCH_WORKER_KEY", batch.scatter, f"batch {batch.id!r} names no function for its items",
                "name it in params.workerUsesKey of its scatter",
            )  # fmt: skip
        elif registry is not None and registry.find(batch.worker) is None:
            message = f"batch {batch.id!r} uses {batch.worker!r} for its items"
            yield _missing(registry, batch.scatter, batch.worker, message, worker=True)
    if registry is None:
        return
    for batch in subject.batches:
        source = subject.nodes[batch.scatter].params.get("sourceUsesKey")
        if source is not None and registry.find(str(source)) is None:
            message = f"batch {batch.id!r} gets its items from {source!r}"
            yield _missing(registry, batch.scatter, str(source), message, worker=False)
    for node in subject.blueprint.nodes:
        built_in = kind_of(node) == LOOP if node.uses == LOOP_CONTROLLER else node.uses in BUILT_IN
        if not built_in and registry.find(node.uses) is None:
            yield _missing(registry, node.id, node.uses, f"node {node.id!r} uses {node.uses!r}", worker=False)


def _missing(registry: Registry, subject: str, uses: str, message: str, *, worker: bool) -> LintIssue:
    known = [function.name for function in registry]
    base = uses.partition("@")[0]
    others = [name for name in known if name.partition("@")[0] == base]
    if others:
        return LintIssue(
            "FUNCTION_VERSION_MISMATCH", subject, f"{message}, which is here only as {', '.join(map(repr, others))}",
            f"register {uses!r} as well, for the runs that need it, or make the blueprint use {others[0]!r}",
        )  # fmt: skip
    close = difflib.get_close_matches(uses, known, n=1)
    remedy = f"register {uses!r}" + (f" (there is {close[0]!r})" if close else "")
    code: LintCode = "INVALID_BATCH_WORKER_KEY" if worker else "MISSING_NODE_IMPLEMENTATION"
    return LintIssue(code, subject, f"{message}, for which there is no function", remedy)
