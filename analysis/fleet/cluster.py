"""Where the traces of a fleet are analysed: in this process, on the cores of this machine, or on a Dask cluster.

Workers of this machine are processes of their own, started as `dask worker` is, so that nothing of the caller's script runs again in
them. They talk over TLS with certificates made for them alone: a Dask scheduler runs whatever it is given, and a port on this machine
is open to every user of it.
"""

import contextlib
import logging
import os
import queue
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from cvtrace.analysis.fleet.node import Also, tables_of
from cvtrace.analysis.fleet.part import Part, merged, skipped

Progress = Callable[[int, int], None]
"""Called with the number of traces that are done, and their total."""
BATCH: Final = 32
"""Traces whose tables are added up before they travel."""
START_S: Final = 60.0
"""How long workers may take to start, and a scheduler to answer."""
MEMORY: Final = {
    "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
    "MALLOC_TRIM_THRESHOLD_": str(256 << 20),
    "OMP_NUM_THREADS": "1",  # there is a worker for each core already
    "OPENBLAS_NUM_THREADS": "1",
}
"""Environment of a worker. Dask's own lets every freed column go back to the kernel: a third of the time of small traces was page faults."""
WORKER_ENVIRONMENT: Final = {"DASK_DISTRIBUTED__NANNY__PRE_SPAWN_ENVIRON": repr(MEMORY)}
LOOK_S: Final = 0.5
"""Seconds between checks that a worker is left."""


class NoDask(Exception):
    """Dask is not installed; the message is the name of the missing package."""


class ClusterUnusable(Exception):
    """There is no scheduler at the address, or no worker that can work; the message is one sentence."""


def cores() -> int:
    """Return on how many cores this process may run."""
    return len(os.sched_getaffinity(0))


def in_this_process(traces: Sequence[str], also: Also | None, progress: Progress | None) -> Part:
    """Analyse one trace after the other; the tables are those that a cluster gives."""
    sums: list[Part] = []
    waiting: list[Part] = []
    for number, trace in enumerate(traces, 1):
        waiting.append(tables_of(trace, also))
        if len(waiting) == BATCH:
            sums.append(merged(waiting))
            waiting = []
        if progress is not None:
            progress(number, len(traces))
    return merged([*sums, *waiting])


def on_this_machine(traces: Sequence[str], workers: int, also: Also | None, progress: Progress | None) -> Part:
    """Analyse traces on so many cores. Raises NoDask or ClusterUnusable."""
    with _dask_is_there(), _local_cluster(workers) as client:
        return _analyse(client, traces, also, progress)


def on_cluster(traces: Sequence[str], scheduler: str, also: Also | None, progress: Progress | None) -> Part:
    """Analyse traces on the workers of a scheduler. Raises NoDask or ClusterUnusable."""
    with _dask_is_there():
        import distributed

        try:
            client = distributed.Client(scheduler, timeout=START_S / 4, set_as_default=False)
        except (OSError, ValueError, TimeoutError, RuntimeError) as error:
            raise ClusterUnusable(
                f"there is no Dask scheduler at {scheduler} ({_first_line(error)}): give the address that it prints when it starts, such "
                "as tcp://10.0.0.1:8786"
            ) from None
        with client:
            return _analyse(client, traces, also, progress)


@contextlib.contextmanager
def _dask_is_there() -> Iterator[None]:
    try:
        import cryptography
        import distributed
    except ModuleNotFoundError as error:
        raise NoDask(error.name or "distributed") from None
    logging.getLogger(cryptography.__name__).setLevel(logging.CRITICAL)
    logger = logging.getLogger(distributed.__name__)
    before = logger.level
    logger.setLevel(logging.CRITICAL)  # what matters of it is said in a sentence
    try:
        yield
    finally:
        logger.setLevel(before)


@contextlib.contextmanager
def _local_cluster(workers: int) -> Iterator[Any]:
    """Yield a client of a scheduler in this process, with workers in processes of their own."""
    import dask
    import distributed
    from distributed.security import Security

    security = Security.temporary()
    with (
        tempfile.TemporaryDirectory(prefix="cvtrace-fleet-", ignore_cleanup_errors=True) as name,
        dask.config.set({"temporary-directory": name}),
        distributed.LocalCluster(
            n_workers=0,
            processes=True,
            protocol="tls://",
            host="127.0.0.1",
            security=security,
            dashboard_address="127.0.0.1:0",  # without it, the HTTP server takes port 8787, and warns where that is taken
            scheduler_kwargs={"dashboard": False},  # else the pages of Bokeh are imported and served in this process
            silence_logs=logging.CRITICAL,
        ) as cluster,
        distributed.Client(cluster, security=security, set_as_default=False) as client,
        _worker_processes(Path(name), cluster.scheduler_address, security, workers) as process,
    ):
        _await_workers(client, process, Path(name) / "log")
        yield client


