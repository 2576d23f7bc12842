"""What all nodes of a fleet together show: how figures are spread, which nodes are slow and why, how they began, what they share."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, Final

import numpy as np

from cvtrace.analysis.contract.classes import LABELS
from cvtrace.analysis.contract.fleet_columns import LOAD_BIN_NS
from cvtrace.analysis.contract.fleet_report import (
    FLEET_SCHEMA,
    Clocks,
    EvictingNode,
    Excess,
    FleetReport,
    Moment,
    Shared,
    SharedObject,
    Skipped,
    SlowNode,
    Spread,
    Start,
)
from cvtrace.analysis.contract.quantities import pluralize
from cvtrace.analysis.fleet.frames import Floats, Frames, counts, median_by_group, numbers, texts
from cvtrace.analysis.fleet.part import Part
from cvtrace.analysis.trace.intervals import Bools, Ints, add_by_group

SPREADS: Final = {
    "work_s": "s",
    "load_s": "s",
    "first_token_s": "s",
    "tokens_per_s": "x",
    "network_s": "s",
    "fetched_bytes": "bytes",
}
MOST_OBJECTS: Final = 1000
MOST_MOMENTS: Final = 400
MOST_SLOW: Final = 100
CAUSES: Final = 4
"""Classes that are named as the reason of a slow node."""
WORTH_S: Final = 0.001
"""Excess of a class below which it is no reason."""
FEW: Final = 4
"""Nodes with the same script from which on one can be a straggler."""
FAR: Final = 1.5
"""A straggler is so many interquartile ranges above the third quartile, as in a box plot, and 20 % above the median."""
ABOVE: Final = 1.2
HERD_NODES: Final = 3
HERD_S: Final = 10.0
"""Nodes that begin to fetch within so long began at once."""
HERD_WAITING: Final = 2.0
"""GETs that wait at once, from which on nodes wait for each other."""
GIGABIT: Final = 1.25e8
NS: Final = 1e9


def report_of(part: Part) -> FleetReport:
    """Return the report on the traces of a part."""
    frames = Frames(part)
    nodes = frames.nodes
    slow = _slow_nodes(frames)
    objects = _objects(part["objects"], with_object=True)
    return FleetReport(
        schema=FLEET_SCHEMA,
        nodes=nodes.num_rows,
        hosts=len(set(texts(nodes, "host"))),
        scripts=tuple(frames.group[0]),
        events=int(counts(nodes, "events").sum()),
        lost=int(counts(nodes, "lost").sum()),
        verdicts=_verdicts(nodes),
        spreads=tuple(each for name, unit in SPREADS.items() if (each := _spread(nodes, name, unit))),
        slowest=tuple(slow[:MOST_SLOW]),
        stragglers=sum(each.straggler for each in slow),
        start=_start(frames),
        timeline=timeline(frames),
        shared=_shared(frames),
        objects=objects,
        files=_objects(part["files"], with_object=False),
        evicting=_evicting(frames),
        observed=int((~np.isnan(numbers(nodes, "network_s"))).sum()),
        failed=_failed(frames),
        clocks=_clocks(frames),
        skipped=tuple(Skipped(**row) for row in part["skipped"].to_pylist()),
        notes=_notes(frames),
    )


def _verdicts(nodes: Any) -> dict[str, dict[str, int]]:
    result: dict[str, dict[str, int]] = {}
    pairs = zip(texts(nodes, "question"), texts(nodes, "answer"), strict=True)
    for (question, answer), count in sorted(Counter(pairs).items()):
        result.setdefault(question, {})[answer] = count
    return result


def _spread(nodes: Any, name: str, unit: str) -> Spread | None:
    values = numbers(nodes, name)
    values = values[~np.isnan(values)]
    if not len(values):
        return None
    least, p10, median, p90, p99, most = np.percentile(values, [0, 10, 50, 90, 99, 100]).tolist()
    return Spread(name, unit, len(values), least, p10, median, p90, p99, most)


def _slow_nodes(frames: Frames) -> list[SlowNode]:
    """Return the nodes above the median of their script, the slowest first."""
    scripts, group = frames.group
    work = numbers(frames.nodes, "work_s")
    median = median_by_group(work[:, None], group)[:, 0]
    times = frames.class_times / NS
    excess = times - median_by_group(times, group)
    is_straggler = stragglers(work, group)
    traces = texts(frames.nodes, "trace")
    rows = []
    for number in np.lexsort((np.arange(len(work)), -(work - median))).tolist():
        if not work[number] > median[number]:
            continue
        classes = np.argsort(-excess[number], kind="stable")[:CAUSES].tolist()
        why = tuple(
            Excess(LABELS[each], float(excess[number, each])) for each in classes if excess[number, each] > WORTH_S
        )
        rows.append(
            SlowNode(
                node=frames.names[number],
                trace=traces[number],
                script=scripts[group[number]],
                work_s=float(work[number]),
                median_s=float(median[number]),
                over_s=float(work[number] - median[number]),
                why=why,
                straggler=bool(is_straggler[number]),
            )
        )
    return rows


def stragglers(work: Floats, group: Ints) -> Bools:
    """Tell which nodes are far above the others that ran the same."""
    result = np.zeros(len(work), dtype=bool)
    for each in np.unique(group).tolist():
        rows = np.flatnonzero((group == each) & ~np.isnan(work))
        if len(rows) >= FEW:
            low, median, high = np.percentile(work[rows], [25, 50, 75])
            result[rows] = work[rows] > max(high + FAR * (high - low), ABOVE * median)
    return result


def _start(frames: Frames) -> Start | None:
    """Return how the nodes began to fetch; None if none did."""
    first = np.sort(counts(frames.nodes, "first_fetch_unix_ns"))
    first = first[first > 0]
    load = frames.part["load"]
    if not len(first) or not load.num_rows:
        return None
    begun = first[max(-(-len(first) * 9 // 10) - 1, 0)]
    within_s = float(begun - first[0]) / NS
    proxies = texts(load, "proxy")
    waiting = counts(load, "waiting_ns")
    by_proxy = dict.fromkeys(sorted(set(proxies)), 0)
    for name, ns in zip(proxies, waiting.tolist(), strict=True):
        by_proxy[name] += ns
    busiest = max(by_proxy, key=lambda name: by_proxy[name])
    chosen = np.array([name == busiest for name in proxies], dtype=bool)
    place = int(np.argmax(np.where(chosen, waiting, -1)))
    transfers = counts(load, "bytes")
    started = int(counts(load, "started")[chosen].sum())
    most_waiting = float(waiting[place]) / LOAD_BIN_NS
    return Start(
        nodes=len(first),
        within_s=within_s,
        first_unix_s=float(first[0]) / NS,
        proxy=busiest,
        most_waiting=most_waiting,
        peak_s=max(float(counts(load, "bin_unix_ns")[place] - first[0]) / NS, 0.0),
        bin_s=LOAD_BIN_NS / NS,
        waited_s=float(waiting[chosen].sum()) / NS / max(started, 1),
        most_bytes_per_s=_most_per_second(counts(load, "bin_unix_ns"), transfers),
        herd=len(first) >= HERD_NODES and within_s <= HERD_S and most_waiting >= max(HERD_WAITING, len(first) / 4),
    )


def _most_per_second(bins: Ints, size: Ints) -> float:
    """Return the bytes of GETs that began in the fullest second or so: 16 stretches."""
    _, second = np.unique(bins // (LOAD_BIN_NS * 16), return_inverse=True)
    return float(np.bincount(second, weights=size).max()) / (LOAD_BIN_NS * 16 / NS)


def timeline(frames: Frames) -> tuple[Moment, ...]:
    """Return what all nodes wanted over time, in at most MOST_MOMENTS stretches of the same length."""
    table = frames.part["load"]
    if not table.num_rows:
        return ()
    place = counts(table, "bin_unix_ns") // LOAD_BIN_NS
    first, span = int(place.min()), int(place.max() - place.min()) + 1
    step = -(-span // MOST_MOMENTS)
    width_s = step * LOAD_BIN_NS / NS
    of = (place - first) // step
    bins = int(of.max()) + 1
    columns = [
        add_by_group(of, counts(table, name), bins) for name in ("started", "bytes", "waiting_ns", "transfer_ns")
    ]
    return tuple(
        Moment(number * width_s, width_s, begun, size, waiting / NS / width_s, coming / NS / width_s)
        for number, (begun, size, waiting, coming) in enumerate(np.array(columns).T.tolist())
    )


def repeated(fetches: Ints, size: Ints) -> Ints:
    """Return the bytes of all GETs for an object but one."""
    return size - size // np.maximum(fetches, 1)


def _shared(frames: Frames) -> Shared:
    table, nodes = frames.part["objects"], frames.nodes
    fetches, size = counts(table, "fetches"), counts(table, "bytes")
    saves = numbers(nodes, "warm_proxy_saves_s")
    saves = np.maximum(saves[~np.isnan(saves)], 0.0)
    return Shared(
        objects=table.num_rows,
        shared_objects=int((counts(table, "nodes") > 1).sum()),
        fetches=int(fetches.sum()),
        bytes=int(size.sum()),
        repeated_fetches=int(fetches.sum()) - table.num_rows,
        repeated_bytes=int(repeated(fetches, size).sum()),
        warm_proxy_saves_s=float(saves.sum()) if len(saves) else None,
        median_saves_s=float(np.median(saves)) if len(saves) else None,
        predicted_nodes=len(saves),
        one_link_s=float(size.sum()) / GIGABIT,
        hits=int(counts(nodes, "proxy_hits").sum()),
        misses=int(counts(nodes, "proxy_misses").sum()),
    )


def _objects(table: Any, *, with_object: bool) -> tuple[SharedObject, ...]:
    """Return the rows that cost most bytes again, then those that cost most bytes."""
    fetches, size = counts(table, "fetches"), counts(table, "bytes")
    again = repeated(counts(table, "nodes") if not with_object else fetches, size)
    order = np.lexsort((np.arange(len(size)), -size, -again))[:MOST_OBJECTS]
    columns = {name: table[name].to_pylist() for name in ("path", "nodes", "fetches", "bytes", "network_ns")}
    objects = table["object"].to_pylist() if with_object else [""] * table.num_rows
    return tuple(
        SharedObject(
            object=objects[row],
            path=columns["path"][row],
            nodes=columns["nodes"][row],
            fetches=columns["fetches"][row],
            bytes=columns["bytes"][row],
            repeated_bytes=int(again[row]),
            network_s=columns["network_ns"][row] / NS,
        )
        for row in order.tolist()
    )


def _evicting(frames: Frames) -> tuple[EvictingNode, ...]:
    names = ("evicted", "fetched_again", "fetched_again_bytes", "quota_bytes", "working_set_bytes")
    columns = {name: frames.nodes[name].to_pylist() for name in (*names, "thrash", "trace")}
    evicted = counts(frames.nodes, "evicted")
    order = np.lexsort((np.arange(len(evicted)), -evicted))
    return tuple(
        EvictingNode(
            node=frames.names[row],
            trace=columns["trace"][row],
            evicted=columns["evicted"][row],
            fetched_again=columns["fetched_again"][row] or 0,
            fetched_again_bytes=columns["fetched_again_bytes"][row] or 0,
            quota_bytes=columns["quota_bytes"][row],
            working_set_bytes=columns["working_set_bytes"][row] or 0,
            thrash=bool(columns["thrash"][row]),
        )
        for row in order[evicted[order] > 0].tolist()
    )


def _failed(frames: Frames) -> tuple[str, ...]:
    rows = zip(frames.names, frames.nodes["exit_code"].to_pylist(), texts(frames.nodes, "signal"), strict=True)
    return tuple(name for name, code, signal in rows if code or signal)


def _clocks(frames: Frames) -> Clocks:
    low, high = numbers(frames.nodes, "clock_low_s"), numbers(frames.nodes, "clock_high_s")
    error = numbers(frames.nodes, "clock_error_s")
    known = np.flatnonzero(~np.isnan(low))
    count, synchronised = len(low), ~np.isnan(error)
    at_least, behind, ahead = 0.0, None, None
    if len(known) > 1:
        first, last = known[np.argmin(high[known])], known[np.argmax(low[known])]
        at_least = max(float(low[last] - high[first]), 0.0)
        if at_least:
            behind, ahead = frames.names[first], frames.names[last]
    bounds = []
    if len(known) == count and count:
        bounds.append(float(high.max() - low.min()))
    if synchronised.all() and count:
        bounds.append(float(np.sort(error)[-2:].sum()) if count > 1 else 0.0)
    return Clocks(
        nodes=count,
        synchronised=int(synchronised.sum()),
        largest_error_s=float(error[synchronised].max()) if synchronised.any() else None,
        bounded=len(known),
        apart_at_least_s=at_least,
        apart_at_most_s=max(min(bounds), at_least) if bounds else None,
        behind=behind,
        ahead=ahead,
    )


def _notes(frames: Frames) -> tuple[str, ...]:
    nodes = frames.nodes
    scripts = frames.group[0]
    notes = []
    if len(scripts) > 1:
        notes.append(f"the nodes ran {len(scripts):,} scripts: a node is compared with those that ran the same one")
    probes = Counter(texts(nodes, "probes"))
    if len(probes) > 1:
        notes.append(f"the nodes were observed with different probes: {_listed(probes)}")
    unseen = int(np.isnan(numbers(nodes, "network_s")).sum())
    if unseen:
        notes.append(
            f"no request could be observed on {pluralize(unseen, 'node')}: their waits for CVMFS, GETs and evictions are not known"
        )
    lost = int((counts(nodes, "lost") > 0).sum())
    if lost:
        notes.append(f"events were lost on {pluralize(lost, 'node')}: the figures of these are too small")
    return tuple(notes)


def _listed(words: Counter[str]) -> str:
    rows: Sequence[tuple[str, int]] = sorted(words.items())
    return ", ".join(f"{word or 'none'} ×{count}" for word, count in rows)
