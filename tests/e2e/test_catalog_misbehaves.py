"""A catalog that misbehaves: what was known stays in force, nothing spins, memory stays bounded, and its next good word counts."""

import json
import re
import tempfile
import time
from collections import Counter
from pathlib import Path

import pytest

from nodeagent import limits
from tests.e2e.catalog_process import Process, token_command
from tests.e2e.support import warped
from tests.e2e.support.by_hand import cpu_s
from tests.e2e.support.warped import Warped
from tests.support.control_process import ControlProcess
from tests.support.eventually import eventually
from tests.support.far_ends import FarEnd, snapshot_of

LOOK_S = 6.0
BACK_S = 60.0  # what is promised is some seconds; a watch may rest for CATALOG_BACKOFF_MAX_S
BUSY = 0.2  # of a core
MEMORY_KIB = (64 + 16) * 1024  # one answer of CATALOG_BODY_BYTES, and what an interpreter grows by anyway

SPOILT = {
    "garbage": warped.garbage, "half": warped.half, "truncated": warped.truncated,
    "html": warped.with_body(b"<html><h1>It works!</h1></html>", "text/html"), "deep": warped.with_body(b"[" * 100_000),
    "no json": warped.with_body(b"{'a': 1}"), "wrong shapes": warped.with_body(b'[{"Node":7,"Address":[],"Service":"x"}]'),
    "errors": warped.with_body(b"rpc error: no cluster leader", "text/plain", 500), "resets": warped.resetting, "slow": warped.slow,
    "endless": warped.endless,
}  # fmt: skip
"""Answers that cannot be taken."""
INDEXES = {"zero": "0", "one": "1", "negative": "-7", "no number": "x", "huge": str(2**63), "none": None}


class Scene:
    """Control before a catalog that can be spoilt; `web` on host2, which `shop` may call."""

    def __init__(self, directory: Path, port: int, token: str, process: Process) -> None:
        self.catalog, self.directory = process.client(), directory
        self.between = Warped(port)
        self.control = ControlProcess(directory / "host1", self.between.address, "", token)  # type: ignore[arg-type]
        self.end: FarEnd | None = None

    def known(self) -> tuple[list[str], list[str]]:
        """Who may call `web`, and where it is, as a worker has it."""
        assert self.end
        snapshot = snapshot_of(self.end)
        web = snapshot.services.get("web") if snapshot else None
        return ([str(each) for each in web.intentions], [each.host for each in web.instances]) if web else ([], [])

    def allow(self, source: str) -> None:
        """In the real catalog."""
        entry = {"Kind": "service-intentions", "Name": "web", "Sources": [{"Name": source, "Action": "allow"}]}
        self.catalog.ok("PUT", "/v1/config", entry)

    def peak_kib(self) -> int:
        """The most memory that control ever had."""
        found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{self.control.process.pid}/status").read_text())
        assert found
        return int(found[1])

    def complaints(self) -> Counter[str]:
        """By path: how often the log says that an answer was not taken."""
        lines = [json.loads(line) for line in self.control.said().splitlines() if line.startswith("{")]
        return Counter(line["path"] for line in lines if line["event"] == "catalog_answer_not_taken")

    def look(self) -> dict[str, int]:
        """What is asked, by path, in LOOK_S; meanwhile nothing that was known changes, and nobody spins."""
        assert self.end
        before, asked, cpu, began = self.known(), Counter(self.between.asked), cpu_s(self.control.process.pid), time.monotonic()
        while time.monotonic() - began < LOOK_S:
            assert self.known() == before
            time.sleep(0.2)
        assert (cpu_s(self.control.process.pid) - cpu) / (time.monotonic() - began) < BUSY
        return dict(self.between.asked - asked)


@pytest.fixture(scope="module")
def scene():
    with tempfile.TemporaryDirectory(prefix="nodeagent-warped-") as name:  # pytest's own is closed to other uids
        directory = Path(name)
        directory.chmod(0o755)
        (directory / "host1").mkdir()
        with Process(directory / "data", "--plain") as process:
            token = token_command(directory / "data", "create", "--node", "host1", "--any-service")
            port = int(process.client().address.rpartition(":")[2])
            made = Scene(directory, port, token, process)
            web = {"Node": "host2", "Address": "10.77.0.2", "NodeMeta": {"nodeagent": "15008;v1"}, "Service": {"Service": "web", "Port": 80}}
            made.catalog.ok("PUT", "/v1/catalog/register", web)
            made.allow("shop")
            with made.between, made.control as control:
                made.end = control.join()
                yield made


@pytest.fixture(autouse=True)
def well_before_and_after(scene: Scene):
    """Each begins with the catalog heard, and ends with a change that arrives."""
    scene.between.warp = warped.honest
    scene.allow("shop")
    eventually(lambda: scene.known() == (["shop -> web (allow)"], ["host2"]), BACK_S, "the catalog is heard")
    yield
    scene.between.warp = warped.honest
    scene.allow("till")
    eventually(lambda: scene.known() == (["till -> web (allow)"], ["host2"]), BACK_S, "its next good word counts")


def _check_pace(asked: dict[str, int]) -> None:
    """At most one request a second and watch, but for the burst with which each begins."""
    most = limits.CATALOG_BURST + limits.CATALOG_RATE_PER_S * (LOOK_S + 2)
    watched = {path: count for path, count in asked.items() if not path.startswith(("/v1/nodeagent/sign", "/v1/catalog/register"))}
    assert {path: count for path, count in watched.items() if count > most} == {}


@pytest.mark.parametrize("how", SPOILT)
def test_what_cannot_be_taken_changes_nothing(scene: Scene, how: str) -> None:
    """Each complaint is in the log once a minute, and `status` has it."""
    peak, said = scene.peak_kib(), scene.complaints()
    scene.between.warp = SPOILT[how]
    scene.allow("nobody")  # waiting answers come now
    _check_pace(scene.look())
    assert scene.peak_kib() - peak < MEMORY_KIB
    assert max((scene.complaints() - said).values(), default=0) <= 1


@pytest.mark.parametrize("how", INDEXES)
def test_an_index_that_is_none_does_not_spin(scene: Scene, how: str) -> None:
    """What such an answer says counts all the same."""
    scene.between.warp = warped.with_index(INDEXES[how])
    scene.allow("nobody")
    eventually(lambda: scene.known()[0] == ["nobody -> web (allow)"], BACK_S, "its words count")
    _check_pace(scene.look())


def test_one_that_comes_and_goes_costs_little(scene: Scene) -> None:
    """And takes nothing away."""
    scene.between.warp = warped.flapping
    for _ in range(2):
        _check_pace(scene.look())


@pytest.mark.parametrize("nothing", [b"[]", b"null"])
def test_one_that_is_empty_all_at_once_is_not_believed(scene: Scene, nothing: bytes) -> None:
    """A catalog that does not show this host either was wiped, or knows our token no more."""
    scene.between.warp = warped.emptied(nothing)
    scene.allow("nobody")
    eventually(lambda: scene.known()[0] == ["nobody -> web (allow)"], BACK_S, "what it says of intentions counts")
    _check_pace(scene.look())
    assert scene.known()[1] == ["host2"]
