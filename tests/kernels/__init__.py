"""Other kernels, in virtual machines under emulation; see docs/kernels.md and __main__.py."""
