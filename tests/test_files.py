"""A file or folder is either absent or complete."""

import csv
import errno
import os
import signal
import subprocess
import sys

import pandas as pd
import pytest

from nemesis import files
from nemesis.errors import InputError
from nemesis.files import atomic_directory, atomic_file, sha256_file, sha256_json, write_csv


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def write_file(target, text):
    with atomic_file(target) as partial:
        partial.write_text(text)


def write_folder(target, text):
    with atomic_directory(target) as partial:
        (partial / "deep").mkdir()
        (partial / "deep" / "a").write_text(text)


def read_any(target):
    return (target / "deep" / "a" if target.is_dir() else target).read_text()


both = pytest.mark.parametrize("write", [write_file, write_folder])


@both
def test_written_and_replaced(tmp_path, write):
    target = tmp_path / "new" / "target"
    for text in ("one", "two"):
        write(target, text)
        assert read_any(target) == text
        assert names(target.parent) == ["target"]


def test_a_replaced_folder_keeps_no_old_file(tmp_path):
    with atomic_directory(tmp_path / "t") as partial:
        (partial / "old").write_text("x")
    write_folder(tmp_path / "t", "new")
    assert names(tmp_path / "t") == ["deep"]


@pytest.mark.parametrize(("write", "opened"), [(write_file, atomic_file), (write_folder, atomic_directory)])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_one(tmp_path, write, opened, error):
    def fail(target):
        with opened(target) as partial:
            (partial / "half" if partial.is_dir() else partial).write_text("half")
            raise error

    with pytest.raises(error):
        fail(tmp_path / "target")
    assert names(tmp_path) == []
    write(tmp_path / "target", "old")
    with pytest.raises(error):
        fail(tmp_path / "target")
    assert names(tmp_path) == ["target"]
    assert read_any(tmp_path / "target") == "old"


def test_nothing_is_there_before_the_end(tmp_path):
    with atomic_file(tmp_path / "target") as partial:
        partial.write_text("x")
        assert not (tmp_path / "target").exists()
        assert partial.parent == tmp_path  # the same file system, or the rename would copy


@both
@pytest.mark.parametrize(
    ("number", "message"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EDQUOT, "the disk is full"),
        (errno.EACCES, "cannot be written"),
        (errno.EROFS, "cannot be written"),
    ],
)
def test_disk_errors_are_one_line(tmp_path, monkeypatch, write, number, message):
    write(tmp_path / "target", "old")

    def fail(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, "replace", fail)
    monkeypatch.setattr(files.os, "rename", fail)
    with pytest.raises(InputError, match=f"target: {message}"):
        write(tmp_path / "target", "new")
    monkeypatch.undo()
    assert names(tmp_path) == ["target"]
    assert read_any(tmp_path / "target") == "old"


def test_disk_full_while_writing(tmp_path):
    with pytest.raises(InputError, match=r"table\.csv: the disk is full; free some space"):  # noqa: SIM117
        with atomic_file(tmp_path / "table.csv") as partial:
            partial.write_text("half")
            raise OSError(errno.ENOSPC, "No space left on device")
    assert names(tmp_path) == []


def test_other_disk_errors_pass_unchanged(tmp_path):
    with pytest.raises(FileNotFoundError), atomic_file(tmp_path / "table.csv"):
        open(tmp_path / "absent" / "file")  # noqa: SIM115


def test_read_only_folder_is_one_line(tmp_path):
    folder = tmp_path / "closed"
    folder.mkdir()
    folder.chmod(0o500)
    if os.access(folder, os.W_OK):
        pytest.skip("this user may write in a folder without the write permission")
    for write in (write_file, write_folder):
        with pytest.raises(InputError, match="cannot be written"):
            write(folder / "target", "x")


def test_a_killed_writer_leaves_the_old_file_and_its_rest_is_cleaned(tmp_path):
    target = tmp_path / "target"
    write_file(target, "old")
    code = f"""
import os, signal
from nemesis.files import atomic_file, atomic_directory
with atomic_file({str(target)!r}) as partial:
    partial.write_text("half")
    with atomic_directory({str(tmp_path / "folder")!r}) as other:
        (other / "half").write_text("half")
        os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": ":".join(sys.path)}, check=False
    )
    assert done.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    assert len(names(tmp_path)) == 3
    write_file(target, "new")
    write_folder(tmp_path / "folder", "new")
    assert names(tmp_path) == ["folder", "target"]


def test_rests_of_a_running_process_stay(tmp_path):
    other = tmp_path / f".target.partial-{os.getppid()}"
    other.write_text("being written")
    write_file(tmp_path / "target", "x")
    assert other.read_text() == "being written"


def test_a_rest_with_our_own_process_number_is_in_nobodys_way(tmp_path):
    (tmp_path / f".target.partial-{os.getpid()}").mkdir()  # containers give the same numbers again
    write_folder(tmp_path / "target", "x")
    assert names(tmp_path) == ["target"]


def test_csv_keeps_every_digit(tmp_path):
    table = pd.DataFrame({"unit": [0, 1], "iou": [1 / 3, 1e-17], "label": ["a,b", "ü"]})
    write_csv(table, tmp_path / "t.csv")
    assert (tmp_path / "t.csv").read_bytes().decode("utf-8").splitlines()[0] == "unit,iou,label"
    with open(tmp_path / "t.csv", newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert [float(row["iou"]) for row in rows] == [1 / 3, 1e-17]
    assert [row["label"] for row in rows] == ["a,b", "ü"]


def test_hashes(tmp_path):
    (tmp_path / "abc").write_bytes(b"abc")
    assert sha256_file(tmp_path / "abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_json({"a": 1, "b": [2]}) == sha256_json({"b": [2], "a": 1})
    assert sha256_json({"a": 1}) != sha256_json({"a": 2})
