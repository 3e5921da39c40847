"""What the commands do. Networks and everything else that takes time to load are imported by the command that needs them"""

from __future__ import annotations

import contextlib
import json
import shlex
import time
from argparse import Namespace
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import wood_nb

from ..base.device import cores
from ..base.files import DataError, read_json, write_whole
from ..base.jobs import threads_each
from ..base.locks import one_writer
from ..base.options import changed_options, completed, given, options_of
from ..base.text import visible
from ..maps.methods import CLASSIFIER, CONTROLS, HEAD, METHODS, TRUTH, check_methods, from_boxes, method_name, parts
from ..ood.config import ScreenConfig
from ..runs.config import RefineConfig, RunConfig, SegmentConfig, SystemsConfig
from ..runs.run import Run, do_again, unlabelled_split
from .options import SCENE_OPTIONS, check_flags, configured

if TYPE_CHECKING:
    from ..data.check import Amount, DataCheck
    from ..masks.learn import Recipe
    from ..masks.segment import Refine


def look_at_pruning(run: Run) -> None:
    "Read the file that will prune, if one will and it is there already."
    from ..data.splits import read_list
    from ..ood.manifest import Manifest
    from ..ood.pruning import read_screened
    from ..runs.pipeline import prune_source

    if run.config.candidates is None and run.config.prune == "truth":
        return  # the scenes are yet to be drawn
    if (file := prune_source(run)) is None:
        return
    if file.suffix == ".json":
        Manifest.load(file, run.pool())
    elif file.suffix == ".txt":
        read_list(file)
    else:
        read_screened(file)


def look_ahead(run: Run) -> None:
    "Find out now what would otherwise fail after the classifier has been trained."
    from ..scores.context import find_contexts

    config = run.config
    if not config.data.startswith("scenes:"):
        splits = [run.split(name) for name in config.splits]
        if contexts := find_contexts(splits[-1], config.contexts):
            for item in splits[-1].items:
                contexts.read(item)
    if config.candidates is not None:
        run.pool()
    look_at_pruning(run)
    look_at_weights(config)


def look_at_weights(config: RunConfig) -> None:
    "Refuse now what is to start from the weights of a package that is not there."
    if config.weights == "package":
        from ..nets.weights import package_file

        package_file(config.backbone)


def say(text: str) -> None:
    "A text, at once; characters that a terminal obeys, or that nobody sees, are written out."
    print(visible(text), flush=True)


def open_out(args: Namespace) -> Run:
    "The run folder for parsed arguments: new, or resumed; says what changed."
    config = configured(args)
    note = args.out / "run.json"
    (args.out / "STOP").unlink(missing_ok=True)  # a new command means to go on
    if note.is_file():
        before = completed(read_json(note, "wood_nb.run")["config"], asdict(RunConfig(config.data)))
        changes = changed_options(before, asdict(config))
        say(f"{args.out}: resumed{', with ' + '; '.join(changes) if changes else ''}")
    else:
        say(f"{args.out}: a new run")
    run = Run.create(args.out, config)
    run.note["command"] = shlex.join(["wood", *args.words])
    run.save()
    return run


def result_line(row: dict) -> str:
    "A row of metrics.json as a line; final segmentations have no threshold."
    from ..scores.rows import one_decimal, step_name

    stage = "" if row.get("stage", "seed") == "seed" else f" ({row['stage']})"
    cut = "" if row.get("threshold") is None else f"threshold {row['threshold']:g} ({row['threshold_from']}), "
    score = f"{row['split']:<8} mIoU {one_decimal(row['miou']):>5}"
    return f"{step_name(row):>6}  {score}  {cut}other classes: {row.get('other_classes', 'not stated')}{stage}"


def result_lines(run: Run) -> list[str]:
    "The scores of a run, a line for each row of metrics.json."
    return [result_line(row) for row in (run.results() if (run.path / "metrics.json").is_file() else [])]


