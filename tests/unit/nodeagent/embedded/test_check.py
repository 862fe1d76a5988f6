"""Checks as clients register them."""

import msgspec
import pytest

from nodeagent import limits
from nodeagent.embedded.check import cut, parse_check, parse_checks_of, parse_told, take_checks
from nodeagent.embedded.refusal import BadRequest, Missing

HTTP = {"Name": "page", "HTTP": "http://127.0.0.1:8080/health?x=1", "Interval": "10s"}
TCP = {"Name": "port", "TCP": "10.0.0.1:5432", "Interval": "5s"}


def test_a_check_is_what_python_and_go_clients_send():
    row = parse_check({"name": "page", "http": HTTP["HTTP"], "interval": "1m30s", "timeout": "2s", "tls_skip_verify": True}, "h").row
    assert (row.id, row.kind, row.target, row.method, row.interval_s, row.timeout_s) == ("page", "http", HTTP["HTTP"], "GET", 90.0, 2.0)
    assert row.skip_verify
    row = parse_check({**TCP, "CheckID": "pg", "FailuresBeforeCritical": 3, "SuccessBeforePassing": 2}, "h").row
    assert (row.id, row.name, row.kind, row.target, row.timeout_s, row.fails, row.passes) == ("pg", "port", "tcp", "10.0.0.1:5432", 10.0, 3, 2)
    asked = parse_check({"ID": "t", "Name": "beat", "TTL": "30s", "Status": "passing", "Notes": "n"}, "h")
    assert (asked.row.kind, asked.row.ttl_s, asked.row.notes, asked.status) == ("ttl", 30.0, "n", "passing")
    assert parse_check({"Name": "beat", "TTL": 30_000_000_000}, "h").status == "critical"


@pytest.mark.parametrize(
    ("target", "same"),
    [("[::1]:80", "[::1]:80"), ("localhost:80", "localhost:80"), ("[::ffff:10.0.0.1]:80", "10.0.0.1:80"), ("127.0.0.1:1", "127.0.0.1:1")],
)
def test_a_port_is_of_an_address_in_its_one_spelling(target, same):
    row = parse_check({**TCP, "TCP": target}, "h").row
    assert row.target == same
    assert row.ip == ("" if "localhost" in same else same.rpartition(":")[0].strip("[]"))


@pytest.mark.parametrize("target", ["", "80", "10.0.0.1", "10.0.0.1:0", "10.0.0.1:99999", "example.com:80", "10.0.0.1:80/x", "a@10.0.0.1:80", "[::1:80"])
def test_what_is_no_port_of_an_address_is_refused(target):
    with pytest.raises(BadRequest):
        parse_check({**TCP, "TCP": target}, "h")


@pytest.mark.parametrize(
    "url",
    [
        "ftp://127.0.0.1/", "http://example.com/", "http://u:p@127.0.0.1/", "http://127.0.0.1/ x", "http:///x", "127.0.0.1", "http://127.0.0.1:x/",
        "http://127.0.0.1/\r\nHost: x", "http://[::1/", "file:///etc/shadow", "http://127.0.0.1/ü", "http://127.1/",
    ],
)  # fmt: skip
def test_what_is_no_url_of_this_host_is_refused(url):
    with pytest.raises(BadRequest):
        parse_check({**HTTP, "HTTP": url}, "h")


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ({"Interval": ""}, "Interval: from 1 s"), ({"Interval": f"{limits.CHECK_INTERVAL_MIN_S / 2:g}s"}, "Interval: from 1 s"),
        ({"Interval": f"{limits.CHECK_INTERVAL_MAX_S + 1:g}s"}, "to 24 h"), ({"Interval": "soon"}, "no duration"),
        ({"Timeout": f"{limits.CHECK_TIMEOUT_MAX_S + 1:g}s"}, "Timeout: at most 60 s"), ({"Timeout": "-1s"}, "no duration"),
        ({"HTTP": "", "TTL": "9s"}, "Interval: of a TTL check there is none"), ({"TTL": "1s"}, "give one of TTL, HTTP and TCP"),
        ({"HTTP": ""}, "give one of"), ({"Name": ""}, "give the check a name"), ({"Status": "fine"}, "Status"), ({"Nmae": "x"}, "Nmae"),
        ({"Name": "ü\0"}, "CheckID: a name that is no ID"), ({"Name": "x" * 200}, "CheckID"), ({"CheckID": ".."}, "'..' is no ID"), ({"Name": "."}, "'.' is no ID"),
         ({"Header": {"a b": ["x"]}}, "is no header"), ({"Header": {"a": ["x\r\ny: z"]}}, "is no header"), ({"Interval": True}, "Interval"),
        ({"HTTP": "http://127.0.0.1/" + "x" * limits.CHECK_TEXT_CHARS}, "HTTP"),
    ],
)  # fmt: skip
def test_what_is_no_check_is_refused_by_name(more, error):
    with pytest.raises(BadRequest, match=error):
        parse_check({**HTTP, **more}, "h")


