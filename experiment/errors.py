"""Errors of an experiment. The message is one sentence that says what to do."""

from cvtrace.probes.probe import CannotObserve


class WrongExperiment(Exception):
    """The options of the experiment contradict each other, or cannot be measured."""


class ScriptFailed(Exception):
    """The script ended with an error before anything was measured."""


class NotReachable(CannotObserve):
    """A state of the caches cannot be prepared or verified on this machine or as this user."""
