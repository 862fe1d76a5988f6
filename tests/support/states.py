"""Small catalogs of every kind, for hypothesis: few names, so that everything meets."""

from hypothesis import strategies as st

from nodeagent.catalog.state import CatalogState, InstanceRow, IntentionRow
from nodeagent.model.address import Address
from nodeagent.model.service import Host, Instance

_HOSTS = ("host1", "host2", "host3", "host4")
_IPS = ("10.77.0.1", "10.77.0.2", "10.77.0.3", "10.77.0.4", "fd77::2", "127.0.0.1")
_SERVICES = ("web", "shop", "cart", "db", "Not a name")

hosts = st.builds(
    lambda name, ips, port: Host(name, tuple(sorted(ips)), port),
    st.sampled_from(_HOSTS), st.sets(st.sampled_from(_IPS), max_size=3), st.sampled_from((0, 15008)),
)  # fmt: skip
rows = st.builds(
    lambda host, ips, port, id_, healthy, gone, since: InstanceRow(
        Instance(id_, host.name, tuple(Address(ip, port) for ip in sorted(ips)), healthy=healthy, gone=gone), host, registered_at=since
    ),
    hosts, st.sets(st.sampled_from(_IPS), max_size=2), st.sampled_from((80, 81)), st.sampled_from(("a", "b")), st.booleans(), st.booleans(),
    st.integers(0, 2),
)  # fmt: skip
instances = st.dictionaries(st.sampled_from(_SERVICES), st.lists(rows, max_size=3).map(tuple))
intentions = st.lists(
    st.builds(IntentionRow, st.sampled_from(("web", "db", "*")), st.sampled_from(("web", "shop", "*")), st.sampled_from(("allow", "deny"))),
    max_size=4,
).map(tuple)
protocols = st.dictionaries(st.sampled_from(_SERVICES), st.sampled_from(("tcp", "http", "odd")), max_size=2)
states = st.builds(
    CatalogState, st.lists(hosts, max_size=4).map(tuple), instances, intentions, protocols, st.sampled_from(("", "http")),
    st.booleans(),
)  # fmt: skip
