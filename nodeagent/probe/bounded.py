"""Many looks side by side, each with an end: what hangs or fails is told, and stops nobody."""

import threading
import time
from collections.abc import Callable, Mapping

from nodeagent import limits
from nodeagent.diagnose.facts import Blind

Say = Callable[[str], None]


def look(probes: Mapping[str, Callable[[], object]], within_s: float, say: Say = lambda _: None) -> dict[str, object]:
    """What each of the probes found, or why it found nothing, by its name. Those that hang are left behind.

    say: is told what is waited for, where it takes long.
    """
    found: dict[str, object] = {}
    threads = {name: threading.Thread(target=_run, args=(found, name, probe), daemon=True) for name, probe in probes.items()}
    for thread in threads.values():
        thread.start()
    patience_s = min(limits.LAB_SAY_S, within_s)
    if slow := _join(threads, patience_s):
        say(f"still looking at: {', '.join(slow)}")
        _join(threads, within_s - patience_s)
    late = Blind(f"it took more than {within_s:g} s")
    return {name: dict(found).get(name, late) for name in probes}


def _join(threads: Mapping[str, threading.Thread], within_s: float) -> list[str]:
    """Those that have not ended by then."""
    end = time.monotonic() + within_s
    for thread in threads.values():
        thread.join(max(end - time.monotonic(), 0))
    return [name for name, thread in threads.items() if thread.is_alive()]


def _run(found: dict[str, object], name: str, probe: Callable[[], object]) -> None:
    try:
        found[name] = probe()
    except Exception as error:  # noqa: BLE001 - whatever goes wrong with one look, the report has the others
        found[name] = Blind(str(error) or type(error).__name__)
