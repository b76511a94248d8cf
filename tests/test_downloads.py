"""Downloads against a misbehaving server on this machine."""

import copy
import logging
import random
import tracemalloc
import zipfile
from pathlib import Path

import pytest
from http_server import FAST, names, refused_address, sha256
from zip_files import BODY, zip_bytes

from nemesis import downloads
from nemesis.archives import check_zip
from nemesis.downloads import Expected, Patience, fetch, verify_file
from nemesis.errors import InputError
from nemesis.partfile import PartFile

OTHER = random.Random(1).randbytes(300_000)


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "downloads" / "file.bin"


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


# ---------------------------------------------------------------- whole files


def test_fetch_writes_the_file_and_nothing_else(server, target):
    url = server.serve("/file.bin", BODY)
    seen = []
    path = fetch(url, target, Expected(len(BODY), sha256(BODY).upper()), progress=lambda *now: seen.append(now), **FAST)
    assert path == target and target.read_bytes() == BODY
    assert names(target.parent) == {"file.bin"}
    assert seen[-1] == (len(BODY), len(BODY)) and seen == sorted(seen)


def test_fetch_leaves_a_right_file_alone(server, target):
    url = server.serve("/file.bin", BODY)
    fetch(url, target, Expected(sha256=sha256(BODY)), **FAST)
    fetch(url, target, Expected(sha256=sha256(BODY)), **FAST)
    assert len(server.asked) == 1


def test_fetch_replaces_a_wrong_file(server, target):
    target.parent.mkdir()
    target.write_bytes(OTHER)
    fetch(server.serve("/file.bin", BODY), target, Expected(sha256=sha256(BODY)), **FAST)
    assert target.read_bytes() == BODY


@pytest.mark.parametrize("form", ["path", "text", "address"])
def test_fetch_copies_the_users_own_file(tmp_path, target, form):
    own = tmp_path / "my own.bin"
    own.write_bytes(BODY)
    source = {"path": own, "text": str(own), "address": own.as_uri()}[form]
    assert fetch(source, target, Expected(len(BODY), sha256(BODY)), **FAST).read_bytes() == BODY
    assert own.read_bytes() == BODY


def test_fetch_without_a_length(server, target):
    url = server.serve("/file.bin", BODY, tell_length=False)
    assert fetch(url, target, Expected(len(BODY)), **FAST).read_bytes() == BODY


def test_memory_stays_flat(tmp_path, target):
    own = tmp_path / "large.bin"
    own.write_bytes(bytes(40_000_000))
    tracemalloc.start()
    fetch(own, target, **FAST)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


def test_progress_is_logged_by_default(caplog):
    caplog.set_level(logging.INFO)
    log = downloads._log_progress("file.bin", every_s=0)
    log(5_000_000, 10_000_000)
    log(6_000_000, None)
    assert [record.getMessage() for record in caplog.records] == [
        "file.bin: 5.0 MB (50%)",
        "file.bin: 6.0 MB",
    ]


# ---------------------------------------------------------------- wrong files and dead addresses


SERVED_BADLY = {
    "checksum": {"body": OTHER},
    "longer": {"body": BODY + b"x"},
    "longer, no length told": {"body": BODY + b"x", "tell_length": False},
    "shorter, no length told": {"body": BODY[:-1], "tell_length": False},
    "compressed": {"body": BODY, "headers": {"Content-Encoding": "gzip"}},
    "forbidden": {"body": BODY, "statuses": [403]},
    "busy": {"body": BODY, "statuses": [503] * 3},
}


def bad_address(server, kind: str) -> str:
    if kind in SERVED_BADLY:
        return server.serve("/bad", **copy.deepcopy(SERVED_BADLY[kind]))
    return {
        "missing": server.address + "/nowhere",
        "refused": refused_address(),
        "no such file": "/no/such/file",
        "folder": "/",
        "other scheme": "ftp://127.0.0.1/file.bin",
        "not an address": "http://[",
    }[kind]


BAD = {
    "checksum": f"has sha256 {sha256(OTHER)}, expected {sha256(BODY)}",
    "longer": "has 300001 bytes, expected 300000",
    "longer, no length told": "has more than the expected 300000 bytes",
    "shorter, no length told": "has 299999 bytes, expected 300000",
    "compressed": "the server sends it compressed",
    "forbidden": "HTTP 403 Forbidden",
    "busy": "HTTP 503 Service Unavailable",
    "missing": "HTTP 404 Not Found",
    "refused": "refused",
    "no such file": "No such file",
    "folder": "Is a directory",
    "other scheme": "cannot download from ftp: addresses",
    "not an address": "not a usable address",
}


@pytest.mark.parametrize("kind", BAD)
def test_the_mirror_serves_when_the_primary_does_not(server, target, kind):
    sources = [bad_address(server, kind), server.serve("/good", BODY)]
    assert fetch(sources, target, Expected(len(BODY), sha256(BODY)), **FAST).read_bytes() == BODY
    assert names(target.parent) == {"file.bin"}


@pytest.mark.parametrize("kind", BAD)
def test_when_all_fails_the_line_says_why_and_nothing_is_left(server, target, kind):
    sources = [bad_address(server, kind), server.address + "/gone"]
    with pytest.raises(InputError) as error:
        fetch(sources, target, Expected(len(BODY), sha256(BODY)), advice="ask a friend", **FAST)
    line = one_line(error)
    assert line.startswith("file.bin: ") and line.endswith("; ask a friend")
    assert f"{sources[0]}: " in line and BAD[kind] in line
    assert f"{sources[1]}: HTTP 404 Not Found" in line
    assert names(target.parent) == set()


