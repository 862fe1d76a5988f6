"""Consul's own environment variables, where `nodeagent.toml` does not say where the catalog is; pure.

Where it does, none of them counts: their token is of another server, which this one must not learn. A variable that would
lead elsewhere, and cannot be followed, is refused: it must not be ignored in silence.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

TOKEN = "CONSUL_HTTP_TOKEN"  # noqa: S105 - a name
FROM_ENVIRONMENT = f"env:{TOKEN}"
"""As `catalog.token_file`: the token is in the environment. The configuration holds its place and never the token."""

_ADDR, _SSL, _TOKEN_FILE = "CONSUL_HTTP_ADDR", "CONSUL_HTTP_SSL", "CONSUL_HTTP_TOKEN_FILE"
_TLS = {"ca_file": "CONSUL_CACERT", "cert_file": "CONSUL_CLIENT_CERT", "key_file": "CONSUL_CLIENT_KEY", "server_name": "CONSUL_TLS_SERVER_NAME"}
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})  # as Go's ParseBool
_REFUSED = {
    "CONSUL_CAPATH": "give one file: CONSUL_CACERT, or catalog.ca_file",
    "CONSUL_HTTP_AUTH": "passwords are not sent; use a token",
}  # fmt: skip
_SECRET = (TOKEN, "CONSUL_HTTP_AUTH")
_SCOPES = ("CONSUL_NAMESPACE", "CONSUL_PARTITION")


def completed(tables: Mapping[str, Any], environ: Mapping[str, str]) -> dict[str, Any]:
    """The tables of a configuration, with what the environment says of the catalog where its address is there, and not in the file."""
    told = tables.get("catalog", {})
    if not isinstance(told, dict) or "address" in told or not environ.get(_ADDR):
        return dict(tables)
    found = {"address": _url(environ)} | {key: environ[name] for key, name in _TLS.items() if environ.get(name)}
    if environ.get(_TOKEN_FILE):  # before the other one, as Consul's own clients have it
        found["token_file"] = environ[_TOKEN_FILE]
    elif environ.get(TOKEN):
        found["token_file"] = FROM_ENVIRONMENT
    return {**tables, "catalog": {**found, **told}}


def faults_in(tables: Mapping[str, Any], environ: Mapping[str, str]) -> Iterator[str]:
    """What of the environment cannot be followed, a sentence each."""
    told = tables.get("catalog", {})
    if isinstance(told, dict) and "address" in told:
        return
    yield from scopes_in(environ)
    for name, cure in _REFUSED.items():
        if environ.get(name):
            yield f"the environment's {name} cannot be followed: {cure}"
    if environ.get("CONSUL_HTTP_SSL_VERIFY", "true") not in _TRUE:
        yield "the environment's CONSUL_HTTP_SSL_VERIFY cannot be followed: the catalog's certificate is always verified; give CONSUL_CACERT"
    if environ.get(_ADDR, "").startswith("unix://"):
        yield f"the environment's {_ADDR} is a unix socket; give the agent's address, such as 127.0.0.1:8500"


def scopes_in(environ: Mapping[str, str]) -> Iterator[str]:
    """Which variables name a part of Consul that no mesh is in, a sentence each."""
    for name in _SCOPES:
        if environ.get(name, "default") not in ("", "default"):
            yield f"the environment's {name} cannot be followed: a mesh has one namespace and partition, the default ones"


def is_of(address: str, environ: Mapping[str, str]) -> bool:
    """Whether the environment's token may be sent to the catalog at this address: it is said to be of no other."""
    return not environ.get(_ADDR) or _url(environ).rstrip("/") == address.rstrip("/")


def without_tokens(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment without what it says of tokens."""
    return {key: value for key, value in environ.items() if key not in (TOKEN, _TOKEN_FILE)}


def without_token(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for processes that never speak to the catalog: without its secrets."""
    return {key: value for key, value in environ.items() if key not in _SECRET}


def _url(environ: Mapping[str, str]) -> str:
    """The catalog's address: TLS where either variable asks for it."""
    scheme, mark, rest = environ[_ADDR].rpartition("://")
    is_tls = environ.get(_SSL, "") in _TRUE or scheme == "https"
    return f"{'https' if is_tls else 'http'}://{rest}" if scheme in ("", "http", "https") else scheme + mark + rest


def without_secrets(address: str) -> str:
    """A URL without what may be a password or token in it: these words go to logs."""
    scheme = address[: address.find("://") + 3] if "://" in address else ""
    user, at, place = address.removeprefix(scheme).rpartition("@")
    return f"{scheme}{'…' if user else ''}{at}{re.sub(r'[?#].*', '?…', place, flags=re.DOTALL)}"
