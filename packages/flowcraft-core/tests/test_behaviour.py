"""docs/behaviour.md: every row says where something lives, and what it names exists."""

import importlib
import re
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).resolve().parents[3] / "docs" / "behaviour.md"
BEING_BUILT = "(issue 3)"
NAME = re.compile(r"`(flowcraft(?:\.\w+)+)`")


def rows() -> list[tuple[str, str, str, str]]:
    if not DOCUMENT.exists():
        return []
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    cells = [
        tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]) for line in lines if re.match(r"\| \d", line)
    ]
    return [(number, there, here, why) for number, there, here, why in cells]


ROWS = rows()
needs_document = pytest.mark.skipif(
    not DOCUMENT.exists(), reason="the documents are in the repository, not in the sdist"
)


def find(name: str) -> object:
    """The module, or the attribute of a module or of a class in one."""
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for attribute in parts[length:]:
            found = getattr(found, attribute)
        return found
    raise AttributeError(name)


@needs_document
@pytest.mark.parametrize("row", ROWS, ids=[row[0] for row in ROWS])
def test_what_a_row_names_exists(row: tuple[str, str, str, str]) -> None:
    number, there, here, why = row
    assert there, number
    assert why, f"{number}: say what is different, or 'the same'"
    if BEING_BUILT in here:
        return
    names = NAME.findall(here)
    assert names, f"{number} names nothing"
    for name in names:
        find(name)


@needs_document
def test_the_rows_are_numbered_and_cover_the_six_sections() -> None:
    numbers = [tuple(map(int, row[0].split("."))) for row in ROWS]
    assert [section for section, _ in numbers] == sorted(section for section, _ in numbers)
    counts = {section: [n for s, n in numbers if s == section] for section in range(1, 7)}
    assert all(found == list(range(1, len(found) + 1)) for found in counts.values())
    assert {section: len(found) for section, found in counts.items()} == {1: 36, 2: 20, 3: 19, 4: 77, 5: 20, 6: 3}


@needs_document
def test_other_columns_name_nothing_that_does_not_exist() -> None:
    for name in NAME.findall(DOCUMENT.read_text(encoding="utf-8")):
        if not any(BEING_BUILT in here and name in here for _, _, here, _ in ROWS):
            find(name)


def test_a_name_that_does_not_exist_is_noticed() -> None:
    find("flowcraft.lint.lint_blueprint")
    find("flowcraft.blueprint.Retry.attempts")
    for name in ("flowcraft.nowhere", "flowcraft.lint.nothing", "flowcraft.flow.Flow.nothing"):
        with pytest.raises(AttributeError):
            find(name)
