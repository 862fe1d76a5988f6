"""A configuration is taken or refused with ConfigError, whatever stands in it."""

from hypothesis import given
from hypothesis import strategies as st

from nodeagent.config import parse_config
from nodeagent.errors import ConfigError

KEYS = st.sampled_from(
    ["host", "catalog", "intercept", "identity", "workload", "service", "admin", "log", "name", "addresses", "address", "mode", "units",
     "exclude_ports", "mesh_cidrs", "selector", "drain_s", "x"]
)  # fmt: skip
SCALARS = st.one_of(
    st.integers(),
    st.booleans(),
    st.sampled_from(["strict", "any", "registered", "10.0.0.1", "https://h:1", "http://127.0.0.1:8500", "unix:uid:5", "10.0.0.0/8", ""]),
    st.text('ab"\\\n\u00e9', max_size=5),
)
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=12)
FILES = st.fixed_dictionaries(
    {},
    optional={
        "host": st.fixed_dictionaries({"name": SCALARS, "addresses": VALUES}, optional={"mode": SCALARS, "drain_s": SCALARS}) | VALUES,
        "catalog": st.fixed_dictionaries({"address": SCALARS}) | VALUES,
        "service": st.dictionaries(st.text(max_size=5), VALUES, max_size=2),
        "workload": st.lists(VALUES, max_size=2),
        "identity": st.fixed_dictionaries({"units": VALUES}),
        "intercept": VALUES,
    },
)


def toml(value: object) -> str:
    """The value as TOML."""
    match value:
        case bool():
            return str(value).lower()
        case int():
            return str(max(-(2**63), min(value, 2**63 - 1)))
        case str():
            return '"' + "".join(f"\\U{ord(char):08x}" for char in value) + '"'
        case list():
            return "[" + ", ".join(map(toml, value)) + "]"
        case dict():
            return "{" + ", ".join(f"{toml(key)} = {toml(inner)}" for key, inner in value.items()) + "}"
    raise AssertionError(value)


@given(FILES)
def test_any_table_is_a_configuration_or_a_config_error(tables: dict[str, object]) -> None:
    """The message begins with the file's name."""
    text = "\n".join(f"{key} = {toml(value)}" for key, value in tables.items())
    try:
        parse_config(text, "nodeagent.toml")
    except ConfigError as error:
        assert str(error).startswith("nodeagent.toml: ")
        assert "not TOML" not in str(error)
