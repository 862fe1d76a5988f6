"""The catalog's log tells of tokens and restores, whoever made them, once each and without secrets."""

import asyncio

import pytest

from nodeagent import limits
from nodeagent.embedded import tokens_api
from nodeagent.embedded.database import EVERYTHING, commit, open_database
from nodeagent.embedded.datadir import DATABASE
from nodeagent.embedded.noticed import BESIDE, Noticed
from nodeagent.embedded.store import Store
from nodeagent.embedded.tokens import create_token, delete_token
from tests.support.eventually import eventually


@pytest.fixture
def said(capsys):
    """What the log has said by now, in all."""
    whole = []

    def read():
        found = capsys.readouterr()
        whole.append(found.out + found.err)
        return "".join(whole)

    return read


def test_a_token_that_is_made_and_revoked_by_http_is_told_with_who_did_it(desk, said):
    made = desk.call(tokens_api.create, body={"NodeIdentities": [{"NodeName": "host3"}], "ServiceIdentities": [{"ServiceName": "web"}]})
    desk.call(tokens_api.delete, accessor=made["AccessorID"])
    text = said()
    assert [word in text for word in ("token_created", "token_revoked", made["AccessorID"], "host3", "root", made["SecretID"])] == [*[True] * 5, False]


def test_what_is_done_beside_the_server_is_told_too(desk, said, monkeypatch):
    """By the command line: tokens, and a restore, after which policy is that of another day."""
    monkeypatch.setattr(limits, "CATALOG_OTHERS_S", 0.01)
    desk.store.noticed = Noticed(desk.store._reader)  # of the desk's own tokens, too
    other = open_database(desk.directory / DATABASE)

    async def run():
        hearing = asyncio.create_task(desk.store.hear_others())
        for act, word in (
            (lambda change: create_token(change, "read", now=0.0), "token_created"),
            (lambda change: delete_token(change, "one", 0.0), "token_revoked"),
            (lambda change: change.touch(EVERYTHING), "catalog_restored"),
        ):
            await asyncio.to_thread(commit, other, act)
            await asyncio.to_thread(eventually, lambda word=word: word in said(), 20, word)
        hearing.cancel()

    asyncio.run(run())
    other.close()
    text = said()
    assert [text.count(word) for word in ("token_created", "token_revoked", "catalog_restored", BESIDE)] == [1, 1, 1, 3]


def test_a_restore_of_before_the_start_is_not_told_as_one_of_now(desk, said, monkeypatch):
    monkeypatch.setattr(limits, "CATALOG_OTHERS_S", 0.01)
    other = open_database(desk.directory / DATABASE)
    commit(other, lambda change: change.touch(EVERYTHING))
    store = Store(desk.directory / DATABASE)

    async def run():
        hearing = asyncio.create_task(store.hear_others())
        await asyncio.to_thread(commit, other, lambda change: delete_token(change, "one", 0.0))
        await asyncio.to_thread(eventually, lambda: "token_revoked" in said(), 20, "the token")
        hearing.cancel()
        await store.close()

    asyncio.run(run())
    other.close()
    assert "catalog_restored" not in said()
