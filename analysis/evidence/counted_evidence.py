"""What the client's counters prove where no request can be observed."""

from cvtrace.analysis.attribution.study import Study
from cvtrace.analysis.contract.quantities import pluralize, seconds, size
from cvtrace.analysis.joins.client_counters import BYTES, FETCHES, OPENS, READS, CounterDeltas
from cvtrace.analysis.joins.phases import BETWEEN, DECODE, LOAD, PREFILL
from cvtrace.probes.cvmfs.releases import may_pass, may_prefetch

ROWS = (PREFILL, DECODE, BETWEEN)
"""Those of generation."""
TAIL_NS = 10_000_000
"""A reading later than this after the last token is said."""


def counted_evidence(study: Study) -> tuple[list[str], list[str]]:
    """Return (what the counters say, what they leave open) of decode."""
    counters, mounts = study.counter_deltas, study.recording.mounts
    proof = [_growth(study, counters)]
    missing = []
    if counters.moved(*ROWS):
        missing.append("the counters include the requests of all processes that use the mount")
    if counters.unheld_mounts_moved(*ROWS):
        missing.append(
            "a mount was used meanwhile of which the target was not seen to have a file open or mapped: by whom is not known"
        )
    missing += prefetch_doubts(study, ROWS)
    if not counters.has_read_counts(len(mounts)):
        missing.append(
            "the client shows this user opens and downloads, not reads: what was read from its cache is not counted: "
            "`cvtrace run` as root (eBPF, or --probes strace) shows it"
        )
        return proof, missing
    bypassing_versions = [mount.version for mount in mounts if may_pass(mount.version, study.recording.kernel)]
    if bypassing_versions:
        missing.append(
            f"cvmfs2 {bypassing_versions[0]} may let reads pass it by (FUSE passthrough), and does not count those"
        )
    if not counters.total(OPENS, LOAD):
        missing.append("no file of CVMFS was opened in the load: the model may not come from there")
    else:
        reads, opens = counters.total(READS, LOAD) or 0, counters.total(OPENS, LOAD) or 0
        proof.append(f"it counted {pluralize(reads, 'read')} and {pluralize(opens, 'open')} in the load")
    return proof, missing


def prefetch_doubts(study: Study, rows: tuple[int, ...]) -> tuple[str, ...]:
    """Say it where a client that prefetches counted fetches in phases, and nothing tells whether a request asked for them."""
    if not study.counter_deltas.prefetched(*rows):
        return ()
    version = next(mount.version for mount in study.recording.mounts if may_prefetch(mount.version))
    return (
        f"cvmfs2 {version} fetched objects meanwhile, and this user is shown no reads: it may have prefetched a bundle, for which nobody waits",
    )


def _growth(study: Study, counters: CounterDeltas) -> str:
    """Tell what grew from the prefill to the last token."""
    numbers = [
        pluralize(grown, noun)
        for noun, names in (("read", READS), ("open", OPENS), ("download", FETCHES))
        if (grown := counters.total(names, *ROWS)) is not None
    ]
    received = counters.total(BYTES, *ROWS)
    numbers += [f"{size(received)} received"] if received else []
    lookups = counters.total(("fetch.n_invocations",), *ROWS)
    numbers += [f"{pluralize(lookups, 'object')} looked up in its cache"] if lookups else []
    if counters.total(("hitrate",), *ROWS):
        numbers.append("a changed hit rate (objects were looked up in its cache)")
    sentence = f"{_time_span(study, counters)} cvmfs2 counted {', '.join(numbers) or 'nothing'}"
    faults, read_bytes = (
        counters.total(("process.major_faults",), *ROWS),
        counters.total(("process.read_bytes",), *ROWS),
    )
    if faults is not None:
        sentence += f"; the target had {pluralize(faults, 'major page fault')}"
        sentence += (
            f", and its read calls returned {size(read_bytes) if read_bytes else 'nothing'}"
            if read_bytes is not None
            else ""
        )
    return sentence


def _time_span(study: Study, counters: CounterDeltas) -> str:
    ends = study.phase_calls.end[study.phase_calls.row == DECODE]
    tail_ns = counters.tail_ns(int(ends.max())) if len(ends) else 0
    if tail_ns > TAIL_NS:
        return f"from the prefill until {seconds(tail_ns / 1e9)} after the last"
    return "from the prefill to the last token"
