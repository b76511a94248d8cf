"""The table of sources: what stands in it, what a wrong one is told, and that an address is no part of the code."""

import hashlib
from pathlib import Path

import pytest
import yaml
from bert_score.utils import lang2model

from nemesis.errors import InputError
from nemesis.models.registry import KINDS
from nemesis.provenance import code_hash
from nemesis.sources import COLUMNS, TABLE, find_source, list_versions, read_sources

ROOT = Path(__file__).resolve().parents[1]
HEADER = ",".join(COLUMNS) + "\n"


def test_every_row_can_be_used():
    rows = read_sources()
    assert {name for name, _ in rows} - set(KINDS) == {"broden", "milan", lang2model["en"]}
    for (name, version), row in rows.items():
        assert (row.name, row.version) == (name, version) and row.notes
        assert all(address.startswith(("http://", "https://")) for address in row.addresses)
        if name != lang2model["en"]:  # a repository, not a file
            assert row.addresses[0].endswith(f"/{row.file}")
    assert len({row.file for row in rows.values()}) == len(rows)


def test_rows_are_found_by_name():
    assert {"broden1_224", "broden1_227", "broden1_384"} == set(list_versions("broden"))
    assert all(row.file == f"{version}.zip" for version, row in list_versions("broden").items())
    assert find_source("resnet50_imagenet").sha256 == "0676ba61"
    assert find_source("efficientnet_lite0") is None and list_versions("efficientnet_lite0") == {}


def test_whatever_the_paper_preset_fetches_has_a_row():
    preset = yaml.safe_load((ROOT / "presets" / "paper.yaml").read_text())
    fetched = [("broden", probe["version"]) for probe in preset["probes"].values() if probe["kind"] == "download"]
    fetched.append(("milan", preset["milan"]["captioner"]["name"]))
    assert len(fetched) == 2 and set(fetched) <= set(read_sources())
    kinds = [model["kind"] for model in preset["models"].values() if model["weights"] == "download"]
    assert len(kinds) == 2 and all(map(find_source, [*kinds, preset["milan"]["scorer"]["kind"]]))


def test_another_address_is_no_other_code(tmp_path):
    """Otherwise a new mirror would compute a whole study anew."""
    (tmp_path / "nemesis").mkdir()
    (tmp_path / "nemesis" / "sources.py").write_bytes(TABLE.with_suffix(".py").read_bytes())
    (tmp_path / "script.py").write_text("from nemesis.sources import find_source\n")
    found = []
    for text in (TABLE.read_text(), HEADER):
        (tmp_path / "nemesis" / TABLE.name).write_text(text)
        found.append(code_hash(tmp_path / "script.py"))
    assert found[0] == found[1]


def test_sources_say_where_their_columns_are(tmp_path):
    digest = hashlib.sha256(b"").hexdigest().upper()
    (tmp_path / "t.csv").write_text(f"{HEADER}a,1,a.zip,12,{digest},http://a,http://b; http://c,why\n")
    row = read_sources(tmp_path / "t.csv")["a", "1"]
    assert (row.size, row.sha256, row.addresses) == (12, digest.lower(), ("http://a", "http://b", "http://c"))


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("name,version\n", "expected the columns"),
        (HEADER + "broden,a,a.zip,big,,http://a,,\n", "line 2: size is 'big'"),
        (HEADER + "broden,a,,,,http://a,,\n", "line 2: name, version, file and primary"),
        (HEADER + "broden,a,a.zip,,0676,http://a,,\n", "line 2: sha256 is '0676'"),
        (HEADER + "broden,a,a.zip,,,http://a,,\n" * 2, "line 3: broden a stands there twice"),
        (None, "no such table"),
    ],
)
def test_a_wrong_table(tmp_path, text, fault):
    path = tmp_path / "table.csv"
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=fault) as caught:
        read_sources(path)
    assert "\n" not in str(caught.value)
