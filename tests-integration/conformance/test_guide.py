"""The worked example of docs/write-an-adapter.md, put into a file and certified as the page says."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "write-an-adapter.md"


@pytest.mark.timeout(120)
def test_the_worked_example_reaches_the_level_that_the_guide_shows(tmp_path: Path) -> None:
    text = GUIDE.read_text(encoding="utf-8")
    blocks = re.findall(r"(?<!-->\n)^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    assert len(blocks) == 2
    assert blocks[0].count("\n") <= 150, "the guide promises a small one"
    (shown,) = re.findall(r"^```\n\$ flowcraft (conformance run .*?)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "file_coordination.py").write_text("\n\n".join(blocks), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "flowcraft", *shown[0].split()],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    lines = [without_counts(line) for line in done.stdout.splitlines()]
    assert [line for line in shown[1].splitlines() if without_counts(line) not in lines] == []
    assert "coordination 3" in shown[1]


def without_counts(line: str) -> str:
    """A row of the table without how many checks there are, which grows."""
    return re.sub(r"(?:\s+\d+){3}$", "", line)
