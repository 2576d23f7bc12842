"""`python -m cvtrace` is `cvtrace`."""

from cvtrace.cli import main

if __name__ == "__main__":
    main(prog_name="cvtrace")