@pytest.mark.parametrize("more", [{"Args": ["/bin/true"]}, {"GRPC": "x"}, {"Method": "DELETE"}, {"DeregisterCriticalServiceAfter": "1m"}, {"DisableRedirects": False}])
def test_what_this_catalog_cannot_do_is_refused_aloud(more):
    with pytest.raises(Missing):
        parse_check({**HTTP, **more}, "h")
    parse_check({**HTTP, **dict.fromkeys(more, None)}, "h")


def test_checks_of_a_service_get_consuls_names():
    (one,) = parse_checks_of([{"TTL": "1s"}], "h", "web-1", "web")
    assert (one.row.id, one.row.name, one.row.service_id) == ("service:web-1", "Service 'web' check", "web-1")
    several = parse_checks_of([{"TTL": "1s"}, {"TTL": "1s", "CheckID": "own"}], "h", "web", "web")
    assert [each.row.id for each in several] == ["service:web:1", "own"]
    with pytest.raises(BadRequest, match="one CheckID"):
        parse_checks_of([{"TTL": "1s", "CheckID": "own"}] * 2, "h", "web", "web")
    with pytest.raises(BadRequest, match=r"Checks\[1\].TTL"):
        parse_checks_of([{"TTL": "1s"}, {"TTL": "x"}], "h", "web", "web")
    with pytest.raises(BadRequest, match="at most 16"):
        parse_checks_of([{"TTL": "1s"}] * (limits.CHECKS_PER_SERVICE + 1), "h", "web", "web")


def test_one_check_or_several_or_both_stand_in_a_registration():
    assert take_checks({"Name": "web", "check": {"TTL": "1s"}, "Checks": [{}]}) == ({"Name": "web"}, [{"TTL": "1s"}, {}])
    assert take_checks({"Name": "web", "Check": None, "Checks": None}) == ({"Name": "web"}, [])
    with pytest.raises(BadRequest, match="must be a list"):
        take_checks({"Checks": {}})


def test_a_timeout_may_be_short_and_is_ten_seconds_where_none_is_given():
    """As with Consul."""
    given = {None: 10.0, "": 10.0, "0s": 10.0, 0: 10.0, "250ms": 0.25, "1m": 60.0}
    assert {said: parse_check({**HTTP, "Timeout": said}, "h").row.timeout_s for said in given} == given


def test_a_span_of_nothing_is_none():
    """As clients write it that have a field for everything."""
    assert parse_check({"Name": "beat", "TTL": "30s", "Interval": "0s", "Timeout": "0s"}, "h").row.kind == "ttl"
    assert parse_check({**HTTP, "TTL": "0s"}, "h").row.kind == "http"


def test_what_is_told_stands_as_it_is_told():
    (told,) = parse_told([{"Node": "h", "CheckID": "c", "Status": "warning", "Output": "x" * 9999}], "h", "web")
    assert (told.row.service_id, told.row.kind, told.status, told.output) == ("", "", "warning", cut("x" * 9999))
    for named in ("web", ""):
        assert parse_told([{"CheckID": "c", "ServiceID": named}], "h", "web")[0].row.service_id == named
    assert len(told.output) == limits.CHECK_OUTPUT_BYTES
    for text in ("\x01" * 9999, "ü" * 9999, '"' * 600, "a" * 511):
        assert len(msgspec.json.encode(cut(text))) - 2 <= limits.CHECK_OUTPUT_BYTES
        assert text.startswith(cut(text))
    assert cut("a" * 511) == "a" * 511
    assert [each.row.id for each in parse_told([{"Status": "passing"}], "h", "web")] == ["service:web"]
    assert [each.status for each in parse_told([{}, {"CheckID": "c", "Status": ""}], "h", "web")] == ["critical"] * 2
    with pytest.raises(BadRequest, match="the registration is of h"):
        parse_told([{"Node": "other", "CheckID": "c"}], "h", "")
    with pytest.raises(BadRequest, match="CheckID: give it one"):
        parse_told([{}], "h", "")
    with pytest.raises(Missing, match="Definition"):
        parse_told([{"CheckID": "c", "Definition": {"TCP": "10.0.0.1:1"}}], "h", "")
    with pytest.raises(BadRequest, match="at most 16"):
        parse_told([{"CheckID": "c"}] * (limits.CHECKS_PER_SERVICE + 1), "h", "")
