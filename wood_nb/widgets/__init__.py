"""Decide by eye, compare by slider, watch a training"""

from typing import TYPE_CHECKING

from ..base.lazy import attach

if TYPE_CHECKING:
    from .bench.workbench import Workbench as Workbench, workbench as workbench
    from .explorer import ClusterExplorer as ClusterExplorer, explore as explore
    from .inspector import LocalizationInspector as LocalizationInspector, inspect_run as inspect_run
    from .live import LiveCurves as LiveCurves
    from .prune import PruneGrid as PruneGrid
    from .seeds import SeedExplorer as SeedExplorer
    from .table import SortableTable as SortableTable

__getattr__, __dir__, __all__ = attach(__name__, {
    "bench.workbench": ("Workbench", "workbench"),
    "explorer": ("ClusterExplorer", "explore"),
    "inspector": ("LocalizationInspector", "inspect_run"),
    "live": ("LiveCurves",),
    "prune": ("PruneGrid",),
    "seeds": ("SeedExplorer",),
    "table": ("SortableTable",),
})
