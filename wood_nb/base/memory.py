"""The in-distribution classifier: one visible loop that every later training reuses"""

import ctypes


def keep_freed_memory() -> bool:
    "Let this process keep up to 2 GB that it has freed, which makes steps on a CPU quicker; False where it is not glibc's to say."
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    trim_above, map_above = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD of malloc.h
    return mallopt(trim_above, 2 ** 31 - 1) == mallopt(map_above, 2 ** 25) == 1
