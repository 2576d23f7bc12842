"""The rung without privileges: phase marks and the client's own counters."""
