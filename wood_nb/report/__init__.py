"""One self-contained page about a run"""

from typing import TYPE_CHECKING

from ..base.lazy import attach

if TYPE_CHECKING:
    from .report import report_html as report_html, write_report as write_report
    from .run_data import Pair as Pair, ReportData as ReportData, find_pairs as find_pairs, read_curves as read_curves

__getattr__, __dir__, __all__ = attach(__name__, {
    "report": ("report_html", "write_report"),
    "run_data": ("Pair", "ReportData", "find_pairs", "read_curves"),
})
