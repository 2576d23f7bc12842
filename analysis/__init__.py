"""Pure functions from a trace to tables, numbers and pictures: no privileges, no live system.

    intervals     arithmetic on sorted intervals: the only place that knows how to cut and overlay
    meta          the shape of meta.json that is relied on
    recording     events and texts of a trace as columns, and who is target and who is daemon
    requests      FUSE requests, as asked by the kernel and as answered by the daemon
    mounts        which of the observed mounts the target used
    paths         which file a request is about
    objects       what a request did with the client's cache: hits, misses, shared waits
    fetches       jobs of the download thread and their GETs
    phases        the life of the target cut into phases
    daemon_time   what a worker of the daemon does at any moment of a request
    faults        how long page faults kept the target in the kernel
    waits         what the target was off the CPU for, and calls that keep it busy on CVMFS pages
    attribution   what the target waits for at any moment: the critical path
    stacks        the critical path as phase, thread, file, class: for flame graphs
    verdict, reconcile, cache_state   the answers
    causes, reloads   why a request was needed
    touched, file_map   bytes of files that the target used, and what lies there
    chunks, fetching   objects of the client's cache one by one; waiting for fetches
    headers/, tensors   tensors by name: from the model's files, looked at only if asked for
    tables        all of these, beside the study
    findings/     what is worth mending
    numbering, access_log, access_check   what the kernel, and a server or proxy, counted
    model, assemble                   the report
    path_waits, whatif, larger_model      the critical path replayed with something changed
    report/       one file per output

May import `cvtrace.probes.events`, `cvtrace.probes.phases` and `cvtrace.tracer.store`; `headers.files` alone touches a live system.
"""

from cvtrace.analysis.assemble import analyse
from cvtrace.analysis.model import Report

__all__ = ["Report", "analyse"]
