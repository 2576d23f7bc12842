# ruff: noqa: SIM105 - contextlib is not loaded yet in a starting interpreter
"""Wraps the calls that mark phases (_cvtrace_table.py, made from probes/phases/runtimes), when the target imports their modules.

One 56-byte PHASE event per call.

Runs in any Python from 3.9 on and imports nothing of cvtrace. The record is that of probes/events.py; a test compares them.
"""

from __future__ import annotations

import os
import struct
import sys
from _thread import get_native_id
from time import monotonic_ns

from _cvtrace_table import FUNCTIONS, METHODS  # type: ignore[import-not-found]

TYPE_CHECKING = False  # typing is not imported for nothing
if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType
    from typing import Any

GENAI = "onnxruntime_genai"
IMPORTS = "imports"
PHASE = 4
RECORD = struct.Struct("<QQIIHHiQQQ")
MASK = 2**64 - 1

PROFILED = (GENAI, "onnxruntime")
"""Packages whose sessions can write onnxruntime's profile."""

SEQUENCES = "sequences"
"""Asks for no marks of GenAI's calls, which a probe sees, but for how many sequences its generators have, which none sees."""

STEPS = {
    name: tuple(FUNCTIONS[f"{name}.{each}"] for each in pair)
    for name, pair in (
        ("transformers", ("forward.prompt", "forward")),
        ("vllm", ("execute_model.prompt", "execute_model")),
    )
}
"""Of each package whose calls are told apart when they begin: what a prompt marks, and a step of decode."""

LOADED: dict[str, Any] = {}
"""Modules that were loaded when a package needed them."""

HIGH_FD = 200
"""Descriptors are handed out from the lowest free number, so nothing of the target gets this one if the target closes it."""


