"""The admin API's types."""

import msgspec

from nodeagent import limits
from nodeagent.control import report
from nodeagent.control.report import API_VERSION, CertificatePart, ConnectionsAnswer, ErrorAnswer, the_first
from tests.support.rows import row


def test_answers_carry_the_version_and_can_be_read_back() -> None:
    answer = ConnectionsAnswer(connections=[row()], total=1)
    raw = msgspec.json.encode(answer)
    assert msgspec.json.decode(raw)["apiVersion"] == API_VERSION
    assert msgspec.json.decode(raw, type=ConnectionsAnswer) == answer
    assert msgspec.json.decode(msgspec.json.encode(ErrorAnswer(error="x")))["apiVersion"] == API_VERSION


def test_a_newer_agents_fields_are_ignored() -> None:
    raw = b'{"apiVersion":"nodeagent/v1","error":"x","hint":"y"}'
    assert msgspec.json.decode(raw, type=ErrorAnswer) == ErrorAnswer(error="x")


def test_no_type_has_room_for_a_key() -> None:
    fields = set(CertificatePart.__struct_fields__)
    assert not {name for name in fields if "key" in name or "pem" in name}


def test_every_answer_has_a_version() -> None:
    answers = [kind for name, kind in vars(report).items() if name.endswith("Answer") or name == "Status"]
    assert len(answers) == 9
    assert all("api_version" in kind.__struct_fields__ for kind in answers)


def test_of_thousands_of_alarms_the_first_are_named() -> None:
    """As when a catalog is restored that knows a few of ten thousand services; one more than the first is named, as it takes one line, too."""
    alarms = [f"s{number}: 1 of 1 instances vanished at once" for number in range(1000)]
    for few in (0, limits.ALARMS_SHOWN, limits.ALARMS_SHOWN + 1):
        assert alarms[:few] == the_first(alarms[:few])
    shown = the_first(alarms)
    assert alarms[: limits.ALARMS_SHOWN] == shown[:-1]
    assert f"and {1000 - limits.ALARMS_SHOWN} more like these; see: " in shown[-1]
