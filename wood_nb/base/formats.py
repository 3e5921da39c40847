"""What the JSON files of wood_nb hold (docs/formats.md), as `read_json` looks at them; keys that are not named here are let be"""

from collections.abc import Mapping

from .schema import FLAG, TEXT, Kind, anything, either, many, maybe, number, one_of, record, row_of, table, whole

_PER_CENT = number(0, 100)
_NAMES = many(TEXT)
_OBJECT = table(anything)
_DECISION = one_of("keep", "drop", "undecided")

_STAGE = record({}, {"fingerprint": maybe(TEXT), "seconds": maybe(number(0)), "finished": maybe(TEXT), "adopted": maybe(TEXT),
                     "replaced": either(_NAMES, table(_OBJECT)),
                     "info": record({}, {"notes": _NAMES})})
_RUN = record({"config": record({"data": TEXT}, {"others": TEXT})},
              {"name": TEXT, "created": TEXT, "versions": table(TEXT), "stages": table(_STAGE), "command": TEXT, "base": TEXT,
               "skipped": many(record({"file": TEXT, "why": TEXT}, {"stage": TEXT}))})

_SEED = maybe(whole())
_RESULT = record(
    {"method": TEXT, "stage": TEXT, "split": TEXT, "miou": maybe(_PER_CENT), "per_class": table(maybe(_PER_CENT))},
    {"threshold": maybe(either(number(0, 1), many(maybe(number(0, 1))))), "threshold_from": maybe(TEXT), "crf": FLAG,
     "seed": either(_SEED, many(_SEED)), "precision": maybe(_PER_CENT), "recall": maybe(_PER_CENT), "images": maybe(whole(0)),
     "other_classes": maybe(TEXT), "run": maybe(TEXT), "measured": FLAG, "source": maybe(TEXT), "weights_from": maybe(TEXT),
     "centres_from": maybe(TEXT),
     "miou_std": maybe(number(0)), "network": maybe(TEXT), "steps": maybe(whole(0)), "crf_name": maybe(TEXT)})

_OF_CLASS = record({"boundary_f": maybe(_PER_CENT)}, dict.fromkeys(("iou", "precision", "recall"), maybe(_PER_CENT)))
_EVALUATION = record(
    {"method": TEXT, "classes": table(_OF_CLASS), "mean_boundary_f": maybe(_PER_CENT),
     "confusions": many(record({"true": TEXT, "taken_for": TEXT, "share": number(0, 1)}, {"pixels": whole(0)}))},
    {"crf": FLAG, "split": TEXT, "images": maybe(whole(0)), "network": maybe(TEXT), "steps": maybe(whole(0)),
     "miou": maybe(_PER_CENT), "co_occurrence": many(_OBJECT)})

_STATE = record({}, {"decision": _DECISION, "contains": _NAMES, "by": maybe(TEXT), "at": maybe(TEXT), "seconds": maybe(number(0)),
                     "note": maybe(TEXT)})
_CANDIDATE = record({"file": TEXT, "class": TEXT, "p": anything},  # `ood.manifest` looks at p, and at the class's name
                    {"decision": anything, "contains": _NAMES, "by": maybe(TEXT), "at": maybe(TEXT), "seconds": maybe(number(0)),
                     "duplicate_of": maybe(TEXT), "leak_of": maybe(TEXT), "note": TEXT})
_CLUSTER = record({"id": whole(), "name": TEXT, "members": _NAMES}, {"merged_from": many(whole()), "decision": _DECISION})
_MERGE = record({}, {"into": whole(), "from": many(whole()), "by": maybe(TEXT), "at": maybe(TEXT)})
_STEP = record({"changes": many(row_of(TEXT, _STATE, _STATE))},
               {"at": maybe(TEXT), "by": maybe(TEXT), "seconds": maybe(number(0)), "merge": _MERGE,
                "clusters": many(row_of(whole(), maybe(_CLUSTER), maybe(_CLUSTER)))})
