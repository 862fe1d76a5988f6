"""Who may do what: the whole table."""

import pytest

from nodeagent.embedded.access import (
    FIRST,
    MANAGED,
    Caller,
    ManageTokens,
    ReadMesh,
    ReadValue,
    ReadValues,
    RegisterService,
    RemoveService,
    SignFor,
    WriteEntry,
    WriteMesh,
    WriteNode,
    WriteValue,
    check_access,
    parse_claimable,
    title_of,
)  # fmt: skip
from nodeagent.embedded.refusal import Forbidden

ROOT = Caller("a", "management")
HOST1 = Caller("b", "node", "host1", ("web",))
NOTHING = Caller("c", "node", "host1", ())
LAB = Caller("d", "node", "host1", ("*",))
WEB = Caller("e", "service", "", ("web",))
READER = Caller("f", "read")
CALLERS = (ROOT, HOST1, NOTHING, LAB, WEB, READER)

TABLE = [
    # act, management, host1 with web, host1 with nothing, host1 with any, web wherever it runs, reading
    (ReadMesh(), True, True, True, True, True, True),
    (ReadValues("nodeagent/config/x"), True, True, True, True, True, True),
    (ReadValues("nodeagent/"), True, False, False, False, False, True),
    (ReadValues("nodeagent/audit/"), True, False, False, False, False, True),
    (ReadValues("nodeagent/audit/service-router/web"), True, False, False, False, False, True),
    (ReadValue("nodeagent/config/x"), True, True, True, True, True, True),
    (ReadValue("nodeagent/audit/service-router/web"), True, False, False, False, True, True),
    (ReadValue("nodeagent/audit/service-router/web2"), True, False, False, False, False, True),
    (ReadValue("nodeagent/audit/service-intentions/web"), True, False, False, False, False, True),
    (ReadValue("secret"), True, False, False, False, False, False),
    (WriteValue("nodeagent/audit/service-router/web"), True, False, False, False, True, False),
    (WriteValue("nodeagent/audit/service-defaults/web"), True, False, False, False, True, False),
    (WriteValue("nodeagent/audit/service-intentions/web"), True, False, False, False, False, False),
    (WriteValue("nodeagent/audit/service-router/payments"), True, False, False, False, False, False),
    (WriteValue("nodeagent/config/service-router/web"), True, False, False, False, False, False),
    (ReadValues("nodeagent"), True, False, False, False, False, False),
    (ReadValues("secret"), True, False, False, False, False, False),
    (ReadValues(""), True, False, False, False, False, False),
    (WriteMesh("intentions"), True, False, False, False, False, False),
    (WriteEntry("service-defaults", "web"), True, False, False, False, True, False),
    (WriteEntry("service-resolver", "web"), True, False, False, False, True, False),
    (WriteEntry("service-defaults", "payments"), True, False, False, False, False, False),
    (WriteEntry("service-intentions", "web"), True, False, False, False, False, False),
    (WriteEntry("proxy-defaults", "global"), True, False, False, False, False, False),
    (WriteNode("host1"), True, True, True, True, False, False),
    (WriteNode("host2"), True, False, False, False, False, False),
    (WriteNode(""), True, False, False, False, False, False),
    (RegisterService("host1", "web"), True, True, False, True, True, False),
    (RegisterService("host1", "payments"), True, False, False, True, False, False),
    (RegisterService("host2", "web"), True, False, False, False, True, False),
    (RemoveService("host1", "web"), True, True, True, True, True, False),
    (RemoveService("host1", "payments"), True, True, True, True, False, False),
    (RemoveService("host2", "web"), True, False, False, False, True, False),
    (SignFor("web"), True, True, False, True, False, False),
    (SignFor("payments"), True, False, False, True, False, False),
    (ManageTokens(), True, False, False, False, False, False),
]


@pytest.mark.parametrize("caller_number", range(6))
@pytest.mark.parametrize("row", TABLE, ids=lambda row: str(row[0]))
def test_who_may_do_what(row, caller_number):
    caller = CALLERS[caller_number]
    if row[1 + caller_number]:
        check_access(caller, row[0])
    else:
        with pytest.raises(Forbidden, match=f"^{caller} may"):
            check_access(caller, row[0])


def test_a_refused_registration_names_both_sides():
    with pytest.raises(Forbidden, match="host1 may not register service payments: it speaks for web"):
        check_access(HOST1, RegisterService("host1", "payments"))


def test_every_token_says_what_it_is_for():
    shown = ["the management token", "the token of host1", "the token of host1", "the token of host1", "the token for web", "the token for reading"]
    assert [str(caller) for caller in CALLERS] == shown


def test_only_a_hosts_token_gets_addresses_by_coming_first():
    assert [caller.is_unbound for caller in CALLERS] == [False, True, True, True, False, False]
    with pytest.raises(Forbidden, match="the token for web may not claim"):
        title_of(WEB, "10.0.0.1", is_host=False)


NAMED = Caller("e", "node", "host1", ("web",), ("10.0.0.1", "10.0.0.0/24", "fd00::/64"))
FIXED = Caller("f", "node", "host1", ("web",), (), ("10.0.0.1",))


@pytest.mark.parametrize(
    ("caller", "ip", "is_host", "title"),
    [
        (ROOT, "8.8.8.8", False, MANAGED),
        (NAMED, "10.0.0.1", True, 33),
        (NAMED, "10.0.0.7", False, 25),
        (NAMED, "fd00::7", True, 65),
        (FIXED, "10.0.0.1", True, FIRST),
        (FIXED, "10.0.0.1", False, FIRST),
        (HOST1, "10.0.0.9", True, FIRST),
    ],
)
def test_a_longer_prefix_is_a_better_title(caller, ip, is_host, title):
    assert title_of(caller, ip, is_host=is_host) == title


@pytest.mark.parametrize(
    ("caller", "ip", "is_host", "own"),
    [
        (NAMED, "10.0.1.1", True, "10.0.0.1, 10.0.0.0/24, fd00::/64"),
        (NAMED, "fd00:0:0:1::7", False, "fd00::/64"),
        (FIXED, "10.0.0.2", True, "it is for 10.0.0.1"),
        (HOST1, "10.0.0.9", False, "the addresses of its host"),
    ],
)
def test_what_a_token_does_not_name_is_refused_with_the_cure(caller, ip, is_host, own):
    with pytest.raises(Forbidden, match=f"host1 may not claim {ip}: it is for .*--address {ip}") as refused:
        title_of(caller, ip, is_host=is_host)
    assert own in str(refused.value)


@pytest.mark.parametrize(
    ("text", "spelled"),
    [("10.0.0.1", "10.0.0.1"), ("10.0.0.1/32", "10.0.0.1"), ("FD00:0::/64", "fd00::/64"), ("0.0.0.0/0", "0.0.0.0/0")],
)
def test_what_may_be_named_has_one_spelling(text, spelled):
    assert parse_claimable(text) == spelled


@pytest.mark.parametrize(
    "text", ["", "x", "10.0.0.1/8", "::ffff:10.0.0.1", "::ffff:0:0/96", "fe80::1%eth0", "10.0.0.1/33"]
)
def test_what_is_no_address_cannot_be_named(text):
    with pytest.raises(ValueError, match=r"."):
        parse_claimable(text)
