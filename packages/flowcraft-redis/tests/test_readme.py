"""The README is a program: its python blocks are run from top to bottom, in a process of their own."""

from __future__ import annotations

import asyncio
import os
import re
import sys
from pathlib import Path

README = Path(__file__).parent.parent / "README.md"


async def test_the_blocks_of_the_readme_run(url: str, prefix: str, tmp_path: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    assert len(blocks) >= 5
    program = tmp_path / "readme.py"
    program.write_text("\n\n".join(blocks), encoding="utf-8")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-W", "error", str(program),
        env=os.environ | {"REDIS_URL": url, "REDIS_PREFIX": prefix},
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    said, trouble = await process.communicate()
    assert process.returncode == 0, trouble.decode()
    assert "runs looked at" in said.decode()
