"""Pictures of loops, batches, waits, timers and subflows, and of runs of them: shapes, groups, states, a legend."""

import ast
import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from flowcraft.blueprint import Blueprint
from flowcraft.diagrams import to_dot, to_mermaid
from flowcraft.errors import DefinitionError
from flowcraft.nodes import NodeContext, Result
from flowcraft.runtime import FlowRuntime

from .test_diagrams import DOT_LINES, HOSTILE, LINES


@dataclass
class Run:
    nodes: Mapping[str, object]


@dataclass
class Visited:
    state: str
    visit: int = 1


def everything(name: Callable[[str], str]) -> Blueprint:
    """Each construct there is; ``name`` makes the ids and all other texts of users from readable ones."""

    def node(node_id: str, uses: str, *, config: Mapping[str, object] | None = None, **params: Any) -> dict[str, Any]:
        named = ("fallback", "compensate")
        settings = {key: name(str(value)) if key in named else value for key, value in (config or {}).items()}
        return {"id": name(node_id), "uses": uses, "params": params, "config": settings}

    def quoted(text: str) -> str:
        return json.dumps("".join(filter(str.isprintable, name(text))))  # what a string of an expression may hold

    def edge(source: str, target: str, **more: str) -> dict[str, str]:
        return {"source": name(source), "target": name(target), **more}

    scatter = node(
        "price_scatter", "batch-scatter",
        workerUsesKey=name("orders.price"), gatherNodeId=name("price_gather"), outputKey=name("prices"), concurrency=20,
    )  # fmt: skip
    nodes = [
        node("fetch", name("orders.fetch"), config={"fallback": "cached"}),
        node("cached", name("orders.cached")),
        node("pages", "loop-controller", condition=f"input.more && {quoted('x')} != 1"),
        node("read", name("orders.read")),
        node("parse", name("orders.parse")),
        {**scatter, "inputs": name("parse") if name("parse").isprintable() else "parse"},
        node("price_gather", "batch-gather", outputKey=name("prices")),
        node("hook", "webhook"),
        node("approve", "wait", eventName=name("approved"), timeout="14d"),
        node("pause", "sleep", duration="90s"),
        node("ship", "subflow", config={"compensate": "recall"}, blueprintId=name("shipping")),
        node("recall", name("orders.recall")),
        node("remind", name("orders.remind")),
        node("reject", name("orders.reject")),
        node("done", name("orders.done"), config={"joinStrategy": "any"}),
    ]
    edges = [
        edge("fetch", "pages"), edge("pages", "read", action="continue"), edge("read", "parse"), edge("parse", "pages"),
        edge("parse", "reject", action=name("broken")), edge("pages", "price_scatter", action="break"),
        edge("price_scatter", "price_gather"), edge("price_gather", "hook"), edge("hook", "approve"),
        edge("approve", "pause", action=name("approve")), edge("approve", "reject", action=name("reject")),
        edge("approve", "remind", action="timeout"), edge("remind", "done"), edge("pause", "ship"),
        edge("ship", "done"), edge("reject", "done", condition=f"result.output != {quoted('x')}"),
    ]  # fmt: skip
    return Blueprint.from_dict({"id": name("orders"), "nodes": nodes, "edges": edges})


PLAIN = everything(lambda text: text)
STATES = {
    "fetch": Visited("completed"), "cached": Visited("skipped"), "pages": Visited("completed", 4),
    "read": Visited("completed", 3), "parse": Visited("retrying", 3), "price_scatter": Visited("parked"),
    "price": Visited("held"), "price_gather": Visited("ready"), "hook": Visited("draining"),
    "approve": Visited("waiting"), "pause": Visited("pending"), "ship": Visited("failed"),
    "recall": Visited("cancelled"), "remind": Visited("skipped"), "reject": Visited("skipped"),
}  # fmt: skip


def hostile(at: int) -> Blueprint:
    """Everything with hostile texts, another one at each place; ids stay different and within their limit."""

    def name(text: str) -> str:
        odd = HOSTILE[(at + len(text) + ord(text[0])) % len(HOSTILE)]
        odd = odd.encode()[:170].decode(errors="ignore")
        return f"{odd}{text}" if at % 2 else f"{text}{odd}"

    return everything(name)


