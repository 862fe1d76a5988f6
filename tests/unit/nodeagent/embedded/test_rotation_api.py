"""/v1/nodeagent/ca: one step a call, management only, and nobody loses a connection unless it is forced."""

import pytest

from certs.csr import new_key_and_csr
from certs.spiffe import service_id
from nodeagent.embedded import authority_api, rotation_api, tokens_api
from nodeagent.embedded.database import index_of
from nodeagent.embedded.refusal import BadRequest, Conflict, Forbidden, StorageFailed
from tests.unit.nodeagent.embedded.desk import HOST1, HOST2, LAB, NOW


def rotate(desk, step, **more):
    return desk.call(rotation_api.rotate, body={"Step": step, **more})


def sign(desk, caller, service):
    csr = new_key_and_csr(service_id(desk.realm.trust_domain, "dc1", service)).csr_pem
    return desk.call(authority_api.sign, caller, {"CSR": csr})


def hold(desk, caller, *certificates):
    """That host says that it holds these."""
    root = desk.call(authority_api.roots)["ActiveRootID"]
    rows = [
        {"Service": each["Service"], "Serial": each["SerialNumber"], "Root": root, "Until": NOW.timestamp() + 86_400}
        for each in certificates
    ]
    desk.call(authority_api.held, caller, {"Certificates": rows})


def hear(desk, caller):
    """The agent of that token has taken in what the roots are now, and asks for more."""
    index = desk.store.read(lambda connection: index_of(connection, ("roots",)))
    ask = {"index": str(index), "wait": "1ms"}
    desk.call(authority_api.roots, caller, query=ask)


@pytest.mark.parametrize("handler", [rotation_api.state, rotation_api.rotate])
def test_a_host_has_no_say(desk, handler):
    with pytest.raises(Forbidden, match=r"may not (see|change) the CA: that takes a management token"):
        desk.call(handler, HOST1, {"Step": "add"})


def test_a_rotation_is_shown_at_every_step_and_consul_s_roots_follow(desk):
    first = desk.call(rotation_api.state)
    assert (first["phase"], first["next"], first["back"]) == ("steady", "add", "")
    assert [root["state"] for root in first["roots"]] == ["signs"]
    (old,) = (root["id"] for root in first["roots"])
    for step, states, active in (
        ("add", ["signs", "believed"], 0),
        ("activate", ["signs", "believed"], 1),
        ("retire", ["signs", "retired"], 1),
    ):
        shown = rotate(desk, step)
        assert [root["state"] for root in shown["roots"]] == states
        consul = desk.call(authority_api.roots)
        assert (consul["ActiveRootID"] == old) is (active == 0)
        assert [root["Active"] for root in consul["Roots"]] == [True, False][: len(consul["Roots"])]
        assert len(consul["Roots"]) == (1 if step == "retire" else 2)
    assert (shown["phase"], shown["back"]) == ("steady", "restore")
    assert "PRIVATE" not in str(shown) + str(consul)


@pytest.mark.parametrize("body", [{}, {"Step": "jump"}, {"Step": "add", "Now": True}, {"Step": "add", "Force": "yes"}])
def test_nonsense_is_refused(desk, body):
    with pytest.raises(BadRequest):
        desk.call(rotation_api.rotate, body=body)


def test_a_step_out_of_turn_changes_nothing(desk):
    with pytest.raises(Conflict, match=r"retire is not possible now .*: add"):
        rotate(desk, "retire")
    with pytest.raises(Conflict):
        rotate(desk, "retire", Force=True)
    assert len(desk.call(authority_api.roots)["Roots"]) == 1


def test_a_root_under_which_hosts_speak_is_not_taken_away_unless_forced(desk):
    sign(desk, HOST1, "web")
    rotate(desk, "add")
    hear(desk, HOST1)
    rotate(desk, "activate")
    with pytest.raises(Conflict, match=r"still held by host1 \(web\)"):
        rotate(desk, "retire")
    sign(desk, HOST1, "web")
    sign(desk, HOST2, "db")
    assert rotate(desk, "retire")["phase"] == "steady"


def test_force_takes_it_away_all_the_same(desk):
    sign(desk, HOST1, "web")
    rotate(desk, "add")
    hear(desk, HOST1)
    rotate(desk, "activate")
    assert rotate(desk, "retire", Force=True)["roots"][1]["held_by"][0]["node"] == "host1"


