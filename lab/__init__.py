"""An embedded CVMFS for the demo, the tests and the benchmarks: publisher, origin, client, model builder. Stands alone."""
