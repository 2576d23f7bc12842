"""What draws the outputs of an analysed trace, a module each; `cvtrace.commands.formats` has the table of all outputs.

    text      the summary: brief (with brief_answers, brief_table) or full (with sentences, details, client, predicted)
    json      the report as it is: a contract for scripts
    html/     one page, offline; html/comparison/ of two runs
    folded, speedscope   stacks for flame graphs
    perfetto/ tracks for ui.perfetto.dev
    openmetrics          numbers for Prometheus
    tables    every table as CSV or Parquet
    comparison           two runs, as text and JSON
    failed, places, programs   parts of several outputs; lines, names: texts that fit and that a terminal shows safely

In: Study, Tables and Report. Out: text, or bytes in a stream. May import every room above.
"""
