"""What glibc does with freed memory; elsewhere nothing happens here."""

import contextlib
import ctypes

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of mallopt(3)


def keep_memory():
    """Reuse freed tensors instead of returning their pages: a fifth less time for an attack on the CPU."""
    with contextlib.suppress(OSError, AttributeError):
        library = ctypes.CDLL("libc.so.6")
        library.mallopt(M_MMAP_THRESHOLD, 2**25)
        library.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)


def return_memory():
    """Return what lies free between blocks in use: large buffers of several threads leave ever more of it."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
