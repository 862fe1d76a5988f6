"""The one exception of this package."""


class RedirectError(Exception):
    """The kernel could not be made to do, or to show, what was asked; the message says what, and the cure."""
