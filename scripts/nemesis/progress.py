"""Progress of long work: a moving line in a terminal, plain lines in a log."""

import logging
import sys
import time


class Progress:
    """Report how many of `total` items are done, the rate, and the time left.

    In a terminal one line is rewritten; a log gets a line at most every `seconds`.
    """

    def __init__(self, title: str, total: int, unit: str = "images", seconds: float = 10.0):
        self.title, self.total, self.unit, self.seconds = title, total, unit, seconds
        self.done = 0
        self.start = self.said = time.monotonic()
        self.terminal = sys.stderr.isatty()

    def add(self, count: int):
        """Count `count` more items as done."""
        self.done += count
        now = time.monotonic()
        pause = 0.2 if self.terminal else self.seconds
        if self.done < self.total and now - self.said < pause:
            return
        self.said = now
        line = self._line(now - self.start)
        if self.terminal:
            print(f"\r{line}", end="\n" if self.done >= self.total else "", file=sys.stderr, flush=True)
        if not self.terminal or self.done >= self.total:
            logging.info(line)

    def _line(self, elapsed: float) -> str:
        rate = self.done / elapsed if elapsed else 0.0
        left = (self.total - self.done) / rate if rate else float("inf")
        return f"{self.title}: {self.done}/{self.total} {self.unit}, {rate:.1f}/s, {left:.0f} s left"
