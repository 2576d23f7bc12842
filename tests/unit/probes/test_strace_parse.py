"""Single lines of the log of a target, one difficulty each."""

from __future__ import annotations

from strace_lines import U64, rows, target, texts

from cvtrace.probes.events import NO_OFFSET, TEXT_MAX, Kind
from cvtrace.probes.strace import parse_target


def test_time_is_monotonic_and_exact() -> None:
    # GIVEN an offset WHEN a line is parsed THEN no bit of its microseconds is lost
    line = b"7 1795349994.480922 close(3</a>) = 0 <0.000031>"
    parsed = parse_target([line], realtime_offset_ns=1_795_346_918_918_679_001)
    assert rows(parsed) == [("SYS_CLOSE", 3_075_562_242_999, 31_000, 0, 3, 0, 0)]


def test_nanoseconds_are_read_where_strace_prints_them() -> None:
    assert rows(target("7 1.000000005 close(3) = 0 <0.000000007>"))[0][1:3] == (1_000_000_005, 7)


def test_a_call_in_two_halves_is_one_event_from_its_entry() -> None:
    parsed = target(
        "7 1.000000 read(3</a>,  <unfinished ...>",
        "8 1.100000 close(4</b>) = 0 <0.000001>",
        '7 1.500000 <... read resumed>"x", 4096) = 1 <0.499990>',
    )
    assert rows(parsed)[0] == ("SYS_READ", 10**9, 499_990_000, 1, 3, NO_OFFSET, 4096)


def test_a_child_in_a_pid_namespace_has_its_number_of_the_log() -> None:
    parsed = target(
        "7 1.000000 vfork() = 2 /* 9517 in strace's PID NS */ <0.000160>",
        "7 1.100000 clone(child_stack=NULL, flags=CLONE_VM|CLONE_THREAD) = 3 /* 9518 in strace's PID NS */ <0.000160>",
    )
    assert [row[0:1] + row[4:6] for row in rows(parsed)] == [("PROC_FORK", 9517, 9517), ("PROC_FORK", 7, 9518)]


def test_results_of_failed_calls_are_negative_errnos() -> None:
    parsed = target(
        '7 1.0 openat(AT_FDCWD</>, "/none", O_RDONLY|O_CLOEXEC) = -1 ENOENT (No such file or directory) <0.1>',
        "7 2.0 futex(0x10, FUTEX_WAIT_PRIVATE, 2, NULL) = -1 EAGAIN (Resource temporarily unavailable) <0.1>",
        "7 3.0 read(0</dev/pts/0<char 136:0>>, 0x7ffe, 1024) = ? ERESTARTSYS (To be restarted if SA_RESTART is set) <0.5>",
    )
    assert rows(parsed) == [
        ("SYS_OPEN", 10**9, 10**8, -2, U64 - 100, 0o2000000, 0),
        ("SYS_WAIT", 2 * 10**9, 10**8, -11, 202, 0x10, 128),
        ("SYS_READ", 3 * 10**9, 5 * 10**8, -512, 0, NO_OFFSET, 1024),
    ]


def test_each_form_of_open_is_parsed() -> None:
    parsed = target(
        '7 1.0 open("/a", O_WRONLY|O_CREAT|O_TRUNC, 0644) = 3</a> <0.1>',
        '7 2.0 openat(5</d>, "b", O_RDONLY) = 4</d/b> <0.1>',
        '7 3.0 openat2(AT_FDCWD, "c", {flags=O_RDONLY|O_CLOEXEC, resolve=RESOLVE_NO_XDEV}, 24) = 5</c> <0.1>',
        '7 4.0 creat("/d", 0644) = 6</d> <0.1>',
        r'7 5.0 openat(AT_FDCWD<\x2f>, "\x2f\x65", 0x8000) = 7<\x2f\x65> <0.1>',
    )
    assert [(row[3], row[4], row[5]) for row in rows(parsed)] == [
        (3, U64 - 100, 0o1101),
        (4, 5, 0),
        (5, U64 - 100, 0o2000000),
        (6, U64 - 100, 0o1101),
        (7, U64 - 100, 0x8000),
    ]
    assert texts(parsed) == [b"/a", b"b", b"c", b"/d", b"/e"]


