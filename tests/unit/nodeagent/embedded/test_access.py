"""Who may do what: the whole table."""

import pytest

from nodeagent.embedded.access import (
    Caller,
    ManageTokens,
    ReadMesh,
    ReadValues,
    RegisterService,
    SignFor,
    WriteMesh,
    WriteNode,
    check_access,
    check_claim,
)  # fmt: skip
from nodeagent.embedded.refusal import Forbidden

ROOT = Caller("a", "management")
HOST1 = Caller("b", "node", "host1", ("web",))
NOTHING = Caller("c", "node", "host1", ())
LAB = Caller("d", "node", "host1", ("*",))

TABLE = [
    # act, management, host1 with web, host1 with nothing, host1 with any
    (ReadMesh(), True, True, True, True),
    (ReadValues("nodeagent/config/x"), True, True, True, True),
    (ReadValues("nodeagent"), True, False, False, False),
    (ReadValues("secret"), True, False, False, False),
    (ReadValues(""), True, False, False, False),
    (WriteMesh("config entries"), True, False, False, False),
    (WriteNode("host1"), True, True, True, True),
    (WriteNode("host2"), True, False, False, False),
    (RegisterService("host1", "web"), True, True, False, True),
    (RegisterService("host1", "payments"), True, False, False, True),
    (RegisterService("host2", "web"), True, False, False, False),
    (SignFor("web"), True, True, False, True),
    (SignFor("payments"), True, False, False, True),
    (ManageTokens(), True, False, False, False),
]


@pytest.mark.parametrize("caller_number", range(4))
@pytest.mark.parametrize("row", TABLE, ids=lambda row: str(row[0]))
def test_who_may_do_what(row, caller_number):
    caller = (ROOT, HOST1, NOTHING, LAB)[caller_number]
    if row[1 + caller_number]:
        check_access(caller, row[0])
    else:
        with pytest.raises(Forbidden, match="the token of host1"):
            check_access(caller, row[0])


def test_a_refused_registration_names_both_sides():
    with pytest.raises(Forbidden, match="host1 may not register service payments: it speaks for web"):
        check_access(HOST1, RegisterService("host1", "payments"))


@pytest.mark.parametrize(
    ("caller", "holder", "is_fine"),
    [(HOST1, "", True), (HOST1, "host1", True), (HOST1, "host2", False), (LAB, "host2", False), (ROOT, "host2", True)],
)
def test_a_host_claims_no_address_of_another(caller, holder, is_fine):
    if is_fine:
        check_claim(caller, "host1", "10.0.0.2", holder)
    else:
        with pytest.raises(Forbidden, match=r"may not claim 10\.0\.0\.2: it belongs to host2"):
            check_claim(caller, "host1", "10.0.0.2", holder)
