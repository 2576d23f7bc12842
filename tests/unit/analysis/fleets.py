"""Small made-up fleets for tests."""

import json
import shutil
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from benchmarks.fleet_traces import write_fleet
from cvtrace.cli import main


def small_fleet(folder: Path, nodes: int = 6, events: int = 2_000) -> Path:
    """Write a fleet of which every fifth node is slow; each of its traces differs."""
    write_fleet(folder, nodes, events, distinct=nodes)
    return folder


def fleet(*arguments: Any) -> Result:
    """Run `cvtrace fleet`."""
    return CliRunner().invoke(main, ["fleet", *map(str, arguments)])


def change_meta(trace: Path, **changes: Any) -> None:
    """Change meta.json of a trace; a dict is merged into what is there."""
    meta = json.loads((trace / "meta.json").read_text())
    for name, value in changes.items():
        meta[name] = {**meta[name], **value} if isinstance(value, dict) else value
    (trace / "meta.json").write_text(json.dumps(meta))


def add_unusable(folder: Path, good: Path) -> dict[str, str]:
    """Write traces that cannot be read into a folder; return the name of each and a part of what is said of it."""
    (folder / "empty").mkdir()
    (folder / "foreign").mkdir()
    (folder / "foreign" / "meta.json").write_text('{"schema": "another-tool/7"}')
    shutil.copytree(good, folder / "newer")
    change_meta(folder / "newer", schema="cvtrace-trace/99")
    shutil.copytree(good, folder / "cut")
    whole = (folder / "cut" / "events.parquet").read_bytes()
    (folder / "cut" / "events.parquet").write_bytes(whole[: len(whole) // 2])
    shutil.copytree(good, folder / "killed")
    change_meta(folder / "killed", error="the disk was full")
    return {
        "empty": "is an empty folder",
        "foreign": "is not one of cvtrace",
        "newer": "of a newer cvtrace: update cvtrace",
        "cut": "is damaged",
        "killed": "the disk was full",
    }
