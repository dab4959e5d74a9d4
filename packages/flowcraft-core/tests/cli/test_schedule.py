"""``flowcraft schedule`` and ``flowcraft start --dedup-key`` on one store."""

import json
from datetime import datetime
from typing import Any

import pytest

from .conftest import Application


def told(app: Application, *arguments: str) -> dict[str, Any]:
    code, out, err = app.call("schedule", *arguments, "--json")
    assert (code, err) == (0, "")
    found: dict[str, Any] = json.loads(out)
    return found


def test_create_show_list(app: Application, url: str) -> None:
    code, out, err = app.call(
        "schedule", "create", "nightly", app.flow, "--cron", "0 2 * * mon-fri", "--timezone", "Europe/Berlin",
        "--input", '{"total": 7}', "--catch-up", "latest", "--url", url,
    )  # fmt: skip
    assert (code, err) == (0, "")
    assert out.startswith("nightly  active  next 2")
    assert out.rstrip().endswith((" 02:00:00+01:00", " 02:00:00+02:00"))
    made = told(app, "show", "nightly", "--url", url)
    assert (made["flow"], made["cron"], made["timezone"]) == ("order", "0 2 * * mon-fri", "Europe/Berlin")
    assert (made["status"], made["catch_up"], made["input"], made["pinned"]) == ("active", "latest", {"total": 7}, None)
    assert len(made["upcoming"]) == 5
    assert made["upcoming"][0] == made["next_time"] > made["created_at"]
    code, out, _ = app.call("schedule", "show", "nightly", "--url", url)
    lines = [line.split(maxsplit=1) for line in out.splitlines()]
    assert ["when", "0 2 * * mon-fri (Europe/Berlin)"] in lines
    assert ["input", '{"total": 7}'] in lines
    assert len(lines) == 8 + 5
    app.call("schedule", "create", "often", app.flow, "--every", "90", "--pin", "--start", "2026-01-01T00:00:00+01:00",
             "--url", url)  # fmt: skip
    listed = told(app, "list", "--url", url)
    assert [row["id"] for row in listed["schedules"]] == ["often", "nightly"]
    assert listed["schedules"][0]["start"] == datetime.fromisoformat("2026-01-01T00:00:00+01:00").timestamp()
    assert len(listed["schedules"][0]["pinned"]) == 64
    code, out, err = app.call("schedule", "list", "--url", url, "--limit", "1")
    assert (code, len(out.splitlines())) == (0, 2)
    assert "every 90 s" in out
    assert err.startswith("there are more: --after ")


def test_pause_resume_trigger_delete(app: Application, url: str) -> None:
    made = told(app, "create", "s", app.flow, "--every", "3600", "--url", url)
    assert told(app, "create", "s", app.flow, "--every", "3600", "--url", url) == made
    assert app.call("schedule", "pause", "s", "--url", url) == (0, "s  paused\n", "")
    assert told(app, "show", "s", "--url", url)["upcoming"] == []
    assert told(app, "resume", "s", "--url", url)["status"] == "active"
    code, out, err = app.call("schedule", "trigger", "s", "--url", url)
    assert (code, out) == (2, "")
    assert "there is no blueprint 'order' here" in err
    assert app.call("schedule", "create", "own", app.create_adapter, "--every", "60")[0] == 0
    run_id = told(app, "trigger", "own", "--app", app.create_adapter)["run_id"]
    assert app.call("status", run_id, "--app", app.create_adapter)[0] == 0
    assert app.call("schedule", "delete", "s", "--url", url) == (0, "s  deleted\n", "")
    assert told(app, "list", "--url", url) == {"schedules": [], "after": None}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "the following arguments are required: ACTION"),
        (("create", "s", "{flow}"), "either cron or every"),
        (("create", "s", "{flow}", "--cron", "61 * * * *"), "the minute of the cron expression '61 * * * *'"),
        (("create", "s", "{flow}", "--cron", "@daily", "--timezone", "Mars"), "there is no time zone 'Mars' here"),
        (("create", "s", "{flow}", "--every", "0.5"), "must be at least 1"),
        (("create", "s", "{flow}", "--every", "60", "--start", "tomorrow"), "--start: 'tomorrow' is not a moment"),
        (("create", "s", "{flow}", "--every", "60", "--start", "2026-01-01"), "has no offset from UTC"),
        (("create", "taken", "{flow}", "--every", "61"), "there is a schedule 'taken' already"),
        (("show", "none"), "there is no schedule 'none'"),
        (("pause", "none"), "there is no schedule 'none'"),
        (("delete", "none"), "there is no schedule 'none'"),
    ],
)  # fmt: skip
def test_errors_are_one_line(app: Application, url: str, arguments: tuple[str, ...], message: str) -> None:
    app.call("schedule", "create", "taken", app.flow, "--every", "60", "--url", url)
    line = ["--url", url] if arguments else []
    code, out, err = app.call("schedule", *(app.flow if word == "{flow}" else word for word in arguments), *line)
    assert (code, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_start_with_a_dedup_key(app: Application, url: str) -> None:
    first = app.call("start", app.flow, "--url", url, "--run-id", "r1", "--dedup-key", "k", "--dedup-window", "3600")
    assert first == (0, "r1\n", "")
    assert app.call("start", app.flow, "--url", url, "--input", "2", "--dedup-key", "k") == (0, "r1\n", "")
    code, out, err = app.call("start", app.flow, "--url", url, "--dedup-window", "5")
    assert (code, out, err) == (2, "", "flowcraft: dedup_window belongs to a dedup_key, and there is none\n")
