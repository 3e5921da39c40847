"""The command `wood`"""

from typing import TYPE_CHECKING

from ..base.lazy import attach

if TYPE_CHECKING:
    from .errors import diagnosis as diagnosis
    from .main import build_parser as build_parser
    from .options import configured as configured

__getattr__, __dir__, __all__ = attach(__name__, {
    "errors": ("diagnosis",),
    "main": ("build_parser",),
    "options": ("configured",),
})
