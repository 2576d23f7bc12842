"""What if: the critical path replayed with something changed.

    path_waits     the waits of the critical path for requests
    own_time       what reading costs the target's own CPUs
    whatif         all cached, another round trip, fetches at once
    larger_model   what goes with the bytes of the weights
    lab_error      how wrong predictions were in the lab
    fetches_of_larger   how many chunks those are fetched in

In: Study. Out: predictions, each with what it assumes. May import `findings` and what is below.
"""
