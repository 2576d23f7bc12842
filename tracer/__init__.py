"""Makes a recording: starts the target, runs the probes, writes the trace. May import `cvtrace.probes`."""
