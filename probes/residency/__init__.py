"""Where the bytes of files on CVMFS are at this moment: in the page cache, in the client's disk cache, or only on the server.

Read `survey.py` first. It opens a file only where that makes the client fetch nothing.
"""
