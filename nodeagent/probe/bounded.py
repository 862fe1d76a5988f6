"""Many looks side by side, each with an end: what hangs or fails is told, and stops nobody."""

import threading
import time
from collections.abc import Callable, Mapping

from nodeagent.diagnose.facts import Blind


def look(probes: Mapping[str, Callable[[], object]], within_s: float) -> dict[str, object]:
    """What each of the probes found, or why it found nothing, by its name. Those that hang are left behind."""
    found: dict[str, object] = {}
    threads = {name: threading.Thread(target=_run, args=(found, name, probe), daemon=True) for name, probe in probes.items()}
    end = time.monotonic() + within_s
    for thread in threads.values():
        thread.start()
    for thread in threads.values():
        thread.join(max(end - time.monotonic(), 0))
    late = Blind(f"it took more than {within_s:g} s")
    return {name: dict(found).get(name, late) for name in probes}


def _run(found: dict[str, object], name: str, probe: Callable[[], object]) -> None:
    try:
        found[name] = probe()
    except Exception as error:  # noqa: BLE001 - whatever goes wrong with one look, the report has the others
        found[name] = Blind(str(error) or type(error).__name__)
