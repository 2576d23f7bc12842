"""Why an experiment cannot be made: one sentence as the message, with the way out."""

from cvtrace.probes.probe import CannotObserve


class WrongExperiment(Exception):
    """What was asked for cannot be measured as it was asked for."""


class ScriptFailed(Exception):
    """The script ended with an error before anything was measured."""


class NotReachable(CannotObserve):
    """A state of the caches cannot be brought about, or not be verified, on this machine or with these rights."""
