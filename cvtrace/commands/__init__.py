"""One small file per verb of the command line; `cvtrace.cli` lists them."""
