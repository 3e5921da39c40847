"""The face of a package: its few public names, each imported when it is first asked for"""

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from typing import Any

Face = tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]


def attach(package: str, names: Mapping[str, Sequence[str]]) -> Face:
    """`__getattr__`, `__dir__` and `__all__` of `package`, from module -> the names it shows there.

    `from wood_nb.runs import Run` imports `wood_nb.runs.run` at that moment, so a package costs nothing until it is used.
    """
    home = {name: module for module, shown in names.items() for name in shown}

    def __getattr__(name: str) -> Any:
        if name not in home:
            raise AttributeError(f"module '{package}' has no attribute '{name}'; it shows {', '.join(sorted(home))}")
        return getattr(import_module(f"{package}.{home[name]}"), name)

    return __getattr__, lambda: sorted(home), sorted(home)
