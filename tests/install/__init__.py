"""`make test-install`: the README's commands in fresh roots of distributions."""
