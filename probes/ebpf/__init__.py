"""The eBPF rung: BPF programs compiled by BCC, their ring mapped and drained in bulk."""
