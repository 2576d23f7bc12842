"""Where the time went: every nanosecond of a phase in exactly one class.

    waits           what threads of the target wait for when they are off the CPU
    layers          painting window by window: what crosses the end of one is carried into the next
    daemon_time     what the download threads do for each job, and waits of workers for another's download
    workers         what a worker of the daemon does at any moment of a request
    critical_path   the wait of a thread followed to who it waited for
    path            the critical path as a table of pieces, read part by part
    overlaps        bounds: time that has a second cause, or is only known to lie within
    study           all joins and the attribution of one trace, in the order in which they are made

In: the tables of `joins`. Out: Study. May import `joins` and what is below.
"""
