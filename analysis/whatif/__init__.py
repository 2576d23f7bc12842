"""What if: the critical path replayed with something changed.

    path_waits     the waits of the critical path for requests
    whatif         all cached, another round trip, fetches at once
    larger_model   what goes with the bytes of the weights

In: Study. Out: predictions, each with what it assumes. May import `findings` and what is below.
"""
