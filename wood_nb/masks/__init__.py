"""From maps to masks, and networks trained on them"""

from typing import TYPE_CHECKING

from ..base.lazy import attach

if TYPE_CHECKING:
    from .crf import CRFConfig as CRFConfig, DenseCRF as DenseCRF
    from .irn import IRNet as IRNet, train_irn as train_irn
    from .labels import IRNConfig as IRNConfig
    from .learn import Recipe as Recipe, recipe as recipe, train_segnet as train_segnet
    from .package import write_package as write_package
    from .psa import PSAConfig as PSAConfig
    from .pseudo import MaskConfig as MaskConfig, write_masks as write_masks
    from .segment import final_segmentation as final_segmentation, segment_split as segment_split
    from .ssdd import SSDDConfig as SSDDConfig

__getattr__, __dir__, __all__ = attach(__name__, {
    "crf": ("CRFConfig", "DenseCRF"),
    "irn": ("IRNet", "train_irn"),
    "labels": ("IRNConfig",),
    "learn": ("Recipe", "recipe", "train_segnet"),
    "package": ("write_package",),
    "psa": ("PSAConfig",),
    "pseudo": ("MaskConfig", "write_masks"),
    "segment": ("final_segmentation", "segment_split"),
    "ssdd": ("SSDDConfig",),
})
