"""Names of the timeline's tracks: the target's threads, the client's workers, its downloads."""

from collections import Counter
from typing import Final

import numpy as np

from cvtrace.analysis.report.html.scene import Scene
from cvtrace.analysis.trace.intervals import Ints, match, pick

LISTED: Final = 3
"""Workers of a track that are listed by number."""


def thread_names(scene: Scene, tids: Ints) -> list[str]:
    """Return a name for each thread of the target: main thread, pool thread 2, process 4711, thread 2 of process 4711."""
    seen = scene.study.recording.threads
    process = pick(seen.tgid, match(seen.tid, tids), -1)
    main = _main_process(scene, process)
    numbers: Counter[int] = Counter()
    names = []
    for tid, owner in zip(tids.tolist(), process.tolist(), strict=True):
        if tid == owner:
            names.append("main thread" if owner == main else f"process {owner}")
            continue
        numbers[owner] += 1
        names.append(
            f"pool thread {numbers[owner]}" if owner == main else f"thread {numbers[owner]} of process {owner}"
        )
    return names


def _main_process(scene: Scene, process: Ints) -> int:
    """Return the process that was started: its number in the recording, else the one of most threads."""
    started = scene.study.recording.meta.get("target", {}).get("pid")
    if isinstance(started, int) and bool((process == started).any()):
        return started
    return int(Counter(process.tolist()).most_common(1)[0][0]) if len(process) else -1


def worker_names(workers: int, lanes: int) -> list[str]:
    """Return a name for each track of client workers; of many workers, several share a track."""
    if workers <= lanes:
        return [f"client worker {lane + 1}" for lane in range(workers)] or ["client worker"]
    names = []
    for lane in range(lanes):
        numbers = [str(each + 1) for each in range(lane, workers, lanes)]
        more = " …" if len(numbers) > LISTED else ""
        plural = "s" if len(numbers) > 1 else ""
        names.append(f"client worker{plural} {', '.join(numbers[:LISTED])}{more}")
    return names


def download_names(scene: Scene, lane: Ints, lanes: int) -> list[str]:
    """Return a name for each track of downloads: one of the client's connections, and whether it goes to a proxy."""
    proxied = np.array([bool(row.proxy) for row in scene.report.fetches], dtype=bool)
    by_get = np.empty(len(proxied), dtype=bool)
    by_get[scene.fetch_order] = proxied
    single = lanes == 1
    return [
        ("download thread" if single else f"download thread, {each + 1}")
        + (", proxy" if bool(by_get[lane == each].any()) else "")
        for each in range(lanes)
    ]
