"""What a lab raises; the message says what, whose fault and the cure."""


class LabError(Exception):
    """The lab cannot do what was asked."""


class NotInLab(LabError):
    """There is no lab or host of that name."""


class NoLabName(LabError):
    """No lab, or no service of one, can have that name, or that number of hosts."""


class CatalogAway(LabError):
    """The lab's catalog is not there."""


class CatalogSilent(LabError):
    """The lab's catalog does not answer in time."""
