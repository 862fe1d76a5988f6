"""The token in its file."""

import pytest

from nodeagent.control.token import TokenFile
from nodeagent.errors import CatalogError

CANARY = "canary-token-5f1c"


def test_token_is_read_without_its_newline(tmp_path) -> None:
    path = tmp_path / "token"
    path.write_text(CANARY + "\n")
    assert CANARY == TokenFile(str(path)).read()


def test_a_changed_file_is_read_again(tmp_path) -> None:
    path = tmp_path / "token"
    path.write_text("first")
    token = TokenFile(str(path))
    token.read()
    fresh = tmp_path / "fresh"
    fresh.write_text("second")
    fresh.replace(path)
    assert token.read() == "second"


def test_a_file_that_is_gone_or_not_configured_is_no_token(tmp_path) -> None:
    path = tmp_path / "token"
    path.write_text("first")
    token = TokenFile(str(path))
    token.read()
    path.unlink()
    assert token.read() == ""
    assert TokenFile("").read() == ""


@pytest.mark.parametrize("raw", [b"a\r\nX-Evil: 1", b"two words", b"\xff\xfe", b"nul\0"])
def test_what_cannot_be_a_header_is_refused_without_being_shown(tmp_path, raw: bytes) -> None:
    path = tmp_path / "token"
    path.write_bytes(raw)
    with pytest.raises(CatalogError) as caught:
        TokenFile(str(path)).read()
    assert "Evil" not in str(caught.value)
    assert str(path) in str(caught.value)


def test_a_directory_is_an_error_that_names_it(tmp_path) -> None:
    with pytest.raises(CatalogError, match=tmp_path.name):
        TokenFile(str(tmp_path)).read()


def test_repr_shows_no_token(tmp_path) -> None:
    path = tmp_path / "token"
    path.write_text(CANARY)
    token = TokenFile(str(path))
    token.read()
    assert CANARY not in repr(token)


def test_a_token_may_be_in_the_environment(monkeypatch) -> None:
    """The configuration says so, and never holds it; it is read at each use, and shown nowhere."""
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", " canary-token ")
    token = TokenFile("env:CONSUL_HTTP_TOKEN")
    assert (token.read(), token.why_none) == ("canary-token", "")
    assert "canary" not in repr(token)
    monkeypatch.delenv("CONSUL_HTTP_TOKEN")
    assert token.read() == ""
    assert "CONSUL_HTTP_TOKEN is not in the agent's environment" in token.why_none
