"""What a report is: its dataclasses, the classes of time, the columns of its tables, and numbers as people read them.

    classes          the classes that every nanosecond falls into, their groups, and the parts of a fetch
    report_schema    the report; verdict_, storage_, program_, evidence_ and whatif_schema are parts of it
    report_options   what a report is asked beyond the trace
    columns          what each column of the exported tables means; program_columns is a part of it
    terms            the terms that a report explains
    quantities       numbers and names in words

In: nothing. Out: types and texts that all other rooms share. May import nothing of the analysis.
"""
