"""Numbers packed into one int64, and how they are taken apart: the one place that knows which bits hold what.

Two sources: what the probes pack into the fields of an event (probes/events.py), and keys that the analysis makes to look rows up by several
columns at once. Keys are only compared: which rows have the same one is all that counts.
"""

from typing import Final

import numpy as np

from cvtrace.analysis.trace.intervals import Ints

PAGE: Final = 4096
"""Bytes of a page."""

_HALF_BITS: Final = 32
_HALF_MASK: Final = (1 << _HALF_BITS) - 1
_PAGE_BITS: Final = 48
"""A file of 2^48 pages is an exabyte."""
_NODE_BITS: Final = 40
"""A client numbers its nodes one after the other: it gives out no more than 2^40."""
_UNIQUE_BITS: Final = 44
"""FUSE numbers the requests of a connection 2, 4, 6 …: 44 bits are 2 days of 50 million requests a second."""
_JOB_BITS: Final = 48
"""User addresses of x86-64 and arm64 have 48 bits at most."""
_OBJECT_BITS: Final = 24
_DEPTH_BITS: Final = 8
_KIND_BITS: Final = 16
_PORT_BITS: Final = 16


def first_page(packed: Ints) -> Ints:
    """Return the first page of a range that PAGE_READ and PAGE_MAP pack into `c`; of a FAULT, its page."""
    return packed & ((1 << _PAGE_BITS) - 1)


def page_count(packed: Ints) -> Ints:
    """Return how many pages the range has: 0 where the probe does not tell, as in a FAULT."""
    return packed >> _PAGE_BITS


def high_half(packed: Ints) -> Ints:
    """Return the upper 32 bits of a field: the opcode in `c` of FUSE_SEND and FUSE_DAEMON, the port in `b` of HTTP_CONNECT."""
    return packed >> _HALF_BITS


def low_half(packed: Ints) -> Ints:
    """Return the lower 32 bits of a field: the process in `c` of FUSE_DAEMON, the bytes in `b` of FUSE_REPLY."""
    return packed & _HALF_MASK


def pair_key(first: Ints, second: Ints) -> Ints:
    """Return one number for two of up to 32 bits; -1 as the second is a value like any other."""
    return first << _HALF_BITS | second & _HALF_MASK


def first_of_pair(key: Ints) -> Ints:
    """Return the first number of a `pair_key`."""
    return key >> _HALF_BITS


def descriptor_key(process: Ints, descriptor: Ints) -> Ints:
    """Return one number for a descriptor of a process: a file or a socket."""
    return pair_key(process, descriptor)


def file_key(connection: Ints, nodeid: Ints) -> Ints:
    """Return one number for a file of a mount."""
    return connection << _NODE_BITS ^ nodeid


def connection_of_file(key: Ints) -> Ints:
    """Return the connection in a `file_key`."""
    return key >> _NODE_BITS


def node_of_file(key: Ints) -> Ints:
    """Return the node in a `file_key`."""
    return key & ((1 << _NODE_BITS) - 1)


def request_key(connection_rank: Ints, unique: Ints) -> Ints:
    """Return one number for a FUSE request: the kernel's number is one of its connection only. Connections are numbered from 0."""
    return connection_rank << _UNIQUE_BITS | unique & ((1 << _UNIQUE_BITS) - 1)


def job_key(process: Ints, address: Ints) -> Ints:
    """Return one number for a job of the client: the address of it in the client's memory."""
    return address ^ process << _JOB_BITS


def object_key(process: Ints, object_rank: Ints) -> Ints:
    """Return one number for an object of a process (a generator, a request of an engine). Objects are numbered from 0."""
    return process << _OBJECT_BITS ^ object_rank


def thread_kind_key(tid: Ints, kind: Ints) -> Ints:
    """Return one number for a thread and a kind of event."""
    return tid << _KIND_BITS | kind


def thread_depth_key(tid: Ints, depth: Ints) -> Ints:
    """Return one number for a thread and how deep something is nested in it, up to 255."""
    return tid << _DEPTH_BITS | depth


def address_key(host: Ints, port: Ints) -> Ints:
    """Return one number for an IPv4 address and a port."""
    return host << _PORT_BITS | port


def host_of(address: int) -> str:
    """Return `10.0.0.7` for an `address_key`."""
    host = address >> _PORT_BITS
    return ".".join(str(host >> shift & 255) for shift in (24, 16, 8, 0))


def address_text(address: int) -> str:
    """Return `10.0.0.7:8000` for an `address_key`."""
    return f"{host_of(address)}:{address & ((1 << _PORT_BITS) - 1)}"


def ranked(values: Ints) -> Ints:
    """Return the rank of each value among the distinct ones: a small number in place of an address."""
    _, rank = np.unique(values, return_inverse=True)
    return rank.ravel().astype(np.int64)
