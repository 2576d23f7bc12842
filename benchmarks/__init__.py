"""What tracing costs, as ratios against the same work untraced: `make bench`.

Each file is one benchmark with a function `run(settings) -> list[Row]`; `__main__.py` runs them and writes the table.
"""
