"""Drawn scenes: a data set in which context can be turned up and down"""

from typing import TYPE_CHECKING

from ..base.lazy import attach

if TYPE_CHECKING:
    from .drawing import Canvas as Canvas
    from .scenes import (
        SCENE_CLASSES as SCENE_CLASSES,
        Scene as Scene,
        Spec as Spec,
        draw_candidate as draw_candidate,
        draw_scene as draw_scene,
        draw_scenes as draw_scenes,
    )

__getattr__, __dir__, __all__ = attach(__name__, {
    "drawing": ("Canvas",),
    "scenes": ("SCENE_CLASSES", "Scene", "Spec", "draw_candidate", "draw_scene", "draw_scenes"),
})
