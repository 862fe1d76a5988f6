"""A service that one workload may call, called all the time while its catalog forgets things."""

import socket
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from nodeagent.lab.lab import Lab
from tests.e2e.support.echo import Echo, speaks
from tests.e2e.support.lab import HTTP
from tests.e2e.support.unit import Unit
from tests.e2e.support.wire import Wire
from tests.support.eventually import eventually

DB = 5432
WITHIN_S = 60.0
WATCHED_S = 8.0
"""Calls go on for so long after each loss: everything that an agent is told of it has come within two."""


class Called:
    """`web` and `db` on host2, which `shop` on host1 may call, and nobody else."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        at = lab.host("host2")
        self.urls = [f"http://{at.ipv4}:8080/", f"http://[{at.ipv6}]:8080/"]
        lab.run("host2", "web", [*HTTP, "8080"], port=8080)
        lab.register("host2", "db", DB)
        for service in ("web", "db"):
            assert lab.exec("host1", "nodeagent", "intention", "allow", "shop", service).returncode == 0
        eventually(lambda: self.call("host1", "shop") == {"200"}, WITHIN_S, "allowed")

    def call(self, host: str, service: str = "", canary: str = "x") -> set[str]:
        """The HTTP statuses that a caller sees, over IPv4 and IPv6; `000`: none."""
        argv = ["curl", "-s", "-g", "-o", "/dev/null", "-m", "5", "-H", f"X-Note: {canary}", "-w", "%{http_code}"]
        return {self.lab.exec(host, *argv, url, service=service).stdout for url in self.urls}

    def status(self, host: str) -> str:
        return self.lab.exec(host, "nodeagent", "status").stdout

    @contextmanager
    def calling(self, wire: Wire, canary: str) -> Iterator[None]:
        """All the time `shop` gets its answers, also in a connection that stays open; `evil`, and a host without an agent, get none.

        And none of it is readable.
        """
        with Unit(self.lab, "host2", "db") as db, Echo(db.listen("::", DB)), Unit(self.lab, "host1", "shop") as shop:
            kept = eventually(lambda: self._open(shop, canary), WITHIN_S, "a connection that stays")
            with self._probing(canary):
                yield
            assert speaks(kept, canary.encode()), "it was cut"
        wire.assert_never_in_clear(canary)

    def _open(self, shop: Unit, canary: str) -> socket.socket | None:
        sock = shop.connect(self.lab.host("host2").ipv4, DB)
        return sock if speaks(sock, canary.encode()) else None

    @contextmanager
    def _probing(self, canary: str) -> Iterator[None]:
        seen: dict[str, Counter[str]] = {"shop": Counter(), "evil": Counter(), "hub": Counter()}
        ended = threading.Event()

        def probe() -> None:
            while not ended.is_set():
                seen["shop"].update(self.call("host1", "shop", canary))
                seen["evil"].update(self.call("host1", "evil", canary))
                seen["hub"].update(self.call("hub"))

        thread = threading.Thread(target=probe)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        assert {who: set(codes) for who, codes in seen.items()} == {"shop": {"200"}, "evil": {"000"}, "hub": {"000"}}, seen
