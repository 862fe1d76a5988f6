"""A resolver in Consul's words."""

from nodeagent.model.policy.resolving import Cookie, HashPolicy, Redirect, ServiceResolver, Subset
from nodeagent.model.policy.values import Duration, body_of


def test_names_that_are_no_pascal_case_are_consuls():
    assert body_of(HashPolicy(source_ip=True, cookie_config=Cookie(ttl=Duration(10**9)))) == {
        "CookieConfig": {"TTL": "1s"}, "SourceIP": True,
    }  # fmt: skip


def test_an_empty_part_was_said():
    """A subset without a filter is all instances, and an empty redirect is a mistake that must be seen."""
    said = ServiceResolver(kind="service-resolver", name="web", subsets={"v1": Subset()}, redirect=Redirect())
    assert body_of(said) == {"Kind": "service-resolver", "Name": "web", "Subsets": {"v1": {}}, "Redirect": {}}
