"""Which bytes were needed, and why: files, chunks, tensors, the state of the caches, failures.

    causes, reloads             why a request was needed
    residency, cache_state      what the caches held
    chunks, fetching            objects of the client's cache one by one; waiting for fetches
    file_map, headers/, tensors what lies where in a file; names of tensors are read only if asked for
    access, folders, model_files   how files were gone through, and where the model came from
    imports, operators, processes  what asked for them
    tries, failures             what was tried and not had
    needed                      which bytes of which files, to fetch them before the next run
    stacks                      the critical path as stacks, for flame graphs
    tables                      what of these is worked out once for all reports: Tables

In: Study. Out: Tables. May import `attribution` and what is below; `headers.files` alone touches a live system.
"""