def finish(run: Run, upto: str | None = None) -> None:
    "Run the stages, then say what came out and where it lies."
    from ..runs.pipeline import execute, stages_of

    if "mining" not in stages_of(run.config):
        say("no --candidates: CAM only, no out-of-distribution pictures")
    execute(run, upto, say)
    for line in result_lines(run):
        say(line)
    report = run.path / "report.html"
    whole = upto in (None, "report") and report.is_file()
    say(f"report: {report.resolve()}" if whole else f"run folder: {run.path.resolve()}")


def processes(asked: int | None) -> int:
    "How many processes read pictures."
    return min(4, cores()) if asked is None else max(1, asked)


def check_command(args: Namespace) -> None:
    "wood check: what is wrong with data, before anything is trained."
    from ..data.check import check_data

    asked = given(args, check_flags())
    if not asked.get("data", "").startswith(("voc:", "csv:")):
        raise DataError("name the data to look at: --data voc:FOLDER or csv:FOLDER (drawn scenes are as they should be)")
    found = check_data(**asked, workers=processes(args.workers))
    say(repr(found))
    say(f"{found.decoded:,} pictures looked at in {found.seconds:.1f} s")
    refuse_failed(found)


def refuse_failed(found: DataCheck) -> None:
    "End here if a run with this data would fail."
    if found.failed:
        errors = [f"{finding.split}: {finding}" for finding in found.findings if finding.severity == "error"]
        raise DataError(errors[0] + (f" ({len(errors)} errors in all, see the table)" if len(errors) > 1 else ""))


_PER_PIXEL = {"tiny": 250, "resnet18": 260}  # bytes of memory for each pixel looked at, with its mirror image; others: 530
_MAP_BYTES = {"full_maps": 1.2, "exact_maps": 2.4}  # on disk for each pixel and class of a picture; measured on photographs


def amount_of(config: RunConfig) -> Amount:
    "What a run asks of memory and disk."
    import torch

    from ..data.check import Amount
    from ..nets.backbones import build_net
    from ..runs.pipeline import methods_of

    with torch.device("meta"):  # nothing but sizes
        net = build_net(config.backbone, config.classes or ("",), config.stride, None)
    methods = methods_of(config)
    stored = max([0.085, *(size for name, size in _MAP_BYTES.items() if getattr(config, name))])
    networks = len({CLASSIFIER, *methods.values()}) + 2  # a checkpoint holds the momentum, too
    return Amount(_PER_PIXEL.get(config.backbone, 530) * max(config.scales) ** 2 * (1 if config.mirror else 0.7), config.maps_batch,
                  config.maps_long_side, 4 * networks * sum(part.numel() for part in net.parameters()) + 1e7, stored * len(methods))


def look_first(run: Run, args: Namespace) -> None:
    "The look of `wood check` at the beginning of a run; told whole if it is new, refused if the run would fail."
    from ..data.check import check_splits

    config = run.config
    if args.no_check or config.data.startswith("scenes:"):
        return
    found = check_splits([run.split(name) for name in config.splits], run.pool() if config.candidates else None,
                         processes(args.check_workers), run.path / "check.json", run.path, root=config.data.partition(":")[2],
                         contents=run.contents, amount=amount_of(config))
    run.contents.save()
    say(f"data: {found.summary()}, as at the last look" if found.known and not found.failed else f"data:\n{found!r}")
    refuse_failed(found)


@contextlib.contextmanager
def owned_out(args: Namespace) -> Iterator[Run]:
    "The run folder for parsed arguments, in which no other process writes meanwhile."
    configured(args)  # names the folder, and refuses slips before there is one
    with one_writer(args.out):
        yield open_out(args)


def run_command(args: Namespace) -> None:
    "wood run: all stages, from images to the report."
    with owned_out(args) as run:
        look_ahead(run)
        look_first(run, args)
        finish(run, args.upto)


def demo_command(args: Namespace) -> None:
    "wood demo: drawn scenes, all stages."
    kept = args.backbone != "tiny"
    other = [("backbone", args.backbone), ("weights", args.weights)] if kept else []
    options = Namespace(preset="demo-head" if kept else "demo", data="scenes:", out=args.out, seed=args.seed, ablation=args.ablation,
                        also=args.also, settings=other, words=args.words)
    with owned_out(options) as run:
        look_at_weights(run.config)
        finish(run)
        if args.full:
            go_on(run, args.advcam)


