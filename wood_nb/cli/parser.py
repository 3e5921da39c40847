"""Everything from a terminal: `wood run`, `wood demo`, every stage by itself, and errors in one line"""

import argparse
import contextlib
import io
import logging
import os
import shlex
import sys
import traceback
import warnings
from argparse import Namespace
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from wood_nb import __version__

from ..base import ranks
from ..base.memory import keep_freed_memory
from ..base.options import how_many, names, options_of, or_none, positive
from ..base.stop import listening
from ..base.text import visible
from ..maps.methods import BBAM, HEAD, WOOD, methods_beside
from ..masks.names import RECIPE_NAMES
from ..ood.config import HEAD_KINDS, ScreenConfig
from ..runs.config import STAGE_TEXTS, RefineConfig, SegmentConfig, SystemsConfig
from .commands import (bench_command, boxes_command, check_command, compare_command, demo_command, evidence_command, figures_command,
                       list_command, notebooks_command, package_command, plan_command, refine_command, run_command, scenes_command,
                       screen_command, segment_command, stage_command, sweep_command, systems_command, table_command, tiny_command)
from .errors import diagnosis
from .options import (SCENE_OPTIONS, Parser, add_options, add_run_options, alias, check_flags, factor, grid, layout, sizes,
                      whole_numbers)


def add_masks(commands: Any) -> None:
    "wood refine, wood segment, wood bbam, wood package."
    cleaner = add_command(commands, "refine", refine_command, "AdvCAM, IRN, CRF, SSDD: from the maps of a run to pseudo masks")
    cleaner.add_argument("run", type=Path, metavar="RUN", help="finished run")
    add_options(cleaner, options_of(RefineConfig))
    cleaner.add_argument("--size", type=int, metavar="PIXELS", help="settings for images of about this size (default: VOC's 500)")
    cleaner.add_argument("--jobs", type=int, default=1, help="processes, a method each (default 1)")
    trainer = add_command(commands, "segment", segment_command, "train a segmentation network on the masks of a run")
    trainer.add_argument("run", type=Path, metavar="RUN", help="finished run")
    add_options(trainer, options_of(SegmentConfig))
    boxed = add_command(commands, BBAM, boxes_command, "what box labels would buy: a detector, masks of its boxes, pseudo labels")
    boxed.add_argument("run", type=Path, metavar="RUN", help="run whose classifier is trained: the detector starts from it")
    boxed.add_argument("--ood", action="store_true", help="OoD pictures of the run join the detector's training, as pictures without boxes")
    boxed.add_argument("--boxes", choices=("auto", "xml", "masks"),
                       help="from annotations, from masks (connected parts), or auto: annotations where there are some")
    boxed.add_argument("--images", type=positive, metavar="N", help="masks of the first N images of each split (default: all)")
    boxed.add_argument("--steps", type=positive, metavar="N", help="training steps of the detector (default 400)")
    boxed.add_argument("--mask-steps", type=positive, metavar="N", help="steps in which a mask is found (default 8)")
    packer = add_command(commands, "package", package_command, "masks of a list as a package for VOC's test server")
    packer.add_argument("run", type=Path, metavar="RUN", help="finished run")
    packer.add_argument("list", metavar="LIST", help="list of pictures, as test; neither labels nor masks are needed")
    packer.add_argument("--method", default=WOOD, help=f"the network trained on whose masks (default {WOOD})")
    packer.add_argument("--out", type=Path, help="the package, .tgz or .tar (default: beside the network)")
    add_options(packer, [flag for flag in options_of(SegmentConfig) if flag.key not in ("methods", "every")])


def add_figures(commands: Any) -> None:
    "wood figures."
    drawn = add_command(commands, "figures", figures_command, "figures A1 to A4 on a run")
    drawn.add_argument("run", type=Path, metavar="RUN", help="finished run")
    drawn.add_argument("--out", type=Path, help="folder (default RUN/figures)")
    drawn.add_argument("--methods", type=names, default=(), metavar="LIST",
                       help="methods to show in A3 and A4, as cam,seam,ficklenet-ood (default: the paper's, and those trained beside)")
    drawn.add_argument("--format", choices=("png", "pdf", "svg"), default="png", help="of the files (default png); pdf, svg for a paper")