_MANIFEST = record(
    {"classes": _NAMES, "images": table(_CANDIDATE)},
    {"created": TEXT, "pool": record({}, {"root": TEXT, "images": whole(0), "sha256": TEXT}),
     "source": record({}, {"weights": maybe(TEXT), "rank": maybe(TEXT), "threshold": maybe(number()), "scored": maybe(whole(0)),
                           "above": table(whole(0)), "per_class": maybe(whole(0)), "seed": maybe(whole()), "n": maybe(whole(0))}),
     "clusters": many(_CLUSTER), "merges": many(_MERGE), "history": many(_STEP), "undone": many(_STEP)})

_COST = record({"seconds": number(0), "processor_seconds": number(0)}, {"megabytes": number(0), "mark": TEXT})
_TIMING = record({"stage": TEXT, "seconds": number(0)},
                 {"unit": TEXT, "count": whole(0), "memory": maybe(number(0)), "network": maybe(number(0)), "beside": table(number(0))})

_MADE = {"method": maybe(TEXT), "split": maybe(TEXT), "classes": _NAMES, "scales": many(number(0)), "weights": maybe(TEXT)}

_KEPT = row_of(number(0, 1), whole(0), TEXT, TEXT, TEXT)  # p, place in the stream, file, part, name there
_SCREEN = record({"how": _OBJECT, "top": table(many(_KEPT)), "above": table(whole(0)), "counts": table(whole(0)),
                  "seconds": table(number(0)), "highest": number(0, 1), "done": _NAMES, "passed": whole(0), "last": TEXT,
                  "noted": whole(0)})

FORMATS: Mapping[str, Kind] = {
    "wood_nb.run": _RUN,
    "wood_nb.metrics": record({"results": many(_RESULT)}),
    "wood_nb.evaluation": _EVALUATION,
    "wood_nb.costs": record({"steps": table(table(_COST))}),
    "wood_nb.systems": record({"rows": many(_RESULT), "costs": table(table(number(0)))},
                              {"command": TEXT, "data": TEXT, "images": table(whole(0)), "seeds": many(whole(0)), "options": _OBJECT}),
    "wood_nb.point": record({"points": many(record({"sweep": TEXT, "method": TEXT, "setting": table(number())}))}),
    "wood_nb.contents": record({"files": table(row_of(whole(0), whole(), whole(), TEXT))}),
    "wood_nb.manifest": _MANIFEST,
    "wood_nb.maps": record({}, _MADE),
    "wood_nb.masks": record({"threshold": maybe(number(0, 1))}, {**_MADE, "crf": maybe(TEXT), "power": maybe(number(0)),
                                 "alpha": maybe(number(0)), "crf_on": maybe(TEXT), "crf_scale": maybe(number(0)), "maps": maybe(_OBJECT)}),
    "wood_nb.labels": record({}, _MADE),
    "wood_nb.predictions": record({}, _MADE),
    "wood_nb.segmentation": record({"network": TEXT}),
    "wood_nb.best": record({"miou": _PER_CENT, "step": whole(0)}),
    "wood_nb.irn": record({"config": _OBJECT}),
    "wood_nb.psa": record({"config": _OBJECT}),
    "wood_nb.scenes": record({}),
    "wood_nb.screen": _SCREEN,
    "wood_nb.bench": record({"stages": many(_TIMING), "size": _OBJECT, "threads": whole(1)},
                            {"roof": record({"device": TEXT, "threads": whole(1), "gflops": number(0), "copied": number(0)}),
                             "curves": many(record({"stage": TEXT, "unit": TEXT, "amounts": many(whole(1)), "seconds": many(number(0)),
                                                    "exponent": number()}))}),
    "wood_nb.cache": record({"backbone": TEXT, "long_side": maybe(whole(1)), "places": maybe(whole(0)), "mirror": FLAG, "precision": TEXT},
                            {"plain": FLAG}),
    "wood_nb.features": record({"ids": _NAMES, "marks": _NAMES, "sizes": many(row_of(whole(1), whole(1))), "kept": many(whole(0))}),
}
