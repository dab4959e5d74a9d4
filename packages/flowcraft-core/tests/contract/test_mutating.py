"""A mutant counts as caught only if its check tells it from the backend as it is."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager

import pytest

from flowcraft.conformance import Env, Place, Ports, Violated, expect, target
from flowcraft.conformance.mutants import Mutant
from flowcraft.conformance.mutating import killers, try_mutant
from flowcraft.conformance.targets import memory_target
from flowcraft.errors import InvalidRequest

from .making import check

PLANTED = False


async def sound(env: Env) -> None:
    expect(env.target.name != "broken", "it is broken")


def mutant(broken: str = "broken", base: str = "sound", **more: object) -> Mutant:
    return Mutant(
        "m", "Broken.", "store.t.one", lambda: memory_target(broken), lambda: memory_target(base), **more,  # type: ignore[arg-type]
    )  # fmt: skip


@target("shut", offers=["store"])
async def shut(place: Place) -> AsyncGenerator[Ports]:
    raise ConnectionRefusedError
    yield Ports()


async def test_a_mutant_is_caught_by_its_check() -> None:
    verdict = await try_mutant(mutant(), [check(sound)])
    assert (verdict.caught, verdict.sound.outcome, verdict.broken.outcome) == (True, "pass", "fail")


async def test_a_mutant_that_passes_is_not_caught() -> None:
    assert not (await try_mutant(mutant(broken="sound"), [check(sound)])).caught


async def test_a_check_that_fails_on_everything_catches_nothing() -> None:
    assert not (await try_mutant(mutant(base="broken"), [check(sound)])).caught


async def test_a_mutant_that_cannot_be_opened_is_not_caught() -> None:
    nowhere = Mutant("m", "Broken.", "store.t.one", lambda: shut, lambda: memory_target("sound"))
    assert (await try_mutant(nowhere, [check(sound)])).broken.outcome == "blocked"
    assert not (await try_mutant(nowhere, [check(sound)])).caught


async def test_a_mutant_of_no_check_is_a_mistake() -> None:
    with pytest.raises(InvalidRequest, match=r"'store\.t\.one', which does not exist"):
        await try_mutant(mutant(), [])


@contextmanager
def planted() -> Generator[None]:
    global PLANTED  # noqa: PLW0603 - stands for an engine
    PLANTED = True
    yield
    PLANTED = False


async def test_a_fault_is_planted_only_for_the_mutant() -> None:
    async def looks(env: Env) -> None:
        if PLANTED:
            raise Violated("planted")

    verdict = await try_mutant(mutant("sound", planted=planted), [check(looks)])
    assert verdict.caught
    assert not PLANTED


async def test_all_that_kill_a_mutant() -> None:
    checks = [check(sound), check(name="store.t.two"), check(sound, "queue.t.three")]
    assert await killers(mutant(), checks) == ("store.t.one", "queue.t.three")
