"""Cases of requests, with which entries are tested before they are applied."""

from typing import Literal

import msgspec

from nodeagent.model.policy.values import Name, Part, Percent, Text


class Expected(Part, frozen=True):
    """What is to become of a request; what is not said may be anything."""

    verdict: Literal["", "allow", "deny", "refused"] = ""
    """Of all of its ways. `refused`: it leads nowhere, or its path is ambiguous."""
    route: Text = ""
    """`Routes[0]`, or `default`."""
    targets: dict[Text, Percent] = {}
    """All of them with their shares: `web subset v2`."""
    path: Text = ""
    """As it comes to the application."""


class Case(Part, frozen=True):
    """One request."""

    from_: Name = msgspec.field(name="From")
    to: Name
    expect: Expected
    name: Text = ""
    method: Text = "GET"
    path: Text = "/"
    headers: dict[Text, Text] = {}