@contextlib.contextmanager
def _worker_processes(folder: Path, address: str, security: Any, workers: int) -> Iterator[subprocess.Popen[bytes]]:
    """Start the workers under one nanny process, which starts one anew that was killed."""
    credentials = {
        "--tls-ca-file": security.tls_ca_file,
        "--tls-cert": security.tls_worker_cert,
        "--tls-key": security.tls_worker_key,
    }
    options = []
    for option, text in credentials.items():
        path = folder / option.lstrip("-")
        path.touch(mode=0o600)
        path.write_text(text)
        options += [option, str(path)]
    command = [
        *(sys.executable, "-P", "-m", "distributed.cli.dask_worker", address, "--nthreads", "1"),
        *("--nworkers", str(workers), "--no-dashboard", "--dashboard-address", "127.0.0.1:0"),
        *("--host", "127.0.0.1", "--death-timeout", "30"),
        *("--local-directory", str(folder), *options),
    ]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(_import_path()), **WORKER_ENVIRONMENT}
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment)
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _import_path() -> list[str]:
    """Return where this process finds modules: the workers are to find the same, and nothing in the working folder besides."""
    return [os.path.abspath(each) for each in sys.path if each and Path(each).exists()]  # noqa: PTH100


def _await_workers(client: Any, process: subprocess.Popen[bytes], log: Path) -> None:
    """Wait until a worker is there. Raises ClusterUnusable if the workers end instead."""
    waited_s = 0.0
    while waited_s < START_S and process.poll() is None:
        with contextlib.suppress(TimeoutError, OSError):
            client.wait_for_workers(1, timeout=LOOK_S)
            return
        waited_s += LOOK_S
    lines = log.read_text(errors="replace").strip().splitlines()
    reason = lines[-1] if lines else "they said nothing"
    raise ClusterUnusable(f"the workers did not start: {reason}; --workers 1 does without them")


class _Results:
    """Futures as they are done, with an eye on whether there is a worker left that could do more."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._done: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def follow(self, future: Any) -> None:
        """Have `next` return a future when it is done."""
        future.add_done_callback(self._done.put)

    def next(self) -> Any:
        """Return the next future that is done. Raises ClusterUnusable if no worker is left and none comes."""
        waited_s = 0.0
        while waited_s < START_S:
            try:
                return self._done.get(timeout=LOOK_S)
            except queue.Empty:
                waited_s = 0.0 if self._client.scheduler_info()["workers"] else waited_s + LOOK_S
        raise ClusterUnusable(
            f"the scheduler has no worker: none came in {START_S:.0f} s; start some with `dask worker ADDRESS`"
        )


def _analyse(client: Any, traces: Sequence[str], also: Also | None, progress: Progress | None) -> Part:
    """Analyse each trace as a task of its own; tables are added up on the workers, and only sums come here.

    What a worker had done that was killed is done again by another one. Dask gives up a task that was on several workers when they ended,
    also one that only waited there: such a trace is analysed again while nothing else is, and skipped if it ends workers then, too.
    """
    run, total = uuid.uuid4().hex, len(traces)
    keys = [f"cvtrace-{run}-{number}" for number in range(total)]
    results, apart, sums, suspects = _Results(client), dict[int, Part](), dict[int, Any](), list[int]()
    parts = client.map(tables_of, traces, also=also, key=keys, pure=False)
    place = {future.key: number for number, future in enumerate(parts)}
    open_batches = [set(range(total)[first : first + BATCH]) for first in range(0, total, BATCH)]
    for future in parts:
        results.follow(future)
    for done in range(1, total + 1):
        future = results.next()
        number = place[future.key]
        if future.status != "finished":
            apart[number] = skipped(traces[number], _failure(future))
            suspects += [number] if _was_killed(future) else []
        batch = number // BATCH
        open_batches[batch].discard(number)
        if not open_batches[batch]:
            members = range(total)[batch * BATCH : (batch + 1) * BATCH]
            fine = [parts[member] for member in members if member not in apart]
            sums[batch] = client.submit(merged, fine, key=f"cvtrace-{run}-sum-{batch}", pure=False)
        if progress is not None:
            progress(done, total)
    for future in sums.values():
        results.follow(future)
    for _ in sums:
        future = results.next()
        if future.status != "finished":
            raise ClusterUnusable(f"the workers could not add up the tables: {_failure(future)}")
    added = client.gather(list(sums.values()))
    for number in suspects:
        results.follow(
            client.submit(tables_of, traces[number], also=also, key=f"cvtrace-{run}-{number}-alone", pure=False)
        )
        future = results.next()
        if future.status == "finished":
            apart[number] = future.result()
    return merged([*added, *apart.values()])


def _was_killed(future: Any) -> bool:
    return future.status == "error" and type(future.exception()).__name__ == "KilledWorker"


def _failure(future: Any) -> str:
    """Return why a task has no result. Raises ClusterUnusable where it is the cluster's fault and not the trace's."""
    if future.status != "error":
        raise ClusterUnusable("the scheduler went away before all traces were analysed: start it, and run this again")
    error = future.exception()
    if _was_killed(future):
        return "its analysis ended the worker several times, perhaps for lack of memory"
    if isinstance(error, ImportError | AttributeError):
        raise ClusterUnusable(
            f"a worker cannot import this version of cvtrace ({_first_line(error)}): install the same one on the workers"
        )
    return f"its analysis failed with {type(error).__name__}: {_first_line(error)}"


def _first_line(error: BaseException | None) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
