"""One look at an application of this host: does it take a connection, does it answer well."""

import asyncio
import socket
from contextlib import suppress
from urllib.parse import urlsplit

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult

from nodeagent import limits
from nodeagent.catalog.duties import Duty, Look, Status
from nodeagent.control.own_address import check_own
from nodeagent.model.address import parse_address
from nodeagent.observe.log import open_log

_log = open_log()

_LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}
_WELL, _TOO_MANY = range(200, 300), 429


class _Here(AbstractResolver):
    """The one name that is this host for everybody; no other is looked up."""

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET) -> list[ResolveResult]:
        """Both loopback addresses of `localhost`."""
        if host != "localhost":
            raise OSError(f"{host} is not this host")
        return [
            ResolveResult(hostname=host, host=ip, port=port, family=kind, proto=0, flags=socket.AI_NUMERICHOST)
            for kind, ip in _LOOPBACK.items()
            if family in (socket.AF_UNSPEC, kind)
        ]

    async def close(self) -> None:
        """Nothing is held."""


class Looker:
    """Looks at applications. Owned by who runs the checks; `close` gives its connections back."""

    def __init__(self) -> None:
        self._session: aiohttp.ClientSession | None = None

    async def look(self, duty: Duty) -> Look:
        """How it is now; every failure is one, and says why."""
        try:
            async with asyncio.timeout(duty.timeout_s):
                return await (self._look_at_port(duty) if duty.type == "tcp" else self._look_at_page(duty))
        except TimeoutError:
            return Look("critical", f"{duty.type} {_shown(duty)}: no answer within {duty.timeout_s:g} s", is_late=True)
        except (OSError, aiohttp.ClientError, ValueError) as error:
            return Look("critical", _text(f"{duty.type} {_shown(duty)}: {_why(error, duty)}"))
        except Exception as error:  # noqa: BLE001 - what one application answers must not end the looks at all others: logged
            _log.error("look_failed", check=duty.check_id, exc_info=True)
            return Look("critical", _text(f"{duty.type} {_shown(duty)}: the look itself failed: {type(error).__name__}"))

    async def close(self) -> None:
        """Ends its connections."""
        if self._session:
            await self._session.close()

    async def _look_at_port(self, duty: Duty) -> Look:
        host, _, port = duty.target.rpartition(":")
        error: OSError | None = None
        for ip in _LOOPBACK.values() if host == "localhost" else (str(parse_address(duty.target).ip),):
            try:
                check_own(ip)
                _, writer = await asyncio.open_connection(ip, int(port))
            except OSError as failure:
                error = error or failure
                continue
            is_itself = writer.get_extra_info("sockname") == writer.get_extra_info("peername")
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()
            if is_itself:  # nobody listens, and the kernel gave the call the very port that it was to reach
                error = error or ConnectionRefusedError(f"{duty.target} refuses connections")
                continue
            return Look("passing", f"TCP connect {duty.target}: Success")
        raise error or OSError("nothing to connect to")

    async def _look_at_page(self, duty: Duty) -> Look:
        session = self._session = self._session or _open_session()
        host = urlsplit(duty.target).hostname or ""
        if host != "localhost":
            check_own(host)
        headers = [(name, value) for name, values in duty.header.items() for value in values]
        async with session.request(
            duty.method, duty.target, headers=headers, allow_redirects=False, ssl=not duty.tls_skip_verify
        ) as response:  # fmt: skip
            said = (await response.content.read(limits.CHECK_OUTPUT_BYTES)).decode("utf-8", "replace")
            output = f"HTTP {duty.method} {_shown(duty)}: {response.status} {response.reason} Output: {said}"
        status: Status = "passing" if response.status in _WELL else "warning" if response.status == _TOO_MANY else "critical"
        return Look(status, _text(output))


def _shown(duty: Duty) -> str:
    """Without the query, in which there may be a secret: anybody may read what is told."""
    return duty.target.partition("?")[0]


def _why(error: Exception, duty: Duty) -> str:
    """What went wrong, without the query, as above."""
    if isinstance(error, aiohttp.ClientResponseError):
        error = ValueError(error.message)
    if isinstance(error, aiohttp.ClientConnectorError):  # it speaks of TLS where there is none
        error = error.os_error
    query = duty.target.partition("?")[2]
    text = str(error) or type(error).__name__
    return text.replace(query, "…") if query else text


def _text(said: str) -> str:
    """As much as is told, without the halves of characters that aiohttp makes of bytes that are no text."""
    return said[: limits.CHECK_OUTPUT_BYTES].encode("utf-8", "replace").decode()


def _open_session() -> aiohttp.ClientSession:
    """What is sent and held is little, whatever an application answers: nothing is unpacked, and the status alone counts."""
    connector = aiohttp.TCPConnector(limit=limits.CHECK_LOOKS, force_close=True, resolver=_Here(), use_dns_cache=False)
    return aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(total=None), cookie_jar=aiohttp.DummyCookieJar(), trust_env=False,
        auto_decompress=False, headers={"User-Agent": "nodeagent health check"}, skip_auto_headers=["Accept-Encoding"],
    )  # fmt: skip
