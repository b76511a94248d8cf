"""Atomic files and folders: a name is either absent or complete, even after kill -9."""

import contextlib
import csv
import errno
import hashlib
import os
import shutil
from pathlib import Path

from nemesis.errors import InputError


@contextlib.contextmanager
def atomic_file(target):
    """Yield a temporary path beside `target`; rename it to `target` when the block ends well.

    Raises InputError when the disk is full or the folder cannot be written.
    """
    target = Path(target)
    partial = _partial_sibling(target)
    try:
        with _clear_disk_errors(target):
            yield partial
            os.replace(partial, target)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def atomic_directory(target):
    """Yield a new temporary folder beside `target`; it replaces `target` when the block ends well."""
    target = Path(target)
    partial = _partial_sibling(target)
    try:
        with _clear_disk_errors(target):
            partial.mkdir()
            yield partial
            _replace_directory(partial, target)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def check_writable(folder):
    """Raise InputError when a folder is there but nothing can be written into it."""
    if Path(folder).exists() and not os.access(folder, os.W_OK):
        raise InputError(f"{folder}: cannot be written to; change its permissions, or use another --directory")


def share_file(source, target) -> Path:
    """Give the file `source` the second name `target`, as a hard link where that is possible, else as a copy."""
    with atomic_file(target) as partial:
        try:
            os.link(source, partial)
        except OSError:
            shutil.copyfile(source, partial)
    return Path(target)


def write_csv(table, path):
    """Write a pandas table as UTF-8 CSV with a header and floats in full precision."""
    texts = table.select_dtypes(exclude=["number", "bool"])
    quoting = choose_quoting(value for name in texts for value in texts[name].unique())
    with atomic_file(path) as partial:
        table.to_csv(partial, index=False, lineterminator="\n", quoting=quoting)


def choose_quoting(texts) -> int:
    """How Python's csv is to quote a table with these texts: all of them where one has a carriage return.

    Readers take it for the end of a line, and before 3.11.9 Python does not quote it by itself.
    """
    return csv.QUOTE_NONNUMERIC if any("\r" in str(text) for text in texts) else csv.QUOTE_MINIMAL


def sha256_file(path) -> str:
    """Hex sha256 of a file's bytes."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def sha256_json(value) -> str:
    """Hex sha256 of a JSON-able value, independent of the order of its keys."""
    import json

    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def _partial_sibling(target: Path) -> Path:
    with _clear_disk_errors(target):
        target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.partial-"
    for left in target.parent.glob(prefix + "*"):
        if not _is_running(left.name.removeprefix(prefix)):
            shutil.rmtree(left, ignore_errors=True) if left.is_dir() else left.unlink(missing_ok=True)
    return target.with_name(prefix + str(os.getpid()))


def _is_running(pid: str) -> bool:
    return pid.isdigit() and int(pid) != os.getpid() and Path(f"/proc/{pid}").exists()


def _replace_directory(partial: Path, target: Path):
    old = target.with_name(f".{target.name}.partial-old-{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        os.rename(target, old)
    os.rename(partial, target)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _clear_disk_errors(target: Path):
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise InputError(f"{target}: the disk is full; free some space and run again") from error
        if error.errno == errno.EFBIG:
            raise InputError(f"{target}: larger than this system lets a file be; raise the limit") from error
        if error.errno in (errno.EACCES, errno.EROFS, errno.EPERM):
            raise InputError(f"{target}: cannot be written ({error.strerror}); check permissions") from error
        raise
