"""Download one file from the first address that delivers it whole, and unpack archives safely.

A download goes to `<target>.part`; `<target>.part.json` notes which address, validator and length
it belongs to, so that a later run continues where this one broke off. `<target>` itself is either
absent or right.
"""

import http.client
import logging
import os
import re
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from nemesis.archives import require_space, unpack_zip
from nemesis.errors import InputError
from nemesis.files import atomic_file, sha256_file
from nemesis.partfile import PartFile

__all__ = ["fetch", "unpack_zip", "verify_file"]

CHUNK = 256 * 1024  # bytes read at a time
PASSING = {408, 425, 429, 500, 502, 503, 504}  # HTTP statuses worth another try
LONGEST_WAIT_S = 120.0
SHA256_DIGITS = 64


class _BrokeOff(Exception):
    """The transfer failed in a way that may pass: try this address again."""

    def __init__(self, reason: str, wait_s: float = 0.0):
        super().__init__(reason)
        self.wait_s = wait_s


class _Unfit(Exception):
    """This address does not have the file: try the next."""


@dataclass(frozen=True)
class _Wanted:
    """What the right file looks like; None means not known."""

    size: int | None
    sha256: str | None
    origin: str
    check: Callable[[Path], None] | None
    begins: str = ""  # the first digits of the sha256, where no more of it is published

    def fault(self, path: Path, digest: str) -> str | None:
        """Say what is wrong with the file at `path`, whose sha256 is `digest`; None if it is right."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"has {size} bytes, expected {self.size}"
        if self.sha256 is not None and digest != self.sha256:
            return f"has sha256 {digest}, expected {self.sha256} ({self.origin})"
        if not digest.startswith(self.begins):
            return f"has sha256 {digest}, expected {self.begins}... (published)"
        if self.check is not None:
            try:
                self.check(path)
            except InputError as error:
                return str(error)
        return None


@dataclass(frozen=True)
class Patience:
    """How long a download is tried.

    attempts: consecutive tries at one address that bring nothing new before it is given up.
    wait_s: pause before the second try, doubled for each further one, at most 120 s.
    timeout_s: longest silence of a server, when connecting and when reading.
    """

    attempts: int = 4
    wait_s: float = 2.0
    timeout_s: float = 60.0

    def wait(self, failures: int, asked_s: float):
        time.sleep(min(max(self.wait_s * 2 ** (failures - 1), asked_s), LONGEST_WAIT_S))


@dataclass(frozen=True)
class Expected:
    """What is known of the right file.

    size, sha256: in bytes and as hex; sha256 may be its first digits only. Without a whole one the first download's
        is recorded in `<target>.sha256`, and later downloads are compared to that.
    check: called with the path of a finished file before it is accepted; raises InputError if wrong.
    """

    size: int | None = None
    sha256: str | None = None
    check: Callable[[Path], None] | None = None


def fetch(
    sources,
    target,
    expected: Expected | None = None,
    *,
    progress=None,
    patience: Patience | None = None,
    advice: str | None = None,
) -> Path:
    """Bring one file to `target` from the first of `sources` that delivers it whole; return `target`.

    sources: an address (http, https, file) or a local path, or a list of them: primary, then mirrors.
    progress: called with (bytes so far, total bytes or None) after each chunk; default: logs.
    advice: what a user should do when every address fails.

    A file already at `target` is used if it is right. Raises InputError when no address delivers
    the file, when another process is downloading it, or when the disk does not take it.
    """
    target = Path(target)
    wanted, patience = _wanted(target, expected or Expected()), patience or Patience()
    reasons = []
    if target.exists():
        fault = _adopt(target, wanted)
        if fault is None:
            return target
        logging.warning("%s: %s; downloading it again", target, fault)
        reasons.append(f"{target}: {fault}")
    progress = progress or _log_progress(target.name)
    with PartFile(target) as part:
        for source in [sources] if isinstance(sources, str | Path) else list(sources):
            try:
                _bring(str(source), part, wanted, patience, progress)
            except _Unfit as error:
                logging.warning("%s: %s", source, error)
                reasons.append(f"{source}: {error}")
            else:
                logging.info("%s: %d bytes from %s", target, part.length, source)
                _record(target, part.hexdigest(), wanted)
                part.move_to(target)
                return target
    advice = advice or f"download it by hand, put it at {target} and run again"
    raise InputError(f"{target.name}: no address delivered it ({'; '.join(reasons) or 'none is known'}); {advice}")


def verify_file(path, size: int | None = None, sha256: str | None = None, check=None) -> Path:
    """Return `path` if size (bytes), sha256 (hex) and `check` describe that file; else raise InputError."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; check the path")
    sha256 = (sha256 or "").lower()
    whole = sha256 if len(sha256) == SHA256_DIGITS else None
    fault = _Wanted(size, whole, "published", check, sha256).fault(path, sha256_file(path))
    if fault:
        raise InputError(f"{path}: {fault}; it is damaged or another file")
    return path


