"""Hosts whose agents look at something and are not heard any more: what becomes of what they looked at."""

import asyncio
import functools
from collections.abc import Callable, Iterable
from typing import NoReturn

import msgspec

from nodeagent import limits
from nodeagent.embedded.beats import NO_TOKEN, Beats
from nodeagent.embedded.check import LOOKED_AT
from nodeagent.embedded.checks import end, read_checks_of, read_untimed
from nodeagent.embedded.database import Change
from nodeagent.embedded.refusal import StorageFailed
from nodeagent.embedded.store import Store
from nodeagent.observe.log import open_log


async def end_unseen(store: Store, beats: Beats) -> NoReturn:
    """Makes critical what agents looked at that are silent, until it is cancelled: a host that is gone says nothing of it itself."""
    now = asyncio.get_running_loop().time
    while True:
        await asyncio.sleep(limits.CHECK_SILENT_LOOK_S)
        try:
            nodes = await store.read_aside(NO_TOKEN, read_untimed)
            beats.tick(now())
            silent = beats.silent(nodes, now())
            if silent:
                await store.write(functools.partial(_end, beats, silent, now))
                beats.excuse(silent, now())
        except StorageFailed:
            continue  # whoever writes is told; here it is tried again
        except Exception:  # noqa: BLE001 - without this one what a lost host ran would be well for ever: logged and tried again
            open_log().error("silent_agents_not_noted", exc_info=True)


def _end(beats: Beats, nodes: Iterable[str], now: Callable[[], float], change: Change) -> None:
    for node in nodes:
        if not beats.is_silent(node, now()):  # it was heard meanwhile
            continue
        try:
            rows = read_checks_of(change.connection, node)
        except msgspec.MsgspecError as error:  # of a restored file; the others go on all the same
            open_log().error("check_unreadable", node=node, error=str(error))
            continue
        ended = [each for each in rows if each.row.kind in LOOKED_AT and each.status != "critical"]
        for each in ended:
            end(change, each, f"nobody looks: the agent of {node} was not heard any more")
        if ended:
            open_log().warning("agent_silent", node=node, checks=len(ended))
