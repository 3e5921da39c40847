"""Networks whose last layer is a map, and those that segment"""

from typing import TYPE_CHECKING

from ..base.lazy import attach

if TYPE_CHECKING:
    from .backbones import build_net as build_net, open_net as open_net
    from .camnet import CamNet as CamNet, best_device as best_device
    from .deeplab import SegNet as SegNet, build_segnet as build_segnet, open_segnet as open_segnet
    from .weights import load_weights as load_weights, save_weights as save_weights

__getattr__, __dir__, __all__ = attach(__name__, {
    "backbones": ("build_net", "open_net"),
    "camnet": ("CamNet", "best_device"),
    "deeplab": ("SegNet", "build_segnet", "open_segnet"),
    "weights": ("load_weights", "save_weights"),
})
