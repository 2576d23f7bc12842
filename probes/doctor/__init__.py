"""What can be observed on this machine, found out by trying: the kernel's side, the rungs, and the CVMFS client's side.

`examination.examine` is the whole of it; `finding.py` says what a finding is.
"""
