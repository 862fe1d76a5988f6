"""A journal that stands still: standard error and output are a full pipe that nobody reads."""

import json
import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, suppress

import pytest

from nodeagent.lab.lab import Lab
from tests.e2e.support import look
from tests.e2e.support.by_hand import agent_by_hand
from tests.e2e.support.echo import Echo, answers
from tests.e2e.support.unit import Unit
from tests.support.eventually import eventually

WEB = 8080


@pytest.fixture
def full_pipe() -> Iterator[tuple[int, int]]:
    """(read, write); one description of the writing end is everybody's, as a terminal's or a journal's is."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with suppress(BlockingIOError):
        while os.write(write, b"." * 4096):
            pass
    os.set_blocking(write, True)
    yield read, write
    os.close(read)
    os.close(write)


def lines(read: int) -> list[dict[str, object]]:
    """What was said meanwhile; all of it is whole lines."""
    os.set_blocking(read, False)
    text = b""
    with suppress(BlockingIOError):
        while part := os.read(read, 1 << 20):
            text += part
    return [json.loads(line) for line in text.lstrip(b".").splitlines()]


def test_traffic_policy_beats_and_replacements_go_on_and_the_log_comes_later(lab: Lab, full_pipe: tuple[int, int]) -> None:
    """The agent starts, serves, decides anew, and replaces a worker; when somebody reads again, all of it is told."""
    read, write = full_pipe
    lab.register("host2", "web", WEB)
    look.decide(lab, "allow", "shop", "web")
    web = (lab.host("host2").ipv4, WEB)
    with ExitStack() as stack:
        stack.enter_context(Echo(stack.enter_context(Unit(lab, "host2", "web")).listen("::", WEB)))
        shop = stack.enter_context(Unit(lab, "host1", "shop"))
        stack.enter_context(agent_by_hand(lab, "host1", log=write))
        assert os.get_blocking(write), "others write there, too"
        assert answers(shop, web, b"one")
        look.decide(lab, "deny", "shop", "web")
        for _ in range(50):
            assert not answers(shop, web, b"two")
        look.decide(lab, "allow", "shop", "web")
        before = set(look.worker_pids(lab, "host1").values())
        for pid in before:
            os.kill(pid, signal.SIGKILL)
        eventually(lambda: look.is_replaced(lab, "host1", before), look.WITHIN_S, "their successors serve")
        assert answers(shop, web, b"three")
        assert look.status(lab, "host1")["healthy"]
        told: list[dict[str, object]] = []

        def have_told() -> bool:
            told.extend(lines(read))
            events = [line["event"] for line in told]
            return events.count("worker_exited") == len(before) and events.count("connection_closed") >= 52

        eventually(have_told, look.WITHIN_S, "supervisor and control have told it all")
        assert {line["process"] for line in told} >= {"supervisor", "control"}
        assert "log_lines_lost" not in {line["event"] for line in told}
