"""The one thing a lab raises; the message says what, whose fault and the cure."""


class LabError(Exception):
    """The lab cannot do what was asked."""