def add_paper(commands: Any) -> None:
    "wood table, wood evidence, wood sweep, wood plan."
    printed = add_command(commands, "table", table_command, "tables A1, A2, A3 as printed, with measured scores beside them; other methods")
    printed.add_argument("table", choices=("A1", "A2", "A3", "others"), help="of the paper, or what other methods report")
    printed.add_argument("--runs", type=Path, nargs="*", default=[], metavar="RUN", help="run folders with measured scores")
    printed.add_argument("--split", help="split of the scores (default val, for A2 train); A3 was printed for val and test")
    printed.add_argument("--stage", choices=("seed", "mask", "segmentation"),
                         help="stage of the measured scores (default segmentation, for A2 seed)")
    printed.add_argument("--out", type=Path, help="file: .md, .tex, .csv or .html")
    tried = add_command(commands, "evidence", evidence_command, "what OoD pictures do to the last layer, beside controls, at several sizes")
    tried.add_argument("run", type=Path, metavar="RUN", help="run whose candidates were mined and pruned")
    tried.add_argument("--sides", type=whole_numbers, metavar="LIST",
                       help="long sides in pixels, tried one by one and together (default 256,448)")
    tried.add_argument("--draws", type=positive, metavar="N", help="draws of places of OoD pictures (default 3)")
    tried.add_argument("--most", type=positive, metavar="N", help="images of the first split whose masks choose thresholds (default 250)")
    points = add_command(commands, "sweep", sweep_command, "tables A1 and A2 measured: OoD pictures, tau and lambda")
    points.add_argument("table", choices=("A1", "A2"))
    points.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="finished runs, one per seed")
    points.add_argument("--out", type=Path, required=True, help="folder for the points")
    points.add_argument("--sizes", type=sizes, metavar="LIST",
                        help="A1: numbers of OoD pictures, 'classes' (as many as classes), 'all' (default 0,classes,500,all)")
    points.add_argument("--grid", type=grid, metavar="LIST",
                        help="A2: pairs TAU:LAMBDA separated by commas, as 20:0.005,20:0.007 (default: as printed); tau in per cent")
    points.add_argument("--factor", type=factor, default="measured", metavar="X",
                        help="A2: what lambda is multiplied by; 'measured' (default): so that it weighs as much as in the paper's loss")
    points.add_argument("--seeds", type=whole_numbers, metavar="LIST",
                        help="make a base run like RUN for each of these random seeds, as 0,1,2 (default: RUNs as they are)")
    points.add_argument("--jobs", type=int, default=1, help="processes (default 1)")
    points.add_argument("--recipe", choices=RECIPE_NAMES, help="go on to the final segmentation by this recipe")
    ahead = add_command(commands, "plan", plan_command, "what reproducing the paper needs: downloads, hours, commands")
    ahead.add_argument("--root", type=Path, default=Path(), help="folder where the pieces lie (default: here)")
    ahead.add_argument("--preset", choices=("official", "paper"), default="official",
                       help="the released code's settings (default), or the losses as the paper writes them")
    ahead.add_argument("--measure", action="store_true", help="measure the rates of three networks here first (minutes on a CPU)")
    ahead.add_argument("--out", type=Path, help="Markdown file")


def add_systems(commands: Any) -> None:
    "wood systems."
    beside = add_command(commands, "systems", systems_command, "all systems of table A3 beside one another, each with and without OoD")
    beside.add_argument("runs", type=Path, nargs="*", metavar="RUN", help="runs to measure them in (default: new ones on drawn scenes)")
    beside.add_argument("--out", type=Path, default=Path("runs/systems"), help="folder for new runs and for the result, systems.json "
                        "(default runs/systems)")
    beside.add_argument("--seeds", type=whole_numbers, metavar="LIST", help="of new runs (default 0,1,2; with --quick 0)")
    beside.add_argument("--quick", action="store_true", help="a first look: half the scenes and fewer steps, unless they are named; with "
                        "--jobs 2 a quarter of an hour on 2 cores")
    beside.add_argument("--jobs", type=positive, default=1, metavar="N",
                        help="processes, which share runs, and steps of a run where these are fewer (default 1)")
    add_options(beside, options_of(SystemsConfig))


def plain_messages() -> None:
    "Warnings and log messages as single lines without file names; any console can show them."
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # not a notebook's, or a test's
            stream.reconfigure(errors="backslashreplace")
    warnings.formatwarning = lambda message, *_: f"wood: {visible(str(message))}\n"
    handler = logging.StreamHandler()
    handler.setFormatter(PlainFormatter("wood: %(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("wood_nb").setLevel(logging.INFO)


class PlainFormatter(logging.Formatter):
    "Log messages in which nothing is hidden."

    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record))


def going_on(words: Sequence[str]) -> str:
    "The command that goes on with what these words have begun: `--again` would begin a second time."
    return shlex.join(["wood", *(word for word in words if word != "--again")])


def main(words: Sequence[str] | None = None) -> int:
    "The `wood` command; returns the exit code. Of several processes the first does it, with the help of the others (`base.ranks`)."
    words = list(sys.argv[1:] if words is None else words)
    plain_messages()
    try:
        with only_the_first_speaks(), listening():
            args = build_parser().parse_args(words)
            args.words = words
            keep_freed_memory()
            ranks.lead(partial(args.work, args), partial(import_module, "torchvision.models"))
    except BrokenPipeError:  # somebody read enough: wood compare ... | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (Exception, KeyboardInterrupt) as error:
        return tell(error, words)
    return 0