def test_another_root_signs_only_when_every_host_that_speaks_knows_it(desk):
    """host2 has no certificate: it has nothing to lose."""
    sign(desk, HOST1, "web")
    hear(desk, HOST1)
    assert rotate(desk, "add")["unaware"] == ["host1"]
    with pytest.raises(Conflict, match=r"not been told of all roots yet .*: host1"):
        rotate(desk, "activate")
    hear(desk, HOST1)
    assert desk.call(rotation_api.state)["unaware"] == []
    desk.call(authority_api.roots, caller=HOST1)  # somebody looks, with the host's token
    assert desk.call(rotation_api.state)["unaware"] == []
    assert rotate(desk, "activate")["phase"] == "activated"


def test_a_revoked_token_is_told_with_the_roots(desk):
    serial = sign(desk, HOST1, "web")["SerialNumber"]
    assert desk.call(authority_api.roots)["RevokedSerialTags"] == []
    before = desk.index(authority_api.roots)
    desk.call(tokens_api.delete, accessor=HOST1.accessor)
    (tag,) = desk.call(authority_api.roots)["RevokedSerialTags"]
    assert serial.startswith(tag + ":")
    assert desk.index(authority_api.roots) > before, "who waits for roots is woken"
    assert [(each["accessor"], each["node"]) for each in desk.call(rotation_api.state)["revoked"]] == [("one", "host1")]


def test_a_full_disk_ends_no_certificate(desk, monkeypatch):
    """It is signed, though nobody remembers it: the serial says whose it is."""

    async def full(_self, _make):
        raise StorageFailed("the disk is full")

    monkeypatch.setattr(type(desk.store), "write", full)
    assert sign(desk, HOST1, "web")["Service"] == "web"


def test_a_step_that_fails_half_way_leaves_all_as_it_was(desk, monkeypatch):
    """The retired root that `add` would forget included."""
    for step in ("add", "activate", "retire"):
        rotate(desk, step)
    before = desk.call(rotation_api.state)

    def broken(*_, **_named):
        raise ZeroDivisionError

    monkeypatch.setattr(rotation_api, "add_root", broken)
    with pytest.raises(ZeroDivisionError):
        rotate(desk, "add")
    assert desk.call(rotation_api.state) == before


def test_a_step_that_would_be_refused_is_shown_as_such(desk):
    """In the words of the refusal, for either way."""
    sign(desk, HOST1, "web")
    rotate(desk, "add")
    shown = desk.call(rotation_api.state)
    assert (shown["next_refused"].partition(":")[0], shown["back_refused"]) == ("activate", "")
    rotate(desk, "activate", Force=True)
    shown = desk.call(rotation_api.state)
    with pytest.raises(Conflict) as refused:
        rotate(desk, "retire")
    assert shown["next_refused"] == str(refused.value)
    assert shown["back_refused"].startswith("deactivate: these hosts have not been told")


def test_what_a_host_does_not_hold_any_more_stops_nobody(desk):
    dead, web = sign(desk, HOST1, "shop"), sign(desk, HOST1, "web")
    rotate(desk, "add")
    hear(desk, HOST1)
    hold(desk, HOST1, dead, web)
    rotate(desk, "activate")
    hear(desk, HOST1)
    with pytest.raises(Conflict, match=r"host1 \(shop, web\)"):
        rotate(desk, "retire")
    hold(desk, HOST1, sign(desk, HOST1, "web"))
    assert rotate(desk, "retire")["roots"][1]["held_by"] == []


def test_who_is_connected_renews_and_for_others_there_is_an_end(desk):
    """Each cure is said where it is one, and the cause is the step that was taken."""
    sign(desk, HOST1, "web")
    sign(desk, HOST2, "db")
    rotate(desk, "add", Force=True)
    rotate(desk, "activate", Force=True)
    with desk.store.watchers.place(HOST1.accessor), pytest.raises(Conflict) as refused:
        rotate(desk, "retire")
    assert "connected hosts renew within minutes of the activation" in str(refused.value)
    assert "not connected: host2, whose last one ends at 2026-01-02 12:00:00 UTC; forced (--force)" in str(refused.value)
    sign(desk, HOST2, "db")
    rotate(desk, "deactivate", Force=True)
    with pytest.raises(Conflict) as refused:
        rotate(desk, "drop")
    assert "renew within minutes" not in str(refused.value), "nobody is connected"
    with desk.store.watchers.place(HOST2.accessor), pytest.raises(Conflict, match="of the deactivation; forced"):
        rotate(desk, "drop")


def test_a_host_with_two_tokens_was_told_when_it_was_told_by_one(desk):
    """LAB is host1's other token: the old one's certificates live on."""
    sign(desk, HOST1, "web")
    rotate(desk, "add")
    hear(desk, LAB)
    assert desk.call(rotation_api.state)["unaware"] == []
