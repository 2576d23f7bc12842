"""A trace as columns, and arithmetic on intervals: the ground that all joins stand on.

    meta        the shape of meta.json that is relied on
    intervals   laying threads on one axis, overlaying and cutting: the only place that knows how
    keys        several columns as one number, and the fields that probes pack: the only place that knows which bits hold what
    recording   events by kind, their texts, and who is target and who is daemon

In: a Trace as the tracer reads it back. Out: Recording. May import `contract`.
"""