@contextlib.contextmanager
def only_the_first_speaks() -> Iterator[None]:
    "What processes that help another would say is not shown: the same is said there."
    if not ranks.helps():
        yield
        return
    logging.disable(logging.WARNING)
    warnings.simplefilter("ignore")
    with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere), contextlib.redirect_stderr(nowhere):
        yield


def tell(error: BaseException, words: Sequence[str]) -> int:
    "Say in one line what went wrong; returns the exit code. Of several processes the one that failed first says it."
    found = diagnosis(error, going_on(words), words[0])
    if not ranks.is_first_to_fail():
        return found[1] if found else 1
    if found is None or os.environ.get("WOOD_DEBUG"):
        traceback.print_exc()
    if found is None:
        print("wood: this looks like a fault of wood_nb itself; please report the lines above", file=sys.stderr)
        return 1
    print(f"wood: {visible(' '.join(found[0].split()))}", file=sys.stderr)
    return found[1]


HELP = """From image-level labels to localisation maps, seeds and scores, with out-of-distribution pictures (W-OoD).

  wood demo                                    drawn scenes, everything, some minutes
  wood check --data voc:FOLDER                 what is wrong with your own images, in a minute
  wood run --data voc:FOLDER --candidates DIR  your own images
  wood compare RUN RUN                         difference per class, with intervals"""


def stage_list() -> str:
    "The stages as they stand below the help."
    lines = "\n".join(f"  {name:<12}{text}" for name, text in STAGE_TEXTS.items())
    more = "'wood COMMAND --help' explains a command. WOOD_DEBUG=1 shows where an error came from."
    return f"stages of an existing run, as in 'wood maps RUN':\n{lines}\n\n{more}"


def add_command(commands: Any, name: str, work: Callable[[Namespace], None], text: str,
                listed: bool = True) -> Parser:
    "A subcommand with its function."
    words = {"help": text} if listed else {}
    about = f"{text[0].upper()}{text[1:]}."
    parser = commands.add_parser(name, description=about, allow_abbrev=False, formatter_class=layout, **words)
    parser.set_defaults(work=work)
    return parser


def add_stages(commands: Any) -> None:
    "A subcommand for every stage."
    for name, about in STAGE_TEXTS.items():
        text = f"{about.rstrip('.')} (a stage of an existing run, with what it needs)".replace("%", "%%")
        parser = add_command(commands, name, stage_command, text, listed=False)
        parser.add_argument("run", type=Path, metavar="RUN", help="run folder; its options are read from run.json")
        parser.add_argument("--again", action="store_true", help="even if nothing has changed")
        if name == "maps":
            parser.add_argument("--batch-size", type=positive, metavar="N", help="pictures at once (kept, as --maps-batch of 'wood run')")
            parser.add_argument("--long-side", type=positive, metavar="PIXELS",
                                help="larger pictures are looked at in this size (kept, as --maps-long-side of 'wood run')")
        if name == HEAD:
            parser.add_argument("--kind", choices=HEAD_KINDS, help="OoD pictures as single places (dense), pooled (zero), or not at all "
                                "(none) (kept, as --head-kind of 'wood run')")
            parser.add_argument("--long-side", type=positive, metavar="PIXELS",
                                help="size of the pictures whose features it is solved from (kept, as --head-long-side of 'wood run')")
        parser.set_defaults(stage=name)


def add_compare(commands: Any) -> None:
    "wood compare."
    parser = add_command(commands, "compare", compare_command,
                         "difference per class of two runs, or of two methods of one run")
    parser.add_argument("runs", nargs="+", type=Path, metavar="RUN",
                        help="run folders; the difference is second minus first")
    parser.add_argument("--methods", nargs=2, metavar="METHOD",
                        help="a method for each side, as in --methods cam wood")
    parser.add_argument("--method", help=f"the method of both runs (default {WOOD})")
    parser.add_argument("--split", help="split to compare on (default: the last of the run)")
    parser.add_argument("--draws", type=int, default=2000, help="draws of the bootstrap (default 2000)")
    parser.add_argument("--curves", type=Path, metavar="FILE",
                        help="write a page with the curves of any number of RUNs over one another: losses, scores, thresholds")


def add_check(commands: Any) -> None:
    "wood check."
    parser = add_command(commands, "check", check_command, "look at data before training: every picture, mask and label")
    parser.add_argument("--workers", type=int, metavar="N", help="processes that read pictures (default: up to 4)")
    add_options(parser, check_flags())