def _wanted(target: Path, expected: Expected) -> _Wanted:
    size, sha256, check = expected.size, (expected.sha256 or "").lower(), expected.check
    if len(sha256) == SHA256_DIGITS:
        return _Wanted(size, sha256, "published", check)
    record = _record_path(target)
    origin = f"of the first download, recorded in {record}; remove that if the new file is right"
    if not record.exists():
        return _Wanted(size, None, origin, check, sha256)
    found = re.match(r"[0-9a-fA-F]{64}\b", record.read_text(errors="replace"))
    if not found:
        raise InputError(f"{record}: expected a sha256 in hex; remove the file to record it anew")
    return _Wanted(size, found[0].lower(), origin, check, sha256)


def _record_path(target: Path) -> Path:
    return target.with_name(target.name + ".sha256")


def _record(target: Path, digest: str, wanted: _Wanted):
    if wanted.sha256 is None:
        part = f"only {wanted.begins}... of its sha256" if wanted.begins else "no sha256"
        logging.warning("%s: %s is published; recording this one: %s", target, part, digest)
        with atomic_file(_record_path(target)) as partial:
            partial.write_text(f"{digest}  {target.name}\n")


def _adopt(target: Path, wanted: _Wanted) -> str | None:
    """Use the file that is already there: say what is wrong with it, or record its sha256."""
    if not target.is_file():
        raise InputError(f"{target}: is not a file; move it away")
    digest = sha256_file(target)
    fault = wanted.fault(target, digest)
    if fault is None:
        _record(target, digest, wanted)
    return fault


def _bring(source: str, part: PartFile, wanted: _Wanted, patience: Patience, progress):
    """Fill `part` with the right file from `source`; raise _Unfit if it cannot be had there."""
    failures, furthest = 0, 0
    while True:
        try:
            _transfer(source, part, wanted, patience.timeout_s, progress)
            _accept(part, wanted)
            return
        except _BrokeOff as error:
            failures = 1 if part.length > furthest else failures + 1
            furthest = max(furthest, part.length)
            if failures >= patience.attempts:
                raise _Unfit(str(error)) from error
            logging.info("%s: %s; trying again", source, error)
            patience.wait(failures, error.wait_s)


def _accept(part: PartFile, wanted: _Wanted):
    part.flush()
    fault = wanted.fault(part.path, part.hexdigest())
    if fault is None:
        return
    part.clear()
    if part.resumed:
        raise _BrokeOff(f"{fault}; starting over")
    raise _Unfit(fault)


def _transfer(source: str, part: PartFile, wanted: _Wanted, timeout_s: float, progress):
    found = re.match(r"([a-z][a-z0-9+.-]*):/", source, re.IGNORECASE)
    scheme = found[1].lower() if found else ""
    if scheme in ("http", "https"):
        _transfer_http(source, part, wanted, timeout_s, progress)
    elif scheme in ("", "file"):
        _copy(source, part, wanted, progress)
    else:
        raise _Unfit(f"cannot download from {scheme}: addresses")


def _copy(source: str, part: PartFile, wanted: _Wanted, progress):
    path = Path(source)
    if source.lower().startswith("file:"):
        path = Path(urllib.request.url2pathname(urllib.parse.urlsplit(source).path))
    try:
        with open(path, "rb") as stream:
            total = os.fstat(stream.fileno()).st_size
            _check_length(total, wanted)
            part.begin({"url": source, "length": total})
            while chunk := stream.read(CHUNK):
                part.write(chunk)
                progress(part.length, total)
    except OSError as error:
        raise _Unfit(error.strerror or str(error)) from error


