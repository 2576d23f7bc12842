"""A bundle made from a trace: what `cvtrace bundle --json` prints, as frozen dataclasses. Fields are added, never renamed.

Times are seconds, `_bytes` are bytes. Unknown values are None.
"""

from dataclasses import asdict, dataclass
from typing import Any, Final

SCHEMA: Final = "cvtrace-bundle/1"
PREFIX: Final = ".cvmfsbundle-"
"""Of the name of a bundle; the name of the trigger follows."""


@dataclass(frozen=True)
class BundleFile:
    """A file of a bundle; `path` begins at the root of the repository.

    The client fetches `objects` for it, as far as they are known. The run fetched `fetched_objects` of them, `fetched_bytes` as sent. Fetching
    these one after the other takes `background_s`.
    """

    path: str
    size_bytes: int | None
    objects: int
    fetched_objects: int
    fetched_bytes: int
    used_bytes: int
    background_s: float


@dataclass(frozen=True)
class BundlePrediction:
    """What the run would have taken with the bundle, by replay of its fetches; None, and there is a `reason`, where that cannot be told.

    The run waited `fetch_wait_s` for fetches from the moment when the trigger was opened, and would have waited `predicted_wait_s`;
    all of the bundle would have been fetched `background_s` after that moment.
    """

    measured_s: float
    predicted_s: float | None
    saves_s: float | None
    fetch_wait_s: float
    predicted_wait_s: float | None
    background_s: float | None
    lab_error: float | None
    assumptions: tuple[str, ...]
    reason: str | None = None


@dataclass(frozen=True)
class BundlePlan:
    """A bundle: the file `name` in `directory`, both from the root of the repository, and which files it lists, in the order of their first use.

    `does_not_help` are sentences on what it will not make faster.
    """

    schema: str
    trace: str
    fqrn: str
    mountpoint: str
    directory: str
    name: str
    trigger: str
    files: tuple[BundleFile, ...]
    prediction: BundlePrediction
    does_not_help: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return the bundle as a client reads it."""
        return {
            "name": "CVMFS_BUNDLE",
            "version": "1.0.0",
            "encoding": "UTF-8",
            "dependencies": [file.path for file in self.files],
        }

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON contract as plain dicts and lists."""
        return asdict(self)
