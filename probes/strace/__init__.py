"""The strace rung: the same events from strace's text, for machines without BPF."""
