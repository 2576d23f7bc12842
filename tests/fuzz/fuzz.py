"""`make fuzz`: coverage-guided fuzzing of every target, new inputs kept in tests/fuzz/corpus/.

`python tests/fuzz/fuzz.py [--seconds N] [TARGET…]` runs each in a process of its own, as the fuzzer never returns; an input that
breaks one is left in tests/fuzz/found/, and is to become a file of the corpus once it is mended.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"
FOUND = HERE / "found"
MOST_BYTES = 8192
KEPT_FILES, KEPT_BYTES = 80, 60_000
"""Of each target, after the fuzzer reduced the corpus to what reaches different code."""


def main() -> int:
    """Fuzz; return 1 if something broke."""
    from fuzz_targets import TARGETS

    parser = argparse.ArgumentParser(description="Fuzz the parsers.")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    parser.add_argument("--seconds", type=int, default=600, help="for each target")
    arguments = parser.parse_args()
    if unknown := set(arguments.targets) - set(TARGETS):
        parser.error(f"there is no target {', '.join(unknown)}")
    broken = [name for name in arguments.targets or TARGETS if not fuzz(name, arguments.seconds)]
    print("fuzz:", f"{', '.join(broken)} broke: see {FOUND}" if broken else "nothing broke")
    return int(bool(broken))


def fuzz(name: str, seconds: int) -> bool:
    """Run the fuzzer on one target for a while, and keep what it learnt; return whether nothing broke."""
    kept = CORPUS / name
    FOUND.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        grown, reduced = Path(work) / "grown", Path(work) / "reduced"
        grown.mkdir()
        reduced.mkdir()
        run = [sys.executable, __file__, "--inside", name]
        limits = [f"-max_len={MOST_BYTES}", "-timeout=20", "-rss_limit_mb=3000", "-verbosity=0", "-print_final_stats=1"]
        code = subprocess.run(
            [*run, *limits, f"-max_total_time={seconds}", f"-artifact_prefix={FOUND}/{name}-", str(grown), str(kept)],
            check=False,
        ).returncode
        subprocess.run([*run, *limits, "-merge=1", str(reduced), str(kept), str(grown)], check=False)
        keep(reduced, kept)
    return code == 0


def keep(reduced: Path, kept: Path) -> None:
    """Add the smallest of the new inputs to the corpus, under the names of their contents, up to its limits."""
    present = [path.read_bytes() for path in kept.iterdir()]
    count, size = len(present), sum(map(len, present))
    for data in sorted((path.read_bytes() for path in reduced.iterdir()), key=len):
        if data in present or count >= KEPT_FILES or size + len(data) > KEPT_BYTES:
            continue
        (kept / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        count, size = count + 1, size + len(data)


def inside(name: str, options: list[str]) -> int:
    """Be the fuzzer of one target; never returns."""
    try:
        import atheris
    except ImportError:
        print("fuzz: the fuzzer is missing: .venv/bin/pip install atheris", file=sys.stderr)
        return 2
    with atheris.instrument_imports(include=["cvtrace", "fuzz_targets"]):
        from fuzz_targets import TARGETS
    itself = f"{sys.executable} {__file__} --inside {name}"  # with -merge it starts itself again, through a shell
    atheris.Setup([itself, *options], TARGETS[name])
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(inside(sys.argv[2], sys.argv[3:]) if sys.argv[1:2] == ["--inside"] else main())
