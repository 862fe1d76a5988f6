"""The table of keys that a Consul before 1.9 refuses, held to a real 1.8.7: every key that an entry can have is put."""

import re

import msgspec.inspect as mi
import pytest

from nodeagent.catalog.policy.entries import KINDS
from nodeagent.catalog.policy.older import UNKNOWN, unknown_keys
from tests.e2e.support.consul import Consul

PLAIN = ((mi.BoolType, True), (mi.IntType, 1), (mi.FloatType, 1.0), (mi.StrType, "x"), (mi.CustomType, "1s"))
SCOPES = ("Namespace", "Partition")  # never written: `Entry.said` has none


def full(kind):
    """A value of the type in which nothing is unsaid."""
    if isinstance(kind, mi.UnionType):
        return full(next(each for each in kind.types if not isinstance(each, mi.NoneType)))
    if isinstance(kind, mi.StructType):
        return {field.encode_name: full(field.type) for field in kind.fields if field.encode_name not in SCOPES}
    if isinstance(kind, mi.VarTupleType):
        return [full(kind.item_type)]
    if isinstance(kind, mi.DictType):
        return {"k": full(kind.value_type)}
    if isinstance(kind, mi.LiteralType):
        return next(value for value in kind.values if value)
    return next((value for plain, value in PLAIN if isinstance(kind, plain)), {"a": 1})


@pytest.fixture(scope="module")
def client(tmp_path_factory):
    with Consul(tmp_path_factory.mktemp("keys")) as running:
        yield running.client()


@pytest.mark.parametrize("kind", UNKNOWN)
def test_the_keys_that_it_refuses_are_those_of_the_table(client, kind):
    body = full(mi.type_info(KINDS[kind].shape))
    answer = client.put("/v1/config", body)
    assert answer.status == 400
    assert sorted(re.findall(r'invalid config key "([^"]+)"', answer.text)) == sorted(unknown_keys(kind, body))
