"""Why a request is not served: one class per HTTP status, each with one sentence for the caller."""


class Refusal(Exception):
    """A request that is not served; the message goes to the caller as it is."""

    status = 500


class BadRequest(Refusal):
    """The request is malformed, or names what cannot be."""

    status = 400


class Forbidden(Refusal):
    """The caller's token does not entitle to this."""

    status = 403


class NotFound(Refusal):
    """There is no such thing."""

    status = 404


class Conflict(Refusal):
    """It makes no sense now, or would cut somebody off; the message says what would, and how to insist."""

    status = 409


class TooLarge(Refusal):
    """A body or table would pass a limit."""

    status = 413


class TooMany(Refusal):
    """The caller holds too many blocking queries open, or writes too fast."""

    status = 429


class StorageFailed(Refusal):
    """Nothing was stored: the disk is full or broken. Reads go on."""

    status = 500


class Missing(Refusal):
    """Consul has it, this catalog does not; said aloud, so that nobody relies on what is ignored."""

    status = 501
