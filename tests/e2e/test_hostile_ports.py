"""Every attack of the tables once: the right refusal and one line; and hundreds of times: nothing is kept of it."""

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent import limits
from tests.e2e.support import look
from tests.e2e.support.arena import WITHIN_S, Arena
from tests.e2e.support.attacks import BYTES, CERTIFICATES, STREAMS, Attack
from tests.e2e.support.own_ports import DIRECT
from tests.e2e.support.wire import Wire
from tests.support.eventually import eventually

CHEAP = (*BYTES.values(), *DIRECT.values())
ATTACKS = {**BYTES, **CERTIFICATES, **STREAMS, **DIRECT}
assert len(ATTACKS) == sum(map(len, (BYTES, CERTIFICATES, STREAMS, DIRECT))), "two attacks have one name"
BURST, BURST_OF_TLS = 500, 150  # a leak of one descriptor shows by the first; handshakes take their time
GROWTH_BYTES = 12 << 20  # what a worker may keep after a burst, allocator's leftovers included: 150 sessions are 14 MB


@pytest.fixture(autouse=True)
def unharmed(arena: Arena, tmp_path: Path) -> Iterator[None]:
    """After each attack the agents are who they were, and what callers say is not read on the wire."""
    wire = Wire(arena.lab, tmp_path)
    try:
        yield
        assert arena.is_polite_served()
        arena.settle()
        arena.assert_unharmed()
        wire.assert_never_in_clear("app:polite")
    finally:
        wire.close()


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_an_attack_is_refused_in_its_form_with_one_line(arena: Arena, attack: Attack) -> None:
    """An alert of our own, an end, or a status; and a sentence that says why."""
    act = attack.begin(arena)
    assert act() == attack.answer
    lines = arena.lines()
    assert [line["reason"] for line in lines] == ([attack.reason] if attack.reason else []), lines
    assert all(attack.error in line["error"] for line in lines), lines
    assert not lines or lines[0]["error"] in arena.errors_shown(), "as `nodeagent connections --closed` tells"


@pytest.mark.parametrize("attack", ATTACKS.values(), ids=ATTACKS)
def test_hundreds_of_an_attack_leave_nothing_but_figures(arena: Arena, attack: Attack) -> None:
    """Descriptors, connections and tunnels exactly as before; each attack is counted, and the log is not flooded."""
    act, times = attack.begin(arena), BURST if attack in CHEAP else BURST_OF_TLS
    act()
    before = arena.settle()
    ended, rss = arena.ended(), look.rss_bytes(arena.worker)
    assert Counter(act() for _ in range(times)) == {attack.answer: times}
    eventually(lambda: arena.held() == before, WITHIN_S, f"all is as it was: {before}")
    counted = Counter({attack.reason: times}) if attack.reason else Counter()
    eventually(lambda: arena.ended() - ended == counted, WITHIN_S, f"{counted} are counted")
    grown = look.rss_bytes(arena.worker) - rss
    print(f"{times} times: the worker grew by {grown / (1 << 20):.1f} MiB")
    assert grown < GROWTH_BYTES
    lines = arena.lines()
    assert len(lines) <= (times if all(line["source"] for line in lines) else 2 * limits.FLOOD_LINES), "a minute may turn meanwhile"
