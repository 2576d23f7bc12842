"""Many traces, of many nodes and runs: each analysed where it lies, in processes of this machine or on a Dask cluster; only tables travel.

    places     which traces: folders, patterns, partitions
    node       one trace: its analysis, and the few tables of it that travel
    clocks     how far the node's clock may be from others
    part       the tables of some traces, and how those of many become one
    written    tables of an earlier fleet, read again
    cluster    where the work is done; what a worker that ends had done is done again
    frames     the tables as columns
    answers    what all nodes together show: slow nodes and why, the start, objects that many fetched
    fleet      all of it in its order: `fleet.fleet_of`

In: paths. Out: a Fleet of tables (contract/fleet_columns). May import `summary` and what is below. Dask is imported by `cluster` alone.
"""
