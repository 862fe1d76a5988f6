"""The catalog's HTTP API for one command: address and CA from the configuration, and the operator's token."""

import http.client
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import click

from nodeagent import consul_environ
from nodeagent.cli.render import waiting, warn
from nodeagent.config import DEFAULT_PATH, CatalogTable, Config, load_config
from nodeagent.control.catalog_tls import connection_to
from nodeagent.control.json_http import exchange
from nodeagent.errors import CatalogError

OPERATOR_TOKEN = Path("/etc/nodeagent/operator.token")
OPERATOR_CONFIG = Path("/etc/nodeagent-catalog/operator.toml")
"""What the Ansible role `catalog` leaves on the catalog's host for commands that are given there."""
_ANSWER_S = 15.0

config_option = click.option(
    "--config", "config_path", type=click.Path(path_type=Path), default=DEFAULT_PATH, show_default=True,
    help="Where the catalog's address and CA are.",
)  # fmt: skip
token_option = click.option(
    "--token-file", type=click.Path(path_type=Path),
    help="File with the token to use; else CONSUL_HTTP_TOKEN_FILE, CONSUL_HTTP_TOKEN, "
    f"{OPERATOR_TOKEN} or the agent's own.",
)  # fmt: skip


class Client:
    """A connection to the catalog for one command. Never shown: its repr names the address alone."""

    def __init__(self, table: CatalogTable, token: str, *, is_own: bool = False, config_path: Path = DEFAULT_PATH) -> None:
        """is_own: the token is this host's, because none was named. config_path: where `table` was read."""
        self._table = table
        self._token = token
        self._is_own = is_own
        self._config_path = config_path

    def __repr__(self) -> str:
        return f"Client({self._table.address!r})"

    def ask(self, method: str, path: str, body: object = None, **query: str) -> Any:
        """The catalog's answer, decoded.

        Raises:
            CatalogError: and its kinds, as `exchange`; also for a CA file that cannot be read.
        """
        target = path + (f"?{urlencode(query)}" if query else "")
        try:
            with waiting(f"the catalog at {self._table.address}"):
                return exchange(self._open(), self._token, method, target, body)
        except CatalogError as error:
            raise type(error)(f"{self._table.address}: {error}{self._cure(str(error), path, query)}") from error

    def _cure(self, error: str, path: str = "", query: Mapping[str, str] | None = None) -> str:
        """Which token to try, where the catalog did not like the one that was sent; of Consul's, which right it lacks."""
        if "answered 401 " not in error and "answered 403 " not in error:
            return ""
        if "Permission denied" in error:  # Consul's words, and not the embedded catalog's
            return f" It takes {_rule_for(path, query or {})}, by this token or by another that is named with --token-file"
        if self._is_own:
            return f" This host's own was sent, {self._table.token_file}; an operator's is used where it is named: {self._way(OPERATOR_TOKEN)}"
        sent = "" if self._token else f" None was sent: neither {OPERATOR_TOKEN} nor {self._table.token_file} can be read; try sudo."
        return f"{sent} An operator's token is needed: {self._way()}"

    def _way(self, token: Path | None = None) -> str:
        """How to name an operator's token. token: where one may be, of whom another was sent."""
        if self._config_path != OPERATOR_CONFIG and os.access(OPERATOR_CONFIG, os.F_OK):
            return f"on this host, the catalog's: sudo, and --config {OPERATOR_CONFIG}"
        named = f"--token-file {token}" if token else f"it goes into {OPERATOR_TOKEN}, or is named with --token-file"
        return f"{named}; the embedded catalog's is management.token in its directory, another: nodeagent catalog token create --management"

    def _open(self) -> http.client.HTTPConnection:
        return connection_to(self._table, _ANSWER_S)


def open_operator(config_path: Path, token_file: Path | None) -> Client:
    """A client that speaks as the operator: the first token that is there."""
    config = load_config(config_path)
    return Client(config.catalog, find_token(config, token_file, _environ_of(config)), config_path=config_path)


def open_host(config_path: Path, token_file: Path | None) -> Client:
    """A client that speaks as this host, whose token says what may be registered here; else as the operator."""
    config = load_config(config_path)
    own, environ = config.catalog.token_file, _environ_of(config)
    given = token_file is not None or "CONSUL_HTTP_TOKEN" in environ or "CONSUL_HTTP_TOKEN_FILE" in environ
    is_own = bool(own) and not given and os.access(own, os.F_OK)
    return Client(config.catalog, find_token(config, Path(own) if is_own else token_file, environ), is_own=is_own, config_path=config_path)


def find_token(
    config: Config, given: Path | None, environ: Mapping[str, str], operator: Path = OPERATOR_TOKEN
) -> str:
    """The token, from the first place that has one; empty where none has.

    Raises:
        CatalogError: the place cannot be read.
    """
    named = environ.get("CONSUL_HTTP_TOKEN_FILE")  # before the token itself, as Consul's own clients have it
    wanted = given or (Path(named) if named else None)
    if wanted is not None:
        return _read(wanted)
    if environ.get("CONSUL_HTTP_TOKEN"):
        return environ["CONSUL_HTTP_TOKEN"].strip()
    own = config.catalog.token_file
    for path in (operator, Path(own)) if own else (operator,):
        if os.access(path, os.R_OK):
            return _read(path)
    return ""


def _environ_of(config: Config) -> Mapping[str, str]:
    """The environment as far as it speaks of this catalog; says what of it does not count."""
    environ = os.environ
    for scope in consul_environ.scopes_in(environ):
        warn(scope)
    address = config.catalog.address
    if consul_environ.is_of(address, environ):
        return environ
    without = consul_environ.without_tokens(environ)
    if len(without) < len(environ):
        warn(f"the environment's token is not sent: CONSUL_HTTP_ADDR is another catalog than {address}, which the configuration names")
    return without


def _rule_for(path: str, query: Mapping[str, str]) -> str:
    """The rule of Consul's that lets a token do this."""
    if path.startswith("/v1/agent/maintenance"):
        return f'node "{query.get("node", "HOST")}" {{ policy = "write" }}'
    if path.startswith("/v1/agent/service/"):
        return 'service "NAME" { policy = "write" } of what is registered'
    return "an operator's rights (docs/policy.md has the rules)"


def segment(name: str) -> str:
    """A name as a part of a path."""
    return quote(name, safe="")


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise CatalogError(f"{path}: the token cannot be read: {error}; try sudo, or --token-file") from error
