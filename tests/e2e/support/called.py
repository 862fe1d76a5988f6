"""A service that one workload may call, called all the time while its catalog forgets things."""

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from nodeagent.lab.lab import Lab
from tests.e2e.support.lab import HTTP
from tests.e2e.support.wire import Wire
from tests.support.eventually import eventually

WITHIN_S = 60.0
WATCHED_S = 8.0
"""Calls go on for so long after each loss: everything that an agent is told of it has come within two."""


class Called:
    """`web` on host2, which `shop` on host1 may call, and nobody else."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.url = f"http://{lab.host('host2').ipv4}:8080/"
        lab.run("host2", "web", [*HTTP, "8080"], port=8080)
        assert lab.exec("host1", "nodeagent", "intention", "allow", "shop", "web").returncode == 0
        eventually(lambda: self.call("host1", "shop") == "200", WITHIN_S, "allowed")

    def call(self, host: str, service: str = "", canary: str = "x") -> str:
        """The HTTP status that a caller sees; `000`: none."""
        argv = ["curl", "-s", "-o", "/dev/null", "-m", "5", "-H", f"X-Note: {canary}", "-w", "%{http_code}", self.url]
        return self.lab.exec(host, *argv, service=service).stdout

    def status(self, host: str) -> str:
        return self.lab.exec(host, "nodeagent", "status").stdout

    @contextmanager
    def calling(self, wire: Wire, canary: str) -> Iterator[None]:
        """All the time `shop` gets its answers; `evil`, and a host without an agent, get none, and none of it is readable."""
        seen: dict[str, Counter[str]] = {"shop": Counter(), "evil": Counter(), "hub": Counter()}
        ended = threading.Event()

        def probe() -> None:
            while not ended.is_set():
                seen["shop"][self.call("host1", "shop", canary)] += 1
                seen["evil"][self.call("host1", "evil", canary)] += 1
                seen["hub"][self.call("hub")] += 1

        thread = threading.Thread(target=probe)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        assert {who: set(codes) for who, codes in seen.items()} == {"shop": {"200"}, "evil": {"000"}, "hub": {"000"}}, seen
        wire.assert_never_in_clear(canary)
