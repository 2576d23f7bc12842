"""The embedded CVMFS as the place of an experiment: models built for it, and what a sweep varies set before each run.

All models of a sweep are in one repository, so that runs of different values can follow each other in random order. Delay and bandwidth are
changed over the control socket of the server, the limit of the client's cache by mounting again.
"""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from cvtrace.analysis.bench.schema import Sweep
from cvtrace.experiment.errors import WrongExperiment
from cvtrace.lab import quantities
from cvtrace.lab.errors import LabError
from cvtrace.lab.origin import control
from cvtrace.lab.stack import Options, Stack, remount, temporary
from cvtrace.lab.stack.models import FOLDER

MODEL: Final = "{model}"
"""What stands in the arguments for the path of the lab's model."""
Parse = Callable[[str], float]


def _count(text: str) -> float:
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise LabError(f"'{text}' is not a number of threads between 1 and 1024")
    return float(text)


AXES: Final[dict[str, tuple[Parse, str]]] = {
    "size": (lambda text: float(quantities.parse_size_bytes(text)), "B"),
    "chunk": (lambda text: float(quantities.parse_size_bytes(text)), "B"),
    "quota": (lambda text: float(quantities.parse_size_bytes(text)), "B"),
    "delay": (quantities.parse_duration_s, "s"),
    "bandwidth": (quantities.parse_bandwidth_bytes_per_s, "B/s"),
    "threads": (_count, "threads"),
}
"""What can be varied in the lab -> how a value is read, and its unit."""
DEFAULTS: Final = {"size": "64MB", "chunk": "8MiB", "quota": "4000MB", "delay": "0ms", "client": "lab"}


def parse_sweep(text: str) -> Sweep:
    """Return the sweep of `axis=value,value,…`. Raises LabError."""
    axis, separator, listed = text.partition("=")
    if axis not in AXES or not separator:
        raise LabError(f"'{text}' is not a sweep such as size=64MB,256MB: the axes are {', '.join(AXES)}")
    parse, unit = AXES[axis]
    values = tuple(dict.fromkeys(parse(each) for each in listed.split(",")))
    if len(values) < 2:
        raise LabError(f"a sweep needs at least two different values: {axis}={listed},…")
    return Sweep(axis, tuple(sorted(values)), unit)


def parse_options(text: str) -> dict[str, str]:
    """Return the options of `key=value,key=value`. Raises LabError."""
    options: dict[str, str] = {}
    for word in filter(None, text.split(",")):
        name, separator, value = word.partition("=")
        if name not in (*AXES, "client") or not separator:
            raise LabError(
                f"'{word}' is not an option of the lab such as size=256MB: there are {', '.join((*AXES, 'client'))}"
            )
        if name in AXES:
            AXES[name][0](value)
        options[name] = value
    return options


@dataclass(frozen=True)
class _Settings:
    """The lab as one run needs it; the first three decide which model is used."""

    size: float
    chunk: float
    threads: float | None
    quota: float
    delay: float
    bandwidth: float | None

    @property
    def model(self) -> str:
        threads = "" if self.threads is None else f"-{self.threads:.0f}-threads"
        return f"model-{self.size:.0f}-chunk-{self.chunk:.0f}{threads}"


def settings_of(options: Mapping[str, str], axis: str | None, value: float | None) -> _Settings:
    """Return what the lab is like at a value of the sweep."""
    texts = {**DEFAULTS, **options}
    numbers: dict[str, float | None] = {
        name: parse(texts[name]) if name in texts else None for name, (parse, _) in AXES.items()
    }
    if axis is not None:
        numbers[axis] = value
    return _Settings(**numbers)  # type: ignore[arg-type]


class Lab:
    """A lab that is up for an experiment."""

    def __init__(self, stack: Stack, options: Mapping[str, str], sweep: Sweep | None) -> None:
        self._stack = stack
        self._options = options
        self._axis = sweep.axis if sweep else None
        self._now: _Settings | None = None

    def settings(self, value: float | None) -> _Settings:
        return settings_of(self._options, self._axis, value)

    def set(self, value: float | None) -> None:
        """Let the lab be as the sweep wants it at a value. Raises LabError."""
        wished = self.settings(value)
        now = self._now
        if now is None or (wished.delay, wished.bandwidth) != (now.delay, now.bandwidth):
            injection: dict[str, Any] = {"first_byte_delay_s": wished.delay}
            if wished.bandwidth is not None:
                injection["bandwidth_bytes_per_s"] = wished.bandwidth
            control(self._stack.control, {"command": "inject", "injections": [injection]})
        if int(wished.quota) != self._stack.quota_bytes:
            self._stack = remount(replace(self._stack, quota_bytes=int(wished.quota)), wipe=True)
        self._now = wished

    def model(self, value: float | None) -> str:
        """Return the path of the model that is used at a value of the sweep."""
        return str(self._stack.mountpoint / FOLDER.lstrip("/") / self.settings(value).model)


@contextlib.contextmanager
def lab_for(options: Mapping[str, str], sweep: Sweep | None, say: Callable[[str], None]) -> Iterator[Lab]:
    """Bring a lab up with all models that a sweep needs, and remove all of it at the end. Raises LabError."""
    values = sweep.values if sweep else (None,)
    needed = {
        each.model: each for value in values for each in [settings_of(options, sweep.axis if sweep else None, value)]
    }
    first = next(iter(needed.values()))
    client = options.get("client", DEFAULTS["client"])
    # The stack builds a model of its own, which is not used: the smallest there is.
    up = Options(size_bytes=1_000_000, client=client, quota_bytes=int(first.quota), chunk_bytes=int(first.chunk))
    with temporary(up) as stack:
        for name, each in needed.items():
            say(f"building and publishing {name}")
            _publish(stack, name, each)
        yield Lab(remount(stack), options, sweep)  # a client reads the new revision when it mounts


def _publish(stack: Stack, name: str, settings: _Settings) -> None:
    from cvtrace.lab.model import build
    from cvtrace.lab.publish import publish

    folder = Path(stack.state) / "models" / name
    build(folder, int(settings.size))
    if settings.threads is not None:
        _set_threads(folder, int(settings.threads))
    publish(folder, fqrn=stack.fqrn, store=stack.store, at=f"{FOLDER}/{name}", chunk_size=int(settings.chunk))
    shutil.rmtree(folder)  # the repository has it all


def _set_threads(folder: Path, threads: int) -> None:
    """Let onnxruntime compute with so many threads."""
    path = folder / "genai_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config["model"]["decoder"]["session_options"]["intra_op_num_threads"] = threads
    path.write_text(json.dumps(config, indent=4), encoding="utf-8")


def check_arguments(variants: Mapping[str, tuple[str, ...]], on_lab: bool) -> None:
    """Raise WrongExperiment where the model of the lab has no place in the arguments, or there is no lab to take it from."""
    for name, argv in variants.items():
        has_place = any(MODEL in word for word in argv)
        if on_lab and not has_place:
            which = f"the arguments of {name}" if len(variants) > 1 else "the arguments"
            raise WrongExperiment(
                f"write {MODEL} into {which} where the path of the lab's model belongs: phi3-qa.py -m {MODEL} …"
            )
        if has_place and not on_lab:
            raise WrongExperiment(f"{MODEL} stands for a model of the lab: add --lab size=64MB, or write a path")
