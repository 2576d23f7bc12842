"""The verdict of a report: its question, its answer, its numbers, its proof. Part of the contract: see report_schema."""

from dataclasses import dataclass
from typing import Final

YES: Final = "yes"
NO: Final = "no"
INCONCLUSIVE: Final = "inconclusive"
ANSWERS: Final = (YES, NO, INCONCLUSIVE)

GENERATION: Final = "generation"
"""Does generation hit CVMFS? Of a target that makes tokens."""
INFERENCE: Final = "inference"
"""Does inference hit CVMFS? Of a target that runs sessions of plain onnxruntime."""
PROGRAM: Final = "program"
"""Does this program wait for CVMFS? Of any other target."""
QUESTIONS: Final = (GENERATION, INFERENCE, PROGRAM)


@dataclass(frozen=True)
class Part:
    """A part of generation, and what it needed of CVMFS; `hits_cvmfs` is yes, no or inconclusive.

    `wall_s` is the time of the thread that generates, `blocked_s` what it waited for CVMFS in it. `others_blocked_s` is the time in
    which other threads and processes of the target were blocked on CVMFS meanwhile: generation need not have waited for them.
    """

    hits_cvmfs: str
    wall_s: float
    blocked_s: float | None
    fuse_requests: int | None
    fuse_reads: int | None
    fuse_read_bytes: int | None
    http_fetches: int | None
    http_bytes: int | None
    causes: dict[str, int]
    others_blocked_s: float | None = None


@dataclass(frozen=True)
class UnobservedMount:
    """A FUSE mount that the recording did not observe, and what the target asked of it: counts are the kernel's.

    `type` and `source` are those of the table of mounts, `is_cvmfs` what they and the path tell. `generation_requests` were sent from the
    prefill to the last token of an answer; those to a CVMFS count as requests of generation. What was waited for them is `other.fuse`.
    """

    path: str
    type: str
    source: str
    is_cvmfs: bool
    requests: int
    reads: int
    generation_requests: int
    generation_reads: int


@dataclass(frozen=True)
class ModelFile:
    """A file that the target opened while it loaded the model; bytes that were mapped or read through descriptors of it."""

    path: str
    on_cvmfs: bool
    opens: int
    mapped_bytes: int
    read_bytes: int


@dataclass(frozen=True)
class Verdict:
    """The answer to the target's `question`, its numbers, its proof, and what is missing for a better one.

    `question` is generation, inference or program; `answer` is yes, no or inconclusive, and `generation_hits_cvmfs` the same where the
    question is that of generation, else inconclusive.

    The numbers from `fuse_requests` to `causes` are those of all of generation: prefill, the calls that make the further tokens, and the
    time between the calls of one answer. `first_token` and `further_tokens` cut it by what it was for, `inside_calls` and
    `between_calls` by where it happened; each pair adds up to the whole.

    `tokens` are those of all sequences of a batch, None if the size of the batch is not known; `steps` are the calls that made them,
    without `failed_steps`, which returned an error. `tokens_affected` are steps, by index; what the prefill needed affects the first
    step of its answer.
    `spin_overlap_s`: besides `blocked_s`, at most so much of the tokens' time on a CPU may have been spinning for a thread that was
    blocked on CVMFS.
    `model_from` tells where the files of the load lie: cvmfs, elsewhere, or None if that is not known.
    """

    generation_hits_cvmfs: str
    tokens: int | None
    fuse_requests: int | None
    fuse_reads: int | None
    fuse_read_bytes: int | None
    http_fetches: int | None
    http_bytes: int | None
    blocked_s: float | None
    tokens_affected: tuple[int, ...]
    causes: dict[str, int]
    proof: tuple[str, ...]
    missing: tuple[str, ...]
    spin_overlap_s: float | None = None
    question: str = GENERATION
    answer: str = INCONCLUSIVE
    steps: int = 0
    failed_steps: int = 0
    first_token: Part | None = None
    further_tokens: Part | None = None
    inside_calls: Part | None = None
    between_calls: Part | None = None
    model_from: str | None = None
    model_files: tuple[ModelFile, ...] = ()
    unobserved_mounts: tuple[UnobservedMount, ...] = ()


@dataclass(frozen=True)
class Answer:
    """The answer to one prompt, from its prefill to its last token.

    `first_token_s` is the time from the begin to the end of the step that made the first token, None if none was made. Requests of an
    engine that are served together overlap: each has all that happened in its time.
    """

    index: int
    start_s: float
    wall_s: float
    first_token_s: float | None
    tokens: int | None
    steps: int
    failed_steps: int
    hits_cvmfs: str
    blocked_s: float | None
    fuse_requests: int | None
    fuse_reads: int | None
    http_fetches: int | None
