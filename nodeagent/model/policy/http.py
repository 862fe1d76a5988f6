"""What tells one HTTP request from another, in entries that do: paths, methods, headers, parameters."""

from typing import Annotated

import msgspec

from nodeagent import limits
from nodeagent.model.policy.values import Part, Text

HeaderName = Annotated[str, msgspec.Meta(min_length=1, max_length=limits.META_VALUE_BYTES)]


class HeaderMatch(Part, frozen=True):
    """One header, and one way in which it must match."""

    name: HeaderName
    present: bool = False
    exact: Text = ""
    prefix: Text = ""
    suffix: Text = ""
    contains: Text = ""
    regex: Text = ""
    ignore_case: bool = False
    invert: bool = False


class QueryMatch(Part, frozen=True):
    """One parameter of the query, and one way in which it must match."""

    name: HeaderName
    present: bool = False
    exact: Text = ""
    regex: Text = ""


class HttpMatch(Part, frozen=True):
    """Every condition must hold; an empty one holds for every request."""

    path_exact: Text = ""
    path_prefix: Text = ""
    path_regex: Text = ""
    case_insensitive: bool = False
    methods: tuple[Text, ...] = ()
    """Empty: every method."""
    header: tuple[HeaderMatch, ...] = ()
    query_param: tuple[QueryMatch, ...] = ()


class RequestMatch(Part, frozen=True):
    """Which requests a rule is for."""

    http: HttpMatch | None = msgspec.field(name="HTTP", default=None)
