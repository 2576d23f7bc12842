"""`make fuzz`: coverage-guided fuzzing of every target, from the inputs in tests/fuzz/corpus/ on.

`python tests/fuzz/fuzz.py [--seconds N] [TARGET…]` runs each in a process of its own, as the fuzzer never returns. Inputs that reach
code which the corpus does not are left in tests/fuzz/new/TARGET, and one that breaks a target in tests/fuzz/found/; how to add them
to the corpus (corpus.py) is said at the end, for those of found/ once they are mended.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import corpus

NEW = corpus.HERE / "new"
FAILING_INPUTS = corpus.HERE / "found"
MOST_BYTES = 8192
NEW_INPUTS, NEW_BYTES = 40, 60_000
"""Left of each target, after the fuzzer reduced all to what reaches different code."""


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
    print("fuzz:", f"{', '.join(broken)} broke: see {FAILING_INPUTS}" if broken else "nothing broke")
    for folder in sorted(NEW.glob("*")):
        adds = f"{sys.executable} {corpus.HERE / 'corpus.py'} add {folder.name} {folder}/*"
        print(f"fuzz: {len(list(folder.iterdir()))} new inputs for {folder.name}; add them with: {adds}")
    return int(bool(broken))


def fuzz(name: str, seconds: int) -> bool:
    """Run the fuzzer on one target for a while, and keep what it learnt; return whether nothing broke."""
    FAILING_INPUTS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        kept_inputs, grown, reduced = (Path(work) / folder for folder in ("kept", "grown", "reduced"))
        for folder in (kept_inputs, grown, reduced):
            folder.mkdir()
        for label, data in corpus.read(name).items():
            (kept_inputs / label).write_bytes(data)
        run = [sys.executable, __file__, "--inside", name]
        limits = [f"-max_len={MOST_BYTES}", "-timeout=20", "-rss_limit_mb=3000", "-verbosity=0", "-print_final_stats=1"]
        code = subprocess.run(
            [
                *run,
                *limits,
                f"-max_total_time={seconds}",
                f"-artifact_prefix={FAILING_INPUTS}/{name}-",
                str(grown),
                str(kept_inputs),
            ],
            check=False,
        ).returncode
        subprocess.run([*run, *limits, "-merge=1", str(reduced), str(kept_inputs), str(grown)], check=False)
        leave(name, [path.read_bytes() for path in reduced.iterdir()])
    return code == 0


def leave(name: str, reduced: list[bytes]) -> None:
    """Leave the smallest of the inputs that the corpus does not have in a folder."""
    shutil.rmtree(NEW / name, ignore_errors=True)
    size = 0
    for data in sorted(set(reduced) - set(corpus.read(name).values()), key=len)[:NEW_INPUTS]:
        size += len(data)
        if size > NEW_BYTES:
            break
        (NEW / name).mkdir(parents=True, exist_ok=True)
        (NEW / name / corpus.name_of(data)).write_bytes(data)


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
