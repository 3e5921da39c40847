"""Runs: a configuration, a folder that remembers what was done, and the stages in order"""

from typing import TYPE_CHECKING

from ..base.lazy import attach

if TYPE_CHECKING:
    from .compare import compare_text as compare_text
    from .config import RunConfig as RunConfig, preset as preset
    from .final import finish_point as finish_point
    from .pipeline import execute as execute, methods_of as methods_of
    from .refine import RefineConfig as RefineConfig
    from .run import Run as Run
    from .share import run_point as run_point
    from .sweep import show_sweep as show_sweep
    from .tiny import tiny_run as tiny_run

__getattr__, __dir__, __all__ = attach(__name__, {
    "compare": ("compare_text",),
    "config": ("RunConfig", "preset"),
    "final": ("finish_point",),
    "pipeline": ("execute", "methods_of"),
    "refine": ("RefineConfig",),
    "run": ("Run",),
    "share": ("run_point",),
    "sweep": ("show_sweep",),
    "tiny": ("tiny_run",),
})
