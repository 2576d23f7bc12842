/* Empty: BCC brings its own bpf.h, and no program here parses packets. */
