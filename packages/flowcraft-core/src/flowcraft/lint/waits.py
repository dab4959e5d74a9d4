"""Timers, waits and webhooks: durations, timeouts, and which wait a webhook ends."""

from __future__ import annotations

from collections.abc import Iterator

from flowcraft.blueprint import Node
from flowcraft.checks import told
from flowcraft.constructs import SLEEP, TIMEOUT, WAIT, WEBHOOK, WEBHOOK_EVENT, kind_of
from flowcraft.lint.issues import LintIssue
from flowcraft.lint.subject import Subject
from flowcraft.shapes import seconds_of, text_of

__all__ = ["check_waits"]


def check_waits(subject: Subject) -> Iterator[LintIssue]:
    """``INVALID_DURATION``, ``INVALID_EVENT_NAME``, and what timeouts and webhooks lack."""
    for node in subject.blueprint.nodes:
        if kind_of(node) == SLEEP:
            yield from _duration(node, "duration")
        elif kind_of(node) == WAIT:
            yield from _wait(subject, node)
        elif node.uses == WEBHOOK:
            yield from _webhook(subject, node)


def _duration(node: Node, name: str) -> Iterator[LintIssue]:
    value = node.params.get(name)
    if seconds_of(value) is None:
        what = (
            f"has no params.{name}" if value is None else f"has the params.{name} {told(value)}, which is no duration"
        )
        yield LintIssue(
            "INVALID_DURATION", node.id, f"{node.uses} {node.id!r} {what}", "give milliseconds, or a text such as '5m'"
        )


def _wait(subject: Subject, node: Node) -> Iterator[LintIssue]:
    event = node.params.get("eventName")
    if event is not None and text_of(event) is None:
        yield LintIssue(
            "INVALID_EVENT_NAME",
            node.id,
            f"params.eventName of wait {node.id!r} is no text",
            "name the event, or leave it out",
        )
    routed = any(edge.action == TIMEOUT for edge in subject.out[node.id])
    if node.params.get("timeout") is None:
        if routed:
            yield LintIssue(
                "TIMEOUT_ROUTE_WITHOUT_TIMEOUT", node.id,
                f"wait {node.id!r} has an edge for the action 'timeout', and waits for ever",
                "set params.timeout, or remove the edge",
            )  # fmt: skip
        return
    yield from _duration(node, "timeout")
    if not routed and node.fallback is None:
        yield LintIssue(
            "WAIT_TIMEOUT_WITHOUT_ROUTE", node.id, f"wait {node.id!r} fails when its timeout is over",
            "add an edge with the action 'timeout', or a fallback",
        )  # fmt: skip


def _webhook(subject: Subject, node: Node) -> Iterator[LintIssue]:
    """A call to a webhook ends the wait that it names, or that names it, else the only one that follows it."""
    named = node.params.get("waitNodeId")
    if named is not None:
        wait = subject.nodes.get(named) if isinstance(named, str) else None
        if wait is None or kind_of(wait) != WAIT:
            yield LintIssue(
                "INVALID_WEBHOOK_WAIT", node.id, f"webhook {node.id!r} is to end {told(named)}, which is no wait",
                "name a node that uses 'wait' in params.waitNodeId",
            )  # fmt: skip
        return
    event = WEBHOOK_EVENT + node.id
    if any(kind_of(other) == WAIT and other.params.get("eventName") == event for other in subject.blueprint.nodes):
        return
    reached = subject.reached_from(node.id)
    waits = [other.id for other in subject.blueprint.nodes if kind_of(other) == WAIT and other.id in reached]
    if not waits:
        yield LintIssue(
            "WEBHOOK_WITHOUT_WAIT", node.id, f"no wait follows webhook {node.id!r}: its request is not waited for",
            "add a node that uses 'wait', or name one in params.waitNodeId",
        )  # fmt: skip
    elif len(waits) > 1:
        yield LintIssue(
            "AMBIGUOUS_WEBHOOK", node.id, f"webhook {node.id!r} is followed by {len(waits)} waits, and names none",
            f"name the one that its request ends in params.waitNodeId, e.g. {waits[0]!r}",
        )  # fmt: skip
