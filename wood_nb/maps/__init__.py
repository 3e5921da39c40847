"""Localisation maps: CAM, AdvCAM, and the registry of methods"""

from typing import TYPE_CHECKING

from ..base.lazy import attach

if TYPE_CHECKING:
    from .advcam import AdvCAMConfig as AdvCAMConfig, climb_split as climb_split
    from .cam import (
        Maps as Maps,
        cam_batch as cam_batch,
        iterate_maps as iterate_maps,
        load_maps as load_maps,
        localise as localise,
        save_maps as save_maps,
        show_maps as show_maps,
    )
    from .methods import METHODS as METHODS, check_methods as check_methods, method_name as method_name

__getattr__, __dir__, __all__ = attach(__name__, {
    "advcam": ("AdvCAMConfig", "climb_split"),
    "cam": ("Maps", "cam_batch", "iterate_maps", "load_maps", "localise", "save_maps", "show_maps"),
    "methods": ("METHODS", "check_methods", "method_name"),
})
