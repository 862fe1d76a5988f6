"""Modes while the agent runs: which hold, what another would refuse, and switching them."""

from collections.abc import Iterable, Iterator
from typing import Literal

from aiohttp import web

from nodeagent import limits
from nodeagent.control.flows import FlowBook, flow_of
from nodeagent.control.identity import Identity
from nodeagent.control.modes import ModeBook, Switched
from nodeagent.control.publish import Publisher
from nodeagent.control.report import CheckAnswer, FlowPart, ModePart, ModesAnswer, SwitchMode
from nodeagent.control.workers import Workers
from nodeagent.decide.mode import mode_of, next_mode, under_modes
from nodeagent.decide.recheck import held_by, why_cut
from nodeagent.decide.rehearse import Refused, newly_bare, newly_refused, path_of, speaker_of, superseded
from nodeagent.errors import Reason
from nodeagent.model.flow import Flow, FlowCount
from nodeagent.model.outcome import ConnectionRow
from nodeagent.model.service import Mode
from nodeagent.model.snapshot import Snapshot
from nodeagent.tables import suggest


class Enforcer:
    """Owned by control."""

    def __init__(
        self, book: ModeBook, flows: FlowBook, publisher: Publisher, workers: Workers, identity: Identity
    ) -> None:  # fmt: skip
        self._book = book
        self._flows = flows
        self._publisher = publisher
        self._workers = workers
        self._identity = identity

    def modes(self) -> ModesAnswer:
        """The modes that hold, the host's first."""
        config, modes = self._book.config, self._book.modes
        parts = [_mode_part("", config.host.mode, modes.host, self._book.configured(""))]
        for name, table in sorted(config.service.items()):
            if table.mode:
                parts.append(_mode_part(name, table.mode, modes.services.get(name), self._book.configured(name)))
        return ModesAnswer(modes=parts)

    async def check(self, mode: Mode | Literal["file", ""], service: str, within_s: float = limits.FLOW_AGE_S) -> CheckAnswer:
        """What `mode` would refuse of the flows that were seen within so many seconds, and cut of what is open.

        mode: `file`: what a reset would put; empty: the next stricter one.

        Raises:
            HTTPException: nothing can be said yet, or there is no such service.
        """
        snapshot = self._snapshot()
        self._demand_known(snapshot, service)
        now = mode_of(snapshot, service)
        wish = self._book.after_reset(service) if mode == "file" else {service: mode or next_mode(now)}
        then = under_modes(snapshot, wish)
        rows, _, unanswered = await self._workers.open_connections(limits.API_ROWS_MAX)
        counts = self._counts(rows, service, within_s)
        refused = [_flow_part(each, counts[each.flow]) for each in newly_refused(snapshot, then, counts)]
        refused += self._mute(snapshot, then, counts)
        refused.sort(key=lambda part: -part.times)
        over = superseded(then, counts)
        return CheckAnswer(
            service=service, mode=now, proposed=mode_of(then, service), flows=len(counts), unanswered=unanswered, within_s=within_s,
            since=min((count.first_at for count in counts.values()), default=0.0),
            refused=[part for part in refused if part.flow not in over], cut=_cut(then, rows, service),
            bare=[_flow_part(each, counts[each.flow]) for each in newly_bare(snapshot, then, counts)],
            superseded=[part for part in refused if part.flow in over],
            also=[ModePart(service=name, mode=mode_of(then, name), configured=word or "") for name, word in wish.items() if name != service],
        )  # fmt: skip

    def switch(self, wish: SwitchMode, by: str) -> ModesAnswer:
        """Switches, and answers when the new mode is on its way to the workers.

        Raises:
            HTTPException: it cannot be; nothing has changed.
        """
        if wish.service and self._publisher.snapshot:
            self._demand_known(self._publisher.snapshot, wish.service)
        try:
            self._book.switch(wish.mode, wish.service, by)
        except OSError as error:
            raise web.HTTPInsufficientStorage(text=f"the mode could not be saved, and is as before: {error}") from error
        self._publisher.reconfigure(self._book.config)
        return self.modes()

    def _counts(self, rows: Iterable[ConnectionRow], service: str, within_s: float) -> dict[Flow, FlowCount]:
        """The flows that are known, and those of connections that are open: some stay so for weeks."""
        counts = self._flows.counts(within_s)
        for row in rows:
            if flow := flow_of(row):
                known, at = counts.get(flow, FlowCount(1, row.opened_at, row.opened_at)), row.opened_at
                counts[flow] = FlowCount(known.times, min(known.first_at, at), max(known.last_at, at))
        return {flow: count for flow, count in counts.items() if service in ("", flow.destination)}

    def _mute(self, now: Snapshot, then: Snapshot, counts: dict[Flow, FlowCount]) -> Iterator[FlowPart]:
        """Flows that a tunnel would carry then, and not yet now, whose caller has no certificate to speak by."""
        for flow, count in counts.items():
            if path_of(then, flow) != "tunnel" or path_of(now, flow) == "tunnel":
                continue
            if why := self._identity.why_mute(speaker_of(then, flow)):
                yield FlowPart(flow=flow, times=count.times, last_at=count.last_at, reason=Reason.NO_SVID, error=why)

    def _snapshot(self) -> Snapshot:
        if self._publisher.snapshot is None:
            raise web.HTTPServiceUnavailable(text="this agent knows no mesh yet, so nothing can be said; see: nodeagent status")
        return self._publisher.snapshot

    def _demand_known(self, snapshot: Snapshot, service: str) -> None:
        if service and service not in snapshot.services:
            raise web.HTTPNotFound(text=f"no service {service} is known here{suggest(service, snapshot.services)}")


def _mode_part(service: str, mode: Mode, switched: Switched | None, configured: Mode | None) -> ModePart:
    part = ModePart(service=service, mode=mode, configured=configured or "")
    if switched:
        part.switched_by, part.switched_at = switched.by, switched.at
    return part


def _flow_part(each: Refused, count: FlowCount) -> FlowPart:
    return FlowPart(
        flow=each.flow, times=count.times, last_at=count.last_at,
        reason=each.error.reason, error=str(each.error), hint=each.hint,
    )  # fmt: skip


def _cut(then: Snapshot, rows: Iterable[ConnectionRow], service: str) -> list[FlowPart]:
    """Open connections that would end, those alike together; most could be opened anew."""
    parts: dict[Flow, FlowPart] = {}
    for row in rows:
        flow, why = flow_of(row), why_cut(then, held_by(row, then.mesh.host))
        if flow and why and service in ("", flow.destination):
            part = parts.setdefault(flow, FlowPart(flow=flow, times=0, last_at=row.opened_at, reason=why.reason, error=str(why)))
            part.times += 1
    return list(parts.values())
