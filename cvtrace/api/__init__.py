"""The Python API, behind the names that `import cvtrace` offers. docs/api.md is made from the docstrings.

    trace        a trace, with its tables as DataFrames and its report as dataclasses
    frames       from a table of the analysis to a DataFrame with the documented types
    comparison   two runs, or sets of runs, as DataFrames
    fleet        the traces of many nodes together, as DataFrames
    notebook     what a notebook shows

Nothing here analyses anything: all tables are those of `cvtrace.analysis`. No module of it is imported before its name is used.
"""
