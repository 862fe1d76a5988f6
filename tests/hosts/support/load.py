"""Calls that never pause, from the unit shop of a host: on connections that are kept, and on new ones."""

import json
from dataclasses import dataclass
from typing import Self

from tests.hosts.support.host import Host
from tests.hosts.support.mesh import shop_said, start_shop

_PROGRAM = """
import http.client, json, os, sys, time

CHUNK = 65536
told = {"asked": 0, "slowest": 0.0, "failed": []}


def attempt(what, act):
    began = time.monotonic()
    try:
        assert act(), "another answer, or another connection"
    except Exception as error:
        told["failed"].append(f"{what}: {error!r}")
    told["asked"] += 1
    told["slowest"] = max(told["slowest"], time.monotonic() - began)


def get(connection):
    sock = connection.sock
    connection.request("GET", "/")
    return connection.getresponse().read().startswith(b"from ") and sock in (None, connection.sock)


def make(address):
    return http.client.HTTPConnection(address, 80, timeout=30)


def new(address):
    connection = make(address)
    try:
        return get(connection)
    finally:
        connection.close()


def begin(address):
    connection = make(address)
    connection.request("GET", "/endless")
    return connection.getresponse()


addresses = sys.argv[1:]
kept = {address: make(address) for address in addresses}
endless = {address: begin(address) for address in addresses}
while True:
    for address in addresses:
        attempt(f"NEW to {address}", lambda: new(address))
        attempt(f"the kept connection to {address}", lambda: get(kept[address]))
        attempt(f"the stream from {address}", lambda: len(endless[address].read(CHUNK)) == CHUNK)
    with open("/run/load.new", "w") as file:
        json.dump(told, file)
    os.rename("/run/load.new", "/run/load")
    time.sleep(0.05)
"""
NEW = "a new connection"
"""What fails begins with, where it was no connection that was open before."""
_NGINX = "keepalive_requests 1000000; keepalive_time 1d;\n"


@dataclass(frozen=True, slots=True)
class Told:
    """What the calls have been since they began."""

    asked: int
    slowest: float
    """Seconds."""
    failed: list[str]


def prepare(host: Host) -> None:
    """Its nginx keeps connections for as many requests as there are, and has a file that does not end while a test lasts."""
    host.put("/etc/nginx/conf.d/load.conf", _NGINX)
    with host.path("/var/www/html/endless").open("wb") as file:
        file.truncate(1 << 40)
    host.enter("systemctl", "reload", "nginx")


class Load:
    """Use with `with`: from then on the host's shop calls nginx on each of these hosts, all the time."""

    def __init__(self, host: Host, *callees: Host) -> None:
        self._host, self._callees = host, callees

    def __enter__(self) -> Self:
        self._host.put("/usr/local/bin/load.py", _PROGRAM.replace("NEW", NEW))
        self._host.path("/run/load").unlink(missing_ok=True)
        addresses = " ".join(callee.address for callee in self._callees)
        start_shop(self._host, f"exec python3 /usr/local/bin/load.py {addresses}", is_awaited=False)
        return self

    def __exit__(self, *_: object) -> None:
        self._host.enter("systemctl", "stop", "shop")

    def told(self) -> Told:
        """So far."""
        path = self._host.path("/run/load")
        return Told(**json.loads(path.read_text())) if path.exists() else Told(0, 0.0, [])

    def go_on(self, times: int = 40) -> None:
        """Returns after that many calls more."""
        before = self.told().asked
        self._host.wait_for(lambda: self.told().asked > before + times, f"the load goes on; it said: {shop_said(self._host)}")
