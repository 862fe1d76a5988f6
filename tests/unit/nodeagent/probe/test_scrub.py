"""Secrets in text that leaves the host."""

import pytest

from nodeagent.probe.scrub import MASK, scrub

TOKEN = "3f2a9c1e-canary-77"


@pytest.mark.parametrize(
    "text",
    [
        f"sent {TOKEN} to the catalog", f"X-Consul-Token: {TOKEN}", f"token={TOKEN}", f'{{"SecretID": "{TOKEN}"}}', f"db_password = '{TOKEN}'",
        f"Authorization: Bearer {TOKEN}", f"https://user:{TOKEN}@host/x", f"CONSUL_HTTP_TOKEN={TOKEN} nodeagent", f"api_key: {TOKEN}",
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
        "http://10.0.0.1:8500/v1/kv", '"token": null',
    ],
)  # fmt: skip
def test_what_tells_something_stays(text: str) -> None:
    """A file's path is no secret."""
    assert scrub(text, ("", "web")) == text
