"""The saving that `cvtrace bundle` predicts against the saving of a client that prefetches the bundle, in the lab at 20 ms.

With `--update` the table goes into docs/bundle.md, and the largest error into analysis/whatif/bundle.py.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.results import Row, Settings, cells_table, machine, put_between
from benchmarks.tracers import cvtrace
from benchmarks.what_if_page import ROOT, lab_error, signed
from cvtrace.analysis.attribution.study import study_of
from cvtrace.analysis.whatif.bundle import choose, plan
from cvtrace.lab.origin import control
from cvtrace.lab.publish import publish
from cvtrace.lab.stack import Options, Stack, temporary, wipe_client_cache
from cvtrace.tracer.store import read_trace

SCRIPT, READER = (Path(__file__).with_name(name) for name in ("genai.py", "many_files.py"))
PAGE, ERROR = ROOT / "docs" / "bundle.md", ROOT / "analysis" / "whatif" / "bundle.py"
SIZE_BYTES = 64_000_000
TOKENS = 32
DELAY_S = 0.020
FILES, FILE_BYTES = 120, 40_000
LARGE_BYTES = 64_000_000


@dataclass(frozen=True)
class _Case:
    """What is run on a stack, and the folder of the repository that the files are in."""

    label: str
    folder: str
    command: Callable[[Stack], list[str]]


def run(settings: Settings) -> list[Row]:
    """Record cold runs, make the bundle of each, publish it on a second stack, and run there, in rounds."""
    options = Options(size_bytes=SIZE_BYTES, client="lab", like="2.14")
    with temporary(options) as plain, temporary(options) as bundled:
        name = plain.model.name
        for stack in (plain, bundled):
            _publish_files(stack)
        cases = [
            _Case(f"{FILES} files of {FILE_BYTES // 1000} kB, one after the other", "/files", _reading("files")),
            _Case(
                f"one file of {LARGE_BYTES // 10**6} MB in chunks of 8 MiB, after a small one",
                "/large",
                _reading("large"),
            ),
            _Case(
                f"a model of {SIZE_BYTES // 10**6} MB, load and {TOKENS} tokens",
                f"/models/{name}",
                lambda stack: [sys.executable, str(SCRIPT), str(stack.model), str(TOKENS)],
            ),
        ]
        compared = [_compared(case, settings, plain, bundled) for case in cases]
    if settings.update:
        _write_page(compared, settings.repeats)
    return [each.row() for each in compared]


def _reading(folder: str) -> Callable[[Stack], list[str]]:
    return lambda stack: [sys.executable, str(READER), str(stack.mountpoint / folder)]


def _publish_files(stack: Stack) -> None:
    """Add two folders to the repository: many small files, and a large one beside a small one."""
    contents = {
        "files": {f"part{number:03d}": bytes([number]) * FILE_BYTES for number in range(FILES)},
        "large": {"begin": b"b", "weights": bytes(range(256)) * (LARGE_BYTES // 256)},
    }
    for name, files in contents.items():
        with TemporaryDirectory() as folder:
            for file, content in files.items():
                (Path(folder) / file).write_bytes(content)
            publish(Path(folder), fqrn=stack.fqrn, store=stack.store, at=f"/{name}", compression="none")


@dataclass(frozen=True)
class _Compared:
    """Rounds of a case: seconds of the run without the bundle, those that it is predicted to save, those of the run with it."""

    label: str
    rounds: tuple[tuple[float, float, float], ...]

    @property
    def shortest(self) -> tuple[float, float, float]:
        """Return the shortest of the rounds, each by itself, for whatever else runs only ever adds time."""
        was, saves, after = (min(each) for each in zip(*self.rounds, strict=True))
        return was, saves, after

    @property
    def error(self) -> float:
        """Return by how much the saving is predicted wrong, in per cent of the run."""
        return _error(*self.shortest)

    @property
    def spread(self) -> str:
        """Return the errors of single rounds."""
        errors = [_error(*each) for each in self.rounds]
        return f"rounds {signed(min(errors))} to {signed(max(errors))} %" if len(errors) > 1 else "one round"

    def row(self) -> Row:
        """Return the row that the benchmark prints."""
        was_s, saves_s, after_s = self.shortest
        saved = f"saves {saves_s:.3f} s as predicted, {was_s - after_s:.3f} s as measured"
        error = f"{signed(self.error)} % of the run; {self.spread}"
        return Row(self.label, f"was {was_s:.3f} s, is {after_s:.3f} s; {saved}: {error}")

    def cells(self) -> list[str]:
        """Return the cells of the table of the page."""
        was_s, saves_s, after_s = self.shortest
        seconds = [f"{each:.3f} s" for each in (was_s, after_s, saves_s, was_s - after_s)]
        return [self.label, *seconds, f"{signed(self.error)} % ({self.spread})"]


def _error(was_s: float, saves_s: float, after_s: float) -> float:
    return 100 * (was_s - saves_s - after_s) / was_s


def _write_page(compared: list[_Compared], rounds: int) -> None:
    """Put the table into docs/bundle.md, and the largest error where `cvtrace bundle` has it from."""
    head = ["run", "without", "with the bundle", "saves, predicted", "saves, measured", "error, of the run"]
    table = cells_table(head, (each.cells() for each in compared))
    put_between(PAGE, f"{table}\n\nThe shortest of {rounds} rounds. {machine()}.\n")
    largest = max(lab_error(each.error) for each in compared)
    text, count = re.subn(
        r"^(LAB_ERROR: Final = )[0-9.]+$", rf"\g<1>{largest:.2f}", ERROR.read_text(), flags=re.MULTILINE
    )
    assert count == 1
    ERROR.write_text(text)


def _compared(case: _Case, settings: Settings, plain: Stack, bundled: Stack) -> _Compared:
    print(f"benchmark: {case.label}", file=sys.stderr)
    rounds: list[tuple[float, float, float]] = []
    for number in range(settings.repeats):
        was_s, saves_s, document = _predicted(case, settings, plain)
        if not number:
            _publish_bundle(case, bundled, document)
        rounds.append((was_s, saves_s, _wall_s(_record(case, settings, bundled))))
    return _Compared(case.label, tuple(rounds))


def _predicted(case: _Case, settings: Settings, stack: Stack) -> tuple[float, float, str]:
    """Return what a cold run takes, what its bundle saves as predicted, and the bundle."""
    study = study_of(read_trace(_record(case, settings, stack)))
    bundle = plan(study, choose(study, None), {})
    if bundle.prediction.saves_s is None:
        raise SystemExit(f"benchmark: nothing can be predicted: {bundle.prediction.reason}")
    return (
        bundle.prediction.measured_s,
        bundle.prediction.saves_s,
        json.dumps({"n": bundle.name, "d": bundle.document()}),
    )


def _wall_s(trace: Path) -> float:
    segments = study_of(read_trace(trace)).segments
    return int((segments.end - segments.start).sum()) / 1e9


def _record(case: _Case, settings: Settings, stack: Stack) -> Path:
    """Run on an empty cache, far from the server; the catalog is there."""
    control(stack.control, {"command": "inject", "injections": []})
    fresh = wipe_client_cache(stack)
    list(fresh.mountpoint.iterdir())
    control(stack.control, {"command": "inject", "injections": [{"first_byte_delay_s": DELAY_S}]})
    mount = ["--mount", str(fresh.mountpoint), "--python", sys.executable]
    return cvtrace(case.command(fresh), settings.folder / "bundle.trace", *mount).trace


def _publish_bundle(case: _Case, stack: Stack, document: str) -> None:
    bundle = json.loads(document)
    with TemporaryDirectory() as folder:
        file = Path(folder) / bundle["n"]
        file.write_text(json.dumps(bundle["d"]))
        publish(file, fqrn=stack.fqrn, store=stack.store, at=case.folder)
