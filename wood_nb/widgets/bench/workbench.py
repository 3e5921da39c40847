"""One screen to see and to decide: a map, the pictures selected on it, the clusters; every decision goes into the manifest at once"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from ...base.pictures import Picture
from ...data.splits import Split
from ...ood.candidates import pool_root
from ...ood.features import FeatureStore
from ...ood.manifest import Manifest
from ...runs.run import Run
from ..parts import Autosave, save_decisions, user_name, write_text
from ..stills import Shown
from .alone import page_alone
from .features import candidate_store, prototypes_of
from .front import fill_page, new_page, send_maps, send_picture, send_thumbs
from .land import Landscape, begin_clusters
from .live import NOW, WITHOUT, LiveHead, Look
from .shots import Thumbnails
from .state import Bench
from .still import draw_still

W = TypeVar("W", bound="Workbench")
_SECONDS = 2.5e-5  # a picture, to write a manifest: with many, saving waits for a moment of quiet from the start


class Workbench(Shown):
    """See OoD candidates and decide them. `manifest`: a `Manifest` or its file; `pool`: their pictures; `store`: their features.
    `inside`, `inside_split`: features and pictures of the training images; `k`: clusters, if there are none yet; `by`: your name;
    `path`: where to save, by default the manifest's file; `cache`: folder that keeps layouts. `bench` is all of it without a page."""
    DPI = 110

    def __init__(self, manifest: Manifest | str | Path, pool: Split, store: FeatureStore, inside: FeatureStore | None = None,
                 inside_split: Split | None = None, prototypes: np.ndarray | None = None, by: str | None = None,
                 path: str | Path | None = None, k: int | None = None, seed: int = 0, cache: str | Path | None = None, **options: Any):
        manifest = manifest if isinstance(manifest, Manifest) else Manifest.load(manifest, pool)
        if prototypes is None and inside is not None and inside_split is not None:
            prototypes = prototypes_of(inside, inside_split)
        land = Landscape(store, manifest.classes, inside, prototypes, seed, Path(cache) if cache else None)
        begin_clusters(manifest, store, k, seed)
        root = pool_root(pool)
        bench = Bench(manifest, land, root, user_name() if by is None else by, **options)
        self.open(bench, Thumbnails(root, inside_split, 176), path)

    def open(self, bench: Bench, shots: Thumbnails, path: str | Path | None = None) -> None:
        "Show a bench on a page; decisions go to `path`, by default the file of its manifest."
        self.bench, self.shots, self.manifest = bench, shots, bench.manifest
        self.live: LiveHead | None = None
        self.path, self.saved = Path(path) if path else self.manifest.path, True
        self.lock, self.autosave = threading.RLock(), Autosave(self.save)
        self.autosave.took = _SECONDS * len(self.manifest)
        if not self.path:
            self.tell("no file: nothing is saved; give the workbench a path", bad=True)
        self.widget = new_page(self.bench)
        self.widget.on_msg(self.hear)

    # -- what is asked, by the page or from Python --
    def do(self, action: str, **how: Any) -> bool:
        "Do one of the bench's actions, as in `do('decide', decision='drop')`; show it, and save what it changed. False if it was refused."
        with self.lock:
            done = self.bench.do(action, **how)
            if done and action in self.bench.CHANGES:
                self.saved = False
                self.autosave()
            if done and action == "compare" and self.live is not None:
                self.pin_live(self.live)
            self.refresh()
        return done

    def refresh(self) -> None:
        "Bring the page up to date; to be called after the bench was changed directly."
        with self.lock:
            fill_page(self.widget, self.bench)

    def hear(self, _: Any, message: dict, buffers: Sequence) -> None:
        "A message of the page."
        kind = message.get("type")
        if kind == "do":
            self.do(str(message["action"]), **message.get("how", {}))
        elif kind == "thumbs":
            send_thumbs(self.widget, self.bench, self.shots, [int(n) for n in message["rows"]])
        elif kind == "picture":
            send_picture(self.widget, self.bench, int(message["row"]))
        elif kind == "maps" and self.live is not None:
            send_maps(self.widget, self.bench, self.live, int(message["row"]), str(message["id"]))
        elif kind == "ping":
            self.widget.send({"type": "pong"})
        elif kind == "save":
            self.save()
            self.refresh()

    def pin(self, maps: Sequence[dict[str, Any]]) -> None:
        """Show pinned maps beside the selection: dictionaries with `title`, `note` and `picture` (bytes of JPEG or PNG), or `pair` (two
        such, to be laid over one another); none: no column."""
        self.widget.pins = list(maps)

    def watch(self, live: LiveHead, ids: Sequence[str] = ()) -> None:
        """Pin maps of these pictures (default: some that move most); they follow every decision. Two maps of each are laid over one
        another: first those without OoD pictures and with those kept now."""
        self.live = live
        self.bench.wipe.offer(live.names(), WITHOUT, NOW, list(ids) or live.typical())

        def move(look: Look) -> None:
            "Maps are others now."
            self.bench.wipe.moved()
            count(look)

        def count(look: Look) -> None:
            "Numbers are others now."
            self.pin_live(live)
            self.refresh()

        def price(values: Mapping[int, float]) -> None:
            "What clusters are worth."
            with self.lock:
                known = {cluster.id for cluster in self.manifest.clusters}
                self.bench.set_values({id: value for id, value in values.items() if id in known}, "points on objects")
                if self.bench.wipe.large:
                    self.bench.wipe.moved()  # what pulls the map is known now: it is asked for again
                self.refresh()
        live.moved.append(move)
        live.told.append(count)
        live.valued.append(price)
        self.bench.on_decision(lambda ids: live.ask())
        move(live.last)
        live.ask()

    def pin_live(self, live: LiveHead) -> None:
        "The numbers of all watched pictures, then the pinned maps."
        wipe = self.bench.wipe
        head = {"title": f"{len(live.watched.split):,} pictures watched", "note": live.headline(wipe.left, wipe.right)}
        self.pin([head, *live.pins(wipe.pinned, wipe.left, wipe.right)])

    # -- the file --
    def save(self, path: str | Path | None = None) -> bool:
        "Write the manifest (to `path`, from now on); if that fails, say why and go on."
        with self.lock:
            if not (path or self.path):
                return False
            steps = len(self.manifest.history)
            done = save_decisions(self, path)
            if len(self.manifest.history) != steps:  # others have saved, too
                self.bench.reread()
            if hasattr(self, "widget"):
                self.refresh()
        return done

    def tell(self, text: str, bad: bool = False) -> None:
        "Say that it was saved, or why not."
        if bad or ";" in text:
            self.bench.message.say(text, bad=True)
        if hasattr(self, "widget"):
            self.widget.saved = "" if bad else text

    def close(self) -> None:
        "Save what waits to be saved, and take the workbench off the page."
        self.autosave.close()
        if self.live is not None:
            self.live.close()
        super().close()

    # -- on paper --
    def to_figure(self) -> Picture:
        "Map and pictures as they stand now."
        return draw_still(self.bench)

    def to_html(self, path: str | Path | None = None, most: int = 6000) -> str:
        "A page of its own that shows all of it and decides nothing, without kernel or network; with thumbnails of so many pictures."
        return write_text(page_alone(self.bench, self.shots, most), path)


def of_run(kind: type[W], run: Run, manifest: Manifest | str | Path | None = None, **options: Any) -> W:
    "A workbench, or an heir of it, over a run's candidates; what is decided goes into its manifest (or into `manifest`)."
    inside = run.class_features() if (run.path / "clusters" / "inside.npz").is_file() else None
    given = run.path / "mining" / "manifest.json" if manifest is None else manifest
    return kind(given, run.pool(), candidate_store(run), inside, run.split(run.config.splits[0]),
                **{"cache": run.path / "clusters", "seed": run.config.seed, **options})


def workbench(run: Run, manifest: Manifest | str | Path | None = None, live: bool | Sequence[str] = False, **options: Any) -> Workbench:
    """The workbench of a run's candidates; what is decided goes into its manifest (or into `manifest`). `live`: solve for the last layer
    again after each decision, and show the maps move: of these pictures of the last split, or (True) of some. The first time this takes
    as long as features of all candidates and watched pictures, a minute for a thousand."""
    made = of_run(Workbench, run, manifest, **options)
    if live:
        made.watch(LiveHead(run, made.manifest, undecided=run.config.prune == "none"), () if live is True else live)
    return made