def test_a_result_is_the_last_one_on_the_line() -> None:
    # GIVEN a file whose name and whose content look like results
    parsed = target(
        '7 1.0 openat(AT_FDCWD</>, "/a) = 5 <0.1>", O_RDONLY) = 3</a) = 5 <0.1>> <0.000200>',
        r'7 2.0 read(3</x>, "\") = 9 <0.5>\\", 100) = 12 <0.000300>',
    )
    assert [(row[2], row[3]) for row in rows(parsed)] == [(200_000, 3), (300_000, 12)]
    assert texts(parsed) == [b"/a) = 5 <0.1>"]


def test_reads_with_offsets_and_vectors_are_parsed() -> None:
    parsed = target(
        '7 1.0 pread64(3</a>, "x"..., 4096, 8192) = 4096 <0.1>',
        '7 2.0 readv(3</a>, [{iov_base="x", iov_len=10}, {iov_base="y", iov_len=20}], 2) = 30 <0.1>',
        '7 3.0 preadv(3</a>, [{iov_base="x", iov_len=10}], 1, 77) = 10 <0.1>',
        '7 4.0 preadv2(3</a>, [{iov_base="x", iov_len=10}], 1, 78, 0) = 10 <0.1>',
    )
    assert [row[3:] for row in rows(parsed)] == [
        (4096, 3, 8192, 4096),
        (30, 3, NO_OFFSET, 30),
        (10, 3, 77, 10),
        (10, 3, 78, 10),
    ]


def test_only_mappings_of_files_are_events() -> None:
    parsed = target(
        "7 1.0 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x7f22d38a7000 <0.1>",
        "7 2.0 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, 3</m>, 0x1000) = 0x7f22d38a7000 <0.1>",
        "7 3.0 mmap(NULL, 8192, PROT_READ, MAP_PRIVATE, 3</m>, 0) = -1 ENODEV (No such device) <0.1>",
    )
    mapped, placed, failed = rows(parsed)
    assert (mapped[0], *mapped[3:]) == ("SYS_MMAP", 0, 3, 4096, 8192)
    assert (placed[0], *placed[3:]) == ("SYS_MAPPED", 0, 0x7F22D38A7000, 3, 8192)
    assert (failed[0], *failed[3:]) == ("SYS_MMAP", -19, 3, 0, 8192)


def test_copied_descriptors_folders_and_links_are_parsed() -> None:
    parsed = target(
        "7 1.0 dup2(3</m>, 9</old>) = 9</m> <0.1>",
        "7 2.0 fcntl(9</m>, F_DUPFD_CLOEXEC, 3) = 10</m> <0.1>",
        "7 3.0 fcntl(9</m>, F_GETFD) = 0x1 (flags FD_CLOEXEC) <0.1>",
        "7 4.0 dup(77) = -1 EBADF (Bad file descriptor) <0.1>",
        "7 5.0 getdents64(3</m>, 0x55d0 /* 12 entries */, 32768) = 400 <0.1>",
        r'7 6.0 readlink("\x2f\x61", "\x62", 4096) = 1 <0.1>',
        "7 7.0 munmap(0x7f22d38a7000, 8192) = 0 <0.1>",
    )
    assert [(row[0], *row[3:]) for row in rows(parsed)] == [
        ("SYS_DUP", 9, 3, 0, 0),
        ("SYS_DUP", 10, 9, 0, 0),
        ("SYS_LIST", 400, 3, 0, 32768),
        ("SYS_LINK", 1, 2**64 - 100, 0, 0),
        ("SYS_UNMAP", 0, 0x7F22D38A7000, 0, 8192),
    ]
    assert [bytes(text["text"]) for text in parsed.texts] == [b"/a"]


