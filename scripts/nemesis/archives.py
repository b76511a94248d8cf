"""Unpack zip archives that somebody else made, without trusting them."""

import contextlib
import lzma
import re
import shutil
import stat
import zipfile
import zlib
from pathlib import Path, PurePosixPath

from nemesis.errors import InputError
from nemesis.files import atomic_directory

MAX_BYTES = 50_000_000_000
MAX_RATIO = 200
SMALL_BYTES = 10_000_000  # what unpacks to less is no bomb, however well it compresses
MAX_NAME_BYTES = 255


def unpack_zip(
    archive,
    target,
    *,
    strip_top: bool = False,
    required: tuple[str, ...] = (),
    max_bytes: int = MAX_BYTES,
    max_ratio: float = MAX_RATIO,
) -> Path:
    """Unpack `archive` into the folder `target`, which is then complete or unchanged; return `target`.

    strip_top: leave out the folder that holds everything, if there is a single one.
    required: file names, relative to `target`, that must be among the members.
    max_bytes: most bytes that all members together may unpack to.
    max_ratio: most times the archive's own size that they may unpack to (above 10 MB).

    Members get new times and the user's own permissions. Raises InputError that names the archive,
    and the member if it is one: a path that leads outside, a link, two names that differ only in
    case, damaged or encrypted data, too much data, a required file that is missing.
    """
    target = Path(target)
    with _open_zip(archive) as opened:
        members = _plan(opened, strip_top, max_bytes, max_ratio)
        missing = sorted(set(required) - {str(path) for path in members})
        if missing:
            raise InputError(f"{archive}: does not contain {', '.join(missing)}; it is another archive")
        total = sum(member.file_size for member in members.values())
        with atomic_directory(target) as partial:
            require_space(partial, total, target)
            for path, member in members.items():
                _extract(opened, member, partial / path)
    return target


def check_zip(archive, max_bytes: int = MAX_BYTES, max_ratio: float = MAX_RATIO):
    """Read all of `archive` without writing anything; raise InputError where unpack_zip would."""
    with _open_zip(archive) as opened:
        for member in _plan(opened, False, max_bytes, max_ratio).values():
            with _member_errors(opened, member), opened.open(member) as source:
                while source.read(1 << 20):
                    pass


def require_space(folder, needed: int, what):
    """Raise InputError if the disk of `folder` has less than `needed` bytes free for `what`."""
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(f"{what}: needs {needed / 1e9:.2f} GB, the disk has {free / 1e9:.2f} GB free; free some space")


@contextlib.contextmanager
def _open_zip(archive):
    try:
        opened = zipfile.ZipFile(archive)
    except FileNotFoundError as error:
        raise InputError(f"{archive}: no such file; check the path") from error
    except (zipfile.BadZipFile, NotImplementedError, ValueError, OSError) as error:
        raise InputError(f"{archive}: is not a whole zip archive ({error}); download it again") from error
    with opened:
        yield opened


def _plan(opened: zipfile.ZipFile, strip_top: bool, max_bytes: int, max_ratio: float) -> dict:
    """Map the path of each file to unpack to its member, once every name and size is found harmless."""
    members = {}
    for member in opened.infolist():
        path = _safe_path(opened, member)
        if path.parts[:1] == ("__MACOSX",) or member.is_dir():
            continue
        members.setdefault(path, []).append(member)
    _refuse_clashes(opened, members)
    members = {path: same[0] for path, same in members.items()}
    if not members:
        raise InputError(f"{opened.filename}: holds no files; it is another archive")
    _refuse_bomb(opened, members.values(), max_bytes, max_ratio)
    tops = {path.parts[0] for path in members}
    if strip_top and len(tops) == 1 and all(len(path.parts) > 1 for path in members):
        members = {PurePosixPath(*path.parts[1:]): member for path, member in members.items()}
    return members


def _safe_path(opened: zipfile.ZipFile, member: zipfile.ZipInfo) -> PurePosixPath:
    name = member.orig_filename.replace("\\", "/")
    path = PurePosixPath(name)
    kind = stat.S_IFMT(member.external_attr >> 16)
    if path.is_absolute() or re.match(r"[A-Za-z]:", name):
        fault = "is an absolute path"
    elif ".." in path.parts:
        fault = "leads outside the folder"
    elif not path.parts or any(ord(character) < 32 for character in name):
        fault = "is not a usable name"
    elif any(len(part.encode("utf-8", "replace")) > MAX_NAME_BYTES for part in path.parts):
        fault = "is too long"
    elif kind not in (0, stat.S_IFREG, stat.S_IFDIR):
        fault = "is a link or a device"
    elif member.flag_bits & 0x1:
        fault = "is encrypted"
    else:
        return path
    raise _refusal(opened, member, fault)


def _refuse_clashes(opened: zipfile.ZipFile, members: dict):
    folded = {}
    for path, same in members.items():
        other = folded.setdefault(str(path).casefold(), path)
        if len(same) > 1 or other != path:
            raise _refusal(opened, same[-1], f"has the same name as {str(other)!r}")
    folders = {parent for path in members for parent in path.parents}
    for path in folders & set(members):
        raise _refusal(opened, members[path][0], "is both a file and a folder")


def _refuse_bomb(opened: zipfile.ZipFile, members, max_bytes: int, max_ratio: float):
    total = sum(member.file_size for member in members)
    size = Path(opened.filename).stat().st_size
    if total > max_bytes:
        raise InputError(
            f"{opened.filename}: would unpack to {total / 1e9:.2f} GB, the limit is {max_bytes / 1e9:.2f} GB;"
            " check where it comes from"
        )
    if total > max(max_ratio * size, SMALL_BYTES):
        raise InputError(
            f"{opened.filename}: would unpack to {total / size:.0f} times its size, the limit is"
            f" {max_ratio:g}; check where it comes from"
        )


def _extract(opened: zipfile.ZipFile, member: zipfile.ZipInfo, path: Path):
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "xb") as stream, _member_errors(opened, member), opened.open(member) as source:
        shutil.copyfileobj(source, stream, 1 << 20)


@contextlib.contextmanager
def _member_errors(opened: zipfile.ZipFile, member: zipfile.ZipInfo):
    try:
        yield
    except (
        zipfile.BadZipFile,
        zlib.error,
        lzma.LZMAError,
        EOFError,
        NotImplementedError,
        RuntimeError,
    ) as error:
        raise InputError(
            f"{opened.filename}: member {member.filename!r} cannot be read ({error}); download it again"
        ) from error


def _refusal(opened: zipfile.ZipFile, member: zipfile.ZipInfo, fault: str) -> InputError:
    name = f"member {member.orig_filename!r}"
    return InputError(f"{opened.filename}: {name} {fault}; nothing was unpacked, check where the archive comes from")
