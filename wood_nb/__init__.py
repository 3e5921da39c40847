"""Weakly supervised segmentation with out-of-distribution data: the names that most programs need, imported when they are used"""

__version__ = "0.1.0"

from typing import TYPE_CHECKING

from .base.lazy import attach

if TYPE_CHECKING:
    from .maps.cam import cam as cam
    from .nets.camnet import CamNet as CamNet
    from .ood.config import WOoDConfig as WOoDConfig
    from .ood.manifest import Manifest as Manifest
    from .ood.wood import WOoDLoss as WOoDLoss, train_wood as train_wood
    from .runs.config import RunConfig as RunConfig, preset as preset
    from .runs.pipeline import execute as execute
    from .runs.run import Run as Run

__getattr__, __dir__, __all__ = attach(__name__, {
    "maps.cam": ("cam",),
    "nets.camnet": ("CamNet",),
    "ood.config": ("WOoDConfig",),
    "ood.manifest": ("Manifest",),
    "ood.wood": ("WOoDLoss", "train_wood"),
    "runs.config": ("RunConfig", "preset"),
    "runs.pipeline": ("execute",),
    "runs.run": ("Run",),
})
