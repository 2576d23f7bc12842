"""A lab for benchmarks/what_if.py: its caches brought into the states of `cvtrace bench`, and runs that were in them.

What a run is compared with must be what it claims to be. A state is verified before the run (residency) and after it (the client's counters), and a
run that was not in it is made again: memory is reclaimed while a large model waits for its run.
"""

from __future__ import annotations

import contextlib
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from benchmarks.quiet_moment import wait_for_quiet
from benchmarks.tracers import cvtrace
from cvtrace.analysis.bench.schema import HOT, LOCAL, WARM_MEMORY
from cvtrace.experiment import states
from cvtrace.experiment.copies import LocalCopy, local_copy
from cvtrace.experiment.files import Place, look
from cvtrace.experiment.holding import held
from cvtrace.lab.origin import control
from cvtrace.lab.stack import Stack, wipe_client_cache
from cvtrace.tracer.user import User, calling_user

SCRIPT, READERS = (Path(__file__).with_name(name) for name in ("genai.py", "readers.py"))
READ_CHUNK_BYTES: Final = 1 << 20
TOKENS: Final = 32
TRIES: Final = 5
"""How often a run is made until it was in its state."""


@dataclass
class Lab:
    """A stack that is up, and what can be run on it. Every run leaves a trace."""

    folder: Path
    stack: Stack
    stacks: contextlib.ExitStack
    """Removes the local copy in the end."""
    busy: list[float] = field(default_factory=list)
    """Which share of the CPUs other programs had before each run."""
    _copy: LocalCopy | None = None

    def cold(self, **injected: float) -> Path:
        """Load with nothing in the client's cache, from an origin that is so slow."""
        self._empty(injected)
        return self._load(self.stack.model)

    def hot(self) -> Path:
        """Load with everything in the page cache."""
        return self._in_state(HOT)

    def cached(self) -> Path:
        """Load with everything in the client's cache, whose files are in memory, and nothing of the mount in the page cache."""
        return self._in_state(WARM_MEMORY)

    def local(self) -> Path:
        """Load a local copy that is in the page cache."""
        return self._in_state(LOCAL)

    def read(self, threads: int, **injected: float) -> Path:
        """Read the weights with so many threads, with nothing in the client's cache."""
        self._empty(injected)
        weights = max(self.stack.model.iterdir(), key=lambda path: path.stat().st_size)
        return self._trace([sys.executable, str(READERS), str(weights), str(READ_CHUNK_BYTES), str(threads)])

    def _empty(self, injected: dict[str, float]) -> None:
        control(self.stack.control, {"command": "inject", "injections": []})
        self.stack = wipe_client_cache(self.stack)
        os.sync()  # what earlier runs left to write takes the disk and the CPUs from no run
        if injected:
            control(self.stack.control, {"command": "inject", "injections": [injected]})

    def _in_state(self, state: str) -> Path:
        control(self.stack.control, {"command": "inject", "injections": []})
        reason = ""
        user = calling_user(os.environ)
        place = look([str(self.stack.model)], (), Path.cwd(), user)
        for _ in range(TRIES):
            copy = self._copied(place, user) if state == LOCAL else None
            states.bring_about(state, place, copy)
            os.sync()
            with held(state, place, copy):
                reason = states.why_not(state, place, copy)
                if reason:
                    continue
                before = states.count(place)
                trace = self._load(self.stack.model if copy is None else Path(copy.pairs[0][1]))
                reason = states.contradiction(state, states.counted(before, states.count(place)))
            if not reason:
                return trace
            print(f"benchmark: {state}: {reason}; the run is made again", file=sys.stderr)
        raise SystemExit(f"benchmark: {state} cannot be reached: {reason}")

    def _copied(self, place: Place, user: User) -> LocalCopy:
        if self._copy is None:
            self._copy = self.stacks.enter_context(local_copy(place, self.folder, user, lambda _: None))
        return self._copy

    def _load(self, model: Path) -> Path:
        return self._trace([sys.executable, str(SCRIPT), str(model), str(TOKENS)])

    def _trace(self, argv: list[str]) -> Path:
        self.busy.append(wait_for_quiet())
        mount = ["--mount", str(self.stack.mountpoint), "--python", sys.executable]
        return cvtrace(argv, self.folder / "what-if.trace", *mount).trace
