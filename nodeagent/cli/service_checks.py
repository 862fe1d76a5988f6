"""Health checks on the command line: what `--check` says, and how instances are."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import click
from click.shell_completion import CompletionItem

from nodeagent.cli.render import clip
from nodeagent.cli.seconds import Span

_STATUSES = ("passing", "warning", "critical")
INTERVAL_S = 10
_LONGEST_S = 86_400
_WHY_CHARS = 120


class Check(click.ParamType):  # type: ignore[type-arg] # older clicks have no argument here
    """`http://127.0.0.1:8080/health`, `tcp://127.0.0.1:5432`, or `ttl:30s`, as Consul has them."""

    name = "check"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> dict[str, object]:
        """click's: what stands in a registration, but the interval."""
        text = str(value)
        if text.startswith(("http://", "https://")):
            return {"HTTP": text}
        if text.startswith("tcp://"):
            return {"TCP": text.removeprefix("tcp://").rstrip("/")}
        if text.startswith("ttl:"):
            return {"TTL": f"{Span(_LONGEST_S).convert(text.removeprefix('ttl:'), param, ctx)}s"}
        raise click.BadParameter(f"{text!r} is no check: write http://127.0.0.1:8080/health, tcp://127.0.0.1:5432 or ttl:30s", ctx, param)

    def shell_complete(self, _ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """click's: how one begins."""
        forms = ("http://127.0.0.1:", "tcp://127.0.0.1:", "ttl:30s")
        return [CompletionItem(each) for each in forms if each.startswith(incomplete)]


def checks_body(checks: Iterable[Mapping[str, object]], interval_s: int, timeout_s: int) -> list[dict[str, object]]:
    """The checks as a registration has them. Those that somebody looks at have an interval and a timeout."""
    timed = {"Interval": f"{interval_s}s", "Timeout": f"{timeout_s}s"}
    return [dict(check) if "TTL" in check else {**check, **timed} for check in checks]


def health_of(instance_id: str, checks: Iterable[Mapping[str, Any]]) -> str:
    """How an instance is, by its own checks and its host's: in a word, the worst; `-`: nobody looks."""
    found = {check.get("Status") for check in _of(instance_id, checks)}
    return next((status for status in reversed(_STATUSES) if status in found), "-")


def why_of(instance_id: str, checks: Sequence[Mapping[str, Any]]) -> str:
    """What the checks say that make an instance what `health_of` says; `-`: nothing is wrong."""
    worst = health_of(instance_id, checks)
    said = [_said(check) for check in _of(instance_id, checks) if check.get("Status") == worst] if worst in _STATUSES[1:] else []
    return "; ".join(said) or "-"


def _of(instance_id: str, checks: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    return [check for check in checks if check.get("ServiceID") in ("", None, instance_id)]


def _said(check: Mapping[str, Any]) -> str:
    output = " ".join(str(check.get("Output") or "").split())
    return f"{check.get('CheckID')}{f': {clip(output, _WHY_CHARS)}' if output else ''}"
