"""The CVMFS client as seen from outside: its mounts, daemons, counters and extended attributes."""
