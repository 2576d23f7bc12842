"""A small library with functions named as the client's, and a process that calls them, for tests."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from namespaces import unshare

SONAME = "libcvmfs_fuse3.so.9.9.9"

LIBRARY = r"""
#include <unistd.h>
#define NAMED(name) __asm__(name) __attribute__((noinline))

struct quota { long name; char *path; long limit; char pad[64]; unsigned long gauge; unsigned long seq; char rest[256]; };

int download(void *manager, void *job) NAMED("_ZN8download15DownloadManager5FetchEPNS_7JobInfoE");
int download(void *manager, void *job) { usleep(2000); return 0; }

void backoff(void *manager, void *job) NAMED("_ZN8download15DownloadManager7BackoffEPNS_7JobInfoE");
void backoff(void *manager, void *job) { usleep(20000); }

void throttle(void *throttle) NAMED("_ZN15BackoffThrottle8ThrottleEv");
void throttle(void *throttle) { usleep(10000); }

int fetch(void *fetcher, int *fd, void *url) NAMED("_ZN5cvmfs7Fetcher5FetchERKN12CacheManager13LabeledObjectERKNSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE");
int fetch(void *fetcher, int *fd, void *url) { if (*fd > 50) download(fetcher, (void *)0xabc0); return *fd; }

_Bool cleanup(struct quota *quota, unsigned long leave) NAMED("_ZN17PosixQuotaManager9DoCleanupEm");
_Bool cleanup(struct quota *quota, unsigned long leave) {
  while (quota->gauge > leave) { quota->gauge -= 1000; quota->seq++; }
  usleep(1000);
  return 1;
}

/* Not the client's functions, though their names are like them. */
int other(void *fetcher) NAMED("_ZN20AuthzExternalFetcher5FetchEv");
int other(void *fetcher) { return 0; }
int cold(void *fetcher) NAMED("_ZN5cvmfs7Fetcher5FetchERKi.cold");
int cold(void *fetcher) { return 0; }

__attribute__((visibility("default"))) void run(void) {
  int hit = 30, miss = 60;
  struct quota quota = {.limit = 9000000, .gauge = 8000500, .path = (char *)&quota};
  fetch(0, &hit, 0);
  fetch(0, &miss, 0);
  backoff(0, (void *)0xabc0);
  throttle(&hit);
  cleanup(&quota, 4000000);
  cleanup(&quota, 4000000);
  other(0);
  cold(0);
}

__attribute__((visibility("default"))) void hang(void) { backoff(0, (void *)0xdef0); pause(); }
"""

PROGRAM = r"""
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
int main(int argc, char **argv) {
  char line[512];
  void *library = 0;
  for (int i = 0; printf("%d\n", i), fflush(stdout), fgets(line, sizeof line, stdin); i++) {
    line[strcspn(line, "\n")] = 0;
    if (line[0] == '/') {
      if (library)
        dlclose(library);
      if (!(library = dlopen(line, RTLD_NOW)))
        return fprintf(stderr, "%s\n", dlerror()), 1;
    } else
      ((void (*)(void))dlsym(library, line))();
  }
  return 0;
}
"""


def compile_to(path: Path, text: str, *options: str) -> Path:
    """Compile a C program or library."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        pytest.skip("needs a C compiler")
    subprocess.run([compiler, "-O1", "-o", path, "-x", "c", "-", *options, "-ldl"], input=text, text=True, check=True)
    return path


def build_library(folder: Path, *, exported: bool = False) -> Path:
    """Build the library, as the client's is built: its functions are in .symtab only, unless `exported`."""
    script = folder / "exports"
    script.write_text("{ global: %s; local: *; };" % ("*" if exported else "run; hang"))
    shared = ("-shared", "-fPIC", "-g", "-Wl,--build-id=sha1", f"-Wl,--version-script={script}")
    return compile_to(folder / SONAME, LIBRARY, *shared)


class Client:
    """A process that loads the library and calls its functions when it is told to."""

    def __init__(self, program: Path, *before: str) -> None:
        argv = [*before, str(program)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answered()

    @property
    def pid(self) -> int:
        return self.process.pid

    def tell(self, command: str) -> None:
        """Send a path to load, or the name of a function to call."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{command}\n")
        self.process.stdin.flush()

    def do(self, command: str) -> Client:
        """Send a command and wait until it is done."""
        self.tell(command)
        self.answered()
        return self

    def answered(self) -> None:
        assert self.process.stdout is not None
        assert self.process.stdout.readline(), "the client ended"

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


def in_root(root: Path, library: Path, place: str) -> tuple[str, ...]:
    """Return what starts a program in a mount namespace and a root of its own, where the library is at `place` and nowhere else."""
    folder = os.path.dirname(place)  # noqa: PTH120
    script = (
        f"mount --bind / {root} && mount -t tmpfs none {root}{folder} && cp {library} {root}{place} && "
        f'exec chroot {root} "$0"'
    )
    return (*unshare("--mount"), "sh", "-c", script)
