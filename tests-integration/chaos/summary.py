"""What a campaign came to, as a table for people, as JSON for programs, and as a section of the documents."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

from .campaign import Outcome

__all__ = ["figures", "table", "write_report"]

Json = dict[str, object]


def figures(outcome: Outcome) -> Json:
    """Everything worth keeping."""
    verdict, evidence, settings = outcome.verdict, outcome.evidence, outcome.settings
    statuses = Counter(story.status for story in evidence.stories.values())
    recovered = sorted(r.after for r in verdict.repetitions if r.cause and r.after)
    strikes = zip(evidence.strikes, verdict.in_flight, strict=True)
    hits = [hit for strike, hit in strikes if strike.signal == settings.signal]
    in_flight = [going_on for going_on, _ in hits]
    faults = Counter(outage.what for outage in evidence.outages)
    if settings.faults and len(hits) < len(evidence.strikes):
        faults["pause"] = len(evidence.strikes) - len(hits)
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "commit": _commit(),
        "machine": f"{os.cpu_count()} cores, {platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "product": outcome.product,
        "backend": settings.backend,
        "signal": settings.signal if settings.strikes else "none",
        "seconds": round(outcome.seconds, 1),
        "runs": len(outcome.orders),
        "shapes": dict(sorted(Counter(order.shape for order in outcome.orders).items())),
        "statuses": dict(sorted(statuses.items())),
        "executions": len(evidence.executions),
        "strikes": len(in_flight),
        "strikes_landed": sum(n > 0 for n in in_flight),
        "in_flight_at_strikes": in_flight,
        "uncommitted_at_strikes": [pending for _, pending in hits],
        "faults": dict(sorted(faults.items())),
        "seconds_away": round(sum(o.until - o.at for o in evidence.outages if o.what == "restart"), 1),
        "leases_removed": sum(len(outage.leases) for outage in evidence.outages),
        "processes_used": len({execution.process for execution in evidence.executions}),
        "starts_cut": outcome.cut_starts,
        "starts_cut_that_existed": outcome.cut_existed,
        "messages_repeated": outcome.echoes,
        "messages_sent_again": len(evidence.resends),
        "repetitions": len(verdict.repetitions),
        "repetitions_by_cause": dict(verdict.causes.most_common()),
        "late_outcomes_fenced": verdict.fenced,
        "seconds_to_repetition": {
            "median": round(median(recovered), 2) if recovered else None,
            "longest": round(recovered[-1], 2) if recovered else None,
        },
        "seconds_after_last_strike": round(outcome.after_last_strike, 1),
        "violations": [asdict(violation) for violation in verdict.violations],
        "settings": {name: value for name, value in asdict(settings).items() if name not in ("folder", "source")},
    }


def table(found: Mapping[str, object]) -> list[tuple[str, str]]:
    """The same in few lines."""
    in_flight = found["in_flight_at_strikes"]
    causes = found["repetitions_by_cause"]
    wait = found["seconds_to_repetition"]
    broken = found["violations"]
    settings = found["settings"]
    assert isinstance(in_flight, list)
    assert isinstance(causes, dict)
    assert isinstance(wait, dict)
    assert isinstance(broken, list)
    assert isinstance(settings, dict)
    rows = [
        ("runs", f"{found['runs']} of {len(_dict(found['shapes']))} shapes: {_told(found['statuses'])}"),
        ("executions", f"{found['executions']} in {found['processes_used']} processes, {found['seconds']} s"),
        ("times", ", ".join(f"{name} {settings[name]:g} s" for name in ("lease_ttl", "visibility", "resend"))),
    ]
    if in_flight:
        mean = sum(in_flight) / len(in_flight)
        hit = f"{found['strikes_landed']} with executions in flight ({mean:.1f} on average, {max(in_flight)} at most)"
        rows += [
            (f"SIG{found['signal']}", f"{found['strikes']}, {hit}"),
            ("after the last", f"all runs ended within {found['seconds_after_last_strike']} s"),
        ]
    if faults := _dict(found["faults"]):
        rows.append(("faults", "; ".join(f"{name} × {count}" for name, count in faults.items())))
        rows.append(("…", f"{found['seconds_away']} s without a server, {found['leases_removed']} leases removed"))
    if found["starts_cut"]:
        rows.append(("starts cut", f"{found['starts_cut']}, {found['starts_cut_that_existed']} of them existed"))
    if found["messages_repeated"]:
        rows.append(("messages repeated", str(found["messages_repeated"])))
    rows.append(
        ("executed again", f"{found['repetitions']}" + "".join(f"; {n} {cause}" for cause, n in causes.items()))
    )
    if wait["median"] is not None:
        rows.append(("… after", f"{wait['median']} s (median), {wait['longest']} s (longest)"))
    if found["late_outcomes_fenced"]:
        rows.append(("late outcomes", f"{found['late_outcomes_fenced']} came, none was accepted"))
    rows.append(("broken promises", _told(Counter(v["promise"] for v in broken)) if broken else "none"))
    return rows


def write_report(path: Path, found: Mapping[str, object]) -> None:
    """JSON, or (``.md``) the section of this backend and signal in a document, which is made if need be."""
    if path.suffix != ".md":
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        return
    settings = _dict(found["settings"])
    hurt = "nobody hurt" if found["signal"] == "none" else f"SIG{found['signal']}"
    hurt += " and faults" if found["faults"] else ""
    name = f"{found['backend']}, {hurt}, seed {settings['seed']}"
    lines = [f"### {name}", "", (f"{found['date']}, commit {found['commit']}, {found['machine']}, Python "
             f"{found['python']}, {found['product']}."), "", "| | |", "|---|---|"]  # fmt: skip
    lines += [f"| {what} | {value} |" for what, value in table(found)]
    text = path.read_text(encoding="utf-8") if path.exists() else "# Chaos\n"
    kept = [part for part in text.split("\n### ") if not part.startswith(f"{name}\n")]
    path.write_text(
        "\n### ".join(part.rstrip("\n") + "\n" for part in kept) + "\n" + "\n".join(lines) + "\n", encoding="utf-8"
    )


def _dict(value: object) -> dict[str, object]:
    assert isinstance(value, dict)
    return value


def _told(counts: object) -> str:
    return ", ".join(f"{count} {name}" for name, count in _dict(counts).items())


def _commit() -> str:
    try:
        root = Path(__file__).resolve().parent
        run = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=10"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return run.stdout.strip().replace("-dirty", " with changes")
