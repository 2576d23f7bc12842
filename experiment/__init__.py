"""Measuring a script in known states of the caches: what `cvtrace bench` does with a live system.

settings    what an experiment is, and the order of its runs
errors      why it cannot be made, one sentence each
files       the files on CVMFS that a script is given, and the clients that serve them
states      bringing the caches into a state, and verifying that they are in it
copies      the local copy, and how the script comes to use it
launch      one run of the script, untraced or traced, from its start to its end
on_lab      the embedded CVMFS as the place of an experiment, with a value of a sweep set before each run
record      the folder on disk, written after every run
interruption   Ctrl-C, at any moment
request     an experiment from words, as a command line or a call from Python has them
runner      the runs in their order
measure     all of it, from its begin to its end

What was measured is read and summarised by `cvtrace.analysis.bench`.
"""
