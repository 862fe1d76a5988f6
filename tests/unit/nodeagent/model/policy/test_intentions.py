"""A source has an action or permissions, and keeps which."""

from nodeagent.model.policy.intentions import Permission, PermissionMatch, Source
from nodeagent.model.policy.values import body_of


def test_a_source_says_one_of_two():
    assert body_of(Source(name="a", action="deny")) == {"Name": "a", "Action": "deny"}
    said = Source(name="a", permissions=(Permission(action="allow", http=PermissionMatch(path_exact="/")),))
    assert body_of(said) == {"Name": "a", "Permissions": [{"Action": "allow", "HTTP": {"PathExact": "/"}}]}
