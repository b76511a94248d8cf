"""Published checkpoints: their table, fetching from a server on this machine, refusal of anything else."""

import pytest
from http_server import FAST

from nemesis.errors import InputError
from nemesis.fetch import download_checkpoint
from nemesis.milan.checkpoint import load_published
from nemesis.sources import COLUMNS, list_versions

NAMES = ["alexnet", "base", "biggan", "cls", "gen", "imagenet", "places365", "resnet152"]


def serve(folder, server, content):
    """A table whose one checkpoint has this content on the server."""
    address = server.serve("/milan-base.pth", content)
    row = {"name": "milan", "version": "base", "file": "milan-base.pth", "primary": address}
    table = folder / "table.csv"
    table.write_text(",".join(COLUMNS) + "\n" + ",".join(row.get(column, "") for column in COLUMNS) + "\n")
    return table


def test_table_has_the_checkpoints_of_the_config():
    known = list_versions("milan")
    assert sorted(known) == NAMES
    assert all(row.file == f"milan-{name}.pth" for name, row in known.items())


def test_a_checkpoint_is_fetched_once_and_loads(server, shared, tmp_path):
    content = shared("golden/milan/decoder.pth").read_bytes()
    table, target = serve(tmp_path, server, content), tmp_path / "downloads" / "milan-base.pth"
    target.parent.mkdir()
    for _ in range(2):
        assert download_checkpoint("base", target, load_published, table, **FAST) == target
    assert target.read_bytes() == content and len(load_published(target).vocabulary.words) == 45
    assert len(server.asked) == 1


@pytest.mark.parametrize("content", [b"<html>moved</html>", b""])
def test_anything_else_is_refused_and_not_kept(server, tmp_path, content):
    target = tmp_path / "milan-base.pth"
    with pytest.raises(InputError, match="no address delivered it") as caught:
        download_checkpoint("base", target, load_published, serve(tmp_path, server, content), **FAST)
    assert "captioner: {kind: checkpoint, path: PATH}" in str(caught.value) and "\n" not in str(caught.value)
    assert not target.exists()


def test_an_unknown_name_lists_the_known_ones(tmp_path):
    with pytest.raises(InputError, match="no checkpoint 'bse'; known are alexnet, base"):
        download_checkpoint("bse", tmp_path / "milan-bse.pth", load_published)