def test_mermaid_of_every_construct() -> None:
    lines = to_mermaid(PLAIN).splitlines()
    assert '  n1(["cached"])' in lines
    assert '    n2{{"pages<br/>continue if input.more #38;#38; #34;x#34; #33;#61; 1"}}' in lines
    assert '    n5[/"price_scatter<br/>each of parse"\\]' in lines
    assert '    n6["orders.price<br/>for each item#44; 20 at a time"]' in lines
    assert '    n7[\\"price_gather<br/>gathers prices"/]' in lines
    assert '  n8[\\"hook<br/>webhook"\\]' in lines
    assert '  n9>"approve<br/>waits for approved<br/>at most 14 d"]' in lines
    assert '  n10[/"pause<br/>sleeps 1 min 30 s"/]' in lines
    assert '  n11[["ship<br/>runs shipping"]]' in lines
    assert '  n11 -.->|"undone by"| n12' in lines
    assert lines[lines.index('  subgraph g0["loop pages"]') + 1] == "    direction TD"
    inside = lines[lines.index('  subgraph g1["batch price"]') : lines.index("  n0 --> n2")]
    assert [line.split("[")[0].strip() for line in inside] == ["subgraph g1", "direction TD", "n5", "n6", "n7", "end"]
    assert "  n5 --> n6" in lines
    assert "  n6 --> n7" in lines
    assert "  n5 --> n7" not in lines


def test_dot_of_every_construct() -> None:
    lines = to_dot(PLAIN).splitlines()
    shapes = {line.split()[0]: line for line in lines if line.strip().startswith("n") and "->" not in line}
    wanted = {
        "n1": "shape=oval", "n2": "shape=hexagon", "n5": "shape=trapezium", "n6": "shape=box3d",
        "n7": "shape=invtrapezium", "n8": "shape=house", "n9": "shape=cds", "n10": "shape=parallelogram",
        "n11": "peripheries=2",
    }  # fmt: skip
    assert {number: shape for number, shape in wanted.items() if shape in shapes[number]} == wanted
    start = lines.index("  subgraph cluster_g1 {")
    assert [line.split()[0] for line in lines[start + 2 : start + 5]] == ["n5", "n6", "n7"]
    assert lines[start + 5] == "  }"


def test_a_run_shows_states_visits_and_durations() -> None:
    text = to_mermaid(PLAIN, Run(STATES), durations={"read": 3.5, "price": 125, "approve": 216_000, "fetch": 0.26})
    assert '"read<br/>completed#44; visit 3#44; 3.50 s"' in text
    assert '"fetch<br/>completed#44; 0.26 s"' in text
    assert "held#44; 2 min 5 s" in text
    assert "waiting#44; 2 d 12 h" in text
    assert "  class n6 held\n" in text
    assert '"done<br/>needs 1 of 3<br/>pending"' in text


def test_edges_along_which_nothing_went_fade() -> None:
    text = to_mermaid(PLAIN, Run(STATES))
    arrows = [line for line in text.splitlines() if re.match(r"  n\d+ -", line)]
    (style,) = (line for line in text.splitlines() if "linkStyle" in line)
    faded = {arrows[int(number)].strip() for number in style.split()[1].split(",")}
    assert faded == {
        'n4 -->|"broken"| n14', 'n9 -->|"reject"| n14', 'n9 -->|"timeout"| n13', "n13 --> n15", "n11 --> n15",
        'n14 -->|"if result.output #33;#61; #34;x#34;"| n15', 'n0 -.->|"fallback"| n1',
    }  # fmt: skip
    assert to_dot(PLAIN, Run(STATES)).count('color="#9ca3af", fontcolor="#9ca3af"') == len(faded)
    assert "linkStyle" not in to_mermaid(PLAIN)


