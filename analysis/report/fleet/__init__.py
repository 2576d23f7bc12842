"""A fleet as text, JSON, Parquet and HTML.

    sentences   what is said of it in words, for text and HTML
    text        the summary for a terminal
    tables      Parquet files and JSON
    pictures    heat map, distributions, the start
    page        one file of HTML

In: a Fleet. May import `fleet` and what is below.
"""
