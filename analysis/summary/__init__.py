"""The report put together: `assemble.analyse` reads like a table of contents of the analysis.

    rows, table_rows, answer_rows, program_rows   the rows of the report's tables
    assemble                                      from a Trace to its Report

In: a Trace. Out: Report. May import every room above.
"""
