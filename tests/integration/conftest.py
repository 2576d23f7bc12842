"""Gives every test of this folder the fixtures `mount` and `workdir`."""

from shared_fixtures import mount, workdir

__all__ = ["mount", "workdir"]
