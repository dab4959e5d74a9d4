"""What a target declares: by its ports, as production code sees them, and by itself."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, replace
from typing import Final

from flowcraft.conformance.checks import Check
from flowcraft.conformance.target import PortName, Ports, Target
from flowcraft.conformance.tools import TOOLS
from flowcraft.model import Capabilities

__all__ = ["FLAGS", "Facts", "facts_of"]

#: Capabilities that are true or false: where one is not declared, it is tried whether it holds all the same.
FLAGS: Final = frozenset({"durable", "history", "extend", "priorities"})
_OF_QUEUES: Final = frozenset({"extend", "priorities", "max_delay", "visibility", "max_message_bytes"})
_FIELDS: Final = frozenset(Capabilities.__dataclass_fields__)


@dataclass(frozen=True, slots=True)
class Facts:
    """``store``, ``queue``: their ``capabilities``; None: no such port, or it declares none · ``bound``: the store is
    bound to the queue · ``opened``: the ports that are there · ``tools``: those of `TOOLS` that are at hand.
    """

    offers: frozenset[PortName]
    opened: frozenset[PortName] = frozenset()
    store: Capabilities | None = None
    queue: Capabilities | None = None
    bound: bool = False
    tools: frozenset[str] = frozenset()

    def undeclared(self, check: Check) -> tuple[str, ...]:
        """The requirements of a check that do not hold, tools left aside, sorted."""
        return tuple(sorted(need for need in check.requires if need not in TOOLS and not self._holds(check, need)))

    def lacking(self, check: Check) -> tuple[str, ...]:
        """The tools that a check needs and that are missing, sorted."""
        return tuple(sorted(need for need in check.requires if need in TOOLS and need not in self.tools))

    def durable(self, port: PortName) -> bool:
        """What is stored in the port survives every process."""
        return self._declared(port, "durable").durable

    def _holds(self, check: Check, need: str) -> bool:
        name = need.removeprefix("!")
        if name == "bound":
            found: object = self.bound
        elif name in _FIELDS:
            found = getattr(self._declared(check.port, name), name)
        else:
            raise ValueError(f"the check {check.id!r} requires {need!r}, which is no capability")
        return (found is not None and found is not False) != need.startswith("!")

    def _declared(self, port: PortName, name: str) -> Capabilities:
        of_queue = port == "queue" or (port != "store" and name in _OF_QUEUES)
        first, second = (self.queue, self.store) if of_queue else (self.store, self.queue)
        # A port alone, without anything that declares: what `Capabilities` says by default must hold.
        return first or (second if port not in {"store", "queue"} else None) or Capabilities()


def facts_of(target: Target, ports: Ports, *, findable: bool) -> Facts:
    """What a target declares, once it is open. ``findable``: other processes can find it."""
    opened: dict[PortName, object] = {
        "store": ports.store, "queue": ports.queue, "coordination": ports.coordination, "events": ports.events,
        "values": ports.values,
    }  # fmt: skip
    tools = {
        "hypothesis": importlib.util.find_spec("hypothesis") is not None,
        "leftovers": target.leftovers is not None,
        "elsewhere": findable,
    }
    facts = Facts(
        target.offers,
        frozenset(name for name, port in opened.items() if port is not None),
        _capabilities(ports.store),
        _capabilities(ports.queue),
        tools=frozenset(name for name, at_hand in tools.items() if at_hand),
    )
    if ports.store is None or ports.queue is None:
        return facts
    return replace(facts, bound=ports.store.bind(ports.queue) is True)


def _capabilities(port: object) -> Capabilities | None:
    found = getattr(port, "capabilities", None)
    return found if isinstance(found, Capabilities) else None
