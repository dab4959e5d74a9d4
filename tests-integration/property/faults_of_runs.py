"""Faults in the constructs and around the transition: for `mutants`, as (name, file, old, new)."""

# ruff: noqa: E501 - texts that are replaced stand as they are

from __future__ import annotations

__all__ = ["FAULTS_OF_RUNS"]

FAULTS_OF_RUNS = (
    ("a late outcome of an item needs no fence", "engine/transition.py", "        and activation.nonce == visit.nonce\n",
     "        and (activation.nonce == visit.nonce or visit.node > NODE_MASK)\n"),
    ("an item that comes back takes no place in the window", "engine/batches.py",
     "        batch.away.discard(item_of(slot))\n        batch.busy += 1\n    draft.resume",
     "        batch.away.discard(item_of(slot))\n    draft.resume"),
    ("what is left of a batch is not handed out", "engine/batches.py", "    while batch.busy < batch.window and (item",
     "    while batch.busy + 1 < batch.window and (item"),
    ("a failed item counts twice", "engine/batches.py", "    batch.failures += failed\n", "    batch.failures += 2 * failed\n"),
    ("a signal that was taken is unknown", "engine/special.py", '        return "repeated"\n', "        pass\n"),
    ("a kept signal's first answer is forgotten", "engine/special.py", '        return "early"  # whatever became of it\n',
     "        pass\n"),
    ("a kept signal goes to any visit", "engine/special.py", "early = head.mailbox.pop((node, activation.visit), None)",
     "early = head.mailbox.pop((node, 1), None)"),
    ("timers fire early", "engine/timers.py", "if 0 < old.due <= now]", "if 0 < old.due <= now + 1.0]"),
    ("timers fire late", "engine/special.py", "due = 0.0 if seconds is None else draft.now + seconds",
     "due = 0.0 if seconds is None else draft.now + seconds + 9.0"),
    ("timers are looked at late", "engine/draft.py", "        if activation.due:\n            self.wake(activation.due)",
     "        if activation.due:\n            self.wake(activation.due + 20.0)"),
    ("the result of a subflow counts for the next attempt", "engine/transition.py", "activation.reason != event.child or ",
     ""),
    ("a subflow writes nothing", "engine/transition.py", "Completed(visit, event.output, None, event.writes))",
     "Completed(visit, event.output, None, None))"),
    ("a subflow that is not needed goes on", "engine/draft.py", "            self.children.append(activation.reason)\n",
     "            pass\n"),
    ("a given up visit ends before its subflow", "engine/transition.py", "            return False  # it ends with the run",
     "            pass  # it ends with the run"),
    ("a fallback's subflow is that of its node", "subflows.py", "stands_in = () if runs == node_id else (runs,)",
     "stands_in = ()"),
    ("a retry is owed under the old nonce", "engine/outcomes.py", "again = Activation(draft.nonce, draft.now, old.visit",
     "again = Activation(old.nonce, draft.now, old.visit"),
    ("a paused run hands out", "engine/transition.py", "ready=[] if head.paused else", "ready=[] if False else"),
    ("after a pause nothing is handed out", "engine/commands.py", "            draft.ready.append(slot)\n", "            pass\n"),
    ("what was done first is undone first", "engine/commands.py", "        node, visit, _ = head.undo[-1]",
     "        node, visit, _ = head.undo[0]"),
    ("what must be undone is erased", "engine/reset.py", "        if graph.compensation[node] < 0:  # else", "        if True:  # else"),
    ("several nodes share a key for being undone", "folding.py", "return graph.ids[node] if 0 <= runs", 'return "" if 0 <= runs'),
    ("a mark leaves what was running", "engine/commands.py", "    if old is not None:\n        if node in draft.ready:",
     "    if old is None:\n        if node in draft.ready:"),
    ("a run in process does not see that it only waits", "locallanes.py", "                if not ready:\n", "                if False:\n"),
    ("a ticker fires no timers", "ticker.py", "        if timers:\n", "        if timers and due.resent:\n"),
)  # fmt: skip
