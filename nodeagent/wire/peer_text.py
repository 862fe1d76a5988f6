"""What peers say of themselves, on its way into our sentences and logs."""

from nodeagent import limits


def printable(text: str) -> str:
    """As much of it as a sentence holds, on one line: what cannot be shown is a question mark."""
    return "".join(each if each.isprintable() else "?" for each in text[: limits.DETAIL_CHARS])
