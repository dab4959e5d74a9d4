"""Commands on a store whose values are encrypted: with the key as ever, without it only what is no secret."""

import json
from pathlib import Path

from .conftest import Application

KEYED = """

from flowcraft import JsonCodec
from flowcraft.codecs import EncryptingCodec


def keyed() -> SqliteAdapter:
    codec = EncryptingCodec(JsonCodec(), keys={"a": b"k" * 32})
    return SqliteAdapter(FlowRuntime([flow], codec=codec), path="runs.db")
"""


def test_with_and_without_the_key(app: Application, url: str) -> None:
    path = Path(f"{app.name}.py")
    path.write_text(path.read_text(encoding="utf-8") + KEYED, encoding="utf-8")
    code, _, err = app.call("run", app.keyed, "--input", '"bad"', "--run-id", "r1")
    assert (code, err.splitlines()[-1]) == (1, "flowcraft: run 'r1' failed: charge: ValueError: never")
    assert "charge: ValueError: never" in app.call("inspect", "r1", "--app", app.keyed)[1]
    assert "charge: (encrypted)" in app.call("inspect", "r1", "--url", url)[1]
    told = json.loads(app.call("inspect", "r1", "--app", app.keyed, "--json")[1])
    assert any(event["data"].get("error") == "ValueError: never" for event in told["events"])
    app.call("start", app.keyed, "--run-id", "r2")
    app.call("cancel", "r2", "--app", app.keyed, "--reason", "because of X")
    assert "(because of X)" in app.call("status", "r2", "--app", app.keyed)[1]
    assert app.call("status", "r2", "--url", url)[1].startswith("r2  cancelling (")
    assert "because of X" not in "".join(
        str(app.call(command, "r2", "--url", url)) for command in ("status", "inspect")
    )
    code, out, err = app.call("status", "r1", "--url", url, "--watch")
    assert (code, out) == (3, "")
    assert "never" not in err
    assert "use the codec" in err
