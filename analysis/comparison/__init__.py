"""Two runs, or two sets of runs, figure by figure.

    compare       what changed, and of sets, how sure that is
    differences   the time by phase, file and class side by side

In: Reports. Out: Comparison. May import `summary` and what is below.
"""
