"""LabError."""

from nodeagent.lab.errors import LabError


def test_its_message_is_all_there_is() -> None:
    """What the command line prints is the message as it was written."""
    assert str(LabError("port 80 is taken; choose another")) == "port 80 is taken; choose another"
