"""Out-of-distribution pictures: found, decided, clustered, trained with"""

from typing import TYPE_CHECKING

from ..base.lazy import attach

if TYPE_CHECKING:
    from .clusters import describe_clusters as describe_clusters, show_clusters as show_clusters
    from .config import WOoDConfig as WOoDConfig
    from .features import FeatureStore as FeatureStore
    from .manifest import Manifest as Manifest
    from .mining import flag_duplicates as flag_duplicates, mine as mine
    from .pruning import prune_auto as prune_auto, prune_file as prune_file
    from .wood import WOoDLoss as WOoDLoss, find_centres as find_centres, train_wood as train_wood

__getattr__, __dir__, __all__ = attach(__name__, {
    "clusters": ("describe_clusters", "show_clusters"),
    "config": ("WOoDConfig",),
    "features": ("FeatureStore",),
    "manifest": ("Manifest",),
    "mining": ("flag_duplicates", "mine"),
    "pruning": ("prune_auto", "prune_file"),
    "wood": ("WOoDLoss", "find_centres", "train_wood"),
})
