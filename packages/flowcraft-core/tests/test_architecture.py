"""The rules that keep the core's modules apart, checked on their syntax trees.

Each rule is a function from modules to problems, so that the second half of this file can show that every rule really
finds what it forbids.
"""

import ast
import importlib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = "flowcraft"
SOURCE = Path(__file__).resolve().parent.parent / "src" / PACKAGE

# A new module, or package of modules, gets its name in one of these lines. `flowcraft/__init__.py` is above them all.
LEVELS = (
    {"errors", "checks", "limit", "blueprint", "blueprint_json", "compact", "model"},
    {
        "_packing",
        "_tags",
        "alarm",
        "blueprint_expressions",
        "clock",
        "codec",
        "codecs",
        "constructs",
        "contexts",
        "cron",
        "deliveries",
        "events",
        "expressions",
        "graph",
        "paging",
        "ports",
        "queueport",
        "recurrence",
        "scopes",
        "sealing",
        "storing",
        "subscriptions",
        "tokenbucket",
        "values",
    },
    {"engine"},
    {
        "batchruns",
        "calls",
        "executor",
        "limits",
        "middleware",
        "nodes",
        "notes",
        "outcome",
        "refusals",
        "registry",
        "results",
        "signals",
        "subflows",
    },
    {
        "adapter",
        "children",
        "claims",
        "client",
        "committer",
        "dedup",
        "documents",
        "firing",
        "deadletters",
        "dropping",
        "endpoints",
        "facade",
        "folding",
        "history",
        "intake",
        "leases",
        "mailbox",
        "options",
        "migration",
        "quarantine",
        "reconciler",
        "rerunning",
        "runs",
        "runstate",
        "schedules",
        "settling",
        "starting",
        "steering",
        "ticker",
        "turns",
        "visits",
        "waiting",
        "duerows",
        "hosting",
        "work",
        "worker",
        "writing",
    },
    {
        "runtime",
        "gate",
        "local",
        "localchildren",
        "locallanes",
        "localtasks",
        "memory",
        "resuming",
        "sqlite",
        "stepping",
    },
    {
        "flow",
        "single",
        "steps",
        "shapes",
        "analysis",
        "uigraph",
        "lint",
        "diagrams",
        "cli",
        "testing",
        "conformance",
        "webhooks",
    },
)
LEVEL_OF = {name: level for level, names in enumerate(LEVELS) for name in names}
TOP = len(LEVELS)  # flowcraft itself, and flowcraft.__main__

MAX_LINES = 350
THIRD_PARTY_ALLOWED = {"conformance"}  # a suite for pytest
EXTRAS = {("codecs", "cryptography")}  # what an extra installs, imported only in a function: by whoever asks for it
# No clock, randomness, input, output.
PURE = {"blueprint_expressions", "engine", "graph", "scopes", "expressions", "codec", "_packing", "_tags", "cron"}
IMPURE_MODULES = {"asyncio", "os", "random", "secrets", "select", "socket", "subprocess", "threading", "time", "uuid"}
PURE_NAMES = {("uuid", "UUID")}  # the type is a value like any other; making one is not
IMPURE_CALLS = {"input", "open", "print"}
CLOCK_METHODS = {"now", "today", "utcnow"}
UNSAFE_NAMES = {"__import__", "compile", "eval", "exec"}
UNSAFE_MODULES = {"builtins", "code", "codeop", "ctypes", "marshal", "pickle", "runpy", "shelve"}
IMPORTLIB_ALLOWED = {"cli", "conformance", "registry"}  # they resolve names that a user gave: app:factory, entry points


@dataclass(frozen=True)
class Imported:
    """One import, wherever it stands: at the top, in a function, under TYPE_CHECKING."""

    module: str  # dotted and absolute
    name: str | None  # of `from module import name`
    line: int
    late: bool  # in a function: it runs when the function is called


class Module:
    def __init__(self, path: Path, root: Path) -> None:
        parts = path.relative_to(root).with_suffix("").parts
        self.is_package = parts[-1] == "__init__"
        self.name = ".".join((PACKAGE, *(parts[:-1] if self.is_package else parts)))
        self.unit = parts[0]  # the first part below flowcraft: a line of the table
        self.text = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text, str(path))

    @property
    def level(self) -> int | None:
        return TOP if self.unit in {"__init__", "__main__"} else LEVEL_OF.get(self.unit)

    @property
    def is_public(self) -> bool:
        return not any(part.startswith("_") for part in self.name.split("."))

    @cached_property
    def imports(self) -> list[Imported]:
        return list(self._imports())

    def _imports(self) -> Iterator[Imported]:
        functions = (node for node in ast.walk(self.tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))
        late = {id(inner) for function in functions for inner in ast.walk(function)}
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Imported(alias.name, None, node.lineno, id(node) in late)
            elif isinstance(node, ast.ImportFrom):
                for alias in node.names:
                    yield Imported(self._absolute(node), alias.name, node.lineno, id(node) in late)

    def _absolute(self, node: ast.ImportFrom) -> str:
        base = node.module or ""
        if not node.level:
            return base
        above = self.name.split(".")
        above = above[: len(above) + self.is_package - node.level]
        return ".".join([*above, base] if base else above)


