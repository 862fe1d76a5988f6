"""What entries name and nobody knows, as a warning with the name that was probably meant."""

from collections import Counter

import pytest

from nodeagent import limits
from nodeagent.catalog.policy.doubts import reference_doubts
from nodeagent.catalog.policy.entries import Key
from tests.support.entries import FULL, good


def mesh(*documents):
    entries = [good(each) for each in documents]
    return {each.key: each.spec for each in entries}


def redirect(name, to, **more):
    return {"Kind": "service-resolver", "Name": name, "Redirect": {"Service": to} | more}


def route(name, to, subset=""):
    return {"Kind": "service-router", "Name": name, "Routes": [{"Destination": {"Service": to, "ServiceSubset": subset}}]}


def doubts(*documents, services=("web", "api")):
    entries = mesh(*documents)
    return "\n".join(line for lines in reference_doubts(entries, services, entries).values() for line in lines)


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (route("web", "appi"), "service-router web: Routes[0].Destination: nobody knows a service appi; did you mean api?"),
        (route("web", "api", "v2"), "the service-resolver of api has no subset v2"),
        (redirect("web", "x"), "Redirect: nobody knows a service x"),
        ({"Kind": "service-intentions", "Name": "wb", "Sources": [{"Name": "api", "Action": "deny"}]}, "nobody knows a service wb; did you mean web?"),
        ({"Kind": "service-intentions", "Name": "web", "Sources": [{"Name": "appi", "Action": "deny"}]}, "Sources[0]: nobody knows a service appi"),
        (FULL["service-intentions"], "JWT.Providers[0]: there is no jwt-provider okta"),
        (FULL["service-intentions"], "Sources[0].Permissions[0].JWT.Providers[0]: there is no jwt-provider okta"),
    ],
)
def test_who_nobody_knows_is_doubted(document, sentence):
    assert sentence in doubts(document)


def test_hints_are_for_those_who_are_asked_about_and_not_without_end():
    """To look for what was meant takes long among many; who has more typing errors mends these first."""
    many = mesh(*(route(f"s{n}", f"web{n}") for n in range(limits.POLICY_HINTS + 5)))
    said = [line for lines in reference_doubts(many, ["web"], many).values() for line in lines]
    assert sum("did you mean web?" in line for line in said) == limits.POLICY_HINTS
    assert not any("did you mean" in line for lines in reference_doubts(many, ["web"]).values() for line in lines)


def test_who_only_calls_and_who_is_only_in_entries_is_known_well_enough():
    said = {"Kind": "service-intentions", "Name": "web", "Sources": [{"Name": "cron", "Action": "deny"}, {"Name": "*", "Action": "deny"}]}
    assert doubts(said, FULL["jwt-provider"], redirect("virtual", "api"), route("web", "virtual")) == ""


def test_a_resolver_that_is_not_understood_is_known_and_may_have_any_subset():
    entries = mesh(route("web", "api", "v2"))
    assert reference_doubts({**entries, Key("service-resolver", "api"): None}, ["web"], entries) == {Key("service-router", "web"): []}


OWN = [
    {"Kind": "rate-limit", "Name": "wb", "Total": {"RequestsPerSecond": 5}}, {"Kind": "fault", "Name": "wb", "Injections": [{"Delay": "1s"}]},
    {"Kind": "retry-budget", "Name": "wb", "Ratio": 0.1}, {"Kind": "mirror", "Name": "wb", "Copies": [{"Service": "api"}]},
    {"Kind": "service-resolver", "Name": "wb", "Subsets": {"v1": {}}},
]  # fmt: skip


@pytest.mark.parametrize("document", OWN, ids=lambda each: each["Kind"])
def test_an_entry_of_a_service_that_nobody_knows_is_doubted(document):
    """It would mean nothing, and nobody would say so."""
    assert f"{document['Kind']} wb: nobody knows a service wb; did you mean web?" in doubts(document)
    assert doubts(document | {"Name": "web"}) == ""


def test_an_entry_of_all_or_of_a_service_that_entries_make_is_not():
    assert doubts({"Kind": "retry-budget", "Name": "*", "Ratio": 0.1}, redirect("virtual", "api"), OWN[0] | {"Name": "virtual"}) == ""


def test_what_an_entry_is_called_was_not_meant_by_it():
    """Else it would be asked to lead to itself."""
    assert doubts(redirect("unk6", "unkc")) == "service-resolver unk6: Redirect: nobody knows a service unkc"
    assert "did you mean unk6?" in doubts(redirect("unk6", "unkc"), services=("web", "unk6"))


CALLED = {"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "shop", "Action": "allow"}]}


@pytest.mark.parametrize(
    ("document", "path"),
    [
        ({"Kind": "service-intentions", "Name": "web", "Sources": [{"Name": "*", "Action": "deny"}, {"Name": "shpo", "Action": "allow"}]}, "Sources[1]"),
        ({"Kind": "fault", "Name": "web", "Injections": [{"Delay": "1s"}, {"Delay": "1s", "Sources": ["*", "shpo"]}]}, "Injections[1].Sources[1]"),
        ({"Kind": "rate-limit", "Name": "web", "Overrides": [{"Sources": ["shpo"], "RequestsPerSecond": 5}]}, "Overrides[0].Sources[0]"),
    ],
)
def test_a_caller_that_looks_like_one_that_other_entries_name_is_doubted(document, path):
    """Who only calls is in no catalog. Of two new ones that look alike none is the better."""
    asked, there = mesh(document), mesh(CALLED)
    said = reference_doubts({**asked, **there}, ["web", "api"], asked)
    assert said == {key: [f"{key}: {path}: nobody knows a service shpo; did you mean shop?"] for key in asked}
    assert doubts(document) == doubts(document, CALLED) == ""
    again = mesh(CALLED | {"Name": "db", "Sources": [{"Name": "shpo", "Action": "deny"}]})
    assert reference_doubts({**asked, **there, **again}, ["web", "api"], asked) == {key: [] for key in asked}


def test_callers_are_looked_through_once_however_many_nobody_knows(monkeypatch):
    """There may be 100,000, each named by one entry: for each of them all others would take hours."""
    looks = []

    class Counted(Counter):
        def items(self):
            looks.append(len(self))
            return super().items()

    monkeypatch.setattr("nodeagent.catalog.policy.doubts.Counter", Counted)
    rows = [{"Kind": "service-intentions", "Name": "web", "Sources": [{"Name": f"caller{n}", "Action": "deny"} for n in range(50)]}]
    assert doubts(*rows) == ""
    assert looks == [50]
