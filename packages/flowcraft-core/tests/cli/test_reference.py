"""docs/cli.md says what the parser says. ``python -m pytest`` shows the wanted text when they differ."""

import argparse
from collections.abc import Iterator
from pathlib import Path

import pytest

from flowcraft.cli import main
from flowcraft.cli.parser import build_parser

DOCUMENT = Path(__file__).resolve().parents[4] / "docs" / "cli.md"


def commands() -> dict[str, argparse.ArgumentParser]:
    """By the words that call them; of a command with actions, the actions."""
    return dict(below(build_parser()))


def below(parser: argparse.ArgumentParser, *words: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    inner = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    if not inner:
        yield " ".join(words), parser
    for action in inner:
        for name, command in action.choices.items():
            yield from below(command, *words, name)


def section(name: str, parser: argparse.ArgumentParser) -> str:
    """The section of one command: its usage, what it does, and a table of its arguments."""
    rows = [action for action in parser._actions if not isinstance(action, argparse._HelpAction)]
    assert parser.description
    usage = " ".join(["flowcraft", name, *(usage_of(action) for action in rows)])
    lines = [
        f"### `flowcraft {name}`",
        "",
        parser.description,
        "",
        "```",
        usage,
        "```",
        "",
        "| argument | what |",
        "|---|---|",
    ]
    for action in rows:
        assert action.help, f"{name} {action.dest} has no help"
        lines.append(f"| `{spelt(action)}` | {action.help} |")
    return "\n".join(lines) + "\n"


def spelt(action: argparse.Action) -> str:
    value = "{" + ",".join(map(str, action.choices)) + "}" if action.choices else action.metavar or action.dest.upper()
    if not action.option_strings:
        return str(value)
    return action.option_strings[0] if action.nargs == 0 else f"{action.option_strings[0]} {value}"


def usage_of(action: argparse.Action) -> str:
    return spelt(action) if not action.option_strings and action.nargs is None else f"[{spelt(action)}]"


def test_document_holds_every_command_as_it_is() -> None:
    if not DOCUMENT.exists():
        pytest.skip("the documents are in the repository, not in the sdist")
    text = DOCUMENT.read_text(encoding="utf-8")
    wanted = "\n".join(section(name, parser) for name, parser in commands().items())
    assert wanted in text


def test_document_has_no_other_command() -> None:
    if not DOCUMENT.exists():
        pytest.skip("the documents are in the repository, not in the sdist")
    headings = [line for line in DOCUMENT.read_text(encoding="utf-8").splitlines() if line.startswith("### `")]
    assert headings == [f"### `flowcraft {name}`" for name in commands()]


@pytest.mark.parametrize("name", commands())
def test_help_of_every_command_works(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*name.split(), "--help"]) == 0
    assert f"usage: flowcraft {name}" in capsys.readouterr().out
