"""Targets by name, and steps of checks in processes that are killed."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from flowcraft.conformance import Env, Target, Violated
from flowcraft.conformance.attempt import new_place
from flowcraft.conformance.expecting import Blocked
from flowcraft.conformance.loading import load_function, load_target, name_of, source_of
from flowcraft.conformance.making import existing
from flowcraft.conformance.targets import memory, sqlite
from flowcraft.errors import InvalidRequest

from .making import changed
from .steps import cannot, dies, fails, hears_signals, stores

TARGETS = """
from dataclasses import replace
from flowcraft.conformance.targets import memory

mine = replace(memory, name="mine")
number = 7

def made():
    return replace(memory, name="made")

def needs(argument): ...

def broken():
    raise KeyError("broken")
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "some targets.py"
    path.write_text(TARGETS, encoding="utf-8")
    return path


def test_targets_by_name(file: Path) -> None:
    assert load_target("flowcraft.conformance.targets:memory") is memory
    assert load_target(f"{file}:mine").name == "mine"
    assert load_target(f"{file}:mine") is not memory
    assert load_target(f"{file}:made").name == "made"
    assert load_target(f"{file}:made").source == f"{file}:made"


def test_modules_are_found_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "targets_of_this_test.py").write_text(TARGETS, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    assert load_target("targets_of_this_test:mine").name == "mine"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("memory", "names nothing"),
        (":memory", "names nothing"),
        ("no.such.module:x", "cannot import no.such.module: ModuleNotFoundError"),
        ("not a module:x", "neither the name of a module nor a .py file"),
        ("nowhere.py:x", "there is no file"),
        ("flowcraft.conformance.targets:memry", "did you mean 'memory'"),
        ("{file}:number", "is a int, not a Target"),
        ("{file}:needs", "needs arguments"),
        ("{file}:broken", "raised KeyError"),
    ],
)
def test_names_of_nothing_are_refused(name: str, told: str, file: Path) -> None:
    with pytest.raises(InvalidRequest) as caught:
        load_target(name.replace("{file}", str(file)))
    assert told in str(caught.value)


def test_what_lies_beside_a_file_can_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "sibling_of_this_target.py").write_text("from flowcraft.conformance.targets import memory\n")
    (tmp_path / "later_sibling_of_this_target.py").write_text("NAME = 'later'\n")
    path = tmp_path / "beside.py"
    path.write_text(
        "from dataclasses import replace\nfrom sibling_of_this_target import memory as mine\n"
        "def made():\n    from later_sibling_of_this_target import NAME\n    return replace(mine, name=NAME)\n"
    )
    assert load_target(f"{path}:mine") is memory
    assert load_target(f"{path}:made").name == "later"
    assert sys.path[0] == str(tmp_path), "where Python looks first for a script, and where other processes look, too"


async def test_another_process_finds_what_lies_beside_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "durable_sibling.py").write_text("from flowcraft.conformance.targets import sqlite\n")
    (tmp_path / "target.py").write_text(
        "from dataclasses import replace\nfrom durable_sibling import sqlite\nmine = replace(sqlite, name='mine')\n"
    )
    found = load_target(f"{tmp_path / 'target.py'}:mine")
    monkeypatch.delitem(sys.modules, "durable_sibling")
    async for env in _env(found):
        await env.elsewhere(stores)
        assert existing(await env.store.load("run")).token == "t0"


def test_a_file_that_raises_is_refused_and_may_be_mended(tmp_path: Path) -> None:
    path = tmp_path / "mended.py"
    path.write_text("import sys\nsys.exit(3)\n", encoding="utf-8")
    with pytest.raises(InvalidRequest, match="SystemExit"):
        load_target(f"{path}:mine")
    path.write_text(TARGETS + "\n# mended\n", encoding="utf-8")
    assert load_target(f"{path}:mine").name == "mine"


def test_the_name_of_a_target() -> None:
    assert source_of(memory) == "flowcraft.conformance.targets:memory"
    assert source_of(sqlite) == "flowcraft.conformance.targets:sqlite"
    assert source_of(changed(lambda ports: ports)) is None
    assert source_of(replace(memory, source="given:it")) == "given:it"


def test_the_name_of_a_function() -> None:
    def inner() -> None: ...

    name = name_of(stores)
    assert name is not None
    assert name_of(inner) is None
    assert load_function(name).__name__ == "stores"
    with pytest.raises(InvalidRequest, match="not a function"):
        load_function("flowcraft.conformance.targets:memory")


