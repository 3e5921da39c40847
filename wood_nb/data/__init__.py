"""Pictures, labels, masks and lists of your own"""

from typing import TYPE_CHECKING

from ..base.lazy import attach

if TYPE_CHECKING:
    from .augment import Augment as Augment, normalise as normalise
    from .check import check_data as check_data
    from .images import (
        VOC_CLASSES as VOC_CLASSES,
        read_image as read_image,
        read_mask as read_mask,
        write_mask as write_mask,
    )
    from .sources import load_csv as load_csv, load_pool as load_pool, load_voc as load_voc, open_split as open_split
    from .splits import Item as Item, Split as Split

__getattr__, __dir__, __all__ = attach(__name__, {
    "augment": ("Augment", "normalise"),
    "check": ("check_data",),
    "images": ("VOC_CLASSES", "read_image", "read_mask", "write_mask"),
    "sources": ("load_csv", "load_pool", "load_voc", "open_split"),
    "splits": ("Item", "Split"),
})