Modules = dict[str, Module]


def read(root: Path) -> Modules:
    return {module.name: module for module in (Module(path, root) for path in sorted(root.rglob("*.py")))}


def target(imported: Imported, modules: Modules) -> str | None:
    """The module of flowcraft that is imported, `from package import module` resolved."""
    if imported.module.split(".")[0] != PACKAGE:
        return None
    dotted = f"{imported.module}.{imported.name}"
    return dotted if imported.name and dotted in modules else imported.module


def unknown_modules(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        if module.level is None:
            yield f"{module.name} has no level: add {module.unit!r} to LEVELS in this file and to docs/architecture.md"


def third_party(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        if module.unit in THIRD_PARTY_ALLOWED:
            continue
        for imported in module.imports:
            top = imported.module.split(".")[0]
            if imported.late and (module.unit, top) in EXTRAS:
                continue
            if top != PACKAGE and top not in sys.stdlib_module_names:
                yield f"{module.name}:{imported.line} imports {imported.module}: the core has no dependency"


def upward(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        for imported in module.imports:
            if (name := target(imported, modules)) is None:
                continue
            unit = [*name.split("."), "__init__"][1]
            level = TOP if unit == "__init__" else LEVEL_OF.get(unit)
            if level is not None and module.level is not None and level > module.level:
                where = f"{module.name}:{imported.line} (level {module.level})"
                yield f"{where} imports {name} (level {level}): imports go downward"


def cycles(modules: Modules) -> Iterator[str]:
    """Circles of imports at the top, under TYPE_CHECKING too; for a late import the linter wants a reason."""
    edges = {
        name: {target(imported, modules) for imported in module.imports if not imported.late} - {name, None}
        for name, module in modules.items()
    }
    try:
        TopologicalSorter(edges).prepare()
    except CycleError as error:
        yield "these modules import each other in a circle: " + " <- ".join(error.args[1])


def too_long(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        if (lines := len(module.text.splitlines())) > MAX_LINES:
            yield f"{module.name} has {lines} lines, more than {MAX_LINES}: split it by subject"


def unsafe(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Name) and node.id in UNSAFE_NAMES:
                yield f"{module.name}:{node.lineno} uses {node.id}"
        for imported in module.imports:
            top = imported.module.split(".")[0]
            if top in UNSAFE_MODULES or (top == "importlib" and module.unit not in IMPORTLIB_ALLOWED):
                yield f"{module.name}:{imported.line} imports {imported.module}"


def impure(modules: Modules) -> Iterator[str]:
    for module in modules.values():
        if module.unit not in PURE:
            continue
        for imported in module.imports:
            if imported.module.split(".")[0] in IMPURE_MODULES and (imported.module, imported.name) not in PURE_NAMES:
                yield f"{module.name}:{imported.line} imports {imported.module}: this module is pure"
        for call in ast.walk(module.tree):
            if isinstance(call, ast.Call) and is_impure(call.func):
                yield f"{module.name}:{call.lineno} calls {ast.unparse(call.func)}: this module is pure"


def is_impure(function: ast.expr) -> bool:
    if isinstance(function, ast.Name):
        return function.id in IMPURE_CALLS
    if isinstance(function, ast.Attribute) and function.attr in CLOCK_METHODS:
        return ast.unparse(function.value) in {"datetime", "date", "datetime.datetime", "datetime.date"}
    return False


RULES = (unknown_modules, third_party, upward, cycles, too_long, unsafe, impure)
MODULES = read(SOURCE)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_core_keeps(rule) -> None:
    assert len(MODULES) > 1, f"no modules found in {SOURCE}"
    assert list(rule(MODULES)) == []


@pytest.mark.parametrize("name", [name for name, module in MODULES.items() if module.is_public])
def test_public_names_exist(name: str) -> None:
    module = importlib.import_module(name)
    public = getattr(module, "__all__", None)
    assert public is not None, f"{name} has no __all__"
    assert len(set(public)) == len(public), f"{name}.__all__ names something twice"
    assert [attribute for attribute in public if not hasattr(module, attribute)] == []


# The proof that each rule sees what it forbids: a small tree that keeps them all, and one change to it at a time.
GOOD = {
    "__init__.py": "from flowcraft.client import Client\n__all__ = ['Client']\n",
    "errors.py": "import math\n",
    "model.py": "from . import errors\nfrom .errors import X\n",
    "ports.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from flowcraft.model import Job\n",
    "codecs.py": "def f():\n    from cryptography.exceptions import InvalidTag\n",
    "codec.py": "from uuid import UUID\nfrom datetime import datetime\nimport re\nre.compile('x')\nclock.now()\n",
    "engine/__init__.py": "from .transition import transition\n",
    "engine/head.py": "from ..codec import encode\nfrom flowcraft import graph\n",
    "engine/transition.py": "from .head import Head\n",
    "events.py": "from . import codec\n",
    "graph.py": "def compile_graph():\n    from .graph import late\n",
    "registry.py": "import importlib.metadata\n",
    "client.py": "import asyncio, time\nfrom flowcraft.engine.transition import transition\n",
    "conformance/__init__.py": "import pytest\n",
}
BAD = [
    (unknown_modules, "surprise.py", ""),
    (unknown_modules, "helpers/deep.py", ""),
    (third_party, "client.py", "import msgspec"),
    (third_party, "client.py", "from msgspec.json import encode"),
    (third_party, "codec.py", "if TYPE_CHECKING:\n    import pydantic"),
    (third_party, "engine/head.py", "def f():\n    import pydantic"),
    (third_party, "codecs.py", "import cryptography"),
    (third_party, "codecs.py", "def f():\n    import msgspec"),
    (third_party, "client.py", "def f():\n    import cryptography"),
    (upward, "errors.py", "from flowcraft.ports import RunStore"),
    (upward, "errors.py", "from flowcraft import ports"),
    (upward, "errors.py", "from .ports import RunStore"),
    (upward, "errors.py", "from . import ports"),
    (upward, "errors.py", "import flowcraft.engine.head"),
    (upward, "client.py", "import flowcraft"),
    (upward, "client.py", "from flowcraft import Client"),
    (upward, "graph.py", "if TYPE_CHECKING:\n    from .engine import transition"),
    (upward, "graph.py", "def f():\n    from .engine.head import Head"),
    (upward, "engine/head.py", "from ..client import Client"),
    (upward, "engine/__init__.py", "from ..client import Client"),
    (cycles, "errors.py", "from .model import Job"),
    (cycles, "engine/head.py", "from .transition import transition"),
    (cycles, "engine/head.py", "from . import transition"),
    (cycles, "engine/head.py", "from flowcraft.engine import apply"),
    (cycles, "engine/head.py", "if TYPE_CHECKING:\n    from .transition import transition"),
    (too_long, "client.py", "\n" * MAX_LINES),
    (unsafe, "client.py", "eval('1')"),
    (unsafe, "client.py", "run = exec"),
    (unsafe, "client.py", "compile('1', '', 'eval')"),
    (unsafe, "registry.py", "__import__('os')"),
    (unsafe, "client.py", "import pickle"),
    (unsafe, "client.py", "from marshal import loads"),
    (unsafe, "client.py", "import builtins"),
    (unsafe, "client.py", "def f():\n    import shelve"),
    (unsafe, "client.py", "from importlib import import_module"),
    *[(impure, "engine/head.py", f"import {name}") for name in sorted(IMPURE_MODULES)],
    (impure, "graph.py", "import os.path"),
    (impure, "expressions.py", "from time import monotonic"),
    (impure, "codec.py", "from uuid import uuid4"),
    (impure, "codec.py", "import uuid"),
    (impure, "codec.py", "datetime.now(UTC)"),
    (impure, "codec.py", "import datetime\ndatetime.datetime.utcnow()"),
    (impure, "engine/transition.py", "open('x')"),
]


def tree(root: Path, extra: dict[str, str]) -> Modules:
    for name, text in GOOD.items() | extra.items():
        path = root / name
        path.parent.mkdir(exist_ok=True)
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    return read(root)


def test_no_rule_complains_about_a_good_tree(tmp_path: Path) -> None:
    modules = tree(tmp_path, {})
    assert [problem for rule in RULES for problem in rule(modules)] == []


@pytest.mark.parametrize(("rule", "name", "text"), BAD)
def test_rule_finds_what_it_forbids(rule, name: str, text: str, tmp_path: Path) -> None:
    modules = tree(tmp_path, {name: "\n" + text + "\n"})
    problems = {other.__name__: list(other(modules)) for other in RULES}
    assert problems.pop(rule.__name__), f"{rule.__name__} overlooked: {text}"
    if rule is upward:
        del problems["cycles"]  # an upward import may well close a circle
    assert not any(problems.values()), f"only {rule.__name__} should complain: {problems}"
