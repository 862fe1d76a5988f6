"""One question to the catalog, for commands: how it is put, and what answers and failures mean."""

import http.client
import json
import ssl
from typing import Any

from nodeagent import limits
from nodeagent.errors import CatalogError, CatalogTimeout, CatalogUnreachable, NotInCatalog

_OF_TIME = (9, 10)  # X509_V_ERR_CERT_NOT_YET_VALID, X509_V_ERR_CERT_HAS_EXPIRED
_UNWELCOME = ("CERTIFICATE_REQUIRED", "ALERT_BAD_CERTIFICATE", "ALERT_UNKNOWN_CA", "ALERT_CERTIFICATE_EXPIRED", "ALERT_UNSUPPORTED_CERTIFICATE")
_SHOWN_BYTES = 1500  # a refusal that names ten hosts with ten services each, and the cure at its end


def exchange(connection: http.client.HTTPConnection, token: str, method: str, target: str, body: object = None) -> Any:
    """What the catalog at the far end answers, decoded; `connection` is closed afterwards.

    Raises:
        CatalogUnreachable, CatalogTimeout: it does not answer; says why and what to do.
        NotInCatalog: it answered 404.
        CatalogError: it refused, or answered something that is not JSON.
    """
    try:
        payload = None if body is None else json.dumps(body).encode()
        connection.request(method, target, payload, {"X-Consul-Token": token} if token else {})
        response = connection.getresponse()
        data = response.read(limits.CATALOG_BODY_BYTES)
    except TimeoutError as error:
        raise CatalogTimeout("no answer in time; is the way to the catalog filtered?") from error
    except (OSError, http.client.HTTPException) as error:
        raise CatalogUnreachable(explain(error)) from error
    finally:
        connection.close()
    return parse_answer(response.status, data, f"{method} {target.partition('?')[0]}")


def parse_answer(status: int, data: bytes, asked: str) -> Any:
    """What an answer says.

    Raises:
        NotInCatalog, CatalogError: as `exchange`.
    """
    if status != http.HTTPStatus.OK:
        said = _printable(data[:_SHOWN_BYTES].decode("utf-8", "replace").strip())
        kind = NotInCatalog if status == http.HTTPStatus.NOT_FOUND else CatalogError
        cure = "; is it the right token?" if status in (401, 403) else ""
        raise kind(f"the catalog answered {status} to {asked}: {said or 'without a word'}{cure}")
    try:
        return json.loads(data) if data.strip() else None
    except (ValueError, RecursionError) as error:
        raise CatalogError(f"the catalog's answer to {asked} is not JSON: {error}") from error


def why_unaccepted(error: Exception) -> str:
    """Why the catalog's certificate is refused, with the cure; `error` is what the handshake ended by."""
    is_of_time = getattr(error, "verify_code", 0) in _OF_TIME
    cure = "is this host's clock right (timedatectl)?" if is_of_time else "is catalog.ca_file its CA?"
    return f"its certificate is not accepted ({getattr(error, 'verify_message', error)}); {cure}"


def why_unwelcome(error: BaseException | None) -> str:
    """Why the catalog ended the handshake, with the cure; empty: it did not for our certificate, or for the lack of one."""
    reason = str(getattr(error, "reason", "")) if isinstance(error, ssl.SSLError) else ""
    if not any(word in reason for word in _UNWELCOME):
        return ""
    return f"it wants a certificate that it believes of whoever calls ({reason}); give catalog.cert_file and catalog.key_file"


def explain(error: Exception) -> str:
    """Why nobody answered, with the cure."""
    if why := why_unwelcome(error):
        return why
    if isinstance(error, ssl.SSLCertVerificationError):
        return why_unaccepted(error)
    if isinstance(error, TimeoutError):
        return "no answer in time; does it hang, or is the way to it filtered?"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there; is the catalog running?"
    return f"{error or type(error).__name__}"


def _printable(text: str) -> str:
    """In one line and without what a terminal would obey: the far end chose these words, and Consul lists several errors in lines."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(text.split()))
