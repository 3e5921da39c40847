"""Errors as one line with an exit code: what went wrong, and what to do about it"""

import errno
import signal
import sys

from ..base.files import DataError
from ..base.memory import GPU, MEMORY, SHARED, THREADS, place_of, ran_out
from ..base.ranks import lost_another
from ..base.stop import Stopped
from ..maps.methods import ALSO, CLASSIFIER, HEAD, WOOD

FULL = (errno.ENOSPC, errno.EDQUOT)

_TRAINING = "give --accumulate 4 (the same batch, computed in four parts), or a lower --batch-size"
_SMALLER = "give --long-side 500, or less: pictures are looked at in that size"
REMEDIES = {  # what helps at each stage and command; elsewhere nothing but the last words below
    CLASSIFIER: _TRAINING, "continued": _TRAINING, WOOD: f"{_TRAINING}, or a lower --ood-batch", "ablation": _TRAINING,
    ALSO: f"{_TRAINING}, or a lower --ood-batch",
    "mining": _SMALLER, "clusters": _SMALLER, HEAD: "give --head-long-side 500, or less, and fewer --head-places",
    "maps": "give --maps-batch 1, or --maps-long-side 500 or less (--batch-size and --long-side of 'wood maps')",
    "refine": "give --accumulate 4, --jobs 1, or --advcam 0",
    "segment": "give --accumulate 4, or a recipe with a smaller network (--recipe small)",
    "package": "give --accumulate 4, or a recipe with a smaller network (--recipe small)",
    "sweep": "give --jobs 1"}
_FEWER = "set OMP_NUM_THREADS=1, give --workers 0 and --jobs 1 where they were more, or raise the limit (ulimit -u)"
_SHARED = "give --workers 0, or let the container have more, as in docker run --shm-size=8g"


def of_system(error: OSError) -> str:
    "One line for what the operating system refused."
    place = f" ({error.filename})" if error.filename else ""
    if error.errno in FULL:
        return f"no space left on the disk{place}; free some, then run the same command again"
    return f"{error.strerror}{place}; check the path and its permissions"


def of_memory(what: str, place: str | None) -> str:
    "One line for what ran out, and what helps at this place."
    where = f" in {place}" if place in REMEDIES else ""
    if what == THREADS:
        return f"out of {what}{where}; {_FEWER}"
    if what == SHARED:
        return f"out of {what}{where}; {_SHARED}"
    helps = REMEDIES.get(place or "", "lower --batch-size or --long-side where they are taken")
    rest = "" if what == GPU else ", or close other programs"
    return f"out of {GPU if what == GPU else MEMORY}{where}; {helps}{rest}"


def stopped(error: BaseException) -> bool:
    "Whether a training was stopped on request; only one that has begun can be."
    safe = sys.modules.get("wood_nb.train.safe")
    return safe is not None and isinstance(error, safe.TrainingStopped)


def diagnosis(error: BaseException, command: str = "", name: str | None = None) -> tuple[str, int] | None:
    """One line for an error that is not a fault of the program, and the exit code; None for one that is. `command` goes on
    with the work, `name` is what it is called."""
    on = f": {command}" if command else ""
    place = place_of(error) or name
    if stopped(error):
        number = getattr(error, "number", 0)
        return f"{error}{on}", 128 + number if number else 3
    if isinstance(error, KeyboardInterrupt):
        number = error.number if isinstance(error, Stopped) else int(signal.SIGINT)
        where = f" in {place}" if place else ""
        return f"{Stopped(number)}{where}; what is finished is kept, and the same command goes on{on}", 128 + number
    if what := ran_out(error):
        return of_memory(what, place), 2
    if lost_another(error):
        return f"another of the processes has ended; what is finished is kept, and the same command goes on{on}", 1
    if isinstance(error, OSError) and error.errno:
        return of_system(error), 2
    return (str(error), 2) if isinstance(error, (DataError, FloatingPointError)) else None
