"""What a bundle does not help: a sentence each, with how much of the run that is."""

from collections.abc import Mapping, Sequence
from typing import Final

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.bundle_schema import BundleFile
from cvtrace.analysis.contract.quantities import pluralize, seconds, size
from cvtrace.analysis.trace.recording import Mount
from cvtrace.analysis.whatif.prefetching import queued

MOST_FILES: Final = 3
"""Chunked files that are named."""


def limits(
    study: Study,
    mount: Mount,
    files: Sequence[BundleFile],
    before: Sequence[str],
    elsewhere: Mapping[str, int],
    left_out: int,
) -> tuple[str, ...]:
    """Return the sentences. `before`: files used before the trigger; `elsewhere`: files of other repositories; `left_out`: with names that cannot be listed."""
    return (
        *_chunked(files),
        *_not_fetched(study, files),
        *_unused(files),
        *_before(before),
        *(
            f"{pluralize(number, 'file')} of {fqrn}: a bundle lists only files of its own repository; make another bundle for {fqrn} (--trigger)"
            for fqrn, number in elsewhere.items()
        ),
        *_queue(files),
        *_quota(mount, files),
        *(
            [f"{pluralize(left_out, 'file')} not listed, because their names are not UTF-8 or too long"]
            if left_out
            else []
        ),
    )


def _chunked(files: Sequence[BundleFile]) -> list[str]:
    chunked = sorted(
        (file for file in files if file.objects > 1 and file.fetched_objects), key=lambda file: -file.background_s
    )
    lines = [
        f"{file.path}: its {file.objects:,} chunks are fetched one after the other also in the background, which takes {seconds(file.background_s)}"
        for file in chunked[:MOST_FILES]
    ]
    further = len(chunked) - MOST_FILES
    return lines + (
        [f"{pluralize(further, 'more file')} with several chunks, for the same reason"] if further > 0 else []
    )


def _not_fetched(study: Study, files: Sequence[BundleFile]) -> list[str]:
    number = sum(not file.fetched_objects for file in files)
    if not number:
        return []
    prefetched = ", or a bundle prefetched them" if study.prefetches.any else ""
    return [
        f"{pluralize(number, 'file')} of the bundle that this run did not fetch: they were in the client's cache or in memory{prefetched}"
    ]


def _unused(files: Sequence[BundleFile]) -> list[str]:
    unused = sum(max((file.size_bytes or 0) - file.used_bytes, 0) for file in files if file.fetched_objects)
    if not unused:
        return []
    return [f"{size(unused)} of these files that the run did not use, because whole files are fetched"]


def _before(before: Sequence[str]) -> list[str]:
    if not before:
        return []
    return [
        f"{pluralize(len(before), 'file')} that the run used before the trigger was opened, such as {before[0]} (not listed)"
    ]


def _queue(files: Sequence[BundleFile]) -> list[str]:
    room = queued([file.path for file in files])
    if room == len(files):
        return []
    return [
        f"the last {pluralize(len(files) - room, 'file')}: the queue of a client has room for the first {room:,} paths, and the client drops the others; "
        "make several bundles with different triggers (--trigger)"
    ]


def _quota(mount: Mount, files: Sequence[BundleFile]) -> list[str]:
    total = sum(file.size_bytes or file.used_bytes for file in files)
    if mount.quota_bytes is None or total <= mount.quota_bytes:
        return []
    return [
        f"all files together: they have {size(total)}, the client's cache is limited to {size(mount.quota_bytes)}, and it evicts some of them before they are used"
    ]
