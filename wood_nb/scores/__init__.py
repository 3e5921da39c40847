"""How good are they? Seeds, curves, tables and their uncertainty"""

from typing import TYPE_CHECKING

from ..base.lazy import attach

if TYPE_CHECKING:
    from .bootstrap import Interval as Interval, bootstrap_difference as bootstrap_difference
    from .curves import Curve as Curve, ThresholdSweep as ThresholdSweep, plot_curves as plot_curves
    from .outlines import boundary_f as boundary_f
    from .printed import paper_table as paper_table
    from .rows import read_results as read_results
    from .seeds import Scores as Scores, confusion_matrix as confusion_matrix, seed as seed
    from .tables import PerClassTable as PerClassTable

__getattr__, __dir__, __all__ = attach(__name__, {
    "bootstrap": ("Interval", "bootstrap_difference"),
    "curves": ("Curve", "ThresholdSweep", "plot_curves"),
    "outlines": ("boundary_f",),
    "printed": ("paper_table",),
    "rows": ("read_results",),
    "seeds": ("Scores", "confusion_matrix", "seed"),
    "tables": ("PerClassTable",),
})
