"""An empty match holds for every request, and equals another one."""

from nodeagent.model.policy.http import HttpMatch, RequestMatch
from nodeagent.model.policy.values import body_of


def test_a_match_that_says_nothing_is_the_empty_one():
    assert body_of(RequestMatch(http=HttpMatch())) == {"HTTP": {}}
    assert HttpMatch() == HttpMatch(path_exact="")
