"""Who opened a captured connection."""

import asyncio
import socket
from typing import Any

import pytest

from nodeagent.model.workload import NOBODY, Workload
from nodeagent.proxy.owner import find_workload, stamped
from nodeagent.proxy.supervisor import SupervisorChannel
from nodeagent.wire import requests
from tests.support.mesh import mesh
from tests.support.twohosts import run

UNITS = {0x5A000007: "shop.service"}
BY_UID = '[[workload]]\nselector = "unix:uid:1001"\nservice = "cron"\n'
BY_UNIT = '[[workload]]\nselector = "systemd:id:shop.service"\nservice = "till"\n'


class Marked:
    """An accepted socket with a mark, addresses and a TCP state."""

    def __init__(self, mark: int, state: int | Exception = 1, peer: str = "10.77.0.1") -> None:
        self.mark, self.state, self.peer = mark, state, peer

    def getsockopt(self, level: int, option: int, size: int = 0) -> int | bytes:
        if (level, option, size) == (socket.IPPROTO_TCP, socket.TCP_INFO, 1):
            if isinstance(self.state, Exception):
                raise self.state
            return bytes([self.state])
        assert (level, option) == (socket.SOL_SOCKET, 36)
        return self.mark

    def getpeername(self) -> tuple[str, int]:
        return (self.peer, 40000)

    def getsockname(self) -> tuple[str, int]:
        return ("127.0.0.1", 15001)


def asked(
    mark: int, extra: str, uid: int, unit: str, state: int | Exception = 1, *, knows_unit: bool = True, peer: str = "10.77.0.1"
) -> tuple[Workload, list[requests.OwnerQuestion]]:
    """The workload found, and what the supervisor was asked; it answers with (uid, unit)."""
    questions: list[requests.OwnerQuestion] = []

    async def work() -> Workload:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        channel = SupervisorChannel(ours, {})

        def answer() -> None:
            question = requests.decode_question(theirs.recv(512))
            questions.append(question)
            theirs.send(requests.encode_answer(requests.OwnerAnswer(question.number, uid, unit, knows_unit)))

        asyncio.get_running_loop().add_reader(theirs.fileno(), answer)
        found = await find_workload(Marked(mark, state, peer), UNITS, mesh(extra=extra), channel)
        channel.close()
        asyncio.get_running_loop().remove_reader(theirs.fileno())
        ours.close()
        theirs.close()
        return found

    result: Any = run(work)
    return result, questions


def test_a_known_mark_names_the_unit_and_nobody_is_asked() -> None:
    """The kernel stamped it at the SYN."""
    assert asked(0x5A000007, "", 0, "") == (Workload("shop.service", how="stamp"), [])


@pytest.mark.parametrize("mark", [0, 0x5A000008, 0x5B])
def test_without_a_known_mark_the_supervisor_is_asked(mark: int) -> None:
    """About this very connection: peer and listener."""
    found, (question,) = asked(mark, "", 1001, "web.service")
    assert found == Workload("web.service", 1001, "conntrack")
    assert question[1:] == (b"\x0a\x4d\x00\x01", 40000, b"\x7f\x00\x00\x01", 15001)


def test_a_connection_that_was_reset_meanwhile_is_nobody_s() -> None:
    """Its ports may be another workload's by now."""
    found, _ = asked(0, "", 1001, "web.service", state=7)
    assert found == NOBODY


@pytest.mark.parametrize("error", [OSError(9, "Bad file descriptor"), ValueError("negative file descriptor: -1")])
def test_a_socket_that_was_closed_meanwhile_is_nobody_s(error: Exception) -> None:
    """A client that resets is no defect of ours."""
    assert asked(0, "", 1001, "web.service", error)[0] == NOBODY


def test_a_link_local_caller_is_asked_about_without_its_interface() -> None:
    """Its kernel names one, which is no part of the address."""
    found, (question,) = asked(0, "", 1001, "web.service", peer="fe80::1%eth0")
    assert found.uid == 1001
    assert socket.inet_ntop(socket.AF_INET6, question.peer_ip) == "fe80::1"


def test_nobody_is_nobody() -> None:
    """No mark, no owner: unidentified."""
    found, _ = asked(0, "", -1, "")
    assert found == NOBODY


def test_a_unit_of_no_service_is_looked_up_where_a_rule_knows_its_uid() -> None:
    """Its mark alone says nothing about the uid."""
    config = BY_UID + '[identity]\nunits = ["other"]\n'
    found, questions = asked(0x5A000007, config, 1001, "")
    assert found == Workload("shop.service", 1001, "conntrack")
    assert len(questions) == 1


@pytest.mark.parametrize(("mark", "unit"), [(0x5A000007, "shop.service"), (0x5A000007, ""), (0, "shop.service")])
def test_where_a_rule_by_uid_comes_first_nobody_is_named_without_his_uid(mark: int, unit: str) -> None:
    """A client that has closed keeps its unit and loses its uid: it must not thereby escape the rule."""
    found, _ = asked(mark, BY_UID, -1, unit)
    assert found == NOBODY


def test_a_rule_by_uid_goes_before_the_unit_s_own_name() -> None:
    """Rules are read in their order, whether or not the connection was stamped in time."""
    found, questions = asked(0x5A000007, BY_UID, 1001, "shop.service")
    assert found == Workload("shop.service", 1001, "conntrack")
    assert len(questions) == 1


def test_a_rule_by_unit_that_comes_first_decides_without_a_question() -> None:
    """The mark is enough."""
    assert asked(0x5A000007, BY_UNIT + BY_UID, 1001, "") == (Workload("shop.service", how="stamp"), [])


@pytest.mark.parametrize(
    ("rules", "knows_unit", "found"),
    [
        (BY_UNIT + BY_UID, True, Workload("", 1001, "conntrack")),
        (BY_UNIT + BY_UID, False, NOBODY),
        (BY_UID + BY_UNIT, False, Workload("", 1001, "conntrack")),
    ],
)
def test_where_a_rule_by_unit_comes_first_nobody_is_named_by_his_uid_alone(
    rules: str, found: Workload, *, knows_unit: bool
) -> None:
    """A process of no unit is; one whose unit cannot be told may be the very unit that the rule is about."""
    assert asked(0, rules, 1001, "", knows_unit=knows_unit)[0] == found


def test_stamped_alone_never_asks() -> None:
    """For destinations that no policy covers."""
    assert stamped(Marked(0), UNITS) is NOBODY
