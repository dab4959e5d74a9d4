"""``flowcraft deadletters`` on one store."""

import asyncio
import base64
import json
from pathlib import Path

import pytest

from flowcraft import FlowRuntime
from flowcraft.deadletters import record_poisoned
from flowcraft.model import Job
from flowcraft.sqlite import SqliteAdapter

from .conftest import Application

BODY = b"\x1b[31mred\n" + b"x" * 5000


@pytest.fixture
def store(app: Application, url: str) -> str:
    """A store with a poisoned visit, an undecodable message and one of a run that is not there."""

    async def fill() -> None:
        async with SqliteAdapter(FlowRuntime(), path=Path("runs.db")) as adapter:
            await record_poisoned(adapter.store, Job("r\n1", "b", 1, 1, "n", "q"), 5, "5 deaths")
            for body in (BODY, Job("r2", "c", 3, 2, "n", "q").to_bytes(), Job("last", "", 1, 1, "n", "q").to_bytes()):
                await adapter.queue.publish_bytes("q", body)  # type: ignore[attr-defined] # beyond the port
            async with adapter.queue.deliveries(["q"], prefetch=1) as batches:
                (delivery,) = await anext(batches)
                await delivery.reject("not mine\x1b[0m")
                (delivery,) = await anext(batches)
                await delivery.ack()

    asyncio.run(fill())
    return url


def letters(app: Application, url: str, *options: str) -> list[dict[str, object]]:
    code, out, err = app.call("deadletters", "list", "--url", url, "--json", *options)
    assert (code, err) == (0, "")
    rows: list[dict[str, object]] = json.loads(out)["dead_letters"]
    return rows


def test_list_for_people_shows_nothing_raw(app: Application, store: str) -> None:
    code, out, err = app.call("deadletters", "list", "--url", store)
    assert (code, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].split() == ["ID", "GIVEN", "UP", "QUEUE", "WHAT", "REASON"]
    assert [line.split()[0].partition(":")[0] for line in lines[1:]] == ["visit", "message", "message"]
    assert "poisoned (5 deaths) r 1/b#1" in lines[1]
    assert "5,009 undecodable bytes" in lines[2]
    assert "r2/c#3" in lines[3]
    assert "\x1b" not in out


def test_list_as_json_has_everything(app: Application, store: str) -> None:
    poisoned, garbage, rejected = letters(app, store)
    assert (poisoned["kind"], poisoned["deaths"], poisoned["reason"]) == ("poisoned", 5, "5 deaths")
    assert poisoned["job"] == {"run_id": "r\n1", "node": "b", "visit": 1, "attempt": 1}
    assert (garbage["job"], base64.b64decode(str(garbage["body"]))) == (None, BODY)
    assert rejected["reason"] == "not mine\x1b[0m"
    page = json.loads(app.call("deadletters", "list", "--url", store, "--json", "--limit", "2")[1])
    assert [row["id"] for row in letters(app, store, "--after", page["after"])] == [rejected["id"]]
    assert "there are more: --after" in app.call("deadletters", "list", "--url", store, "--limit", "2")[2]


def test_show_prints_the_body_safely_and_cut(app: Application, store: str) -> None:
    poisoned, garbage, _ = (str(row["id"]) for row in letters(app, store))
    code, out, _ = app.call("deadletters", "show", garbage, "--url", store)
    assert code == 0
    assert "\x1b" not in out
    assert r"body      b'\x1b[31mred\nxxx" in out
    assert "and 3,009 more bytes" in out
    assert len(out) < 3500
    code, out, _ = app.call("deadletters", "show", poisoned, "--url", store)
    assert "run       r 1\nnode      b\nvisit     1, attempt 1\ndeaths    5\n" in out
    assert json.loads(app.call("deadletters", "show", garbage, "--url", store, "--json")[1])["id"] == garbage


def test_replay(app: Application, store: str) -> None:
    poisoned, garbage, rejected = (str(row["id"]) for row in letters(app, store))
    code, out, err = app.call("deadletters", "replay", garbage, "--url", store)
    assert (code, out) == (2, "")
    assert "no message that this version knows" in err
    code, out, err = app.call("deadletters", "replay", poisoned, "--url", store)
    assert (code, out) == (2, "")
    assert r"there is no run 'r\n1'" in err
    assert app.call("deadletters", "replay", rejected, "--url", store) == (0, f"{rejected}  replayed  r2/c#3\n", "")
    assert [row["id"] for row in letters(app, store)] == [poisoned, garbage]


def test_delete(app: Application, store: str) -> None:
    for row in letters(app, store):
        chosen = str(row["id"])
        assert app.call("deadletters", "delete", chosen, "--url", store) == (0, f"{chosen}  deleted\n", "")
        code, out, err = app.call("deadletters", "delete", chosen, "--url", store, "--json")
        assert (code, out) == (2, "")
        assert "there is no dead letter" in err
    assert letters(app, store) == []


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("list", "x"), "takes no ID"),
        (("show",), "needs the ID"),
        (("replay",), "needs the ID"),
        (("delete",), "needs the ID"),
        (("burn", "x"), "invalid choice"),
        ((), "ACTION"),
        (("show", "visit:x"), "there is no dead letter 'visit:x'"),
        (("list", "--after", "x"), "not a cursor"),
    ],
)
def test_bad_input(app: Application, url: str, arguments: tuple[str, ...], told: str) -> None:
    code, out, err = app.call("deadletters", *arguments, "--url", url)
    assert (code, out) == (2, "")
    assert told in err
    assert err.count("\n") == 1
