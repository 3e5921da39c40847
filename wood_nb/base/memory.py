"""How a process treats memory that it has freed: by default the C library returns large blocks at once, and asks again.

A training step on a CPU frees and asks for the same tensors over and over, so keeping them makes it quicker."""

import ctypes


def keep_freed_memory() -> bool:
    "Let this process keep up to 2 GB that it has freed; False where the C library is not glibc, and nothing changes."
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    trim_above, map_above = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    return mallopt(trim_above, 2 ** 31 - 1) == mallopt(map_above, 2 ** 25) == 1
