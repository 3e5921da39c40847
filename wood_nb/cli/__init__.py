"""The command `wood`"""

from typing import TYPE_CHECKING

from ..base.lazy import attach

if TYPE_CHECKING:
    from .main import build_parser as build_parser, diagnosis as diagnosis
    from .options import configured as configured

__getattr__, __dir__, __all__ = attach(__name__, {
    "main": ("build_parser", "diagnosis"),
    "options": ("configured",),
})