def add_screen(commands: Any) -> None:
    "wood screen."
    parser = add_command(commands, "screen", screen_command, "look through very many pictures, and keep the hardest as candidates")
    parser.add_argument("run", type=Path, metavar="RUN", help="run whose classifier is trained")
    parser.add_argument("sources", nargs="+", metavar="SOURCE",
                        help="folders, lists (.csv, .txt; also OpenImages' tables with ImageID), shards ('{000000..000099}.tar')")
    parser.add_argument("--out", type=Path, required=True, metavar="FOLDER", help="folder for what is kept; a search in it is resumed")
    parser.add_argument("--root", type=Path, metavar="DIR", help="folder of the pictures that lists name (default: that of the list)")
    parser.add_argument("--labels", type=Path, metavar="FILE",
                        help="table of labels (OpenImages', or image,labels): pictures that it says show a class are not opened")
    parser.add_argument("--descriptions", type=Path, metavar="FILE", help="OpenImages' table of the codes and names of labels")
    parser.add_argument("--alias", type=alias, action="append", default=[], metavar="CLASS=LABEL,...",
                        help="labels that mean a class, too (bird=Duck,Eagle)")
    parser.add_argument("--long-side", type=positive, metavar="PIXELS", help="size at which pictures are looked at (default: the run's)")
    add_options(parser, options_of(ScreenConfig))


def add_bench(commands: Any) -> None:
    "wood bench."
    parser = add_command(commands, "bench", bench_command, "how quick each stage is on this machine, beside other forms and packages")
    parser.add_argument("--quick", action="store_true", help="small sizes, some seconds; says little about photographs")
    parser.add_argument("--stages", type=names, default=(), metavar="LIST", help="only these, as maps,walk (default: all)")
    parser.add_argument("--curves", action="store_true", help="time some stages at four sizes, too, and say how their costs grow")
    parser.add_argument("--out", type=Path, metavar="FILE", help="keep the numbers as JSON")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="name what takes a quarter more time than in this older file")


def add_services(commands: Any) -> None:
    "wood scenes, wood ood-list, wood notebooks, wood tiny."
    scenes = add_command(commands, "scenes", scenes_command, "draw the embedded data set")
    scenes.add_argument("folder", type=Path, metavar="DIR", help="folder to draw into, in the VOC layout")
    for name, (kind, text) in SCENE_OPTIONS.items():
        flag = f"--{name.replace('_', '-')}"
        scenes.add_argument(flag, dest=name, type=kind, metavar="X", default=argparse.SUPPRESS, help=text)
    ood = add_command(commands, "ood-list", list_command, "write the OoD pictures of a run as a list (ood_list.txt)")
    ood.add_argument("run", type=Path, metavar="RUN", help="run folder")
    ood.add_argument("file", type=Path, metavar="FILE", help="list to write")
    notebooks = add_command(commands, "notebooks", notebooks_command,
                            "copy the lessons out, to step through in JupyterLab")
    notebooks.add_argument("folder", type=Path, metavar="DIR", help="folder to copy into; nothing is overwritten")
    add_command(commands, "tiny", tiny_command, "build the small run that the notebooks share (about a minute)")


def build_parser() -> Parser:
    "The parser of the `wood` command."
    parser = Parser("wood", description=HELP, formatter_class=layout, epilog=stage_list())
    parser.add_argument("--version", action="version", version=f"wood_nb {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    run = add_command(commands, "run", run_command, "all stages, from images to the report; restartable")
    add_run_options(run)
    add_check(commands)
    demo = add_command(commands, "demo", demo_command, "the same on drawn scenes, with nothing to prepare")
    demo.add_argument("--out", type=Path, default=Path("runs/demo"), help="run folder (default runs/demo)")
    demo.add_argument("--seed", type=int, default=0, help="random seed (default 0)")
    demo.add_argument("--backbone", default="tiny", help="tiny learns from nothing (default); another, as efficientnet_lite0, stays as it "
                      "is, and only its last layer learns, with OoD pictures and without")
    demo.add_argument("--weights", type=or_none, default="imagenet", help="of another backbone than tiny: imagenet (default), package, or "
                      "a file")
    demo.add_argument("--ablation", type=names, default=(), help="further trainings with only these terms: zero-label,distance,none")
    demo.add_argument("--also", type=names, default=(), help=f"further methods to train beside: {','.join(methods_beside())}")
    demo.add_argument("--full", action="store_true", help="go on to AdvCAM, IRN, CRF, pseudo masks and final segmentation")
    demo.add_argument("--advcam", type=how_many, default=30, metavar="N",
                      help="with --full: AdvCAM of the first N images of each split, or all (default 30)")
    add_masks(commands)
    add_paper(commands)
    add_figures(commands)
    add_systems(commands)
    add_compare(commands)
    add_screen(commands)
    add_bench(commands)
    add_services(commands)
    add_stages(commands)
    return parser
