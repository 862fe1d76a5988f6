"""Parsers by the names of codecs."""

import subprocess
import sys

import pytest

from nodeagent.wire.http1.parser import CodecName, request_parser, response_parser
from tests.support.http1 import CODECS, Log


@pytest.mark.parametrize("codec", CODECS)
def test_each_codec_has_parsers_of_both_directions(codec: CodecName) -> None:
    """New ones have nothing in them."""
    assert request_parser(codec, Log()).is_idle
    assert response_parser(codec, Log()).is_idle


def test_h11_is_loaded_by_whoever_chooses_it() -> None:
    """Workers do without its memory otherwise."""
    code = "import sys, nodeagent.wire.http1.parser as parser; parser.request_parser('httptools', parser); print('h11' in sys.modules)"
    code = code.replace("'httptools', parser)", "'httptools', type('Sink', (), {'on_body': None}))")
    assert "False\n" == subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