def _transfer_http(url: str, part: PartFile, wanted: _Wanted, timeout_s: float, progress):
    start = part.resume(url, trusted=wanted.sha256 is not None)
    if start and start == part.note.get("length"):
        return
    try:
        request = urllib.request.Request(url, headers=_headers(part, start))
        with urllib.request.build_opener().open(request, timeout=timeout_s) as response:
            total = _open_part(url, response, part, wanted, start)
            _drain(response, part, wanted, total, progress)
    except urllib.error.HTTPError as error:
        raise _judge_status(error, part) from error
    except (OSError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or error
        raise _BrokeOff(getattr(reason, "strerror", None) or str(reason) or type(reason).__name__) from error
    except ValueError as error:
        raise _Unfit(f"not a usable address ({error})") from error


def _headers(part: PartFile, start: int) -> dict:
    headers = {"User-Agent": "nemesis", "Accept-Encoding": "identity"}
    if start:
        headers["Range"] = f"bytes={start}-"
        if part.validator:
            headers["If-Range"] = part.validator
    return headers


def _judge_status(error: urllib.error.HTTPError, part: PartFile) -> Exception:
    error.close()
    reason = f"HTTP {error.code} {error.reason}"
    if error.code == 416 and part.length:
        part.clear()
        return _BrokeOff(reason)
    if error.code not in PASSING:
        return _Unfit(reason)
    asked = error.headers.get("Retry-After", "")
    return _BrokeOff(reason, wait_s=float(asked) if asked.isdecimal() else 0.0)


def _open_part(url: str, response, part: PartFile, wanted: _Wanted, start: int) -> int | None:
    """Ready `part` for the body of `response`; return the length in bytes of the whole file, if told."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise _Unfit("the server sends it compressed")
    note = {"url": url, "etag": response.headers["ETag"], "modified": response.headers["Last-Modified"]}
    if response.status == 206 and start:
        return _continue_part(response, part, note, start)
    if response.status != 200:
        raise _Unfit(f"HTTP {response.status}")
    length = response.headers["Content-Length"]
    total = int(length) if length and length.isdecimal() else None
    _check_length(total, wanted)
    part.begin({**note, "length": total})
    return total


def _continue_part(response, part: PartFile, note: dict, start: int) -> int | None:
    span = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", response.headers.get("Content-Range", "").strip())
    total = int(span[3]) if span and span[3] != "*" else part.note.get("length")
    same = all(note[key] in (None, part.note.get(key)) for key in ("etag", "modified"))
    right_span = span and int(span[1]) == start and total in (None, int(span[2]) + 1)
    if not (same and right_span and total == part.note.get("length")):
        part.clear()
        raise _BrokeOff("the rest does not fit the part that is here; starting over")
    logging.info("%s: continuing at byte %d of %s", note["url"], start, total)
    return total


def _check_length(total: int | None, wanted: _Wanted):
    if wanted.size is not None and total is not None and total != wanted.size:
        raise _Unfit(f"has {total} bytes, expected {wanted.size}")


def _drain(response, part: PartFile, wanted: _Wanted, total: int | None, progress):
    require_space(part.path.parent, (total or wanted.size or 0) - part.length, part.path)
    while chunk := response.read1(CHUNK):
        part.write(chunk)
        if wanted.size is not None and part.length > wanted.size:
            part.clear()
            raise _Unfit(f"has more than the expected {wanted.size} bytes")
        progress(part.length, total)
    if total is not None and part.length < total:
        raise _BrokeOff(f"broke off after {part.length} of {total} bytes")


def _log_progress(name: str, every_s: float = 20.0):
    last = time.monotonic()

    def log(done: int, total: int | None):
        nonlocal last
        if time.monotonic() - last >= every_s:
            last = time.monotonic()
            share = f" ({100 * done / total:.0f}%)" if total else ""
            logging.info("%s: %.1f MB%s", name, done / 1e6, share)

    return log