def go_on(run: Run, advcam: int | None) -> None:
    "What `wood demo --full` adds: AdvCAM, IRN and CRF, then segmentation networks trained on masks of CAM, OoD's, and the truth."
    from ..masks.learn import recipe
    from ..runs.pipeline import main_methods
    from ..runs.refine import refine

    size = max(run.split(run.config.splits[0]).image(0).size)
    methods = main_methods(run.config)
    refine(run, RefineConfig.small(size, advcam=advcam, methods=methods), say, jobs=min(2, cores()))
    segment_all(run, (*methods, TRUTH), recipe("scenes"))


def open_run(path: Path) -> Run:
    "The run in a folder; an error in plain words if there is none."
    if not (path / "run.json").is_file():
        raise DataError(f"{path}: this is not a run folder (there is no run.json in it); 'wood run' makes one")
    return Run(path)


@contextlib.contextmanager
def resumed(path: Path) -> Iterator[Run]:
    """The run in a folder, to be worked on, while no other process writes in it: a file STOP that ended what was done before is
    removed."""
    open_run(path)
    with one_writer(path):
        (path / "STOP").unlink(missing_ok=True)
        yield open_run(path)


def asked_of_stage(config: RunConfig, args: Namespace) -> RunConfig:
    "The configuration of a run with what the command of one stage asks for besides; it is kept."
    if args.stage == HEAD:
        asked = {name: value for name in ("kind", "long_side") if (value := getattr(args, name)) is not None}
        return replace(config, head=replace(config.head, **asked), wood_by="both" if config.wood_by == "train" else config.wood_by)
    asked = {"maps_batch": getattr(args, "batch_size", None), "maps_long_side": getattr(args, "long_side", None)}
    return replace(config, **{name: value for name, value in asked.items() if value is not None})


def stage_command(args: Namespace) -> None:
    "wood STAGE RUN: an existing run up to one stage."
    with resumed(args.run) as run:
        if (config := asked_of_stage(run.config, args)) != run.config:
            run = Run.create(args.run, config)
        if args.again or args.stage == "report":
            do_again(run, args.stage)
        finish(run, args.stage)


def tiny_command(args: Namespace) -> None:
    "wood tiny: build the small run that the notebooks share, or find it."
    from ..runs.tiny import tiny_run

    start = time.perf_counter()
    run = tiny_run()
    say(f"the tiny run is ready ({time.perf_counter() - start:.1f} s): {run.path}")


def refine_command(args: Namespace) -> None:
    "wood refine RUN: AdvCAM, IRN, CRF, pseudo masks."
    from ..runs.pipeline import main_methods
    from ..runs.refine import refine

    with resumed(args.run) as run:
        options = {"workers": threads_each(args.jobs), "methods": main_methods(run.config), **given(args, options_of(RefineConfig))}
        refine(run, RefineConfig.small(args.size, **options) if args.size else RefineConfig(**options), say, args.jobs)
        tell_report(run)


def boxes_command(args: Namespace) -> None:
    "wood bbam RUN: a detector, and from it masks of boxes and pseudo labels."
    from ..runs.boxes import BoxRunConfig, use_boxes

    with resumed(args.run) as run:
        made = BoxRunConfig.sized(max(run.split(run.config.splits[0]).image(0).size), ood=args.ood, images=args.images)
        detector = {name: value for name, value in (("boxes", args.boxes), ("steps", args.steps)) if value is not None}
        masks = {"steps": args.mask_steps} if args.mask_steps is not None else {}
        use_boxes(run, replace(made, detector=replace(made.detector, **detector), masks=replace(made.masks, **masks)), say)
        tell_report(run)


def tell_report(run: Run) -> None:
    "Write the report again, now that there is more to show."
    from ..runs.pipeline import report_stage

    report_stage(run)
    say(f"report: {(run.path / 'report.html').resolve()}")


def segment_command(args: Namespace) -> None:
    "wood segment RUN: a segmentation network trained on the masks of each method."
    from ..runs.pipeline import main_methods

    with resumed(args.run) as run:
        asked = SegmentConfig(**{"methods": main_methods(run.config), **given(args, options_of(SegmentConfig))})
        check_sources(run, asked.methods)
        segment_all(run, asked.methods, *asked_recipe(run, asked), every=asked.every, skip_ignored=asked.skip_ignored)


