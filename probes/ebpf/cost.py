"""What the BPF programs themselves cost: the kernel's run-time statistics (bpf(2): BPF_ENABLE_STATS, bpf_prog_info)."""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

_BPF: Final = 321  # number of bpf(2) on x86_64
_GET_INFO_BY_FD: Final = 15
_ENABLE_STATS: Final = 32
_RUN_TIME: Final = 0  # enum bpf_stats_type
_INFO_BYTES: Final = 216
_RUN_TIME_NS_AT: Final = 192  # struct bpf_prog_info: run_time_ns, run_cnt


@dataclass(frozen=True)
class Cost:
    """Run time and number of runs of a program."""

    bpf_ns: int
    runs: int


def enable() -> int:
    """Let the kernel measure every run of a BPF program for as long as the returned descriptor is open. Raises OSError."""
    return _bpf(_ENABLE_STATS, struct.pack("<I", _RUN_TIME))


def read(program_fds: Mapping[str, int]) -> dict[str, Cost]:
    """Return what each of these programs has cost since statistics are enabled, by name. Raises OSError."""
    return {name: _read(fd) for name, fd in program_fds.items()}


def _read(fd: int) -> Cost:
    info = ctypes.create_string_buffer(_INFO_BYTES)
    _bpf(_GET_INFO_BY_FD, struct.pack("<IIQ", fd, _INFO_BYTES, ctypes.addressof(info)))
    return Cost(*struct.unpack_from("<QQ", info, _RUN_TIME_NS_AT))


def _bpf(command: int, attributes: bytes) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    buffer = ctypes.create_string_buffer(attributes, len(attributes))
    result: int = libc.syscall(_BPF, command, buffer, len(attributes))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{errno.errorcode.get(code, code)}: {os.strerror(code)}")
    return result
