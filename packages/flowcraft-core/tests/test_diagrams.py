"""Pictures: the text is valid whatever an id holds, and tells states by a word and a colour."""

import re
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flowcraft.blueprint import Blueprint, Edge, Join, Node
from flowcraft.diagrams import to_dot, to_mermaid
from flowcraft.errors import DefinitionError

HOSTILE = [
    'a"b', "x]", "</script><script>alert(1)</script>", "line\nbreak", "end", "subgraph", "1. one", "- item", "# head",
    "`code`", "**b**", "__init__", "a;b", "%%{init: {}}%%", 'click n0 "x"', "#quot;", "&lt;", "日本語", "😀",
    "\u202eevil", "a\\", "\\N", '\\"', '"', "{{x}}", "(((", "a|b", "-->", "n1", "é" * 100, "x" * 200, "fa:fa-car",
    "$$x^2$$", "'", "\r", "\x7f", "\u2028", "http://a.b/c", "@{shape: x}", "style n0 fill:#f00", "café",
]  # fmt: skip

# Every line of Mermaid is one of these: our own names are numbers, and a text holds nothing that could end it.
TEXT = r'"(?:[^\W_]|[ _.\-]|#\d+;|<br/>)*"'
COLOUR = "#[0-9a-f]{6}"
NAME = r"(?:n\d+|g\d+|[ks]_[a-z]+|legend)"
SHAPE = "|".join(
    re.escape(left) + TEXT + re.escape(right)
    for left, right in (
        *(("[", "]"), ("([", "])"), ("{{", "}}"), (">", "]"), ("[[", "]]")),
        *(("[/", "/]"), ("[\\", "\\]"), ("[/", "\\]"), ("[\\", "/]")),
    )
)
LINES = re.compile(
    "|".join(
        (
            "flowchart (?:TD|LR)",
            rf" +{NAME}(?:{SHAPE})",
            rf" +subgraph {NAME}\[{TEXT}\]",
            " +direction (?:TD|LR|TB)",
            " +end",
            rf"  n\d+ (?:-->|-\.->|--x)(?:\|{TEXT}\|)? n\d+",
            rf"    {NAME} ~~~ {NAME}",
            rf"  linkStyle \d+(?:,\d+)* stroke:{COLOUR},stroke-dasharray:4",
            rf"  classDef [a-z]+ fill:{COLOUR},stroke:{COLOUR},color:{COLOUR}(?:,stroke-dasharray:4)?",
            rf"  class {NAME}(?:,{NAME})* [a-z]+",
        )
    )
)
DOT_TEXT = r'"(?:[^"\\\n]|\\\\|\\"|\\n)*"'
DOT_OPTIONS = rf" \[(?:[a-z]+=(?:{DOT_TEXT}|[a-zA-Z0-9]+)(?:, )?)+\]"
DOT_LINES = re.compile(
    rf"digraph {DOT_TEXT} \{{| *\}}| +subgraph cluster_(?:g\d+|legend) \{{|"
    rf" +(?:graph|node|edge|n\d+(?: -> n\d+)?|[ks]_[a-z]+(?: -> [ks]_[a-z]+)?)(?:{DOT_OPTIONS})?;",
)


@dataclass
class Run:
    nodes: Mapping[str, object]


def chain(ids: list[str]) -> Blueprint:
    edges = [Edge(a, b, action=a[:20] if n % 2 else None) for n, (a, b) in enumerate(pairwise(ids))]
    return Blueprint('the "id" <of> all\\', tuple(Node(i, "f") for i in ids), tuple(edges))


def check(blueprint: Blueprint, run: Run | None = None) -> None:
    for line in to_mermaid(blueprint, run, legend=run is not None).splitlines():
        assert LINES.fullmatch(line), line
    for line in to_dot(blueprint, run, legend=run is not None).splitlines():
        assert DOT_LINES.fullmatch(line), line


def test_hostile_ids_are_only_text() -> None:
    states = ["failed", "retrying", "ready", "pending", "completed", "skipped", "cancelled", "held", "a b;c"]
    check(chain(HOSTILE))
    check(chain(HOSTILE), Run({node: states[n % len(states)] for n, node in enumerate(HOSTILE)}))


