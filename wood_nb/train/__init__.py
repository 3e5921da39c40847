"""One training loop, visible and resumable, and what uses its networks"""

from typing import TYPE_CHECKING

from ..base.lazy import attach

if TYPE_CHECKING:
    from .config import TrainConfig as TrainConfig
    from .loop import plot_log as plot_log, train as train
    from .predict import Prediction as Prediction, predict_all as predict_all
    from .safe import Checkpoint as Checkpoint, TrainingStopped as TrainingStopped, read_log as read_log

__getattr__, __dir__, __all__ = attach(__name__, {
    "config": ("TrainConfig",),
    "loop": ("plot_log", "train"),
    "predict": ("Prediction", "predict_all"),
    "safe": ("Checkpoint", "TrainingStopped", "read_log"),
})
