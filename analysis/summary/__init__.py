"""The report put together: `assemble.full_analysis` is the table of contents of the analysis.

    assemble                                      from a Trace to its Report, all steps in their order
    trace_info                                    what is said of the recording itself
    rows, table_rows, answer_rows, program_rows   the rows of the report's tables

In: a Trace. Out: Report, and the Study and Tables behind it. May import every room above.
"""
