"""`nodeagent policy test`: a table of requests against entries in files, for pipelines; nobody is asked."""

from collections.abc import Sequence

import click
import msgspec

from nodeagent.catalog.offline import offline_snapshot
from nodeagent.catalog.policy.references import reference_faults
from nodeagent.cli.main import EXIT_FAILED
from nodeagent.cli.policy_cases import Result, check_known, read_cases, run_case
from nodeagent.cli.policy_files import STDIN, read_given
from nodeagent.cli.policy_show import show_faults
from nodeagent.cli.render import output_option, printable, show_json
from nodeagent.errors import PolicyError

_OK, _DIFFERS = click.style("✓", "green"), click.style("\N{MULTIPLICATION SIGN}", "red")


@click.command()
@click.option("-f", "--file", "files", multiple=True, required=True, metavar="FILE", type=click.Path(path_type=str), help="Cases, as YAML or JSON. Can be repeated.")
@click.option(
    "--policy", "policies", multiple=True, required=True, metavar="PATH", type=click.Path(path_type=str, allow_dash=True),
    help=f"The entries, as `apply` takes them: a file, a directory, or {STDIN} for standard input. Can be repeated.",
)  # fmt: skip
@output_option
def test(*, files: Sequence[str], policies: Sequence[str], output: str) -> None:
    """What entries in files make of requests, compared with what is expected; by the functions that decide requests.

    A case has From, To, Method, Path, Headers, and Expect with Verdict (allow, deny or refused), Route, Targets with their shares, Path.
    Only what the entries say counts: not which instances there are, nor what the catalog has besides.

    Exit status: 0 all is as expected, 1 a case differs or a file is not sound.
    """
    try:
        results = _results(files, policies)
    except PolicyError as error:
        show_faults(error.faults, output)
        raise SystemExit(EXIT_FAILED) from None
    differing = [result for result in results if result.differences]
    if output == "json":
        show_json({"apiVersion": "nodeagent/v1", "cases": [_row(result) for result in results], "differing": len(differing)})
    else:
        _show(results)
        click.echo(f"{len(results)} {'case' if len(results) == 1 else 'cases'}, {len(differing) or 'none'} {'differ' if len(differing) > 1 else 'differs'}")
    if differing:
        raise SystemExit(EXIT_FAILED)


def _results(files: Sequence[str], policies: Sequence[str]) -> list[Result]:
    """Of all cases. Raises: PolicyError."""
    cases = read_cases(files)
    specs = {key: given.entry.spec for key, given in read_given(policies).items()}
    if faults := reference_faults(specs, is_all=True):
        raise PolicyError(*faults)
    snapshot = offline_snapshot(list(specs.values()))
    check_known(cases, snapshot)
    return [run_case(given, snapshot) for given in cases]


def _show(results: Sequence[Result]) -> None:
    for result in results:
        click.echo(f"{_DIFFERS if result.differences else _OK} {printable(str(result.given))}")
        for difference in result.differences:
            click.echo(f"    {printable(difference)}")


def _row(result: Result) -> dict[str, object]:
    return {
        "name": str(result.given),
        "place": result.given.place,
        "ok": not result.differences,
        "differences": result.differences,
        "explanation": msgspec.to_builtins(result.told),
    }