def test_the_legend_has_what_is_in_the_picture() -> None:
    text = to_mermaid(PLAIN, Run(STATES), legend=True)
    assert "    s_held" in text
    assert "    k_subflow" in text
    small = Blueprint.from_dict({"id": "a", "nodes": [{"id": "a", "uses": "a"}]})
    legend = to_mermaid(small, Run({"a": "completed"}), legend=True)
    assert [line.strip() for line in legend.splitlines() if line.startswith("    ")] == [
        "direction TB", 'k_step["a step"]', 's_completed["completed"]',
    ]  # fmt: skip
    assert "subgraph cluster_legend {" in to_dot(small, legend=True)
    assert "legend" not in to_mermaid(small)


def test_loops_inside_loops_and_batches_inside_loops() -> None:
    batch = [
        {"id": "b_scatter", "uses": "batch-scatter", "params": {"workerUsesKey": "w", "gatherNodeId": "b_gather"}},
        {"id": "b_gather", "uses": "batch-gather"},
    ]
    loops = [{"id": i, "uses": "loop-controller", "params": {"condition": "input"}} for i in ("outer", "inner")]
    ends = [
        ("s", "outer", None), ("outer", "inner", "continue"), ("inner", "b_scatter", "continue"),
        ("b_scatter", "b_gather", None), ("b_gather", "inner", None), ("inner", "outer", "break"),
        ("outer", "e", "break"),
    ]  # fmt: skip
    blueprint = Blueprint.from_dict(
        {
            "id": "nested",
            "nodes": [{"id": "s", "uses": "s"}, *loops, *batch, {"id": "e", "uses": "e"}],
            "edges": [{"source": a, "target": b, "action": c} for a, b, c in ends],
        }
    )
    titles = [line for line in to_mermaid(blueprint).splitlines() if "subgraph" in line]
    assert titles == [
        '  subgraph g0["loop outer"]', '    subgraph g1["loop inner"]', '      subgraph g2["batch b"]',
    ]  # fmt: skip
    assert to_dot(blueprint).count("subgraph cluster_") == 3


async def test_a_run_in_process_is_drawn_as_it_was() -> None:
    async def read(ctx: NodeContext[Any, None]) -> Result[dict[str, object]]:
        return Result({"more": ctx.visit < 3, "items": [1, 2, 3]})

    async def start(ctx: NodeContext[Any, None]) -> dict[str, object]:
        return {"more": True}

    async def double(ctx: NodeContext[Any, None]) -> int:
        return 2 * ctx.input

    async def items(ctx: NodeContext[Any, None]) -> list[int]:
        return [1, 2, 3]

    blueprint = Blueprint.from_dict(
        {
            "id": "real",
            "nodes": [
                {"id": "start", "uses": "start"},
                {"id": "l", "uses": "loop-controller", "params": {"condition": "input.more"}},
                {"id": "read", "uses": "read"},
                {"id": "items", "uses": "items"},
                {
                    "id": "b_scatter",
                    "uses": "batch-scatter",
                    "params": {"workerUsesKey": "double", "gatherNodeId": "b_gather"},
                },
                {"id": "b_gather", "uses": "batch-gather"},
                {"id": "never", "uses": "start"},
            ],
            "edges": [
                {"source": "start", "target": "l"},
                {"source": "l", "target": "read", "action": "continue"},
                {"source": "read", "target": "l"},
                {"source": "l", "target": "items", "action": "break"},
                {"source": "items", "target": "b_scatter"},
                {"source": "b_scatter", "target": "b_gather"},
                {"source": "b_gather", "target": "never", "condition": "input == 7"},
            ],
        }
    )
    functions = {"start": start, "read": read, "double": double, "items": items}
    result = await FlowRuntime(blueprints=[blueprint], registry=functions).run(blueprint)
    assert result.status == "completed", result.failures
    text = to_mermaid(blueprint, result)
    assert '"double<br/>for each item<br/>completed"' in text
    assert '"never<br/>skipped"' in text
    assert '"read<br/>completed' in text


def test_built_in_nodes_that_are_alike_are_folded_too() -> None:
    sleeps = [{"id": f"z{n}", "uses": "sleep", "params": {"duration": n}} for n in range(9)]
    edges = [{"source": "s", "target": sleep["id"]} for sleep in sleeps]
    blueprint = Blueprint.from_dict({"id": "b", "nodes": [{"id": "s", "uses": "s"}, *sleeps], "edges": edges})
    assert '  n1[/"9 #215; sleep<br/>z0 #8230; z8"/]' in to_mermaid(blueprint, fold=3).splitlines()
    assert to_mermaid(PLAIN, fold=1) == to_mermaid(PLAIN)