def test_a_module_under_a_name_that_means_another_one_goes_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "wave.py").write_text("async def step(env): ...\n", encoding="utf-8")
    spec = importlib.util.spec_from_file_location("wave", tmp_path / "wave.py")  # there is one in the standard library
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "wave", module)
    spec.loader.exec_module(module)
    assert name_of(module.step) == f"{tmp_path / 'wave.py'}:step"


# ---- in another process


@pytest.fixture
async def env() -> AsyncIterator[Env]:
    async for made in _env(sqlite):
        yield made


async def _env(target: Target) -> AsyncIterator[Env]:
    place = new_place(target, "elsewhere")
    async with target.open(place) as ports:
        yield Env(target, place, ports, Random(1))
    assert target.drop is not None
    await target.drop(place)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_a_step_is_done_in_a_process_that_is_killed(env: Env) -> None:
    await env.lapse(77.0)
    async with env.process(stores) as value:
        assert isinstance(value, dict)
        assert (value["now"], value["pid"] != os.getpid()) == (env.clock.time(), True)
        assert alive(value["pid"])  # its ports are open
        assert existing(await env.store.load("run")).token == "t0"
    assert not alive(value["pid"])


async def test_the_process_gets_no_chance_to_end_in_order(env: Env) -> None:
    note = str(await env.elsewhere(hears_signals))
    ended_in_order = os.path.exists(note)  # noqa: ASYNC240, PTH110 - a look at a local file
    if ended_in_order:
        os.unlink(note)  # noqa: PTH108
    assert not ended_in_order


async def test_the_process_stays_as_long_as_the_block(env: Env) -> None:
    async with env.process(stores) as value:
        for _ in range(50):  # that something does not happen is seen only by looking for a while
            await asyncio.sleep(0.02)
            assert alive(value["pid"])  # type: ignore[index]


async def test_the_process_is_killed_when_the_block_fails(env: Env) -> None:
    pids: list[int] = []

    async def block() -> None:
        async with env.process(stores) as value:
            pids.append(value["pid"])  # type: ignore[index]
            raise Violated("here")

    with pytest.raises(Violated, match="here"):
        await block()
    assert not alive(pids[0])


@pytest.mark.parametrize(
    ("step", "error", "told"),
    [
        (fails, Violated, "fails: seen there"),
        (dies, Violated, "ended with 7 before it was done: the last words"),
        (cannot, Blocked, "not here"),
    ],
)
async def test_what_a_step_raises_is_raised(env: Env, step: Callable[..., object], error: type, told: str) -> None:
    with pytest.raises(error) as caught:
        await env.elsewhere(step)  # type: ignore[arg-type]
    assert told in str(caught.value)


async def test_a_function_in_a_function_is_refused(env: Env) -> None:
    async def inner(env: Env) -> None: ...

    with pytest.raises(Blocked, match="at the top of a module"):
        await env.elsewhere(inner)


async def test_a_target_that_nobody_finds_is_blocked() -> None:
    async for env in _env(changed(lambda ports: ports)):
        with pytest.raises(Blocked, match="no other process can find the target"):
            await env.elsewhere(stores)


async def test_the_process_ends_when_whoever_started_it_was_killed(tmp_path: Path) -> None:
    program = (
        "import asyncio\nfrom random import Random\n"
        "from flowcraft.conformance import Env\nfrom flowcraft.conformance.attempt import new_place\n"
        "from flowcraft.conformance.loading import load_function\nfrom flowcraft.conformance.targets import sqlite\n"
        "async def main():\n"
        "    place = new_place(sqlite, 'orphan')\n"
        "    async with sqlite.open(place) as ports:\n"
        "        env = Env(sqlite, place, ports, Random(1))\n"
        f"        async with env.process(load_function({name_of(stores)!r})) as value:\n"
        "            print(value['pid'], place.namespace, flush=True)\n"
        "            await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert parent.stdout is not None
    pid, namespace = (await parent.stdout.readline()).split()
    parent.send_signal(signal.SIGKILL)
    await parent.communicate()
    end = time.monotonic() + 20
    while alive(int(pid)):
        assert time.monotonic() < end
        await asyncio.sleep(0.02)
    assert sqlite.drop is not None
    await sqlite.drop(replace(new_place(sqlite, "x"), namespace=namespace.decode()))
