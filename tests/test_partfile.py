"""Downloads that break off are continued, and only where that is right."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from http_server import FAST, ONCE, names, sha256
from zip_files import BODY

from nemesis import downloads
from nemesis.downloads import Expected, fetch
from nemesis.errors import InputError
from nemesis.partfile import PartFile

OTHER = random.Random(1).randbytes(300_000)


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "downloads" / "file.bin"


def test_a_broken_transfer_continues_where_it_stopped(server, target):
    url = server.serve("/file.bin", BODY, stops=[150_000])
    fetch(url, target, Expected(len(BODY), sha256(BODY)), **FAST)
    first, second = server.asked
    assert target.read_bytes() == BODY
    assert "Range" not in first.headers and first.sent == 150_000
    assert second.headers["Range"] == "bytes=150000-" and second.headers["If-Range"] == '"v1"'
    assert second.status == 206 and second.sent == len(BODY) - 150_000


def test_a_later_run_continues(server, target):
    url = server.serve("/file.bin", BODY, stops=[100_000])
    with pytest.raises(InputError, match="broke off after 100000 of 300000 bytes"):
        fetch(url, target, **ONCE)
    assert names(target.parent) == {"file.bin.part", "file.bin.part.json"}
    note = json.loads((target.parent / "file.bin.part.json").read_text())
    assert note == {"url": url, "etag": '"v1"', "modified": None, "length": len(BODY)}
    fetch(url, target, **FAST)
    assert target.read_bytes() == BODY and server.asked[1].sent == 200_000
    assert names(target.parent) == {"file.bin", "file.bin.sha256"}


def test_a_run_that_was_killed_continues(server, target):
    url = server.serve("/file.bin", BODY)
    code = (
        "import os, sys; from nemesis.downloads import fetch\n"
        "fetch(sys.argv[1], sys.argv[2], progress=lambda done, total: done < 50_000 or os._exit(9))"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(downloads.__file__).parents[1])}
    small_chunks = "import nemesis.downloads; nemesis.downloads.CHUNK = 10_000\n"
    command = [sys.executable, "-c", small_chunks + code, url, str(target)]
    assert subprocess.run(command, env=environment, check=False).returncode == 9
    left = target.with_name("file.bin.part").stat().st_size
    assert not target.exists() and 0 < left < len(BODY)
    fetch(url, target, **FAST)
    assert target.read_bytes() == BODY and server.asked[1].sent == len(BODY) - left


def test_a_finished_part_needs_no_transfer(server, target):
    url = server.serve("/file.bin", BODY)
    with PartFile(target.parent / "file.bin") as part:
        part.begin({"url": url, "etag": '"v1"', "modified": None, "length": len(BODY)})
        part.write(BODY)
    fetch(url, target, **FAST)
    assert target.read_bytes() == BODY and not server.asked


def test_the_date_of_change_serves_without_a_strong_etag(server, target):
    date = "Wed, 21 Oct 2015 07:28:00 GMT"
    url = server.serve("/file.bin", BODY, etag='W/"v1"', modified=date, stops=[1000])
    fetch(url, target, **FAST)
    assert target.read_bytes() == BODY and server.asked[1].headers["If-Range"] == date


@pytest.mark.parametrize(("known", "status"), [(None, 200), (sha256(BODY), 206)])
def test_without_a_validator_only_a_checksum_allows_to_continue(server, target, known, status):
    url = server.serve("/file.bin", BODY, etag=None, stops=[1000])
    fetch(url, target, Expected(sha256=known), **FAST)
    assert target.read_bytes() == BODY and server.asked[1].status == status


def test_a_server_that_ignores_range_starts_over(server, target):
    url = server.serve("/file.bin", BODY, ranges=False, stops=[150_000])
    fetch(url, target, Expected(sha256=sha256(BODY)), **FAST)
    assert "Range" in server.asked[1].headers and server.asked[1].status == 200
    assert target.read_bytes() == BODY


def test_a_server_that_never_gets_further_is_given_up(server, target):
    url = server.serve("/file.bin", BODY, ranges=False, stops=[1000] * 9)
    with pytest.raises(InputError, match="broke off after 1000 of"):
        fetch(url, target, **FAST)
    assert len(server.asked) == 3


def test_many_breaks_do_not_matter_while_it_gets_further(server, target):
    url = server.serve("/file.bin", BODY, stops=[20_000] * 10)
    assert fetch(url, target, **FAST).read_bytes() == BODY
    assert len(server.asked) == 11


@pytest.mark.parametrize("obeys", [True, False])
def test_a_changed_file_starts_over(server, target, obeys):
    url = server.serve("/file.bin", BODY, stops=[150_000])
    with pytest.raises(InputError):
        fetch(url, target, **ONCE)
    server.serve("/file.bin", OTHER, etag='"v2"')
    if not obeys:  # answers 206 although If-Range names the old file
        server.files["/file.bin"].statuses = [206]
    assert fetch(url, target, **FAST).read_bytes() == OTHER


@pytest.mark.parametrize(
    "false",
    ["bytes 0-299999/300000", "bytes 150000-299999/400000", "bytes 150000-200000/300000", "nonsense", ""],
)
def test_a_false_content_range_starts_over(server, target, false):
    url = server.serve("/file.bin", BODY, stops=[150_000], content_range=false or " ")
    assert fetch(url, target, **FAST).read_bytes() == BODY
    assert [asked.status for asked in server.asked] == [200, 206, 200]


def test_a_part_of_another_address_is_not_continued(server, target):
    first = server.serve("/first", BODY, stops=[1000])
    with pytest.raises(InputError):
        fetch(first, target, **ONCE)
    assert fetch(server.serve("/second", OTHER), target, **FAST).read_bytes() == OTHER
    assert "Range" not in server.asked[1].headers


def test_a_mirror_that_fails_keeps_the_primarys_part(server, target):
    url = server.serve("/file.bin", BODY, stops=[100_000])
    with pytest.raises(InputError):
        fetch([url, server.address + "/nowhere"], target, **ONCE)
    fetch(url, target, **FAST)
    assert server.asked[-1].sent == 200_000 and target.read_bytes() == BODY


def test_a_damaged_part_starts_over_at_the_same_address(server, target):
    url = server.serve("/file.bin", BODY, stops=[150_000])
    with pytest.raises(InputError):
        fetch(url, target, Expected(sha256=sha256(BODY)), **ONCE)
    part = target.with_name("file.bin.part")
    part.write_bytes(bytes(150_000))
    assert fetch(url, target, Expected(sha256=sha256(BODY)), **FAST).read_bytes() == BODY


@pytest.mark.parametrize("note", ["", "[]", "{}", "null", '{"url": 3}'])
def test_a_damaged_note_starts_over(server, target, note):
    target.parent.mkdir()
    target.with_name("file.bin.part").write_bytes(OTHER[:1000])
    target.with_name("file.bin.part.json").write_text(note)
    assert fetch(server.serve("/file.bin", BODY), target, **FAST).read_bytes() == BODY


def test_a_part_longer_than_the_file_starts_over(server, target):
    url = server.serve("/file.bin", BODY)
    with PartFile(target.parent / "file.bin") as part:
        part.begin({"url": url, "etag": '"v1"', "modified": None, "length": len(BODY)})
        part.write(BODY + b"more")
    assert fetch(url, target, **FAST).read_bytes() == BODY
    assert [asked.status for asked in server.asked] == [416, 200]


def test_two_downloads_of_one_file_do_not_mix(server, target):
    url = server.serve("/file.bin", BODY)
    with PartFile(target), pytest.raises(InputError, match="another process is downloading it"):
        fetch(url, target, **FAST)
    assert fetch(url, target, **FAST).read_bytes() == BODY