def check_sources(run: Run, methods: Sequence[str]) -> None:
    "Refuse masks of methods that the run does not have, in any refinement."
    from ..runs.pipeline import methods_of

    boxed = [name for name in (*METHODS, *CONTROLS) if from_boxes(name) and (run.path / "masks" / name).is_dir()]
    check_methods([parts(method)[0] for method in methods], [*methods_of(run.config), TRUTH, *boxed])


def crossed(made: Recipe, asked: SegmentConfig) -> Recipe:
    "A recipe with CIAN's block, as the options ask for it."
    from ..masks.cian import CIANConfig, with_cross

    kind = CIANConfig.official if asked.cross_official else CIANConfig
    return with_cross(made, kind(ood=asked.cross_ood, skip_alone=asked.skip_alone))


def asked_recipe(run: Run, asked: SegmentConfig) -> tuple[Recipe, Refine | None]:
    "The recipe that the options ask for, and its CRF."
    from ..masks.dsrg import DSRGConfig
    from ..masks.dynamic import with_dynamic
    from ..masks.learn import recipe
    from ..runs.final import recipe_crf

    options: dict[str, Any] = {name: value for name in ("steps", "weights", "accumulate") if (value := getattr(asked, name)) is not None}
    if asked.growing:
        options["growing"] = DSRGConfig()
    made = recipe(asked.recipe or ("scenes" if run.config.data.startswith("scenes:") else "small"), **options)
    made = crossed(made, asked) if asked.cross else made
    made = with_dynamic(made) if asked.ssdd else made
    if not asked.crf:
        return made, None
    made = replace(made, crf=made.crf or "deeplab-test")
    return made, recipe_crf(made)


def segment_all(run: Run, methods: Sequence[str], made: Recipe, crf: Refine | None = None, **options: Any) -> None:
    "A segmentation network for the masks of each method, its scores, and the report."
    from ..runs.final import finish_point

    for method in methods:
        for row in finish_point(run, method, made, crf, **options):
            after = f" + CRF {made.crf}" if row["crf"] else ""
            score = f"{row['miou']:.1f} mIoU ({row['network']}, {row['steps']} steps)"
            say(f"{method_name(row['method'])}{after}, {row['split']}: {score}")
    say(f"masks: {(run.path / 'segmentation').resolve()}")
    tell_report(run)


def package_command(args: Namespace) -> None:
    "wood package RUN LIST: the masks of a list in the tar that VOC's test server takes; training is not done twice."
    from ..masks.package import write_package
    from ..runs.final import finish_point, learnt_name, segmentation_place

    asked = SegmentConfig(**given(args, options_of(SegmentConfig)))
    with resumed(args.run) as run:
        check_sources(run, [args.method])
        (made, crf), split = asked_recipe(run, asked), unlabelled_split(run, args.list)
        finish_point(run, args.method, made, crf, [split], skip_ignored=asked.skip_ignored)
        place = segmentation_place(run, learnt_name(args.method, made), made.network)
        masks = place / (f"masks-{made.crf}" if crf else "masks") / split.name
        out = args.out or place / f"{split.name}.tgz"
        say(f"package: {write_package(split, masks, out, split.classes, split.name).resolve()}")


def table_command(args: Namespace) -> None:
    "wood table A1|A2|A3|others: the printed table, and measured scores beside it."
    from ..scores.printed import paper_table, write_table

    options = {name: value for name in ("stage", "split") if (value := getattr(args, name)) is not None}
    made = paper_table(args.table, args.runs, **options)
    say(str(write_table(made, args.out)) if args.out else repr(made))


def figures_command(args: Namespace) -> None:
    "wood figures RUN: figures A1 to A4 of the paper on a run."
    from ..runs.figures import write_figures

    run, out = open_run(args.run), args.out or args.run / "figures"
    with contextlib.nullcontext() if args.out else one_writer(args.run):
        for name, told in write_figures(run, out, kind=args.format, methods=args.methods).items():
            say(f"{name}: {told}")
    say(f"figures: {out.resolve()}")


