"""`script/bench snapshot`: what a mesh costs control and a worker, whole and by each change."""

import argparse
import multiprocessing
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from statistics import median

import msgspec

from nodeagent.catalog.codec import encode_snapshot
from nodeagent.catalog.compiler import compile_snapshot
from tests.bench import meshes, snapshot_control, snapshot_worker
from tests.bench.snapshot_control import DOMAIN, Plan, Stage

_COLUMNS = ("", "n", "p50", "p99", "max", "bytes", "stall: control", "worker", "late: control", "worker", "gc: control", "worker", "MB: control", "worker")  # fmt: skip


class Result(msgspec.Struct, frozen=True):
    """All that was measured."""

    size: meshes.Size
    compile_ms: float
    """All at once, in a process that does nothing else."""
    encode_ms: float
    stages: list[Stage]


def main() -> None:
    """Measures, and prints a table or JSON."""
    arguments = _arguments()
    size = meshes.Size(arguments.services, arguments.endpoints, arguments.intentions)
    _say(f"{size.services} services of {size.endpoints} endpoints, {size.intentions} intentions; {arguments.changes} changes of each kind")
    compile_ms, encode_ms = _in_process(_time_compiler, size)
    with tempfile.TemporaryDirectory() as folder:
        result = Result(size, compile_ms, encode_ms, list(_stages(folder, Plan(size, arguments.changes, arguments.settle))))
    sys.stdout.write(msgspec.json.encode(result).decode() + "\n" if arguments.output == "json" else _table(result))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="script/bench snapshot", description="What a mesh costs control and a worker, whole and by each change.")
    defaults = meshes.Size()
    parser.add_argument("--services", type=int, default=defaults.services)
    parser.add_argument("--endpoints", type=int, default=defaults.endpoints, help="of each service")
    parser.add_argument("--intentions", type=int, default=defaults.intentions)
    parser.add_argument("--changes", type=int, default=100, help="of each kind")
    parser.add_argument("--settle", type=float, default=3.0, metavar="SECONDS", help="after each kind, while what changed is saved")
    parser.add_argument("-o", "--output", choices=("table", "json"), default="table")
    return parser.parse_args()


def _stages(folder: str, plan: Plan) -> Iterator[Stage]:
    """Each as soon as it is measured; control and the worker are processes of their own."""
    spawn, config = multiprocessing.get_context("spawn"), meshes.config_in(folder)
    ours, theirs = socket.socketpair()
    (from_worker, to_control), (from_control, asker) = spawn.Pipe(), spawn.Pipe()
    work = [
        spawn.Process(target=snapshot_worker.run, args=(config, theirs, to_control), daemon=True),
        spawn.Process(target=snapshot_control.run, args=(config, plan, ours, (from_worker, asker)), daemon=True),
    ]
    for process in work:
        process.start()
    for mine in (ours, theirs, from_worker, to_control, asker):
        mine.close()
    while (stage := from_control.recv()) is not None:
        _say(f"measured: {stage.name}")
        yield stage
    for process in work:
        process.kill()
        process.join()


def _in_process(work: Callable[[Connection, meshes.Size], None], size: meshes.Size) -> tuple[float, float]:
    spawn = multiprocessing.get_context("spawn")
    ours, theirs = spawn.Pipe()
    process = spawn.Process(target=work, args=(theirs, size), daemon=True)
    process.start()
    said: tuple[float, float] = ours.recv()
    process.join()
    return said


def _time_compiler(pipe: Connection, size: meshes.Size) -> None:
    """Medians of five."""
    state, config = meshes.catalog_of(size), meshes.config_in("/nowhere")
    compiled, encoded = [], []
    for generation in range(1, 6):
        began = time.perf_counter()
        snapshot = compile_snapshot(state, config, trust_domain=DOMAIN, generation=generation)
        compiled.append(1000 * (time.perf_counter() - began))
        began = time.perf_counter()
        encode_snapshot(snapshot)
        encoded.append(1000 * (time.perf_counter() - began))
    pipe.send((median(compiled), median(encoded)))


def _table(result: Result) -> str:
    rows = [_COLUMNS, *(_row(stage) for stage in result.stages)]
    widths = [max(len(row[n]) for row in rows) for n in range(len(_COLUMNS))]
    lines = ["  ".join(cell.rjust(width) if n else cell.ljust(width) for n, (cell, width) in enumerate(zip(row, widths, strict=True))) for row in rows]
    peak = "; ".join(f"{name} {getattr(result.stages[-1], name).peak_mb:.0f}" for name in ("control", "worker"))
    return "\n".join([*lines, f"times in ms; compiled in {result.compile_ms:.0f}, encoded in {result.encode_ms:.0f}; peak MB: {peak}", ""])


def _row(stage: Stage) -> tuple[str, ...]:
    times, sent = sorted(stage.latencies_ms), sorted(stage.sent)
    ends = (stage.control, stage.worker)
    said = (times[len(times) // 2], times[len(times) * 99 // 100], times[-1]) if times else ()
    return (
        stage.name, str(len(times)), *(f"{ms:.1f}" for ms in said), *[""] * (3 - len(said)), f"{sent[len(sent) // 2]:,}" if sent else "",
        *(f"{getattr(end, what):.1f}" for what in ("stall_ms", "late_ms", "collection_ms", "rss_mb") for end in ends),
    )  # fmt: skip


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


if __name__ == "__main__":
    main()
