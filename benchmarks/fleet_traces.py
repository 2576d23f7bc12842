"""Made-up fleets of any size: `python -m benchmarks.fleet_traces FOLDER --nodes 1000 --events 100000`.

Nodes begin within two seconds, fetch the same objects and read for different times; every 25th is slow on the network. Some traces are
generated, and the others are copies of them with a host and a clock of their own.
"""

from __future__ import annotations

import datetime
import json
import random
import shutil
from pathlib import Path
from typing import Final

import click

from benchmarks.big_trace import FETCH_EVERY, big_trace
from benchmarks.synthetic_trace import write_to

BEGIN: Final = datetime.datetime(2026, 1, 1, 12, tzinfo=datetime.UTC)
EVENTS_PER_REQUEST: Final = 7.11
SLOW_EVERY: Final = 25
SLOWER: Final = 6.0
STAGGER_NS: Final = 2_000_000_000


def write_fleet(folder: Path, nodes: int, events: int, distinct: int = 20, seed: int = 1) -> int:
    """Write traces of so many nodes with about so many events each into a folder; return how many events they have."""
    folder.mkdir(parents=True, exist_ok=True)
    requests = max(round(events / EVENTS_PER_REQUEST), FETCH_EVERY)
    chance = random.Random(seed)
    made: dict[bool, list[Path]] = {False: [], True: []}
    total = 0
    counts: dict[Path, int] = {}
    for number in range(nodes):
        is_slow = number % SLOW_EVERY == SLOW_EVERY - 1
        path = folder / f"node-{number:05}"
        kin = made[is_slow]
        if len(kin) < max(distinct // 5 if is_slow else distinct, 1):
            trace = big_trace(requests, min(100, requests // 10), seed=seed + number, slower=SLOWER if is_slow else 1.0)
            write_to(trace, path)
            kin.append(path)
            counts[path] = len(trace.events)
        else:
            shutil.copytree(kin[number % len(kin)], path, dirs_exist_ok=True)
            counts[path] = counts[kin[number % len(kin)]]
        _give_host(path, f"node-{number:05}", chance.randrange(STAGGER_NS))
        total += counts[path]
    return total


def _give_host(path: Path, host: str, late_ns: int) -> None:
    """Let a trace be of a host, and begin so long after the others."""
    meta = json.loads((path / "meta.json").read_text())
    start_ns = meta["clock"]["start_ns"]
    begin_ns = int(BEGIN.timestamp()) * 10**9 + late_ns
    meta["host"] = host
    meta["started"] = (BEGIN + datetime.timedelta(microseconds=late_ns // 1000)).isoformat()
    meta["clock"] |= {"realtime_offset_ns": begin_ns - start_ns, "error_ns": 2_000_000}
    (path / "meta.json").write_text(json.dumps(meta))


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--nodes", default=1000, show_default=True, type=click.IntRange(min=1))
@click.option("--events", default=100_000, show_default=True, type=click.IntRange(min=1), help="Of each node, about.")
@click.option(
    "--distinct", default=20, show_default=True, type=click.IntRange(min=1), help="Traces that are not copies."
)
def main(folder: Path, nodes: int, events: int, distinct: int) -> None:
    """Write the traces of a made-up fleet."""
    click.echo(f"{write_fleet(folder, nodes, events, distinct):,} events")


if __name__ == "__main__":
    main()
