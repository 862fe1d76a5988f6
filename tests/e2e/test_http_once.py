"""Requests that must not be made twice, while instances are killed: none is lost that was answered, none is made twice."""

import os
import random
import signal
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.conftest import MakeLab
from tests.e2e.support import web
from tests.e2e.support.daemons import directory_of
from tests.e2e.support.unit import Unit
from tests.e2e.support.waiting import wait_until

REQUESTS = int(os.environ.get("HTTP_REQUESTS", "10000"))
PORT, CLIENTS = 8084, 4
KILL_EVERY_S = (0.2, 0.8)
APP = Path(__file__).parent / "support" / "ledger_app.py"
ROUTER = {"Kind": "service-router", "Name": "api", "Routes": [{"Destination": {"NumRetries": 3, "RetryOn": ["5xx", "reset", "connect-failure"]}}]}


@pytest.fixture(scope="module")
def ledgers(make_lab: MakeLab) -> Iterator[tuple[Lab, list[Path]]]:
    """`api` on host2 and host3, whose requests are routed, and tried again where that is safe."""
    lab = make_lab(hosts=3)
    with directory_of("root") as directory:
        files = [directory / host for host in ("host2", "host3")]
        for file in files:
            lab.run(file.name, "api", [sys.executable, str(APP), str(PORT), str(file)], port=PORT, protocol="http")
        web.permit(lab, "api", "shop", [{"Action": "allow", "HTTP": {"PathPrefix": "/"}}])
        before = web.generation(lab, "host1")
        lab.catalog("PUT", "/v1/config", ROUTER)
        wait_until(lambda: web.generation(lab, "host1") > before, "the router")
        web.settle(lab)
        yield lab, files
        for file in files:
            lab.stop(file.name, "api")


class Client(threading.Thread):
    """Sends its numbers one after another, each once, on connections that last as long as they do."""

    def __init__(self, lab: Lab, unit: Unit, numbers: range) -> None:
        super().__init__()
        self._lab, self._unit, self._numbers = lab, unit, numbers
        self.answered: list[int] = []
        self.refused = 0

    def run(self) -> None:
        sock = None
        for number in self._numbers:
            sock = sock or self._unit.connect(self._lab.host("host2").ipv4, PORT)
            try:
                status, _, body = web.ask(sock, b"POST /take?%d HTTP/1.1\r\nHost: api\r\nContent-Length: 0\r\n\r\n" % number)
            except (OSError, AssertionError):  # cut: whether it was made, nobody knows
                sock.close()
                sock = None
                continue
            if status == 200:
                assert int(body) == number
                self.answered.append(number)
            self.refused += status != 200
        if sock:
            sock.close()


def kill_at_random(files: list[Path], over: threading.Event) -> int:
    """Ends whichever instance it is, again and again; how often."""
    draw, kills = random.Random(6), 0
    while not over.wait(draw.uniform(*KILL_EVERY_S)):
        with suppress(FileNotFoundError, ProcessLookupError, ValueError):
            os.kill(int(Path(f"{draw.choice(files)}.pid").read_text()), signal.SIGKILL)
            kills += 1
    return kills


@pytest.mark.timeout(900)
def test_no_request_is_made_twice_nor_lost_after_its_answer(ledgers: tuple[Lab, list[Path]]) -> None:
    """HTTP_REQUESTS says how many there are."""
    lab, files = ledgers
    over, kills = threading.Event(), list[int]()
    killer = threading.Thread(target=lambda: kills.append(kill_at_random(files, over)))
    with Unit(lab, "host1", "shop") as shop:
        share = REQUESTS // CLIENTS
        clients = [Client(lab, shop, range(n * share, (n + 1) * share)) for n in range(CLIENTS)]
        killer.start()
        for client in clients:
            client.start()
        for client in clients:
            client.join()
        over.set()
        killer.join()
    made = Counter(int(line) for file in files for line in file.read_text().split())
    answered = {number for client in clients for number in client.answered}
    told = f"{len(answered)} answered, {sum(client.refused for client in clients)} refused, {len(made)} made, {kills[0]} kills"
    print(told)
    assert kills[0] > 3, told
    assert answered <= made.keys(), told
    assert [number for number, times in made.items() if times > 1] == [], told
    assert len(answered) > REQUESTS // 2, told
