"""Names in bodies: what the model calls a name, and nothing else."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.embedded.names import HostName, Name, NameOrAny, decode_name
from nodeagent.model.names import is_service_name


@given(st.text(max_size=140) | st.from_regex(r"[A-Za-z0-9._-]{1,130}", fullmatch=True))
def test_a_name_is_what_the_model_says(text):
    if is_service_name(text):
        assert msgspec.convert(text, Name, dec_hook=decode_name) == text
    else:
        with pytest.raises(msgspec.ValidationError, match="is no name"):
            msgspec.convert(text, Name, dec_hook=decode_name)


def test_any_is_a_name_only_where_it_may_stand():
    assert msgspec.convert("*", NameOrAny, dec_hook=decode_name) == "*"
    with pytest.raises(msgspec.ValidationError, match="is no name"):
        msgspec.convert("*", Name, dec_hook=decode_name)


def test_a_host_may_be_called_as_its_machine_is():
    assert msgspec.convert("DB-01", HostName, dec_hook=decode_name) == "DB-01"
    for name in ("DB 01", "-DB", "*", ""):
        with pytest.raises(msgspec.ValidationError, match="is no name: use letters"):
            msgspec.convert(name, HostName, dec_hook=decode_name)


def test_what_is_no_text_is_refused_with_its_place():
    with pytest.raises(msgspec.ValidationError, match=r"Expected `str` - at `\$\[1\]`"):
        msgspec.convert(["web", 1], list[Name], dec_hook=decode_name)


def test_another_kind_is_a_defect():
    with pytest.raises(TypeError):
        decode_name(bytes, "x")
