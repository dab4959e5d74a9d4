"""What an adapter offers for one run by its id: the same as its `RunHandle`, another run of it, and events."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from flowcraft.endpoints import Endpoints, WebhookEndpoint
from flowcraft.rerunning import UNCHANGED, Reruns
from flowcraft.runs import RunHandle
from flowcraft.signals import Answered

__all__ = ["Facade"]


class Facade:
    """The part of an `Adapter` that steers runs. Most methods are those of `flowcraft.runs.RunHandle`."""

    @property
    def endpoints(self) -> Endpoints:
        """Its webhooks."""
        raise NotImplementedError

    @property
    def reruns(self) -> Reruns:
        """What makes runs of runs."""
        raise NotImplementedError

    def run(self, run_id: str) -> RunHandle:
        """The handle of a run, whoever started it; nothing is asked."""
        raise NotImplementedError

    async def signal(
        self,
        run_id: str,
        node: object,
        payload: object = None,
        *,
        action: str | None = None,
        signal_id: str | None = None,
        visit: int | None = None,
    ) -> Answered:
        """Give a wait what it waits for; see `RunHandle.signal`."""
        return await self.run(run_id).signal(node, payload, action=action, signal_id=signal_id, visit=visit)

    async def pause(self, run_id: str) -> bool:
        """Hand out nothing more; see `RunHandle.pause`."""
        return await self.run(run_id).pause()

    async def resume(self, run_id: str) -> bool:
        """Go on after a pause; see `RunHandle.resume`."""
        return await self.run(run_id).resume()

    async def patch_context(self, run_id: str, values: Mapping[str, object], delete: Iterable[str] = ()) -> None:
        """Set and delete context keys; see `RunHandle.patch_context`."""
        await self.run(run_id).patch_context(values, delete)

    async def mark_completed(self, run_id: str, node: object, output: object = None, action: str | None = None) -> bool:
        """Complete a node by hand; see `RunHandle.mark_completed`."""
        return await self.run(run_id).mark_completed(node, output, action)

    async def retry(self, run_id: str, nodes: Iterable[object] | str | Callable[..., Any] = ()) -> int:
        """Start a failed run again; see `RunHandle.retry`."""
        return await self.run(run_id).retry(nodes)

    async def rollback(self, run_id: str, to: object = None) -> bool:
        """Undo and start again, or end; see `RunHandle.rollback`."""
        return await self.run(run_id).rollback(to)

    async def rerun(
        self,
        run_id: str,
        from_node: object,
        *,
        input: object = UNCHANGED,
        context: Mapping[str, object] | None = None,
        new_run_id: str | None = None,
    ) -> RunHandle:
        """Make a new run that takes over what a run had come to, and runs again from one of its nodes.

        The other run, which may have ended or not, stays as it is. Repeated with the same ``new_run_id`` and arguments,
        this finds the run that was made first. docs/semantics.md, section 15, says what is taken over.

        Args:
            from_node: by id, or by function or class of the flow; it and all that follows from it runs again.
            input: what the node gets in place of the input that it had.
            context: context keys that are set to something else.
            new_run_id: an id of your own for the new run; by default a random one.

        Raises:
            RunNotFound: there is no such run. CommandRefused: it has no such node, has not reached it, or is being
            rolled back. RunConflict: ``new_run_id`` belongs to another run. InvalidRequest: an input for a node that
            has none. PayloadTooLarge: the store cannot take all of it in one step. Misconfigured: its blueprint is
            neither here nor stored. Unavailable: it changes too fast to be read, or the store is. Else as `start_run`.
        """
        return await self.reruns.start(run_id, from_node, input=input, context=context or {}, new_run_id=new_run_id)

    async def register_webhook_endpoint(self, run_id: str, node_id: str) -> WebhookEndpoint:
        """Make a url that resumes the run where it waits; see `flowcraft.endpoints.Endpoints.register`."""
        return await self.endpoints.register(run_id, node_id)

    async def publish_event(
        self,
        event: str,
        payload: object = None,
        *,
        run_id: str | None = None,
        action: str | None = None,
        signal_id: str | None = None,
    ) -> Mapping[str, Answered]:
        """Resume what waits for an event. For callers with authority: no secret is asked for.

        Args:
            event: ``webhook:{run_id}:{node_id}`` names the wait of a webhook (or a wait itself). Any other one is for
                every wait of ``run_id`` whose ``params.eventName`` it is: those that wait now, and those that have not
                begun.
            payload, action, signal_id: see `RunHandle.signal`.

        Returns:
            The answers, as of `RunHandle.signal`, by the id of the wait, without those that refused it.

        Raises:
            InvalidRequest: an event that names no run, without ``run_id``. NotWaiting: nothing waits for it. Else as
            `RunHandle.signal`.
        """
        return await self.endpoints.publish(event, payload, run_id=run_id, action=action, signal_id=signal_id)
