"""Secrets in text that leaves the host."""

import pytest

from nodeagent.probe.scrub import MASK, scrub

TOKEN = "3f2a9c1e-canary-77"


@pytest.mark.parametrize(
    "text",
    [
        f"sent {TOKEN} to the catalog", f"X-Consul-Token: {TOKEN}", f"token={TOKEN}", f'{{"SecretID": "{TOKEN}"}}', f"db_password = '{TOKEN}'",
        f"Authorization: Bearer {TOKEN}", f"https://user:{TOKEN}@host/x", f"CONSUL_HTTP_TOKEN={TOKEN} nodeagent", f"api_key: {TOKEN}",
        f"password=/{TOKEN}", f"token: Bearer {TOKEN}", f"credentials=Basic {TOKEN}", f"Authorization: Token {TOKEN}", f'{{"token": ["{TOKEN}"]}}', f"secret_id = {TOKEN}", f"curl --token {TOKEN} x",
        f"X-Consul-Token {TOKEN}", f"pwd={TOKEN}", f"Set-Cookie: a=b; session={TOKEN}", f"https://{TOKEN}@host", f"https://:{TOKEN}@host",
        f"postgres://user:p@{TOKEN}@host/db", f"Proxy-Authorization: Digest username=x, response={TOKEN}", f'{{"Authorization":"Basic {TOKEN}"}}',
        f"tokens: ['another-one', '{TOKEN}']", f'{{"token": ["another-one", "{TOKEN}", 7]}}', f"token: ['{TOKEN}",
        f"-----BEGIN EC PRIVATE KEY-----\n{TOKEN}\n-----END EC PRIVATE KEY-----", f"-----BEGIN PRIVATE KEY-----\n{TOKEN}",
    ],
)  # fmt: skip
def test_a_secret_is_masked_wherever_it_stands(text: str) -> None:
    """Known by its value, by its name, or by its form."""
    known = (TOKEN,) if text.startswith("sent") or "SecretID" in text else ()
    assert TOKEN not in scrub(text, known)
    assert MASK in scrub(text, known)


@pytest.mark.parametrize(
    "text",
    [
        '"token_file": "/etc/nodeagent/node.token"', "token: ", "the token speaks for web", "spiffe://3f2a.consul/ns/default/dc/dc1/svc/web",
        "http://10.0.0.1:8500/v1/kv", '"token": null', "token_file = /etc/x", "http://10.0.0.1/a@b", "tokens: []", "an intention of shop@host1",
        "catalog.token: no such setting; did you mean token_file?",
    ],
)  # fmt: skip
def test_what_tells_something_stays(text: str) -> None:
    """A file's path is no secret."""
    assert scrub(text, ("", "web")) == text


@pytest.mark.parametrize("text", ["a" * 200_000, "token" * 40_000, "a." * 100_000, "a://" * 50_000, "token=" * 30_000, '"token" ' * 25_000, "a@" * 100_000, "-" * 400_000, "token: [" * 50_000])
@pytest.mark.timeout(20)  # some milliseconds; with the square of the length it was minutes
def test_a_long_text_takes_time_in_proportion(text: str) -> None:
    """Whoever can write into a log must not be able to stop a support request."""
    assert scrub(text)
