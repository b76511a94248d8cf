"""What every script does around its one library call: log, errors, threads, arithmetic."""

import contextlib
import logging
import sys
import time
import traceback

from nemesis.arithmetic import fix_products
from nemesis.errors import InputError
from nemesis.memory import keep_memory


@contextlib.contextmanager
def job(log_path, threads: int | None = None):
    """Log the block to `log_path` and end it as a user expects.

    InputError becomes one line on the terminal and in the log, with exit code 1; any other
    exception leaves its traceback in the log and one line on the terminal. What the library warns of
    (`logging.warning`) stands on the terminal, too.
    """
    logging.basicConfig(
        filename=log_path, filemode="w", level=logging.INFO, format="%(asctime)s %(message)s", force=True
    )
    logging.captureWarnings(True)
    logging.getLogger().addHandler(_terminal())
    if threads:
        _limit_threads(threads)
    fix_products()
    keep_memory()
    start = time.monotonic()
    try:
        yield
    except InputError as error:
        _fail(f"nemesis: {error}")
    except Exception as error:
        logging.error(traceback.format_exc())
        _fail(f"nemesis: internal error: {type(error).__name__}: {error} (details in {log_path})")
    logging.info("done in %.1f s", time.monotonic() - start)


def _terminal() -> logging.Handler:
    """Shows the library's own warnings; those of Python's packages stay in the log."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.name == "root" and record.levelno == logging.WARNING)
    handler.setFormatter(logging.Formatter("nemesis: %(message)s"))
    return handler


def _fail(line: str):
    logging.error(line)
    print(line, file=sys.stderr, flush=True)
    raise SystemExit(1)


def _limit_threads(threads: int):
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(threads)