def evidence_command(args: Namespace) -> None:
    "wood evidence RUN: the last layer with OoD pictures and without, beside controls."
    from ..runs.evidence import class_table, evidence, evidence_table

    options = {name: value for name in ("sides", "draws", "most") if (value := getattr(args, name)) is not None}
    with resumed(args.run) as run:
        found = evidence(run, **options)
        say(f"{evidence_table(found)}\n\n{class_table(found, found[-1].sides)}")
        say(f"seeds of {run.config.splits[-1]}, {len(found[0].counts)} images, no CRF: {(run.path / 'evidence.json').resolve()}")


def screen_command(args: Namespace) -> None:
    "wood screen RUN SOURCE...: the hardest pictures of a stream as a folder of candidates."
    from ..data.shards import read_known
    from ..nets.weights import weights_sha
    from ..ood.screen import screen

    run, config = open_run(args.run), ScreenConfig(**given(args, options_of(ScreenConfig)))
    net = run.net(CLASSIFIER)
    aliases = {name: tuple(label for other, labels in args.alias if other == name for label in labels) for name, _ in args.alias}
    known = read_known(args.labels, net.classes, args.descriptions, aliases)
    if args.labels:
        say(f"{args.labels}: {len(known.marks):,} pictures are known to show a class; they are not opened")
    found = screen(net, args.sources, args.out, config, known, args.root, args.long_side or run.config.long_side,
                   run.config.classifier.precision, weights_sha(run.path / CLASSIFIER / "weights.safetensors"))
    say(str(found))
    if not found.kept:
        raise DataError(f"{args.out}: no picture has p > {config.threshold:g} for any class (the highest is {found.highest:.3f}); "
                        "lower the threshold, with another folder, or give more sources")
    say(f"candidates: {args.out.resolve()} (wood run ... --candidates {shlex.quote(str(args.out))})")


def sweep_command(args: Namespace) -> None:
    "wood sweep A1|A2 RUN...: points that share with finished runs what does not change."
    from ..masks.learn import recipe
    from ..runs.sweep import SIZES, sweep
    from ..scores.printed import paper_table

    made = recipe(args.recipe) if args.recipe else None
    points = sweep(args.table, args.out, to_vary(args), seeds=args.seeds or (0,), jobs=args.jobs, sizes=args.sizes or SIZES,
                   grid=args.grid, factor=args.factor, made=made)
    say(f"{len(points)} points in {args.out.resolve()}")
    for stage in ("seed", *(["segmentation"] if made else [])):
        say(f"{stage}:\n{paper_table(args.table, points, stage=stage)!r}")


def to_vary(args: Namespace) -> list[Path] | RunConfig:
    "Finished runs as they are; with --seeds the configuration of the one run, of which a base is made for each seed."
    if args.seeds is None:
        return args.runs
    if len(args.runs) != 1:
        raise DataError(f"--seeds makes base runs like one given run, but {len(args.runs)} are given; leave one, or leave --seeds out")
    return open_run(args.runs[0]).config


def systems_command(args: Namespace) -> None:
    "wood systems: all systems of table A3 beside one another, in runs that are there or on drawn scenes."
    from ..runs.systems import make_runs, measure_systems, systems_result, systems_table, write_systems

    made, seeds = (SystemsConfig.quick, (0,)) if args.quick else (SystemsConfig, (0, 1, 2))
    config = made(**given(args, options_of(SystemsConfig)))
    runs = make_runs(args.runs, args.out, args.seeds or seeds, config)
    measure_systems(runs, config, args.jobs, say)
    result = systems_result(runs, config, shlex.join(["wood", *args.words]))
    say(f"{systems_table(result)}\n\nwritten: {write_systems(result, args.out / 'systems.json').resolve()}")


def plan_command(args: Namespace) -> None:
    "wood plan: what the paper's full setting needs, and what is missing here."
    from ..runs.plan import measure_rates, plan, plan_markdown, write_plan

    made = plan(args.root, measure_rates() if args.measure else [], preset=args.preset)
    say(str(write_plan(made, args.out)) if args.out else plan_markdown(made))


