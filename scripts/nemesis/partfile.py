"""A download that is under way: a file that can be continued later, locked while it is written."""

import contextlib
import errno
import fcntl
import hashlib
import json
import logging
import os
from pathlib import Path

from nemesis.errors import InputError
from nemesis.files import atomic_file


class PartFile:
    """`<target>.part`, locked against other processes, and the note of what it holds.

    `length` is its size in bytes; `resumed` says whether the last transfer continued an older part.
    """

    def __init__(self, target: Path):
        self.path = target.with_name(target.name + ".part")
        self.note_path = target.with_name(target.name + ".part.json")
        self.note: dict = {}
        self.length = 0
        self.resumed = False
        self._digest = None

    def __enter__(self) -> "PartFile":
        with self._disk_errors():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._stream = self._open_locked()
            self.length = self._stream.seek(0, os.SEEK_END)
        with contextlib.suppress(OSError, ValueError):
            note = json.loads(self.note_path.read_text())
            self.note = note if isinstance(note, dict) else {}
        return self

    def __exit__(self, *_):
        with contextlib.suppress(OSError):
            self._stream.flush()
        if self._is_ours(self._stream) and self.length == 0:
            self.path.unlink(missing_ok=True)
            self.note_path.unlink(missing_ok=True)
        self._stream.close()

    @property
    def validator(self) -> str | None:
        """What If-Range may carry: a strong ETag, else the date of the last change."""
        etag = self.note.get("etag")
        return etag if etag and not etag.startswith("W/") else self.note.get("modified")

    def resume(self, url: str, trusted: bool) -> int:
        """Bytes of `url` that are here and may be kept; 0 if none.

        Without a validator only a `trusted` part is kept: one whose sha256 will be compared.
        """
        if self.note.get("url") != url or not (trusted or self.validator):
            return 0
        if self._digest is None:
            self._stream.seek(0)
            self._digest = hashlib.file_digest(self._stream, "sha256")
            self._stream.seek(0, os.SEEK_END)
        self.resumed = self.length > 0
        return self.length

    def begin(self, note: dict):
        """Empty the part and note what will be in it."""
        self.clear()
        self.resumed = False
        with self._disk_errors(), atomic_file(self.note_path) as partial:
            partial.write_text(json.dumps(note))
        self.note = note

    def clear(self):
        """Drop what is here."""
        with self._disk_errors():
            self.note_path.unlink(missing_ok=True)
            self._stream.seek(0)
            self._stream.truncate()
        self.note, self.length, self._digest = {}, 0, hashlib.sha256()

    def write(self, chunk: bytes):
        """Append bytes to the part and to its sha256."""
        with self._disk_errors():
            self._stream.write(chunk)
        self._digest.update(chunk)
        self.length += len(chunk)

    def flush(self):
        """Hand everything to the operating system, so that the path can be read."""
        with self._disk_errors():
            self._stream.flush()

    def hexdigest(self) -> str:
        """Hex sha256 of the bytes here."""
        return self._digest.hexdigest()

    def move_to(self, target: Path):
        """Rename the part to `target`, which it replaces."""
        with self._disk_errors():
            self._stream.flush()
            os.replace(self.path, target)
            self.note_path.unlink(missing_ok=True)

    def _open_locked(self):
        while True:
            stream = open(self.path, "a+b")  # noqa: SIM115
            try:
                fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                stream.close()
                raise InputError(f"{self.path}: another process is downloading it; wait or end that one") from error
            except OSError:
                logging.info("%s: this file system has no locks", self.path)
            if self._is_ours(stream):
                return stream
            stream.close()

    def _is_ours(self, stream) -> bool:
        """Whether the path still leads to `stream`: another process may have finished and renamed it."""
        try:
            return os.path.samestat(os.fstat(stream.fileno()), os.stat(self.path))
        except FileNotFoundError:
            return False

    @contextlib.contextmanager
    def _disk_errors(self):
        try:
            yield
        except OSError as error:
            what = "the disk is full" if error.errno == errno.ENOSPC else f"cannot be written ({error.strerror})"
            raise InputError(f"{self.path}: {what}; free some space or check permissions") from error
