"""The runs of an experiment in their order: each state brought about, verified, the script run, and verified again.

A run that was not in the state that it claims is marked, left out of the statistics and repeated once. Every finished run is on disk before the
next one begins, so an interruption at any moment loses none, and the same command continues.
"""

from __future__ import annotations

import datetime
import platform
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final, Protocol

import cvtrace
from cvtrace.analysis.bench.schema import COLD, LOCAL, Bench, Cell, Run
from cvtrace.analysis.report.bench import in_words
from cvtrace.experiment import states
from cvtrace.experiment.copies import LocalCopy, local_copy
from cvtrace.experiment.errors import NotReachable, ScriptFailed
from cvtrace.experiment.files import Place, look
from cvtrace.experiment.holding import held
from cvtrace.experiment.interruption import Interruption
from cvtrace.experiment.launch import Ended, Script, last_line, run_traced, run_untraced, run_with_calls
from cvtrace.experiment.on_lab import MODEL, Lab
from cvtrace.experiment.record import Record
from cvtrace.experiment.settings import Experiment, Slot, slots_of
from cvtrace.tracer.user import User

CANNOT_OBSERVE: Final = 3
"""Exit code of `cvtrace run` where it cannot observe."""
TRIES: Final = 3
"""How often a state is brought about before the run counts as not verified."""


class Show(Protocol):
    """What shows how far the experiment is."""

    def begin(self, slots: list[Slot]) -> None:
        """Take the runs that are left."""

    def step(self, what: str) -> None:
        """Take what is done at the moment."""

    def done(self, slot: Slot, seconds: float) -> None:
        """Take what a run took, with its preparation."""


@dataclass(frozen=True)
class Callbacks:
    """The messages and questions of an experiment; `render` makes the page of a bench."""

    say: Callable[[str], None]
    confirm: Callable[[str], None]
    """Takes what is going to be emptied, one sentence; raises if the user does not agree."""
    show: Show
    render: Callable[[Bench], str]


