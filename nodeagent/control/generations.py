"""Generations of the agent: how many workers and connections each has, and what became of a reload. Pure."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from nodeagent.control.report import GenerationPart, Status, WorkerPart


def generations_of(workers: Iterable[WorkerPart]) -> list[GenerationPart]:
    """Each that has a living worker, the youngest first."""
    by_generation: dict[int, list[WorkerPart]] = {}
    for worker in workers:
        if worker.pid:
            by_generation.setdefault(worker.agent_generation, []).append(worker)
    return [_part(number, by_generation[number]) for number in sorted(by_generation, reverse=True)]


def _part(generation: int, workers: list[WorkerPart]) -> GenerationPart:
    is_ending = all(worker.state == "draining" for worker in workers)
    return GenerationPart(
        generation=generation,
        version=workers[0].version,
        workers=len(workers),
        started_at=min(worker.started_at for worker in workers),
        connections=sum(worker.connections for worker in workers),
        drain_until=max(worker.drain_until for worker in workers) if is_ending else 0.0,
    )


@dataclass(frozen=True, slots=True)
class Reloaded:
    """What has become of a reload so far."""

    state: Literal["done", "refused", "waiting"]
    why: str = ""
    """Why it was refused, or what is still missing."""


def judge_reload(before: Status, now: Status | None, why_silent: str = "") -> Reloaded:
    """`before`: the status that it began from. `now`: None while nobody answers, because of `why_silent`."""
    if now is None or now.supervisor is None or before.supervisor is None:
        return Reloaded("waiting", why_silent or "the supervisor was not heard yet")
    if now.supervisor.generation == before.supervisor.generation:
        if now.supervisor.reloads_refused > before.supervisor.reloads_refused:
            return Reloaded("refused", now.supervisor.reload_refused)
        return Reloaded("waiting", "the next program checks itself")
    young = [worker for worker in now.workers if worker.agent_generation == now.supervisor.generation]
    late = [worker for worker in now.workers if worker.state in ("serving", "no_channel") and worker not in young]
    if late or not any(worker.state == "serving" for worker in young):
        return Reloaded("waiting", f"{len(late)} workers of the generation before still accept connections")
    return Reloaded("done")


def judge_back(now: Status | None, version: str, why_silent: str = "") -> Reloaded:
    """Whether the agent serves as `version`, whatever it was meanwhile."""
    if now is None or now.supervisor is None:
        return Reloaded("waiting", why_silent or "the supervisor was not heard yet")
    if now.supervisor.version != version:
        return Reloaded("waiting", f"the agent is {now.supervisor.version}")
    young = (worker for worker in now.workers if worker.agent_generation == now.supervisor.generation)
    if not any(worker.state == "serving" for worker in young):
        return Reloaded("waiting", f"no worker of {version} accepts connections yet")
    return Reloaded("done")