@pytest.mark.parametrize("at", range(len(HOSTILE)))
def test_hostile_texts_are_only_text(at: int) -> None:
    blueprint = hostile(at)
    run = Run({node.id: "failed" for node in blueprint.nodes})
    for line in to_mermaid(blueprint, run, legend=True).splitlines():
        assert LINES.fullmatch(line), line
    for line in to_dot(blueprint, run, legend=True).splitlines():
        assert DOT_LINES.fullmatch(line), line


def test_a_batch_that_cannot_work_is_not_drawn() -> None:
    lone = {"id": "b_scatter", "uses": "batch-scatter", "params": {"workerUsesKey": "w"}}
    with pytest.raises(DefinitionError):
        to_mermaid(Blueprint.from_dict({"id": "x", "nodes": [lone]}))


@pytest.mark.skipif(shutil.which("dot") is None, reason="Graphviz is not installed")
def test_graphviz_takes_every_construct() -> None:
    dot = str(shutil.which("dot"))
    for at in range(len(HOSTILE)):
        text = to_dot(hostile(at), Run({}), legend=True)
        done = subprocess.run(  # noqa: S603 - it is the program that is to read our text
            [dot, "-Tsvg"], input=text, capture_output=True, text=True, encoding="utf-8", check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout.count('class="cluster"') == 3


# The real parser of Mermaid. To run it: npm install mermaid jsdom in some folder, and name that in FLOWCRAFT_MERMAID.
FOLDER = os.environ.get("FLOWCRAFT_MERMAID", "")
PARSE = """
import { JSDOM } from 'jsdom';
const { window } = new JSDOM('');
globalThis.window = window; globalThis.document = window.document;
const { default: mermaid } = await import('mermaid');
mermaid.initialize({ maxTextSize: 1e7, maxEdges: 1e5 });
let input = '';
for await (const chunk of process.stdin) input += chunk;
const seen = [];
for (const text of JSON.parse(input)) {
  const diagram = await mermaid.mermaidAPI.getDiagramFromText(text);
  seen.push([diagram.db.getVertices().size, diagram.db.getEdges().length, diagram.db.getSubGraphs().length]);
}
console.log(JSON.stringify(seen));
"""


@pytest.mark.skipif(not FOLDER, reason="FLOWCRAFT_MERMAID names no folder with the npm packages mermaid and jsdom")
@pytest.mark.timeout(300)
def test_mermaid_takes_every_construct(tmp_path: Path) -> None:
    """Parsed by Mermaid itself: so many boxes, edges and groups as were drawn, whatever the texts are."""
    blueprints = [PLAIN, *(hostile(at) for at in range(len(HOSTILE)))]
    texts = [to_mermaid(blueprint, Run({}), legend=legend) for blueprint in blueprints for legend in (False, True)]
    done = subprocess.run(  # noqa: S603 - our own script
        [str(shutil.which("node")), "--input-type=module", "-e", PARSE],
        cwd=FOLDER, input=json.dumps(texts), capture_output=True, text=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    plain, legend = json.loads(done.stdout)[:2]
    assert plain == [16, 19, 2]
    assert json.loads(done.stdout) == [plain, legend] * len(blueprints)


def test_the_document_shows_what_is_drawn() -> None:
    document = Path(__file__).resolve().parents[3] / "docs" / "diagrams.md"
    if not document.exists():
        pytest.skip("the documents are in the repository, not in the sdist")
    blocks = re.findall(r"^```(\w+)\n(.*?)^```$", document.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    data = re.search(r"from_dict\(\n(.*?)\n\)\n", blocks[0][1], re.DOTALL)
    assert data is not None
    shown = next(text for language, text in blocks if language == "mermaid")
    assert to_mermaid(Blueprint.from_dict(ast.literal_eval(data[1].strip()))) == shown
