"""A made-up Broden archive, from the table of sources to the unpacked folder."""

import csv
from pathlib import Path

import pytest
from http_server import FAST, names, refused_address, sha256
from zip_files import BODY, damaged_zip, zip_bytes

from nemesis.errors import InputError
from nemesis.fetch import download_broden
from nemesis.sources import COLUMNS


def tiny_broden(top: str = "broden1_224/") -> bytes:
    index = "image,split,ih,iw,sh,sw,color,object\na.jpg,train,2,2,1,1,a_color.png,\n"
    return zip_bytes({f"{top}index.csv": index, f"{top}label.csv": "number,name\n", f"{top}images/a.jpg": BODY})


def table_of(tmp_path, **row) -> Path:
    path = tmp_path / "table.csv"
    row = {"name": "broden", "version": "tiny", "file": "tiny.zip", **row}
    with open(path, "w", newline="") as stream:
        writer = csv.DictWriter(stream, COLUMNS)
        writer.writeheader()
        writer.writerow(row)
    return path


@pytest.mark.parametrize("top", ["broden1_224/", ""])
def test_download_broden(server, tmp_path, top):
    body = tiny_broden(top)
    url = server.serve("/tiny.zip", body, stops=[len(body) // 2])
    table = table_of(tmp_path, primary=refused_address(), mirrors=f"{server.address}/none; {url}", size=len(body))
    out = tmp_path / "results/downloads"
    (out / "tiny").mkdir(parents=True)  # as Snakemake does before the job
    download_broden("tiny", out / "tiny.zip", out / "tiny", table=table, **FAST)
    assert names(out / "tiny") == {"index.csv", "label.csv", "images"}
    assert names(out) == {"tiny", "tiny.zip", "tiny.zip.sha256"}
    (out / "tiny/index.csv").unlink()  # as Snakemake does before it runs a job again
    before = len(server.asked)
    download_broden("tiny", out / "tiny.zip", out / "tiny", table=table, **FAST)
    assert (out / "tiny/index.csv").exists() and len(server.asked) == before


def test_download_broden_takes_the_next_address_for_a_damaged_archive(server, tmp_path):
    bad = server.serve("/bad.zip", damaged_zip("flipped bit"))
    table = table_of(tmp_path, primary=bad, mirrors=server.serve("/tiny.zip", tiny_broden()))
    download_broden("tiny", tmp_path / "tiny.zip", tmp_path / "tiny", table=table, **FAST)
    assert (tmp_path / "tiny/index.csv").exists()


def test_download_broden_says_what_to_do(server, tmp_path):
    table = table_of(tmp_path, primary=server.address + "/none", sha256=sha256(BODY))
    with pytest.raises(InputError, match=r"tiny.zip by hand .* in the config: downloads: {tiny: PATH}"):
        download_broden("tiny", tmp_path / "tiny.zip", tmp_path / "tiny", table=table, **FAST)
    assert names(tmp_path) == {"table.csv"}


def test_download_broden_uses_the_users_copy_where_it_is(tmp_path):
    own = tmp_path / "own.zip"
    own.write_bytes(tiny_broden())
    table = table_of(tmp_path, primary="http://127.0.0.1:1/", sha256=sha256(own.read_bytes()))
    download_broden("tiny", tmp_path / "tiny.zip", tmp_path / "tiny", table=table, user_copy=own)
    assert names(tmp_path) == {"table.csv", "own.zip", "tiny"}
    own.write_bytes(tiny_broden("other/"))
    with pytest.raises(InputError, match=r"own\.zip: has sha256"):
        download_broden("tiny", tmp_path / "tiny.zip", tmp_path / "other", table=table, user_copy=own)


def test_an_archive_without_an_index_is_refused(tmp_path):
    own = tmp_path / "own.zip"
    own.write_bytes(zip_bytes({"a/b.csv": b"1"}))
    with pytest.raises(InputError, match=r"own.zip: does not contain index.csv"):
        download_broden("broden1_224", "x.zip", tmp_path / "out", user_copy=own)
    assert names(tmp_path) == {"own.zip"}


def test_unknown_version(tmp_path):
    with pytest.raises(InputError, match=r"broden9: no such version .* broden1_224"):
        download_broden("broden9", tmp_path / "a.zip", tmp_path / "a")
