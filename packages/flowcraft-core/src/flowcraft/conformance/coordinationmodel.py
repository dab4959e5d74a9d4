"""A coordination store beside the one in memory. Needs Hypothesis."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from flowcraft.conformance.sidebyside import SideBySide, answer, both
from flowcraft.errors import FlowcraftError
from flowcraft.memory import MemoryCoordination
from flowcraft.ports import CoordinationStore

__all__ = ["CoordinationBesideMemory"]

keys = st.sampled_from(["k", "é/'"])
many = st.lists(keys, max_size=2, unique=True)
owners = st.sampled_from(["one", "two", "One"])
#: In units; times that pass are whole units, so nothing happens at the very moment at which something ends.
ttls = st.sampled_from([1.5, 3.5, 9.5])


class CoordinationBesideMemory(SideBySide):
    """Keys, owners and times at random; what both stores say is compared."""

    def __init__(self) -> None:
        super().__init__()
        env = self.driver.env
        self.virtual = env.target.virtual_time
        self.actual: CoordinationStore = env.coordination
        self.model = MemoryCoordination(env.clock)
        # Where time is real, nothing ends while the machine runs.
        self.unit = env.unit if self.virtual else 1000.0

    def both(self, what: str, ask: Callable[[CoordinationStore], Coroutine[Any, Any, object]]) -> None:
        """Ask both and compare."""
        answers = both(answer(ask(self.actual), FlowcraftError), answer(ask(self.model), FlowcraftError))
        shown = [list(each) if isinstance(each, list | tuple) else each for each in self.driver.do(answers)]
        self.same(what, *shown)

    def named(self, names: list[str]) -> list[str]:
        """The names of this example."""
        return [self.own + name for name in names]

    @rule(names=many, owner=owners, ttl=ttls)
    def claim(self, names: list[str], owner: str, ttl: float) -> None:
        """Claim leases."""
        self.both(f"claim {names} by {owner}", lambda store: store.claim(self.named(names), owner, ttl * self.unit))

    @rule(names=many, owner=owners, ttl=ttls)
    def renew(self, names: list[str], owner: str, ttl: float) -> None:
        """Renew leases."""
        self.both(f"renew {names} by {owner}", lambda store: store.renew(self.named(names), owner, ttl * self.unit))

    @rule(names=many, owner=owners)
    def release(self, names: list[str], owner: str) -> None:
        """Release leases."""
        self.both(f"release {names} by {owner}", lambda store: store.release(self.named(names), owner))

    @rule(names=many)
    def revoke(self, names: list[str]) -> None:
        """Revoke leases."""
        self.both(f"revoke {names}", lambda store: store.revoke(self.named(names)))

    @rule(names=many)
    def holders(self, names: list[str]) -> None:
        """Ask who holds leases."""
        self.both(f"holders of {names}", lambda store: store.holders(self.named(names)))

    @initialize()
    def begin(self) -> None:
        """Hold something of everything."""
        for name in ("k", "é/'"):
            self.claim([name], "one", 3.5)
            self.increment(name, 3.5)

    @rule(name=keys, ttl=ttls)
    def increment(self, name: str, ttl: float) -> None:
        """Count."""
        self.both(f"increment {name}", lambda store: store.increment(f"{self.own}n {name}", ttl * self.unit))

    @rule(name=keys, text=st.sampled_from(["", "text", "007"]), ttl=ttls)
    def set(self, name: str, text: str, ttl: float) -> None:
        """Set a text."""
        self.both(
            f"set {name} to {text!r}", lambda store: store.set_if_not_exist(self.own + name, text, ttl * self.unit)
        )

    @rule(name=keys, prefix=st.sampled_from(["", "n "]), ttl=ttls)
    def extend(self, name: str, prefix: str, ttl: float) -> None:
        """Extend a text or a counter."""
        name = prefix + name
        self.both(f"extend {name}", lambda store: store.extend_ttl(self.own + name, ttl * self.unit))

    @rule(name=keys, prefix=st.sampled_from(["", "n "]))
    def get(self, name: str, prefix: str) -> None:
        """Read a text or a counter."""
        name = prefix + name
        self.both(f"get {name}", lambda store: store.get(self.own + name))

    @rule(name=keys, prefix=st.sampled_from(["", "n "]))
    def delete(self, name: str, prefix: str) -> None:
        """Delete a text or a counter."""
        name = prefix + name
        self.both(f"delete {name}", lambda store: store.delete(self.own + name))

    @rule(name=keys, holder=owners, limit=st.integers(0, 3), ttl=ttls)
    def acquire(self, name: str, holder: str, limit: int, ttl: float) -> None:
        """Take a slot."""
        self.both(
            f"a slot of {limit} of {name} for {holder}",
            lambda store: store.acquire_slot(self.own + name, holder, limit, ttl * self.unit),
        )

    @rule(name=keys, holder=owners)
    def give_back(self, name: str, holder: str) -> None:
        """Give a slot back."""
        self.both(f"{holder} gives back {name}", lambda store: store.release_slot(self.own + name, holder))

    @precondition(lambda self: self.virtual)
    @rule(name=keys)
    def take(self, name: str) -> None:
        """Take a token."""

        async def rounded(store: CoordinationStore) -> float:
            return round(await store.take(self.own + name, 2, 3 * self.unit, 2), 3)

        self.both(f"a token of {name}", rounded)

    @precondition(lambda self: self.virtual)
    @rule(units=st.sampled_from([1, 2, 5]))
    def time_passes(self, units: int) -> None:
        """Let time pass for both."""
        self.tell(f"{units} units pass")
        self.driver.do(self.driver.env.lapse(units * self.unit))
