"""Two or more examples for each verb: the help, the man pages and docs/commands.md show them, and a test parses them."""

from __future__ import annotations

from typing import Final

from cvtrace.probes.command import SUDO

EXAMPLES: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "run": (
        (
            "sudo cvtrace run phi3-qa.py -m /cvmfs/repo.example.org/models/phi-4-mini -e cpu -g",
            "Record a script with its arguments.",
        ),
        (
            "sudo cvtrace run -o cold -- ./model-qa /cvmfs/repo.example.org/models/phi-4-mini",
            "Record a program that is not a Python script, into the folder cold.",
        ),
        (
            "sudo cvtrace run --warmup cold phi3-qa.py -m /cvmfs/repo.example.org/models/phi-4-mini -e cpu -g",
            "Fetch what the run in the trace cold used, then record.",
        ),
        ("cvtrace run --probes portable phi3-qa.py", "Record without root: phases and the client's counters."),
    ),
    "attach": (
        ("sudo cvtrace attach 4711 --for 30s", "Record process 4711 for 30 seconds."),
        ("sudo cvtrace attach 4711 -o busy --watch", "Record it until Ctrl-C, and show what happens."),
    ),
    "report": (
        ("cvtrace report cvtrace-phi3-qa-20260101 -v", "Print everything about a run."),
        ("cvtrace report cvtrace-phi3-qa-20260101 --open", "Show the HTML page in the browser."),
        ("cvtrace report cvtrace-phi3-qa-20260101 -o run.json", "Write the JSON."),
    ),
    "check": (
        ("cvtrace check trace 'decode.http_fetches == 0'", "Fail if a token needed a fetch."),
        ("cvtrace check trace 'load.wall_s < 2' 'load.network_s < 0.5'", "Fail if the load is slow."),
        (
            "cvtrace check bench --against bench-of-main --junit cvtrace.xml",
            "Fail if a figure of an experiment is worse than before by more than noise, and write JUnit XML.",
        ),
    ),
    "compare": (
        ("cvtrace compare cold warm", "Say what changed between two traces, or two folders of traces."),
        ("cvtrace compare cold warm --open", "Show both side by side in the browser."),
        ("cvtrace compare bench-of-main bench", "Say what changed between two experiments."),
    ),
    "bench": (
        (
            "sudo cvtrace bench --yes phi3-qa.py -m /cvmfs/repo.example.org/models/phi-4-mini -e cpu -g -p hello",
            "Load a model five times in each state of the caches.",
        ),
        (
            "sudo cvtrace bench --lab delay=20ms --sweep size=64MB,128MB,256MB phi3-qa.py -m '{model}' -e cpu -g -p hello",
            "Load models of three sizes on the lab, and fit how the load grows.",
        ),
    ),
    "fleet": (
        ("cvtrace fleet traces --open", "Show all traces below a folder as a page in the browser."),
        (
            "cvtrace fleet 'runs/*/node-?' --scheduler tcp://10.0.0.1:8786 --format parquet -o tables",
            "Analyse the traces that a pattern matches on a Dask cluster, and write the tables.",
        ),
    ),
    "bugreport": (
        ("cvtrace bugreport cvtrace-phi3-qa-20260101", "Write cvtrace-phi3-qa-20260101-bugreport.zip."),
        ("cvtrace bugreport trace -o /tmp/bug.zip --force", "Write it elsewhere, and replace what is there."),
    ),
    "residency": (
        (
            "sudo cvtrace residency /cvmfs/repo.example.org/models/phi-4-mini",
            "Show how much of a model is in memory, in the client's cache, and only remote.",
        ),
        ("cvtrace residency --json /cvmfs/repo.example.org/models/phi-4-mini", "Print it as JSON."),
    ),
    "warmup": (
        ("cvtrace warmup cvtrace-phi3-qa-20260101", "Fetch the files that the recorded run used."),
        ("cvtrace warmup --threads 16 /cvmfs/repo.example.org/models/phi-4-mini", "Fetch all files of a model."),
    ),
    "bundle": (
        ("cvtrace bundle cold", "Write the bundle of the run in the trace cold, and say what it saves."),
        (
            "cvtrace bundle cold --trigger /models/phi-4-mini/model.onnx -o - --list files.txt",
            "With another trigger, to stdout; the list of files for other uses.",
        ),
    ),
    "doctor": (
        ("sudo cvtrace doctor", "Check this machine and all its CVMFS mounts."),
        (
            "sudo cvtrace doctor --model /cvmfs/repo.example.org/models/phi-4-mini",
            "Say how much of a model is in the client's cache, and whether it fits.",
        ),
    ),
    "help": (
        ("cvtrace help run", "Show the help of cvtrace run."),
        ("cvtrace help lab up", "Show the help of cvtrace lab up."),
    ),
    "lab": (
        ("sudo cvtrace lab up", "Build, publish, serve and mount a model of 64 MB."),
        ("sudo cvtrace lab down --purge", "Stop it, and delete all that it made."),
    ),
    "lab up": (
        ("sudo cvtrace lab up --size 200MB --delay 20ms", "A model of 200 MB from a server that is 20 ms away."),
        ("cvtrace lab up --mount ./mnt", "Mount in a folder of your own, without root."),
    ),
    "lab down": (
        ("sudo cvtrace lab down", "Unmount and stop; models and cache stay for the next time."),
        ("sudo cvtrace lab down --purge --force", "Also delete them, even while the mount is in use."),
    ),
    "lab status": (
        ("cvtrace lab status", "Print mountpoint, origin, client and models."),
        ("cvtrace lab status --json", "Print them as JSON."),
    ),
    "lab example": (
        ("cvtrace lab example", "Print the path of the example script."),
        ("cvtrace lab example --copy .", "Copy it into the working folder."),
    ),
    "lab model": (
        ("cvtrace lab model ./model --size 200MB", "Build a model of 200 MB."),
        ("cvtrace lab model ./mapped --size 64MB --mapped", "One that uses its weights from the mapped file."),
    ),
    "lab publish": (
        ("cvtrace lab publish ./model --fqrn models.example.org --store ./store", "Publish a folder."),
        (
            "cvtrace lab publish ./model --fqrn models.example.org --store ./store --at /phi --chunk-size 4MiB",
            "Publish it below /phi, in chunks of 4 MiB.",
        ),
    ),
    "lab serve": (
        ("cvtrace lab serve ./store --port 8000 --delay 50ms", "Serve with 50 ms before the first byte."),
        ("cvtrace lab serve ./store --status 503 --every 10", "Answer every tenth request with 503."),
    ),
    "lab mount": (
        (
            "cvtrace lab mount models.example.org ./mnt --url http://127.0.0.1:8000/cvmfs/models.example.org"
            " --key store/keys/models.example.org.pub",
            "Mount what lab serve serves.",
        ),
        (
            "cvtrace lab mount models.example.org ./mnt --url http://127.0.0.1:8000/cvmfs/models.example.org"
            " --key store/keys/models.example.org.pub --quota 100MB",
            "The same with a cache of 100 MB.",
        ),
    ),
}
"""Verb, with its group -> commands and what each does."""


def as_typed(command: str, sudo: str = SUDO) -> str:
    """Return an example as it works when it is typed: sudo does not find the `cvtrace` of a virtual environment."""
    return command.replace("sudo cvtrace", sudo)


def epilog_of(verb: str) -> str | None:
    """Return the examples of a verb as click prints them; None for a verb without."""
    lines = [f"  {as_typed(command)}\n      {what}" for command, what in EXAMPLES.get(verb, ())]
    return "\b\nExamples:\n" + "\n".join(lines) if lines else None
