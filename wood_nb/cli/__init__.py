"""The command `wood`"""

from typing import TYPE_CHECKING

from ..base.lazy import attach

if TYPE_CHECKING:
    from .errors import diagnosis as diagnosis
    from .options import configured as configured
    from .parser import build_parser as build_parser, main as main

__getattr__, __dir__, __all__ = attach(__name__, {
    "errors": ("diagnosis",),
    "options": ("configured",),
    "parser": ("build_parser", "main"),
})