def test_waits_say_which_call_and_its_numbers() -> None:
    parsed = target(
        "7 1.0 poll([{fd=3</a>, events=POLLIN}], 1, 5000) = 0 (Timeout) <5.0>",
        "7 2.0 wait4(123, [{WIFEXITED(s) && WEXITSTATUS(s) == 0}], 0, NULL) = 123 <0.1>",
        "7 3.0 clock_nanosleep(CLOCK_REALTIME, 0, {tv_sec=1, tv_nsec=0}, 0x7ffe) = 0 <1.0>",
        "7 4.0 epoll_wait(5<anon_inode:[eventpoll]>, [], 10, 100) = 0 <0.1>",
        "7 5.0 restart_syscall(<... resuming interrupted futex ...>) = 0 <0.1>",
        "7 6.0 futex(0x10, FUTEX_WAKE_PRIVATE, 1) = 1 <0.1>",
    )
    assert [row[4:6] for row in rows(parsed)] == [(7, 0), (61, 123), (230, 0), (232, 5), (219, 0)]


def test_new_processes_and_threads_are_events() -> None:
    # GIVEN a thread and a process, whose first lines come before clone has returned
    parsed = target(
        '7 1.0 execve("/bin/python", ["python"], 0x7ffd /* 3 vars */) = 0 <0.1>',
        "7 2.0 clone3({flags=CLONE_VM|CLONE_FILES|CLONE_THREAD, exit_signal=0} <unfinished ...>",
        "8 2.1 close(1) = 0 <0.1>",
        "7 2.2 <... clone3 resumed> => {parent_tid=[8]}, 88) = 8 <0.2>",
        "7 3.0 vfork( <unfinished ...>",
        "9 3.1 close(1) = 0 <0.1>",
        "7 3.2 <... vfork resumed>) = 9 <0.2>",
        '8 3.3 chdir("/tmp") = 0 <0.1>',
        "9 4.0 +++ exited with 3 +++",
        "7 5.0 --- SIGCHLD {si_signo=SIGCHLD, si_code=CLD_EXITED, si_pid=9} ---",
        "8 6.0 futex(0x10, FUTEX_WAIT_PRIVATE, 2, NULL <unfinished ...>",
        "7 7.0 exit_group(0)   = ?",
        "8 7.5 <... futex resumed> <unfinished ...>) = ?",
        "8 7.6 +++ exited with 0 +++",
        "7 8.0 +++ killed by SIGKILL (core dumped) +++",
    )
    # THEN tgids are right from the start, forks name both numbers, exits the code
    by_thread = {int(row["tid"]): int(row["tgid"]) for row in parsed.events}
    assert by_thread == {7: 7, 8: 7, 9: 9}
    forks = [row[3:6] for row in rows(parsed) if row[0] == "PROC_FORK"]
    assert forks == [(8, 7, 8), (9, 9, 9)]
    exits = [(int(row["tid"]), int(row["ret"])) for row in parsed.events if row["kind"] == Kind.PROC_EXIT]
    assert exits == [(9, 3), (8, 0), (7, 137)]
    assert ("SYS_WAIT*", 6 * 10**9, 15 * 10**8, 0, 202, 0x10, 128) in rows(parsed)
    assert texts(parsed) == [b"/bin/python", b"/tmp"]
    assert parsed.skipped == 0


def test_calls_that_had_not_returned_reach_to_the_end() -> None:
    parsed = target(
        "7 1.0 wait4(-1,  <unfinished ...>",
        "8 2.0 futex(0x20, FUTEX_WAIT_PRIVATE, 2, NULL <detached ...>",
        "9 4.0 close(1) = 0 <0.1>",
    )
    assert rows(parsed)[:2] == [
        ("SYS_WAIT*", 10**9, 3 * 10**9, 0, 61, U64 - 1, 0),
        ("SYS_WAIT*", 2 * 10**9, 2 * 10**9, 0, 202, 0x20, 128),
    ]


def test_long_texts_are_cut_and_keep_their_length() -> None:
    parsed = target(f'7 1.0 openat(AT_FDCWD</>, "/{"x" * 1000}", O_RDONLY) = 3 <0.1>')
    assert parsed.texts["size"].tolist() == [1001]
    assert len(texts(parsed)[0]) == TEXT_MAX
