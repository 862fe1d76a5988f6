"""docs/catalog-api.md says every endpoint and parameter that the embedded catalog serves, and no other."""

import inspect
import re
from pathlib import Path

from nodeagent import limits
from nodeagent.catalog.bexpr_rows import OPERATORS, selectors
from nodeagent.embedded import filters
from nodeagent.embedded.asking import Watch
from nodeagent.embedded.entries import KINDS
from nodeagent.embedded.routes import ALWAYS, REPEATABLE, ROUTES, WAIT, Route

DOC = (Path(__file__).parents[2] / "docs" / "catalog-api.md").read_text()


def row(route: Route) -> str:
    """The line of the table that tells of a route."""
    waits = "yes" if set(WAIT) <= set(route.params) else ""
    params = ", ".join(f"`{name}`" for name in route.params if name not in WAIT)
    return f"| `{route.method}` | `{route.path.replace(':.*', '')}` | {waits} | {params} |"


def test_every_endpoint_is_there_in_the_order_of_the_code() -> None:
    """A mistake shows the whole table as it should be."""
    said = [line for line in DOC.splitlines() if re.match(r"\| `(GET|PUT|POST|DELETE)` ", line)]
    assert said == [row(route) for route in ROUTES], "\n" + "\n".join(row(route) for route in ROUTES)


def test_what_waits_is_what_takes_an_index() -> None:
    """Handlers that give a Watch are those whose route has `index` and `wait`."""
    for route in ROUTES:
        gives = inspect.signature(route.handler).return_annotation
        assert (gives is Watch) == (set(WAIT) <= set(route.params)), route.path


def test_parameters_of_all_endpoints_are_there() -> None:
    """And which of them may stand more than once."""
    said = re.search(r"Every endpoint takes (.*?)\.", DOC, re.DOTALL)
    assert said
    assert re.findall(r"`(.*?)`", said[1]) == list(ALWAYS)
    repeated = re.search(r"more than once: (.*?)\.", DOC)
    assert repeated
    assert re.findall(r"`(.*?)`", repeated[1]) == list(REPEATABLE)


def test_kinds_of_config_entries_are_there() -> None:
    """All that it keeps."""
    said = re.search(r"Kinds of config entries: (.*?)\.", DOC, re.DOTALL)
    assert said
    assert re.findall(r"`(.*?)`", said[1]) == list(KINDS)


def test_endpoints_without_a_token_are_there() -> None:
    """These, and no others."""
    said = re.search(r"without a token: (.*?)\.", DOC)
    assert said
    assert re.findall(r"`(.*?)`", said[1]) == [route.path for route in ROUTES if route.is_open]
    public = re.search(r"So do the roots \((.*?)\)", DOC)
    assert public
    assert re.findall(r"`(.*?)`", public[1]) == [route.path for route in ROUTES if route.is_public]


OF_FIELDS = {
    "text": "a text", "number": "a whole number", "truth": "true or false", "texts": "a list of texts", "table": "a table",
    "rows": "a list of rows",
}  # fmt: skip
ROWS = {
    "/v1/catalog/nodes": filters.NODE,
    "/v1/catalog/service/{name}": filters.FLAT,
    "/v1/catalog/node/{node}": filters.SERVICE,
    "/v1/catalog/node-services/{node}": filters.SERVICE,
    "/v1/agent/services": filters.SERVICE,
    "/v1/health/service/{name}": filters.HEALTH,
    "/v1/health/node/{node}": filters.CHECK,
    "/v1/health/checks/{name}": filters.CHECK,
    "/v1/health/state/{state}": filters.CHECK,
    "/v1/agent/checks": filters.CHECK,
    "/v1/connect/intentions": filters.INTENTION,
}


def test_operators_of_filters_are_there() -> None:
    """For each kind of field."""
    for kind, operators in OPERATORS.items():
        assert f"| {OF_FIELDS[kind]} | {', '.join(f'`{each}`' for each in operators)} |" in DOC
    assert f"at most {limits.FILTER_CHARS} characters and {limits.FILTER_MATCHES} comparisons" in DOC


def test_fields_of_filters_are_there() -> None:
    """For each endpoint that takes a filter."""
    assert {route.path for route in ROUTES if "filter" in route.params} == set(ROWS)
    said = dict(re.findall(r"^\| (`/v1/.*?`) \| (`.*`) \|$", DOC, re.MULTILINE))
    fields = {path: shown for paths, shown in said.items() for path in re.findall(r"`(.*?)`", paths)}
    assert fields == {path: ", ".join(f"`{each}`" for each in selectors(kind)) for path, kind in ROWS.items()}


def test_limits_are_there() -> None:
    """As the code has them; who meets one finds it."""
    for said in (
        f"{limits.CATALOG_WRITES_BURST:,} changes at once, and {limits.CATALOG_WRITES_PER_S:g} a second",
        f"{limits.BLOCKING_PER_TOKEN:,} blocking queries",
        f"a body of {limits.ENTRY_BYTES // 1024**2} MiB; {limits.CATALOG_ROW_BYTES // 1024} KiB of tags",
        f"{limits.CATALOG_ROWS:,} hosts", f"{limits.CATALOG_SERVICES_PER_HOST:,} instances of one host",
    ):  # fmt: skip
        assert said in DOC
