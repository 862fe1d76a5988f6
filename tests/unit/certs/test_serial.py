"""Serials that tell on whose word a certificate was signed."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certs.serial import CHANCE_BYTES, tag_in, tag_of, tagged_serial
from certs.svid import serial_text


@given(st.text(), st.binary(min_size=CHANCE_BYTES, max_size=CHANCE_BYTES))
def test_the_tag_is_read_back_from_the_serial_as_it_is_written(word, chance):
    """Whatever the bits: no leading zero is lost, and RFC 5280's twenty bytes are kept."""
    serial = tagged_serial(tag_of(word), chance)
    assert 0 < serial < 1 << 159
    assert tag_in(serial_text(serial)) == tag_of(word)
    assert len(serial_text(serial)) == 3 * 20 - 1


def test_other_words_have_other_tags():
    assert len({tag_of(f"accessor-{number}") for number in range(1000)}) == 1000


@pytest.mark.parametrize("serial", ["", "01", "0a:1b"])
def test_a_serial_of_another_ca_has_nobody_s_tag(serial):
    assert tag_in(serial) != tag_of("accessor-1")
