"""Turns onnxruntime's profile on for models and sessions that the target makes; its model folder is not touched.

Runs in any Python from 3.9 on and imports nothing of cvtrace. Whatever goes wrong, the target's own call is made as it was written.
"""

from __future__ import annotations

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import ModuleType
    from typing import Any


def profile_package(name: str, module: ModuleType, prefix: str) -> None:
    """Let what `module` makes from now on write its profile when it is destroyed, to files that begin with `prefix`."""
    try:
        if name == "onnxruntime":
            _profile_sessions(module, prefix)
        else:
            _profile_models(module, prefix)
    except Exception:
        pass


_profiles = 0


def _next(prefix: str) -> str:
    global _profiles
    _profiles += 1
    return f"{prefix}-{os.getpid()}-{_profiles}"


def _profile_models(module: Any, prefix: str) -> None:
    original = module.Model.__init__

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        try:
            import json

            source = args[0] if args else next(iter(kwargs.values()))
            config = source if isinstance(source, module.Config) else module.Config(source)
            options = {"enable_profiling": _next(prefix)}
            config.overlay(json.dumps({"model": {"decoder": {"session_options": options}}}))
            changed = (config, *args[1:])
        except Exception:
            original(self, *args, **kwargs)
        else:
            original(self, *changed)

    __init__.__doc__ = original.__doc__
    module.Model.__init__ = __init__


def _profile_sessions(module: Any, prefix: str) -> None:
    original = module.InferenceSession.__init__

    def __init__(self: Any, path_or_bytes: Any, sess_options: Any = None, *args: Any, **kwargs: Any) -> None:
        options = sess_options
        try:
            options = module.SessionOptions() if sess_options is None else sess_options
            if not options.enable_profiling:
                options.enable_profiling = True
                options.profile_file_prefix = _next(prefix)
        except Exception:
            options = sess_options
        original(self, path_or_bytes, options, *args, **kwargs)

    __init__.__doc__ = original.__doc__
    module.InferenceSession.__init__ = __init__
