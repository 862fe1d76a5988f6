"""Log lines: one JSON object each, with the level that was asked for."""

import io
import json

import pytest
import structlog

from nodeagent.errors import Reason
from nodeagent.observe.log import configure_log, open_log


@pytest.fixture(autouse=True)
def _restore():
    yield
    structlog.reset_defaults()


def lines(stream: io.BytesIO) -> list[dict]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_is_one_json_object_that_begins_with_the_time() -> None:
    stream = io.BytesIO()
    configure_log("control", stream=stream)
    open_log().info("connection_closed", source="shop", reason=Reason.DENIED)
    line = lines(stream)[0]
    assert list(line)[:4] == ["at", "level", "process", "event"]
    assert (line["level"], line["process"], line["event"]) == ("info", "control", "connection_closed")
    assert (line["source"], line["reason"]) == ("shop", "denied")


def test_lines_below_the_level_are_not_written() -> None:
    stream = io.BytesIO()
    configure_log("control", "warning", stream)
    log = open_log()
    log.info("connection_closed")
    log.warning("svid_not_issued")
    assert [line["event"] for line in lines(stream)] == ["svid_not_issued"]


def test_a_newline_in_a_value_does_not_make_a_second_line() -> None:
    stream = io.BytesIO()
    configure_log("control", stream=stream)
    open_log().info("connection_closed", error='a\nb"c')
    assert len(stream.getvalue().splitlines()) == 1
    assert lines(stream)[0]["error"] == 'a\nb"c'


def test_a_traceback_is_a_field() -> None:
    stream = io.BytesIO()
    configure_log("control", stream=stream)
    try:
        int("broken")
    except ValueError:
        open_log().error("part_failed", exc_info=True)
    assert "ValueError: invalid literal" in lines(stream)[0]["exception"]
