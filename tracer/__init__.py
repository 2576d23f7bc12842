"""Makes a recording: starts the target, runs the probes, writes the trace. `run.record` and `attach.attach` are where to begin."""