@dataclass
class Runner:
    """An experiment that is being made."""

    experiment: Experiment
    record: Record
    user: User
    caller: User
    callbacks: Callbacks
    lab: Lab | None
    copies: ExitStack
    interruption: Interruption
    unreachable: dict[tuple[str, float | None, str], str] = field(default_factory=dict)
    _with_calls: set[str] = field(default_factory=set)
    """Variants that are no Python scripts and call the library of GenAI, as the kernel can tell."""
    _copies: dict[tuple[str, float | None], LocalCopy] = field(default_factory=dict)

    def run(self) -> None:
        """Make all runs that are not there yet. Raises one sentence as CannotObserve, WrongExperiment, ScriptFailed and others."""
        self._look_ahead()
        done = {_slot_of(run): run for run in self.record.runs}
        left = [slot for slot in slots_of(self.experiment) if slot.cell not in self.unreachable]
        left = [slot for slot in left if not _is_done(done.get(slot))]
        if not left:
            return
        self.callbacks.show.begin(left)
        for variant in self.experiment.variants:
            self._rehearse(variant.name)
        for slot in left:
            self.interruption.check()
            began_s = time.monotonic()
            earlier = done.get(slot)
            if earlier is None:
                earlier = self._measure(slot, repeated=False)
                self.record.add(earlier)
            if not earlier.verified:
                self.callbacks.say(f"{self._described(slot)}: {earlier.reason}; it is left out and repeated once")
                again = self._measure(slot, repeated=True)
                self.record.add(again)
                if not again.verified:
                    self.callbacks.say(f"{self._described(slot)}: {again.reason}; it is left out")
            self.callbacks.show.done(slot, time.monotonic() - began_s)

    def _look_ahead(self) -> None:
        """Find out which states can be reached, before anything is changed, and what is to be emptied."""
        emptied: dict[str, str] = {}
        rows = []
        client = ""
        for variant in self.experiment.variants:
            for value in self.experiment.values:
                place = self._place(variant.name, value)
                client = client or self._client(place)
                reasons = states.check_reachable(self.experiment.states, place)
                for state, reason in reasons.items():
                    self.unreachable[variant.name, value, state] = reason
                rows.append(Cell(variant.name, value, place.paths, len(place.files), place.bytes, place.objects))
                if self.lab is None and not place.on_lab:
                    emptied |= {mount.path: mount.fqrn for mount in place.mounts}
        self._refuse_or_say()
        self.record.update(replace(self.record.info, cells=tuple(rows), versions=_versions(client)))
        if emptied and set(self.experiment.states) - {LOCAL}:
            self.callbacks.confirm(what_is_emptied(emptied, self.experiment.states))

    def _refuse_or_say(self) -> None:
        """Say which cells are left out; refuse if that leaves a state without any."""
        for state in self.experiment.states:
            reasons = [reason for (_, _, each), reason in self.unreachable.items() if each == state]
            if len(reasons) == len(self.experiment.variants) * len(self.experiment.values):
                raise NotReachable(reasons[0])
        for (variant, value, _), reason in self.unreachable.items():
            self.callbacks.say(f"{self._named(variant, value)}: {reason}: left out")

    def _named(self, variant: str, value: float | None, state: str = "") -> str:
        """Return a cell in words."""
        at = "" if value is None else f"at {in_words(self.experiment.sweep, value)}"
        return " ".join(filter(None, (state, variant, at)))

    def _described(self, slot: Slot) -> str:
        return f"{self._named(slot.variant, slot.sweep_value, slot.state)}, round {slot.round + 1}"

    @staticmethod
    def _client(place: Place) -> str:
        names = {
            f"{mount.daemon.client if mount.daemon else 'cvmfs2'} {mount.version or ''}".strip()
            for mount in place.mounts
        }
        return ", ".join(sorted(names))

    def _argv(self, variant: str, value: float | None) -> tuple[str, ...]:
        argv = next(each.argv for each in self.experiment.variants if each.name == variant)
        return argv if self.lab is None else tuple(word.replace(MODEL, self.lab.model(value)) for word in argv)

    def _place(self, variant: str, value: float | None) -> Place:
        """Return the variant's files; anew before each run, as a client may have been mounted again."""
        if self.lab is not None:
            self.lab.set(value)
        return look(self._argv(variant, value), self.experiment.models, self.experiment.directory, self.user)

    def _script(self, variant: str, value: float | None) -> Script:
        return Script(
            self._argv(variant, value),
            self.experiment.python,
            self.experiment.directory,
            self.user,
            self.caller,
            self.experiment.timeout_s,
        )

    def _rehearse(self, variant: str) -> None:
        """Run the script once without measuring: the interpreter and its libraries are in memory afterwards. Raises ScriptFailed."""
        self.callbacks.show.step("a first run, not measured")
        reachable = [
            value
            for value in self.experiment.values
            if any((variant, value, state) not in self.unreachable for state in self.experiment.states)
        ]
        value = (reachable or self.experiment.values)[0]
        if self.lab is not None:
            self.lab.set(value)
        output = self.record.output / f"rehearsal-{_file_name(variant)}.txt"
        script = self._script(variant, value)
        ended = (
            run_untraced(script, None, output) if script.is_python else self._rehearse_program(variant, script, output)
        )
        if ended.trouble:
            raise ScriptFailed(f"{ended.trouble}, so nothing was measured: its output is in {output}")
        if ended.exit_code:
            last = last_line(output, self.user)
            raise ScriptFailed(
                f"the script failed with exit code {ended.exit_code}{f' ({last})' if last else ''}, so nothing was measured: its output is in {output}"
            )

    def _rehearse_program(self, variant: str, script: Script, output: Path) -> Ended:
        """Run a program that is not Python, and see whether the kernel tells of its calls."""
        if states.rights_suffice():
            ended = run_with_calls(script, None, output, self.record.traces / "rehearsal")
            if ended.times.load_s is not None:
                self._with_calls.add(variant)
            if not ended.trouble and ended.exit_code != CANNOT_OBSERVE:
                return ended
        return run_untraced(script, None, output)

    def _copy(self, slot: Slot, place: Place) -> LocalCopy | None:
        """Return the local copy that a slot needs; made when it is first needed."""
        if slot.state != LOCAL:
            return None
        key = slot.variant, slot.sweep_value
        if key not in self._copies:
            self.callbacks.show.step("copying the files")
            parent = self.experiment.copy_to or self.record.path.absolute()
            making = local_copy(place, parent, self.user, lambda _: None)
            self._copies[key] = self.copies.enter_context(making)
            if not states.rights_suffice():
                self.callbacks.say(
                    f"{LOCAL}: the path of the copy takes the place of {', '.join(place.paths)} in the arguments"
                )
        # A client that was mounted again meanwhile has another device number.
        return replace(self._copies[key], devices=frozenset(file.device for file in place.files))

    def _measure(self, slot: Slot, *, repeated: bool) -> Run:
        place = self._place(slot.variant, slot.sweep_value)
        copy = self._copy(slot, place)
        with ExitStack() as hold:
            reason = self._into_state(slot, place, copy, hold)
            self.interruption.check()
            run = self._run_of(slot, place, reason, repeated=repeated)
            return run if reason else self._ran(run, slot, place, copy)

    def _run_of(self, slot: Slot, place: Place, reason: str, *, repeated: bool) -> Run:
        """Return the row of a run that is not made yet."""
        return Run(
            variant=slot.variant,
            sweep_value=slot.sweep_value,
            state=slot.state,
            round=slot.round,
            order=len(self.record.runs),
            verified=False,
            reason=reason,
            repeated=repeated,
            traced=slot.traced,
            exit_code=0,
            started=datetime.datetime.now(datetime.UTC).isoformat(timespec="milliseconds"),
            load_s=None,
            first_token_s=None,
            tokens=None,
            tokens_per_s=None,
            total_s=None,
            host=socket.gethostname(),
            kernel=platform.release(),
            client_version=self._client(place),
            cvtrace_version=cvtrace.__version__,
        )

    def _into_state(self, slot: Slot, place: Place, copy: LocalCopy | None, hold: ExitStack) -> str:
        """Bring the caches into the state of a slot, and hold them there; return why they are not in it, nothing if they are."""
        reason = ""
        for _ in range(TRIES):
            self.callbacks.show.step(f"preparing {self._described(slot)}")
            hold.close()
            states.bring_about(slot.state, place, copy)
            hold.enter_context(held(slot.state, place, copy))
            reason = states.why_not(slot.state, place, copy)
            if not reason:
                break
        return reason

    def _ran(self, run: Run, slot: Slot, place: Place, copy: LocalCopy | None) -> Run:
        """Run the script, and fill in what came of it."""
        name = f"{run.order:04d}-{_file_name(slot.variant)}-{slot.state}"
        output, trace = self.record.output / f"{name}.txt", self.record.traces / name
        script = self._script(slot.variant, slot.sweep_value)
        self.callbacks.show.step(f"{self._described(slot)}{', traced' if slot.traced else ''}")
        before = states.count(place)
        if slot.traced:
            ended = run_traced(script, copy, output, trace, [mount.path for mount in place.mounts])
        elif slot.variant in self._with_calls:
            ended = run_with_calls(script, copy, output, trace)
        else:
            ended = run_untraced(script, copy, output)
        during = states.counted(before, states.count(place))
        self.interruption.check()
        reason = ended.trouble or states.contradiction(slot.state, during)
        if ended.exit_code and not reason:
            reason = f"the script ended with exit code {ended.exit_code}: {last_line(output, self.user)}"
        return replace(
            run,
            verified=not reason,
            reason=reason,
            exit_code=ended.exit_code,
            load_s=ended.times.load_s,
            first_token_s=ended.times.first_token_s,
            tokens=ended.times.tokens,
            tokens_per_s=ended.times.tokens_per_s,
            total_s=ended.total_s,
            trace=f"{trace.parent.name}/{trace.name}" if slot.traced else "",
            classes=ended.classes,
            verdict=ended.verdict,
            bytes_read=ended.bytes_read,
            reads=_first(during.reads, ended.reads),
            fetches=_first(during.fetches, ended.fetches),
            bytes_fetched=_first(during.bytes_fetched, ended.bytes_fetched),
        )


def _versions(client: str) -> dict[str, str]:
    return {
        "cvtrace": cvtrace.__version__,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "client": client,
    }


def _first(by_client: int | None, by_trace: int | None) -> int | None:
    """Return what the client counted, for want of that what the trace has."""
    return by_trace if by_client is None else by_client


def _slot_of(run: Run) -> Slot:
    return Slot(run.variant, run.sweep_value, run.state, run.round, run.traced)


def _is_done(run: Run | None) -> bool:
    return run is not None and (run.verified or run.repeated)


def _file_name(text: str) -> str:
    return "".join(each if each.isalnum() or each in "-_" else "_" for each in text)[:60] or "run"


def what_is_emptied(mounts: dict[str, str], wished: tuple[str, ...]) -> str:
    """Return one sentence on what the experiment does to caches that others may use."""
    names = ", ".join(mounts)
    if COLD in wished:
        return f"the whole cache of the client of {names} is emptied before each cold run, for all its users, and pages of the files are dropped from memory"
    return f"pages of the files on {names}, and of the client's cache files for them, are dropped from memory"
