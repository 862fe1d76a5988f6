"""The commands of docs/by-hand.md: what operators read is what the tests run."""

import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "by-hand.md"


def block(name: str, instead: dict[str, str] | None = None) -> str:
    """The commands of the block `name`, with values of ours instead of the page's: `{"10.0.0.1": host.address}`."""
    found = re.findall(rf"^```sh {name}\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    assert len(found) == 1, f"{PAGE} has {len(found)} blocks named {name}"
    text: str = found[0]
    for theirs, ours in (instead or {}).items():
        text = text.replace(theirs, ours)
    return text
