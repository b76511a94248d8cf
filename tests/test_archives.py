"""Archives that want to do harm, and archives that are damaged."""

import io
import stat
import zipfile
from pathlib import Path

import pytest
from zip_files import BODY, damaged_zip, zip_bytes

from nemesis.archives import check_zip, unpack_zip
from nemesis.errors import InputError


def names(folder: Path) -> set:
    return {path.name for path in folder.iterdir()}


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


def special(name: str, kind: int) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name)
    info.external_attr = (kind | 0o777) << 16
    return info


@pytest.fixture
def archive(tmp_path):
    def write(members, **options) -> Path:
        path = tmp_path / "archive.zip"
        path.write_bytes(members if isinstance(members, bytes) else zip_bytes(members, **options))
        return path

    return write


def test_unpack(archive, tmp_path):
    members = {"top/": b"", "top/index.csv": b"1", "top/images/a.jpg": BODY, "top/empty": b"", "top/b/": b""}
    path = archive(members)
    check_zip(path)
    unpack_zip(path, tmp_path / "whole")
    assert (tmp_path / "whole/top/images/a.jpg").read_bytes() == BODY
    unpack_zip(path, tmp_path / "bare", strip_top=True, required=("index.csv", "images/a.jpg"))
    assert names(tmp_path / "bare") == {"index.csv", "images", "empty"}


def test_unpack_replaces_an_older_folder_whole(archive, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "left").write_text("")
    unpack_zip(archive({"index.csv": b"1"}), folder)
    assert names(folder) == {"index.csv"}


def test_the_top_folder_stays_when_there_is_more(archive, tmp_path):
    path = archive({"top/a": b"1", "b": b"2"})
    unpack_zip(path, tmp_path / "folder", strip_top=True)
    assert names(tmp_path / "folder") == {"top", "b"}


def test_a_macs_extra_files_are_left_out(archive, tmp_path):
    path = archive({"top/a": b"1", "__MACOSX/top/._a": b"2"})
    unpack_zip(path, tmp_path / "folder", strip_top=True)
    assert names(tmp_path / "folder") == {"a"}


def test_backslashes_are_folders(archive, tmp_path):
    unpack_zip(archive({"top\\images\\a": b"1"}), tmp_path / "folder")
    assert (tmp_path / "folder/top/images/a").read_bytes() == b"1"


HARMFUL = {
    "leads outside": {"../evil": b"1"},
    "leads outside, deep": {"a/../../evil": b"1"},
    "leads outside, backslash": {"..\\evil": b"1"},
    "is an absolute path": {"/absolute/evil": b"1"},
    "is an absolute path, drive": {"C:\\evil": b"1"},
    "is an absolute path, share": {"\\\\host\\evil": b"1"},
    "is a link": {special("evil", stat.S_IFLNK): b"/etc/passwd"},
    "is a link, device": {special("evil", stat.S_IFCHR): b""},
    "has the same name as 'evil'": {"evil": b"1", "Evil": b"2"},
    "is both a file and a folder": {"evil": b"1", "evil/a": b"2"},
    "is not a usable name": {"a\nevil": b"1"},
    "is too long": {"evil" * 70: b"1"},
}


@pytest.mark.parametrize("fault", HARMFUL)
def test_harmful_members_are_refused(archive, tmp_path, fault):
    path = archive({"fine": b"1", **HARMFUL[fault]})
    with pytest.raises(InputError) as error:
        unpack_zip(path, tmp_path / "folder")
    line = one_line(error)
    assert line.startswith(f"{path}: member ") and "vil" in line and fault.split(",")[0] in line
    assert names(tmp_path) == {"archive.zip"}
    with pytest.raises(InputError):
        check_zip(path)


def test_one_name_twice_is_refused(archive, tmp_path):
    with pytest.warns(UserWarning, match="Duplicate"):
        stream = io.BytesIO()
        with zipfile.ZipFile(stream, "w") as opened:
            opened.writestr("evil", b"1")
            opened.writestr("evil", b"2")
    with pytest.raises(InputError, match="has the same name"):
        unpack_zip(archive(stream.getvalue()), tmp_path / "folder")


def test_a_bomb_is_refused(archive, tmp_path):
    path = archive({"zeros": bytes(20_000_000)})
    with pytest.raises(InputError, match="times its size"):
        unpack_zip(path, tmp_path / "folder")
    with pytest.raises(InputError, match=r"the limit is 0\.01 GB"):
        unpack_zip(path, tmp_path / "folder", max_bytes=10_000_000, max_ratio=1e9)
    assert names(tmp_path) == {"archive.zip"}
    unpack_zip(path, tmp_path / "folder", max_ratio=2000)


@pytest.mark.parametrize("kind", ["flipped bit", "truncated", "encrypted", "page", "empty", "no files"])
def test_damaged_archives_are_named(archive, tmp_path, kind):
    path = archive(damaged_zip(kind))
    for read in (check_zip, lambda path: unpack_zip(path, tmp_path / "folder")):
        with pytest.raises(InputError) as error:
            read(path)
        assert one_line(error).startswith(f"{path}: ")
    assert names(tmp_path) == {"archive.zip"}


def test_an_archive_that_is_not_there(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        unpack_zip(tmp_path / "none.zip", tmp_path / "folder")
