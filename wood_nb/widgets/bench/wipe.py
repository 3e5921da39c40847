"""Two maps of one picture over one another: a divider that one drags, and a flicker between the two"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from ...base.files import DataError

SHOWN = ("both", "left", "right")


@dataclass
class Wipe:
    """Which two maps of a picture are compared, and how much of each is seen: `left` is to the left of the divider, `right` to the right
    of it. `show`: both, or one of them whole. `large`: the pinned picture that is as large as the screen, '' if none is."""
    names: list[str] = field(default_factory=list)  # what can be compared; none: there are no maps
    pinned: list[str] = field(default_factory=list)  # ids of pictures
    left: str = ""
    right: str = ""
    at: float = 0.5  # where the divider stands, as a share of the width
    show: str = "both"
    large: str = ""
    turn: int = 0  # grows whenever maps are others than before: a page that shows some asks for them again

    def offer(self, names: Sequence[str], left: str, right: str, pinned: Sequence[str] = ()) -> None:
        "Say what can be compared, and with what to begin."
        self.names, self.pinned = list(names), list(pinned)
        self.choose(left, right)

    def choose(self, left: str = "", right: str = "") -> None:
        "Compare other maps; '' leaves a side as it is."
        if unknown := [name for name in (left, right) if name and name not in self.names]:
            known = ", ".join(self.names) or "nothing: open the workbench with live=True"
            raise DataError(f"there are no maps '{unknown[0]}'; there are those of {known}")
        self.left, self.right = left or self.left, right or self.right
        self.moved()

    def moved(self) -> None:
        "Maps are others than before."
        self.turn += 1

    def drag(self, at: float) -> None:
        "Put the divider somewhere, 0 at the left edge, 1 at the right one; both maps are seen again."
        self.at, self.show = min(1.0, max(0.0, float(at))), "both"

    def flicker(self, show: str = "") -> None:
        "Show one map whole, or both again; by default the other one than now."
        if show and show not in SHOWN:
            raise DataError(f"show='{show}': say one of {', '.join(SHOWN)}")
        self.show = show or ("right" if self.show == "left" else "left")

    def enlarge(self, id: str = "", by: int = 0) -> None:
        "A pinned picture as large as the screen: this one, or so many further than the one that is."
        if not self.pinned:
            raise DataError("no map is pinned: open the workbench with live=True")
        if id and id not in self.pinned:
            raise DataError(f"'{id}' is not pinned; there are {', '.join(self.pinned)}")
        place = self.pinned.index(self.large) + by if self.large in self.pinned else 0
        self.large = id or self.pinned[place % len(self.pinned)]

    def seen(self, left: Image.Image, right: Image.Image) -> Image.Image:
        "What one sees of two pictures of one size."
        whole = (left if self.show == "left" else right).copy()
        if self.show == "both":
            whole.paste(left.crop((0, 0, round(self.at * left.width), left.height)))
        return whole

    def state(self) -> dict[str, Any]:
        "What the page is told."
        return {name: getattr(self, name) for name in ("names", "left", "right", "at", "show", "large", "turn")}