def test_passing_troubles_are_waited_for(server, target, monkeypatch):
    waits = []
    monkeypatch.setattr(downloads.time, "sleep", waits.append)
    url = server.serve("/file.bin", BODY, statuses=[503, 429, 500], headers={"Retry-After": "7"})
    fetch(url, target, patience=Patience(4, 2, 5))
    assert waits == [7, 7, 8]


def test_a_silent_server_is_left_after_the_timeout(target, monkeypatch):
    import socket

    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(InputError, match="timed out"):
        fetch(f"http://127.0.0.1:{silent.getsockname()[1]}/x", target, patience=Patience(2, 0, 0.1))


def test_no_address_at_all(target):
    with pytest.raises(InputError, match=r"none is known.*put it at"):
        fetch([], target, **FAST)


def test_a_full_disk_is_said_before_the_transfer(server, target, monkeypatch):
    url = server.serve("/file.bin", BODY)
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10})())
    with pytest.raises(InputError, match="free some space"):
        fetch(url, target, **FAST)
    assert not target.exists()


def test_a_disk_that_fills_up_is_no_network_trouble(server, target, monkeypatch):
    opened = PartFile._open_locked
    monkeypatch.setattr(PartFile, "_open_locked", lambda part: FullDisk(opened(part)))
    with pytest.raises(InputError, match="the disk is full"):
        fetch(server.serve("/file.bin", BODY), target, **FAST)
    assert len(server.asked) == 1 and not target.exists()


class FullDisk:
    def __init__(self, stream):
        self._stream = stream

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, _):
        raise OSError(28, "No space left on device")


# ---------------------------------------------------------------- recorded checksums


def test_the_first_download_is_recorded_and_later_ones_are_compared(server, target, caplog):
    url = server.serve("/file.bin", BODY)
    fetch(url, target, **FAST)
    record = target.with_name("file.bin.sha256")
    assert record.read_text() == f"{sha256(BODY)}  file.bin\n"
    assert sha256(BODY) in caplog.text
    target.unlink()
    server.serve("/file.bin", OTHER)
    with pytest.raises(InputError, match=f"recorded in {record}; remove that") as error:
        fetch(url, target, **FAST)
    assert sha256(OTHER) in one_line(error)
    assert names(target.parent) == {"file.bin.sha256"}
    record.unlink()
    assert fetch(url, target, **FAST).read_bytes() == OTHER


def test_a_file_that_changed_on_disk_is_downloaded_again(server, target):
    url = server.serve("/file.bin", BODY)
    fetch(url, target, **FAST)
    target.write_bytes(BODY[:-1])
    assert fetch(url, target, **FAST).read_bytes() == BODY


def test_a_file_put_there_by_hand_is_used_and_recorded(target):
    target.parent.mkdir()
    target.write_bytes(BODY)
    fetch(refused_address(), target, **FAST)
    assert target.with_name("file.bin.sha256").read_text().startswith(sha256(BODY))


def test_a_published_checksum_goes_before_the_record(server, target):
    target.parent.mkdir()
    target.with_name("file.bin.sha256").write_text(sha256(OTHER))
    url = server.serve("/file.bin", BODY)
    assert fetch(url, target, Expected(sha256=sha256(BODY)), **FAST).read_bytes() == BODY


def test_the_first_digits_of_a_checksum_are_checked_and_the_whole_is_recorded(server, target):
    digest = sha256(BODY)
    bad, good = server.serve("/bad.bin", OTHER), server.serve("/file.bin", BODY)
    assert fetch([bad, good], target, Expected(sha256=digest[:8].upper()), **FAST).read_bytes() == BODY
    record = target.with_name("file.bin.sha256")
    assert record.read_text().startswith(digest)
    target.unlink()
    with pytest.raises(InputError, match=rf"expected {sha256(OTHER)[:8]}\.\.\. \(published"):
        record.unlink()
        fetch(good, target, Expected(sha256=sha256(OTHER)[:8]), **FAST)
    assert names(target.parent) == set()


def test_a_damaged_record_is_said(target):
    target.parent.mkdir()
    target.with_name("file.bin.sha256").write_text("???")
    with pytest.raises(InputError, match="expected a sha256 in hex"):
        fetch(refused_address(), target, **FAST)


def test_a_file_that_the_check_refuses_is_not_recorded(server, target):
    page = server.serve("/page", b"<html>not here</html>")
    good = server.serve("/good", zip_bytes({"index.csv": b"1"}))
    fetch([page, good], target, Expected(check=check_zip), **FAST)
    assert target.with_name("file.bin.sha256").read_text().startswith(sha256(target.read_bytes()))
    assert zipfile.is_zipfile(target)


def test_verify_file(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(BODY)
    assert verify_file(path, len(BODY), sha256(BODY).upper()) == path
    assert verify_file(path, None, sha256(BODY)[:8]) == path
    with pytest.raises(InputError, match=r"expected 0{8}\.\.\. \(published"):
        verify_file(path, None, "0" * 8)
    with pytest.raises(InputError, match="expected 3"):
        verify_file(path, 3)
    with pytest.raises(InputError, match="no such file"):
        verify_file(tmp_path / "b")
