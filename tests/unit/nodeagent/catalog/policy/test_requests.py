"""Matches of requests, by each kind that has them."""

import pytest

from nodeagent.catalog.policy.faults import Fault
from nodeagent.catalog.policy.requests import http_faults, match_faults, path_faults, regex_faults
from nodeagent.model.policy.http import HeaderMatch, HttpMatch, QueryMatch, RequestMatch
from nodeagent.model.policy.intentions import PermissionMatch


def said(match):
    return "\n".join(str(fault) for fault in http_faults(match, "HTTP"))


@pytest.mark.parametrize(
    ("match", "sentence"),
    [
        (HttpMatch(path_exact="/", path_regex="a"), "HTTP: PathExact and PathRegex are both set"),
        (PermissionMatch(path_exact="/", path_prefix="/", path_regex="a"), "HTTP: PathExact, PathPrefix and PathRegex are all set"),
        (HttpMatch(path_exact="a"), "HTTP.PathExact: 'a' does not begin with /"),
        (HttpMatch(path_regex="("), "HTTP.PathRegex: not a pattern of RE2"),
        (HttpMatch(methods=("FETCH",)), "HTTP.Methods[0]: 'FETCH' is no method of HTTP; known: GET"),
        (HttpMatch(methods=("GET", "get")), "HTTP.Methods[1]: GET stands twice"),
        (HttpMatch(header=(HeaderMatch(name="x"),)), "HTTP.Header[0]: the header x needs exactly one way to match: Present, Exact"),
        (HttpMatch(header=(HeaderMatch(name="x", exact="1", prefix="2"),)), "HTTP.Header[0]: Exact and Prefix are set"),
        (HttpMatch(header=(HeaderMatch(name="x", regex="("),)), "HTTP.Header[0].Regex: not a pattern"),
        (HttpMatch(header=(HeaderMatch(name="x", regex="a", ignore_case=True),)), "a Regex says it by (?i)"),
        (HttpMatch(query_param=(QueryMatch(name="q"),)), "HTTP.QueryParam[0]: the parameter q needs exactly one way"),
        (HttpMatch(query_param=(QueryMatch(name="q", regex="["),)), "HTTP.QueryParam[0].Regex: not a pattern"),
    ],
)
def test_what_is_wrong_is_said_with_its_path(match, sentence):
    assert sentence in said(match)


def test_a_sound_match_has_no_fault():
    assert said(HttpMatch(path_prefix="/", methods=("get", "PUT"), header=(HeaderMatch(name="x", suffix="a", ignore_case=True),))) == ""
    assert list(match_faults(None, "")) == list(match_faults(RequestMatch(), "")) == list(path_faults(HttpMatch(), "")) == []
    assert list(regex_faults("(", "R")) == [Fault("R", "not a pattern of RE2: missing ): (")]
