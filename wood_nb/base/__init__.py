"""What every room needs and knows nothing of pictures or networks: files, tables, charts, jobs"""

from typing import TYPE_CHECKING

from .lazy import attach

if TYPE_CHECKING:
    from .files import (
        DataError as DataError,
        check_options as check_options,
        read_json as read_json,
        read_npz as read_npz,
        write_json as write_json,
        write_npz as write_npz,
        write_whole as write_whole,
    )
    from .html import Html as Html
    from .jobs import do_all as do_all
    from .pictures import Picture as Picture, picture_grid as picture_grid, show_images as show_images
    from .table import Table as Table

__getattr__, __dir__, __all__ = attach(__name__, {
    "files": ("DataError", "check_options", "read_json", "read_npz", "write_json", "write_npz", "write_whole"),
    "html": ("Html",),
    "jobs": ("do_all",),
    "pictures": ("Picture", "picture_grid", "show_images"),
    "table": ("Table",),
})
