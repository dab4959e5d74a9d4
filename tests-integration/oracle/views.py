"""What goes into and comes out of the oracle, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .behaviour import canonical, without_errors

__all__ = ["Broken", "Failure", "NodeView", "NotReady", "RunView", "Slot"]


class NotReady(AssertionError):
    """An outcome for a visit that must not be executing now."""


class Broken(AssertionError):
    """The rules contradict each other: a stuck run, or an edge marked twice."""


@dataclass(frozen=True, order=True)
class Slot:
    """One attempt: function node ``runs`` executes for ``node`` (itself, or a node that fell back to it).

    ``visit`` counts the activations of ``runs`` over the whole run; ``attempt`` starts at 1 in each. ``item`` is that
    of a batch.
    """

    node: str
    runs: str
    visit: int
    attempt: int
    item: int = -1

    @property
    def key(self) -> str:
        """Whom it is for: a node, or an item of one."""
        return self.node if self.item < 0 else f"{self.node}[{self.item}]"

    def __str__(self) -> str:
        name = self.key if self.node == self.runs else f"{self.runs}@{self.key}"
        return f"{name}#{self.visit}.{self.attempt}"


@dataclass(frozen=True, order=True)
class Failure:
    """A visit that failed for good. ``kind``: failed, condition or limit.

    ``owner``: for whom it was (in the oracle only).
    """

    node: str
    kind: str
    owner: str = field(default="", compare=False)


@dataclass(frozen=True)
class NodeView:
    """The last visit of a node that ran; of one that never ran, why: ``reason`` is dead or upstream."""

    state: str
    visit: int = 0
    output: object = None
    reason: str = ""


@dataclass(frozen=True)
class RunView:
    """The result of a run. ``output`` is that of its terminal nodes; ``failures`` has one entry per failed visit."""

    status: str
    nodes: Mapping[str, NodeView]
    failures: tuple[Failure, ...]
    output: object

    @property
    def key(self) -> str:
        """Text that is equal for equal results."""
        nodes = {name: [v.state, v.visit, v.reason, without_errors(v.output)] for name, v in self.nodes.items()}
        return canonical([self.status, nodes, [[f.node, f.kind] for f in self.failures], without_errors(self.output)])