def bench_command(args: Namespace) -> None:
    "wood bench: how quick each stage is on this machine, and what has become slower."
    from ..runs.bench import QUICK, Growth, Size, Timing, bench, bench_table, growth, growth_table, roof, save_bench, slower

    def tell(timing: Timing) -> None:
        say(f"{timing.stage}: {timing.seconds:.3f} s")

    def tell_growth(each: Growth) -> None:
        say(f"{each.stage}: grows as {each.unit} to the power {each.exponent:.2f}")
    size = QUICK if args.quick else Size()
    if args.compare:
        slower(args.compare, [], size)  # whether it may be compared with, now and not in minutes
    timings, top = bench(size, args.stages, tell), roof()
    say(f"\n{bench_table(timings)}\n{top}\n")
    grown = growth(size, args.stages, tell_growth) if args.curves else []
    if grown:
        say(f"\n{growth_table(grown)}\n")
    if args.out:
        save_bench(args.out, timings, size, top, grown)
    if args.compare:
        say("\n".join(slower(args.compare, timings, size)) or f"nothing is slower than in {args.compare}")


def scenes_command(args: Namespace) -> None:
    "wood scenes: draw the data set."
    from ..scenes.scenes import draw_scenes

    given = {key: value for key, value in vars(args).items() if key in SCENE_OPTIONS}
    say(f"drawn: {draw_scenes(args.folder, **given)}")


def list_command(args: Namespace) -> None:
    "wood ood-list: the usable OoD pictures of a run as a list."
    from ..ood.manifest import export_ood_list

    run = open_run(args.run)
    count = export_ood_list(run.manifest(), args.file, run.config.prune == "none")
    say(f"{args.file}: {count} pictures, one path (below the candidates' folder) a line")


def lesson_folder() -> Path:
    "Where the notebooks lie: in the installed package, or in the checkout."
    here = Path(wood_nb.__file__).resolve().parent
    for folder in (here / "_notebooks", here.parent / "nbs"):
        if any(folder.rglob("*.ipynb")):
            return folder
    raise DataError(f"{here}: no notebooks in this installation; install wood_nb again from a wheel or a checkout")


def for_readers(notebook: dict) -> dict:
    "A notebook without the cells that export the library."
    def exports(cell: dict) -> bool:
        return any(line.startswith("import nbdev") for line in "".join(cell["source"]).splitlines())
    return {**notebook, "cells": [cell for cell in notebook["cells"] if not exports(cell)]}


def copy_notebooks(target: Path) -> list[Path]:
    "Copy all notebooks into `target`; if one of them is there already, nothing is copied."
    source = lesson_folder()
    names = [path.relative_to(source) for path in sorted(source.rglob("*.ipynb"))]
    names = [name for name in names if not any(part[0] in "_." for part in name.parts)]
    taken = [name for name in names if (target / name).exists()]
    if taken:
        raise DataError(f"{target}: holds {taken[0]} already, so nothing was copied; choose another folder")
    for name in names:
        with write_whole(target / name, "w") as file:
            json.dump(for_readers(json.loads((source / name).read_text(encoding="utf-8"))), file, indent=1, ensure_ascii=False)
            file.write("\n")
    return [target / name for name in names]


def notebooks_command(args: Namespace) -> None:
    "wood notebooks: copy the lessons out."
    copied = copy_notebooks(args.folder)
    say(f"{len(copied)} notebooks in {args.folder}; step through them with: jupyter lab {args.folder}")


def compare_command(args: Namespace) -> None:
    "wood compare: second minus first, per class."
    from ..runs.compare import choose_sides, compare_text

    if args.curves:
        from ..report.overlay import write_overlay

        say(f"curves: {write_overlay(args.curves, args.runs).resolve()}")
        if len(args.runs) > 2:
            return
    if len(args.runs) > 2 or (args.methods and len(args.methods) != 2):
        raise DataError("compare two runs (wood compare RUN RUN) or two methods of one (wood compare RUN --methods cam wood)")
    sides = choose_sides([open_run(path) for path in args.runs], args.methods, args.method, args.split)
    say(compare_text(*sides, args.draws))
