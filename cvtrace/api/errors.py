"""Errors of the Python API besides `cvtrace.TraceError`."""


class BenchError(Exception):
    """The experiment could not be made. The message is the sentence that `cvtrace bench` prints, `exit_code` is its exit code."""

    def __init__(self, message: str, exit_code: int) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class FleetError(Exception):
    """Many traces could not be analysed together: Dask is missing, or the cluster cannot be used. The message is one sentence."""
