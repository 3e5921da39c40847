"""The registry of methods: what a name trains, how it draws, and what it is called and coloured everywhere

A method is a base (`cam`, `wood`), or a base followed by steps that work on its maps, joined by `+`: `wood+irn+crf`.
A base may be cut down to some terms of its loss, for an ablation, joined by `-`: `wood-distance`, `head-none`.
A base with a network of its own that is trained beside (`wood run --also`) has a twin trained with OoD pictures: `seam`, `seam-ood`.
A new method is one entry here beside its module and its lesson; tables, figures, report, inspector and command line follow.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from importlib import import_module

from ..base.files import DataError

CLASSIFIER, CAM, WOOD, HEAD = "classifier", "cam", "wood", "head"
ALSO, SEAM, FICKLE = "also", "seam", "ficklenet"  # the stage that trains further methods, and these
ADVCAM, IRN, PSA, CRF, SSDD, DYNAMIC, CIAN, TRUTH = "advcam", "irn", "psa", "crf", "ssdd", "dynamic", "cian", "truth"
BBAM = "bbam"
BBAM_OOD = f"{BBAM}-ood"
LABELS, BOXES, MASKS = "labels", "boxes", "masks"  # what a method learns from
SCALES = (1.0, 0.5, 1.5, 2.0)  # of an image, at which maps are drawn and added up


@dataclass(frozen=True)
class Method:
    "What the kit knows of a method, or of a step that follows one."
    name: str
    label: str  # in tables and figures
    colour: str  # of its curve, bar and frame; safe for the colour-blind (Okabe and Ito)
    dash: str | tuple  # matplotlib's line style
    trains: str | None  # the stage that trains its network; None: nothing is trained
    draws: str  # the function that draws its maps or masks, as `room.module.name`
    needs: tuple[str, ...] = ()  # stages that must be done first
    step: bool = False  # works on the maps of another method
    source: str = ""  # whom to cite
    trainer: str = ""  # of a method of the stage `also`: a function that makes its network and its loss (see `trained_beside`)
    opens: str = "nets.backbones.open_net"  # the function that opens the saved network
    ood: bool = False  # W-OoD's terms, with the OoD pictures, are added to its loss
    supervision: str = LABELS  # what it learns from; rows that rest on boxes stand in a block of their own
    row: str = ""  # the masks that its row of the paper's table A3 rests on, without OoD pictures where it can do without


METHODS: dict[str, Method] = {}


def register(method: Method) -> Method:
    "Add a method; a name is taken once."
    if method.name in METHODS:
        raise DataError(f"method '{method.name}' is registered already; choose another name")
    METHODS[method.name] = method
    return method


_CAM_PAPER = "Zhou et al., CVPR 2016"
register(Method(CLASSIFIER, "CAM before", "#9a9a9a", ":", "classifier", "maps.cam.localise", source=_CAM_PAPER))
register(Method(CAM, "CAM", "#6b6b6b", "--", "continued", "maps.cam.localise", ("classifier",), source=_CAM_PAPER))
register(Method(WOOD, "W-OoD", "#0072b2", "-", "wood", "maps.cam.localise", ("classifier", "clusters"), source="Lee et al., CVPR 2022",
                row="wood+advcam+irn"))
_LAST_LAYER = "this kit (docs/results.md)"
register(Method(HEAD, "OoD head", "#56b4e9", (0, (5, 1)), HEAD, "maps.cam.localise", ("classifier", "mining"), source=_LAST_LAYER))
register(Method(ADVCAM, "AdvCAM", "#e69f00", "-.", None, "maps.advcam.climb_split", step=True, source="Lee et al., CVPR 2021",
                row="cam+advcam+irn"))
register(Method(IRN, "IRN", "#d55e00", (0, (6, 2)), "irn", "masks.irn.irn_maps", step=True, source="Ahn et al., CVPR 2019",
                row="cam+irn"))
register(Method(PSA, "PSA", "#009e73", (0, (3, 1, 1, 1)), "psa", "masks.psa.psa_maps", step=True, source="Ahn and Kwak, CVPR 2018",
                row="cam+psa"))
register(Method(CRF, "CRF", "#cc79a7", (0, (1, 1)), None, "masks.crf.DenseCRF", step=True,
                source="Krähenbühl and Koltun, NeurIPS 2011"))
register(Method(SSDD, "SSDD", "#332288", (0, (8, 1, 1, 1)), "ssdd", "masks.ssdd.ssdd_masks", step=True,
                source="Shimoda and Yanai, ICCV 2019", row="cam+psa+ssdd"))
register(Method(DYNAMIC, "SSDD end to end", "#88ccee", (0, (8, 1, 1, 1, 1, 1)), None, "masks.dynamic.DynamicNet", step=True,
                source="Shimoda and Yanai, ICCV 2019"))
register(Method(CIAN, "CIAN", "#f0e442", (0, (2, 2)), None, "masks.cian.CrossNet", step=True,
                source="Fan et al., AAAI 2020", row="cam+irn+cian"))
register(Method(TRUTH, "ground truth", "#000000", "-", None, "data.splits.Split.mask", source="the data set's annotators",
                supervision=MASKS))
_BBAM_PAPER = "Lee et al., CVPR 2021 (boxes)"
register(Method(BBAM, "BBAM", "#b08a00", (0, (8, 1)), "detector", "maps.bbam.bbam_split", ("classifier",), source=_BBAM_PAPER,
                supervision=BOXES, row=BBAM))

CONTROLS = {method.name: method for method in (  # bases cut down that have a name and a colour of their own
    Method(f"{HEAD}-zero", "OoD head, pooled", "#3d7ea6", (0, (4, 1, 1, 1)), HEAD, "maps.cam.localise", ("classifier", "mining"),
           source=_LAST_LAYER),
    Method(f"{HEAD}-none", "head without OoD", "#8a7f70", (0, (2, 1)), HEAD, "maps.cam.localise", ("classifier",), source=_LAST_LAYER),
    Method(BBAM_OOD, "BBAM, OoD negatives", "#7d6608", (0, (8, 2, 2, 2)), "detector", "maps.bbam.bbam_split", ("classifier", "mining"),
           source=_BBAM_PAPER, supervision=BOXES))}


def trained_beside(method: Method, colour: str) -> Method:
    """Add a method of the stage `also`, and its twin `NAME-ood`, of another colour, with the terms of W-OoD. Its trainer takes the run's
    classifier and the options that `RunConfig` has under its name (a dataclass in `maps.config` with `steps`), and returns a network
    that starts from the classifier, and an `OwnLoss` (None: a plain classifier's); `draws` takes what `localise` takes."""
    CONTROLS[f"{method.name}-ood"] = replace(method, name=f"{method.name}-ood", label=f"{method.label} + OoD", colour=colour,
                                             needs=(*method.needs, "clusters"), ood=True)
    return register(method)


trained_beside(Method(SEAM, "SEAM", "#117733", (0, (5, 1, 1, 1)), ALSO, "maps.seam.localise_seam", ("classifier",),
                      source="Wang et al., CVPR 2020", trainer="maps.seam.seam_training", opens="maps.seam.open_seam",
                      row="seam+psa"), "#44aa99")
trained_beside(Method(FICKLE, "FickleNet", "#661100", (0, (4, 1, 1, 1, 1, 1)), ALSO, "maps.ficklenet.fickle_split", ("classifier",),
                      source="Lee et al., CVPR 2019", trainer="maps.ficklenet.fickle_training", opens="maps.ficklenet.open_fickle",
                      row=FICKLE), "#aa4499")


def methods_beside() -> list[str]:
    "The methods that the stage `also` can train."
    return [method.name for method in (*METHODS.values(), *CONTROLS.values()) if method.trainer]


def method_of(name: str) -> Method:
    "What the kit knows of the base of a method: of `seam-ood+irn` what it knows of `seam-ood`, of `wood-distance` what it knows of `wood`."
    base = parts(name)[0]
    found = CONTROLS.get(base) or METHODS.get(base_of(name))
    if found is None:
        raise DataError(f"'{base}' is not a method of the registry; there are {', '.join(METHODS)}")
    return found


def function_of(path: str) -> Callable:
    "The function that the registry names as `room.module.name`."
    module, _, name = path.rpartition(".")
    return getattr(import_module(f"wood_nb.{module}"), name)


def parts(method: str) -> list[str]:
    "The base of a method and its steps, in order: `wood+irn` -> `['wood', 'irn']`."
    return method.split("+")


def base_of(method: str) -> str:
    "The base of a method without the terms of an ablation: `wood-distance+irn` -> `wood`."
    return parts(method)[0].partition("-")[0]


def followed_by(method: str, *steps: str) -> str:
    "The name of `method` with more steps: (`wood`, `advcam`, `irn`) -> `wood+advcam+irn`."
    return "+".join((method, *steps))


def has_step(method: str, step: str) -> bool:
    "Whether `step` is one of the steps of `method`."
    return step in parts(method)[1:]


def method_name(method: str) -> str:
    "What a method is called: `wood` is W-OoD, `wood-distance` is W-OoD with that term only, `wood+irn` is W-OoD + IRN."
    if "+" in method:
        return " + ".join(map(method_name, parts(method)))
    known, _, terms = method.partition("-")
    if (found := METHODS.get(method) or CONTROLS.get(method)) is not None:
        return found.label
    return f"{METHODS[known].label}, {terms} only" if terms and known in METHODS else method


def with_ood(method: str) -> str | None:
    "The same method with OoD pictures: `wood+irn` of `cam+irn`, `seam-ood+psa` of `seam+psa`; None where it has them, or no use for them."
    base, *steps = parts(method)
    twin = WOOD if base == CAM else f"{base}-ood" if f"{base}-ood" in CONTROLS else None
    return None if twin is None else "+".join((twin, *steps))


def system_rows() -> dict[str, str]:
    "The systems of the paper's table A3 -> the masks that each one's row rests on; in the order of the registry."
    return {method.name: method.row for method in METHODS.values() if method.row}


def system_of(method: str) -> str | None:
    "Which system of table A3 a method is, with OoD pictures or without (AdvCAM with them is W-OoD); None: not a row of that table."
    known = system_rows()
    named: dict[str | None, str] = {with_ood(row): name for name, row in known.items()}
    named.update({row: name for name, row in known.items()})
    return named.get(method)


def masks_of(method: str) -> str:
    "The masks that the final network of a method learns from: CIAN is a way to learn, and has none of its own."
    return "+".join(part for part in parts(method) if part != CIAN)


def supervision_of(method: str) -> str:
    "What a method learns from: image labels (as all do that the registry does not know), boxes, or true masks."
    found = METHODS.get(base_of(method))
    return LABELS if found is None else found.supervision


def from_boxes(method: str) -> bool:
    "Whether a method learns from boxes: its rows are not compared with those of methods that have labels only."
    return supervision_of(method) == BOXES


_SPARE = ("#7a5195", "#8c564b", "#cc79a7", "#f0a500", "#17806d", "#7f4fc9")


def colour_of(method: str) -> str:
    "The colour of a method: its base's, so that all of W-OoD is blue; unknown methods get a spare one, always the same."
    base = base_of(method)
    if (found := CONTROLS.get(parts(method)[0]) or METHODS.get(base)) is not None:
        return found.colour
    return _SPARE[sum(map(ord, base)) % len(_SPARE)]


def dash_of(method: str) -> str | tuple:
    "The line style of a method: that of its last step, or its own."
    last = parts(method)[-1]
    found = CONTROLS.get(last) or METHODS.get(last.partition("-")[0])
    return "-" if found is None else found.dash


def check_methods(methods: Iterable[str], known: Iterable[str]) -> list[str]:
    "`methods` as a list, each one of `known`; an unknown one is refused with the list of those there are."
    methods, known = list(methods), list(known)
    for method in methods:
        if method not in known:
            raise DataError(f"'{method}' is not a method here; there are {', '.join(known)}")
    return methods
