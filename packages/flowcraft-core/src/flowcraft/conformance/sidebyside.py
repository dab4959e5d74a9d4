"""Drives a target and the memory backend with the same random operations and compares every answer. Needs Hypothesis.

Hypothesis runs in a thread of its own and has its operations done on the check's event loop, where the ports live.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from hypothesis import HealthCheck, Phase, Verbosity, settings
from hypothesis.stateful import RuleBasedStateMachine, run_state_machine_as_test

from flowcraft.conformance.env import Env
from flowcraft.conformance.expecting import Violated

__all__ = ["Driver", "SideBySide", "answer", "both", "drive"]

T = TypeVar("T")

#: Seconds in which a failure is made smaller; on a remote target every attempt takes its time.
_SHRINKING: Final = 8.0
#: Seconds after which no further example begins, once there were a few.
_ENOUGH: Final = 6.0
_FEW: Final = 25
#: The ports take their time, and rules without a document to change do nothing.
_EXPECTED: Final = (
    HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much, HealthCheck.large_base_example,
)  # fmt: skip


class Stopped(BaseException):
    """There is nothing more to do; no `Exception`, which Hypothesis would take for a finding."""


class Driver:
    """Does a machine's operations on the check's loop, and keeps the shortest story of a difference."""

    def __init__(self, env: Env) -> None:
        self.env = env
        self.found: list[str] | None = None
        #: The first error of a port that no answer foresees.
        self.error: Exception | None = None
        self.ended = False
        self.examples = 0
        self._loop = asyncio.get_running_loop()
        self._stopped = False
        self._end: float | None = None
        self._enough = time.monotonic() + _ENOUGH

    def do(self, operation: Coroutine[Any, Any, T]) -> T:
        """Run it on the loop; called in Hypothesis's thread."""
        if self._stopped:
            operation.close()
            raise Stopped
        try:
            return asyncio.run_coroutine_threadsafe(operation, self._loop).result()
        except Exception as error:
            self.error = self.error or error
            self._end = self._end or time.monotonic() + _SHRINKING
            raise

    def stop(self) -> None:
        """Let the next operation raise `Stopped`."""
        self._stopped = True

    @property
    def over(self) -> bool:
        """A difference was found, and made smaller for long enough; or none was found for long enough."""
        if self._end is None:
            return self.examples >= _FEW and time.monotonic() > self._enough
        return time.monotonic() > self._end

    def differ(self, story: list[str]) -> None:
        """Raises: Violated. The shortest story is kept."""
        if self._end is None:
            self._end = time.monotonic() + _SHRINKING
        if self.found is None or len(story) < len(self.found):
            self.found = story
        raise Violated(story[-1])


class SideBySide(RuleBasedStateMachine):
    """A state machine whose rules ask both sides. Subclasses get their ``driver`` by `drive`."""

    driver: Driver

    def __init__(self) -> None:
        super().__init__()
        if self.driver.over:
            self.driver.ended = True
            raise Stopped
        self.driver.examples += 1
        #: Begins all names of this example, so that it does not meet what others have left.
        self.own = f"{self.driver.examples}."
        self._story: list[str] = []

    def same(self, what: str, actual: object, expected: object) -> None:
        """Both sides gave this answer. Raises: Violated, if not."""
        self._story.append(what)
        if actual != expected or type(actual) is not type(expected):
            self.driver.differ([*self._story[:-1], f"{what}: expected {expected!r}, got {actual!r}"])

    def tell(self, what: str) -> None:
        """Remember what was done, for the story."""
        self._story.append(what)


async def both(actual: Coroutine[Any, Any, T], expected: Coroutine[Any, Any, T]) -> tuple[T, T]:
    """What the two return, one after the other; asked for together, because every way to the loop costs."""
    try:
        return await actual, await expected
    finally:
        expected.close()  # if the first one raised; after its end this does nothing


async def answer(call: Coroutine[Any, Any, T], refusals: type[Exception]) -> T | str:
    """What a call returns; the text ``refused`` if it raises one of these."""
    try:
        return await call
    except refusals:
        return "refused"


async def drive(env: Env, machine: type[SideBySide], *, examples: int, steps: int) -> None:
    """Run the machine; the same operations in every run.

    Raises:
        Violated: the sides differed; the text is the shortest story that was found.
    """
    driver = Driver(env)
    bound = type(machine.__name__, (machine,), {"driver": driver})
    options = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, derandomize=True, database=None,
        phases=(Phase.generate, Phase.shrink), verbosity=Verbosity.quiet,
        suppress_health_check=_EXPECTED,
        print_blob=False,
    )  # fmt: skip
    running = asyncio.ensure_future(asyncio.to_thread(_run, lambda: run_state_machine_as_test(bound, settings=options)))
    try:
        error = await asyncio.shield(running)
    except asyncio.CancelledError:
        driver.stop()
        await asyncio.wait([running])
        raise
    if driver.found is not None:
        raise Violated("; then ".join(driver.found))
    if driver.error is not None:
        raise driver.error
    if error is not None and not driver.ended:  # when we end it, Hypothesis complains of whatever it was about to do
        raise error


def _run(machine: Callable[[], object]) -> BaseException | None:
    try:
        machine()
    except BaseException as error:  # noqa: BLE001 - it is carried to the loop; `StopIteration` could not be raised there
        return error
    return None
