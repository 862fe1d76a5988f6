"""Bodies: strict JSON into declared shapes, everything else refused by name."""

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.embedded.body import parse_object, shaped
from nodeagent.embedded.refusal import BadRequest, Missing


class Shape(msgspec.Struct, forbid_unknown_fields=True, rename="pascal"):
    name: str
    port: int = 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"[]", "must be a JSON object"),
        (b"1", "must be a JSON object"),
        (b'{"a":1,"a":2}', "'a' stands twice"),
        (b'{"a":{"b":1,"b":1}}', "'b' stands twice"),
        (b'{"a":NaN}', "NaN is not"),
        (b'{"a":Infinity}', "Infinity is not"),
        (b'{"a":[-1e999]}', "-1e999 is too large"),
        (b"\xff\xfe", "not JSON"),
        (b'{"a":"\\ud800"}', "half of a surrogate pair"),
        (b'{"a":{"b":["\\uDFFF"]}}', "half of a surrogate pair"),
        (b'{"\\ud800":1}', "half of a surrogate pair"),
        (b'{"a":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested too deeply"),
        (b'{"a":' + b"9" * 10_000 + b"}", "not JSON"),
    ],
)
def test_what_is_no_plain_object_is_refused(text, sentence):
    with pytest.raises(BadRequest, match=sentence):
        parse_object(text)


@given(st.binary(max_size=200))
def test_any_bytes_give_an_object_or_our_refusal(text):
    try:
        made = parse_object(text)
    except BadRequest:
        return
    assert isinstance(made, dict)


def test_a_whole_surrogate_pair_is_a_character():
    assert parse_object(b'{"a":"\\ud83d\\ude00"}') == {"a": "\U0001f600"}


def test_a_duplicate_among_many_keys_is_found_in_one_pass():
    """Looking each of 30,000 keys up in the list of all took half a minute, in which the catalog answered nobody."""
    text = b"{" + b",".join(b'"%d":1' % number for number in range(30_000)) + b',"29999":1}'
    began = time.process_time()
    with pytest.raises(BadRequest, match="'29999' stands twice"):
        parse_object(text)
    assert time.process_time() - began < 1.0  # it takes 0.01 s


def test_null_means_absent():
    assert shaped({"Name": "web", "Port": None}, Shape).port == 0


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ({"Name": "web", "Prot": 1}, "Prot: no such key; did you mean Port"),
        ({"NAME": "web", "Name": "web"}, "'Name' stands twice, in two spellings"),
        ({"Name": "web", "Zzz": 1}, "Zzz: no such key$"),
        ({"Name": "web", "z" * 1000: 1}, "^z{80}: no such key$"),
        ({}, "Object missing required field `Name`"),
        ({"Name": 1}, "Name: Expected `str`"),
        ("x", "must be a JSON object"),
    ],
)
def test_a_wrong_key_or_type_is_named(value, sentence):
    with pytest.raises(BadRequest, match=sentence):
        shaped(value, Shape)


@pytest.mark.parametrize("empty", [None, "", {}, [], False, 0])
def test_an_unsupported_key_that_says_nothing_is_let_pass(empty):
    assert shaped({"Name": "web", "Check": empty}, Shape, ("Check",)).name == "web"


def test_an_unsupported_key_that_says_something_is_refused_by_name():
    with pytest.raises(Missing, match=r"Service\.Check is not implemented"):
        shaped({"Name": "web", "Check": {"TTL": "3s"}}, Shape, ("Check",), "Service")


@pytest.mark.parametrize(("value", "is_fine"), [("default", True), ("", True), ("team-a", False)])
def test_only_the_default_namespace_exists(value, is_fine):
    if is_fine:
        shaped({"Name": "web", "Namespace": value}, Shape, ("Namespace",))
    else:
        with pytest.raises(Missing, match="Namespace"):
            shaped({"Name": "web", "Namespace": value}, Shape, ("Namespace",))