class Marks:
    """Appends records to the file of marks."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._fd = -1

    def open(self) -> None:
        if self._fd >= 0:
            return
        import fcntl

        self._fd = fd = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            self._fd = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, HIGH_FD)
        except OSError:  # RLIMIT_NOFILE
            return
        os.close(fd)

    def loaded(self, module: ModuleType) -> None:
        """Take note that a package was wrapped."""

    def before(self, index: int) -> None:
        """Take note that a call begins."""

    def mark(self, index: int, begin: int, end: int, failed: bool, owner: int, value: int = 0) -> None:
        """Take note of a call that has ended."""
        try:
            pid, tid = os.getpid(), get_native_id()
            self.write(RECORD.pack(begin, end - begin, pid, tid, PHASE, 0, -failed, index, owner & MASK, value))
        except Exception:
            pass

    def note(self, function: str, begin: int, end: int, owner: int, value: int) -> None:
        """Write down what a call tells of others."""
        tids = os.getpid(), get_native_id()
        self.write(RECORD.pack(begin, end - begin, *tids, PHASE, 0, 0, FUNCTIONS[function], owner & MASK, value & MASK))

    def write(self, records: bytes) -> None:
        try:
            os.write(self._fd, records)
        except OSError:
            self._fd = -1  # the target closed what it did not know; from here on nothing is written


def wrap(original: Callable[..., Any], index: int, marks: Marks, destroyed: int | None = None) -> Callable[..., Any]:
    """Return a function that calls `original` and marks the call."""
    before, mark = marks.before, marks.mark

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        before(index)
        begin = monotonic_ns()
        failed = True
        try:
            result = original(self, *args, **kwargs)
            failed = False
            return result
        finally:
            mark(index, begin, monotonic_ns(), failed, id(self))
            if destroyed is not None and not failed:
                watch(self, destroyed, marks)

    for name in ("__name__", "__qualname__", "__doc__", "__module__"):
        try:
            setattr(call, name, getattr(original, name))
        except (AttributeError, TypeError):
            pass
    return call


def wrap_function(original: Callable[..., Any], index: int, marks: Marks) -> Callable[..., Any]:
    """Return a function of a module that marks its calls."""
    call = wrap(lambda _, *args, **kwargs: original(*args, **kwargs), index, marks)

    def function(*args: Any, **kwargs: Any) -> Any:
        return call(function, *args, **kwargs)

    from functools import update_wrapper

    return update_wrapper(function, original)


def beside(name: str) -> Any:
    """Return a module that lies beside this one, whose folder is on no path any more."""
    module = LOADED.get(name)
    if module is None:
        from importlib.util import module_from_spec, spec_from_file_location

        spec: Any = spec_from_file_location(name, f"{os.path.dirname(__file__)}/{name}.py")  # noqa: PTH120
        module = LOADED[name] = module_from_spec(spec)
        spec.loader.exec_module(module)
    return module


def wrap_model(original: Callable[..., Any], marks: Marks, destroyed: int | None) -> Callable[..., Any]:
    """Return a Model.__init__ that tells a model made from a Config from one made from a path."""
    from_path = wrap(original, FUNCTIONS["OgaCreateModel"], marks, destroyed)
    from_config = wrap(original, FUNCTIONS["OgaCreateModelFromConfig"], marks, destroyed)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        first = args[0] if args else next(iter(kwargs.values()), None)
        return (from_config if type(first).__name__ == "Config" else from_path)(self, *args, **kwargs)

    call.__name__ = "__init__"
    call.__doc__ = original.__doc__
    return call


def wrap_run(original: Callable[..., Any], marks: Marks) -> Callable[..., Any]:
    """Return an Engine.run that tells of which requests its events are, and which of them are tokens."""
    wrapped = wrap(original, FUNCTIONS["OgaEngineRun"], marks)

    def run(self: Any, *args: Any, **kwargs: Any) -> Any:
        events = wrapped(self, *args, **kwargs)
        try:
            for place in range(len(events)):
                event, now = events[place], monotonic_ns()
                marks.note("OgaEngineEventGetRequest", now, now, place + 1, id(event.request))
                marks.note("OgaEngineEventGetFlags", now, now, place + 1, int(event.flags))
        except Exception:  # another version: its tokens stay uncounted
            pass
        return events

    run.__doc__ = original.__doc__
    return run


BATCHES: dict[int, int] = {}
"""Size of the batch that parameters were given, by id: versions before 0.12 cannot be asked for it."""


def sequences_of(params: Any) -> int:
    """Return how many sequences a generator with these parameters makes, 0 if that is not known."""
    ask = getattr(params, "get_search_options", None)
    if ask is None:
        return BATCHES.get(id(params), 1)
    options = ask()
    beams = int(options.get("num_beams", 1))
    return int(options["batch_size"]) * (int(options.get("num_return_sequences", 1)) if beams > 1 else 1)


def wrap_sequences(module: ModuleType, marks: Marks) -> None:
    """Let the package tell how many sequences each generator has, when it is made."""
    generator, params = getattr(module, "Generator", None), getattr(module, "GeneratorParams", None)
    if not isinstance(generator, type) or not isinstance(params, type):
        return
    original_init: Any = vars(generator)["__init__"]
    set_options: Any = getattr(params, "set_search_options", None)

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        begin = monotonic_ns()
        original_init(self, *args, **kwargs)
        try:
            parameters = next((each for each in (*args, *kwargs.values()) if isinstance(each, params)), None)
            number = sequences_of(parameters) if parameters is not None else 0
            if number:
                marks.note("cvtrace.sequences", begin, monotonic_ns(), id(self), number)
        except Exception:
            pass

    def set_search_options(self: Any, *args: Any, **kwargs: Any) -> Any:
        if "batch_size" in kwargs:
            BATCHES[id(self)] = int(kwargs["batch_size"])
        return set_options(self, *args, **kwargs)

    init.__doc__ = original_init.__doc__
    setattr(generator, "__init__", init)  # noqa: B010 - as a name, mypy takes it for an instance's
    if set_options is not None and not hasattr(params, "get_search_options"):
        set_search_options.__doc__ = set_options.__doc__
        params.set_search_options = set_search_options  # type: ignore[attr-defined]


ALIVE: dict[int, Any] = {}
"""Weak references to the objects whose end is to be marked: a reference must outlive what it watches."""


def watch(thing: Any, index: int, marks: Marks) -> None:
    """Mark the moment at which `thing` is gone."""
    import weakref

    key = id(thing)

    def gone(reference: Any) -> None:
        if ALIVE.get(key) is reference:
            del ALIVE[key]
        now = monotonic_ns()
        marks.mark(index, now, now, False, key)

    try:
        ALIVE[key] = weakref.ref(thing, gone)
    except TypeError:
        pass


def wrap_package(module: ModuleType, methods: tuple[Any, ...], marks: Marks) -> None:
    """Wrap every method that this version of the package has."""
    for class_name, method, function, destructor, how in methods:
        kind = getattr(module, class_name, None) if class_name else module
        original = getattr(kind, method, None) if isinstance(kind, type) or kind is module else None
        if original is None:
            continue
        destroyed = FUNCTIONS[destructor] if destructor else None
        try:
            if how == "model":
                wrapped = wrap_model(original, marks, destroyed)
            elif how == "engine":
                wrapped = wrap_run(original, marks)
            elif how == "function":
                wrapped = wrap_function(original, FUNCTIONS[function], marks)
            elif how == "own":
                wrapped = beside("_cvtrace_own").wrap_own(vars(kind).get(method, original), FUNCTIONS[function], marks)
            elif how == "class":
                wrapped = classmethod(wrap(original.__func__, FUNCTIONS[function], marks))  # type: ignore[assignment]
            elif how:
                steps = STEPS[function.partition(".")[0]]
                wrapped = beside("_cvtrace_torch").wrapper(how, kind, original, FUNCTIONS[function], steps, marks)
            else:
                wrapped = wrap(original, FUNCTIONS[function], marks, destroyed)
            setattr(kind, method, wrapped)
        except (AttributeError, TypeError):
            continue


class Finder:
    """Waits in sys.meta_path for the packages, lets the others find them, and wraps each once it has been executed."""

    def __init__(
        self, marks: Marks, packages: dict[str, tuple[Any, ...]], then: Callable[[str, ModuleType], None] | None = None
    ) -> None:
        self._marks = marks
        self._packages = packages
        self._then = then

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Any:
        if name not in self._packages:
            return None
        for finder in list(sys.meta_path):
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find else None
            if spec is not None:
                self._after(name, spec.loader)
                return spec
        return None

    def _after(self, name: str, loader: Any) -> None:
        execute = getattr(loader, "exec_module", None)
        if execute is None:
            return

        def exec_module(module: ModuleType) -> None:
            execute(module)
            try:
                del loader.exec_module
            except AttributeError:
                pass
            self._loaded(name, module)

        try:
            loader.exec_module = exec_module
        except (AttributeError, TypeError):
            pass

    def _loaded(self, name: str, module: ModuleType) -> None:
        try:
            methods = self._packages.pop(name, ())
            if methods:
                self._marks.open()
                if methods != (SEQUENCES,):
                    wrap_package(module, methods, self._marks)
                    self._marks.loaded(module)
                if name == GENAI:
                    wrap_sequences(module, self._marks)
            if self._then is not None:
                self._then(name, module)
            if not self._packages and self in sys.meta_path:
                sys.meta_path.remove(self)
        except Exception:  # no marks are better than no target
            pass


def arm(
    path: str, names: str, profile: str = "", mounts: str = "", sockets: str = "", own: str = ""
) -> Callable[[], None] | None:
    """Wait for the packages that `names` names, separated by commas; their marks go to the file `path`.

    `imports` among them has every import marked once what is returned is called; `sequences`, how many sequences generators have.
    With `profile`, what they make writes onnxruntime's profile to files that begin so. The counters of `mounts` (a line
    each) are read around the calls, if there are any. `own` are functions of the user's own, a line each: module|class|function|phase.
    """
    packages = {name: METHODS[name] for name in names.split(",") if name in METHODS}
    for line in own.splitlines():
        module, class_name, function, phase = line.split("|")
        packages[module] = (*packages.get(module, ()), (class_name, function, f"own.{phase}", "", "own"))
    if SEQUENCES in names.split(","):
        packages.setdefault(GENAI, (SEQUENCES,))
    then = None
    if profile:
        from _cvtrace_profile import profile_package  # type: ignore[import-not-found]

        packages = {**dict.fromkeys(PROFILED, ()), **packages}

        def then(name: str, module: ModuleType) -> None:
            if name not in PROFILED:
                return
            profile_package(name, module, profile)

    if packages:
        marks = Marks(path)
        if mounts:
            import _cvtrace_counts  # type: ignore[import-not-found]

            marks = _cvtrace_counts.Counting(path, mounts.split("\n"), sockets.split("\n"))
        sys.meta_path.insert(0, Finder(marks, packages, then))
    if IMPORTS in names.split(","):
        import _cvtrace_imports  # type: ignore[import-not-found]

        return lambda: _cvtrace_imports.watch_imports(path)
    return None
