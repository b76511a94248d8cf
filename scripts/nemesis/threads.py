"""Work that goes on in another thread while this one waits for the network."""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor


def on_all_cores(function: Callable) -> Callable:
    """What calls a function for many items at once: found(*items) = [function(*item), ...], in order."""
    pool = ThreadPoolExecutor(os.cpu_count())
    return lambda *items: list(pool.map(function, *items))


def load_ahead(load: Callable, items: Iterable) -> Iterator:
    """Yield load(item) for every item; the next one is loaded meanwhile."""
    with ThreadPoolExecutor(1) as pool:
        pending: Future | None = None
        for item in items:
            following = pool.submit(load, item)
            if pending is not None:
                yield pending.result()
            pending = following
        if pending is not None:
            yield pending.result()


@contextlib.contextmanager
def work_behind():
    """Yield do(function, *arguments), which calls it in another thread, one call at a time and in order.

    A call waits until the one before it is done; the block ends when the last is. What a call raises is raised by the
    next one, or at the end.
    """
    pending: list[Future] = []
    with ThreadPoolExecutor(1) as pool:

        def do(function: Callable, *arguments):
            if pending:
                pending.pop().result()
            pending.append(pool.submit(function, *arguments))

        yield do
        if pending:
            pending.pop().result()