@given(st.lists(st.text(min_size=1, max_size=60).filter(lambda t: "\0" not in t), min_size=1, max_size=6, unique=True))
def test_any_ids_are_only_text(ids: list[str]) -> None:
    ids = [
        node
        for node in ids
        if len(node.encode("utf-8", "surrogatepass")) <= 200 and not re.search("[\ud800-\udfff]", node)
    ]
    if ids:
        check(chain(ids), Run(dict.fromkeys(ids, "completed")))


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_takes_it() -> None:
    text = to_dot(chain(HOSTILE), Run(dict.fromkeys(HOSTILE, "completed")))
    dot = str(shutil.which("dot"))
    done = subprocess.run(  # noqa: S603 - it is the program that is to read our text
        [dot, "-Tsvg"], input=text, capture_output=True, text=True, encoding="utf-8", check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count('class="node"') == len(HOSTILE)


def test_what_a_blueprint_looks_like() -> None:
    blueprint = Blueprint(
        "b",
        (
            Node("plan", "census.plan", fallback="sorry"),
            Node("a", "census.scan"),
            Node("sorry", "sorry"),
            Node("end", "end", join=Join(1)),
        ),
        (
            Edge("plan", "a", action="go", condition="result.output > 1"),
            Edge("plan", "end"),
            Edge("a", "end", transform="input.x"),
        ),
    )
    assert to_mermaid(blueprint) == (
        "flowchart TD\n"
        '  n0{{"plan"}}\n'
        '  n1["a<br/>census.scan"]\n'
        '  n2(["sorry"])\n'
        '  n3["end<br/>needs 1 of 2"]\n'
        '  n0 -->|"go #183; if result.output #62; 1"| n1\n'
        "  n0 --> n3\n"
        '  n1 -->|"gives input.x"| n3\n'
        '  n0 -.->|"fallback"| n2\n'
    )


def test_states_have_a_word_and_a_colour() -> None:
    @dataclass
    class View:
        state: str
        visit: int

    blueprint = Blueprint("b", (Node("a", "f"), Node("b", "f")), (Edge("a", "b"),))
    text = to_mermaid(blueprint, Run({"a": View("completed", 3), "b": View("failed", 1)}), direction="LR")
    assert text.startswith("flowchart LR\n")
    assert '"a<br/>completed#44; visit 3"' in text
    assert '"b<br/>failed"' in text
    assert "  class n0 completed\n" in text
    assert "  class n1 failed\n" in text
    assert 'fillcolor="#fee2e2"' in to_dot(blueprint, Run({"a": "failed"}))


def test_folding_draws_alike_nodes_as_one() -> None:
    many = [f"s{n}" for n in range(9)]
    nodes = (Node("a", "f"), *(Node(s, "scan") for s in many), Node("z", "f"))
    edges = (*(Edge("a", s) for s in many), *(Edge(s, "z") for s in many))
    blueprint = Blueprint("b", nodes, edges)
    folded = to_mermaid(blueprint, Run(dict.fromkeys(many[1:], "completed") | {"s0": "failed"}), fold=5)
    assert "9 #215; scan<br/>s0 #8230; s8<br/>1 failed#44; 8 completed" in folded
    assert folded.count("-->") == 2
    assert "class n1 failed" in folded
    assert to_mermaid(blueprint, fold=9) == to_mermaid(blueprint)


def test_ignored_edges_are_marked() -> None:
    blueprint = Blueprint("b", (Node("a", "f"), Node("b", "f")), (Edge("a", "b"), Edge("b", "a")))
    assert '  n1 --x|"ignored"| n0\n' in to_mermaid(blueprint)
    assert "arrowhead=tee" in to_dot(blueprint)


def test_what_cannot_work_is_not_drawn() -> None:
    circle = Blueprint("b", (Node("a", "f", fallback="b"), Node("b", "f", fallback="a")))
    with pytest.raises(DefinitionError):
        to_mermaid(circle)
