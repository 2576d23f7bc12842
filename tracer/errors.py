"""What can go wrong with a recording so that the user can mend it: one family each, one sentence as the message."""


class WrongTarget(Exception):
    """What is to be run is not there or cannot be run."""


class UnknownUser(Exception):
    """The user to run the target as is not known here or may not be taken on."""


class TraceExists(Exception):
    """The folder to record into is already there."""


class TraceUnwritable(Exception):
    """The trace cannot be written."""


class TraceError(Exception):
    """A trace, a folder of `cvtrace bench` or an access log cannot be read. The message is one sentence: what is wrong with what."""


class TraceDamaged(TraceError):
    """The folder is not a trace, or one of a newer cvtrace, or damaged beyond use."""


class TraceMissing(TraceDamaged):
    """There is no folder of this name."""


class TraceTooLarge(TraceDamaged):
    """The trace claims more than this machine can hold, or more than a recording can be."""
