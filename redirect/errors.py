"""The one exception of this package."""

REMOVED = "somebody removed it, or a part (as `nft flush ruleset` does); an agent that runs puts it back, else: nodeagent intercept apply"
"""What it means, mostly, when a table, chain or set is not there."""


class RedirectError(Exception):
    """The kernel could not be made to do, or to show, what was asked; the message says what, and the cure."""
