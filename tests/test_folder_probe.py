"""A folder of images without masks becomes a probe: which images, cut how, of which class; bad ones end in one line."""

import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from workflow_runs import CONFIG, assert_refused, new_place

from nemesis import __version__, stores
from nemesis.dissection.dissect import load_concepts
from nemesis.errors import InputError
from nemesis.probes import probe as probes
from nemesis.probes.folder import NO_CLASS, Crop, crop_image, prepare_folder, read_folder
from nemesis.probes.probe import open_probe, present_concepts, read_concepts
from nemesis.probes.scan import SUFFIXES, fingerprint, scan_folder

SIZE = 16


def random_pixels(height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def save(path: Path, height: int = 20, width: int = 24, **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(random_pixels(height, width, len(path.name) + height)).save(path, **options)
    return path


@pytest.fixture
def photos(tmp_path):
    """Two classes, one of them with a folder in it, an image in the root, and files that are no images."""
    root = tmp_path / "photos"
    save(root / "cat" / "2.png", 30, 20)
    save(root / "cat" / "10.JPG", 64, 48)
    save(root / "cat" / "more" / "a.webp", 18, 18)
    save(root / "bird" / "b.bmp", 17, 90)
    save(root / "alone.jpeg", 16, 16)
    save(root / ".thumbnails" / "x.png")
    save(root / "cat" / ".hidden.png")
    (root / "empty").mkdir()
    (root / "cat" / "notes.txt").write_text("none of these is an image")
    (root / "README").write_text("nor is this")
    return root


NAMES = ["alone.jpeg", "bird/b.bmp", "cat/10.JPG", "cat/2.png", "cat/more/a.webp"]


def prepare(root, out, size=SIZE, resize=None, **options):
    prepare_folder(root, out / "probe.zarr", out / "concepts.csv", Crop(size, resize), **options)
    return open_probe(out / "probe.zarr")


def files_of(folder) -> dict:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_store_is_that_of_a_probe_without_labels(photos, tmp_path):
    probe = prepare(photos, tmp_path / "out", config_hash="abc")
    assert probe.names == NAMES
    assert (probe.count, probe.size, probe.categories) == (5, (SIZE, SIZE), [])
    assert probe.class_names == ["bird", "cat"]
    assert (probe.classes.dtype, probe.classes.tolist()) == (np.int32, [NO_CLASS, 0, 1, 1, 1])
    assert probe.splits.tolist() == [""] * 5
    assert (probe.images(0, 5).dtype, probe.images(0, 5).shape) == (np.uint8, (5, 3, SIZE, SIZE))
    assert (probe.labels(1, 3).dtype, probe.labels(1, 3).shape) == (np.uint16, (2, 0, SIZE, SIZE))
    assert probe.take_labels([4, 0]).shape == (2, 0, SIZE, SIZE)
    assert (probe.scalars.shape, probe.scalars.any()) == ((5, 1), False)
    assert (tmp_path / "out/concepts.csv").read_text() == "number,name,category,frequency,coverage\n"
    attrs = probe.store.attrs
    assert (attrs["nemesis_version"], attrs["config_hash"]) == (__version__, "abc")
    for name, array in probe.store.arrays():
        assert len(array.attrs["dimensions"]) == array.ndim, name
        assert array.attrs["units"], name


def test_it_has_no_concepts(photos, tmp_path):
    probe = prepare(photos, tmp_path / "out")
    present, numbers = present_concepts(probe)
    assert (present.shape, numbers) == ((5, 0), [])
    assert read_concepts(tmp_path / "out/concepts.csv") == []
    assert load_concepts(tmp_path / "out/concepts.csv", probe).names == [""]


def test_a_probe_with_masks_has_no_classes(tiny):
    assert tiny.probe.class_names == []
    assert tiny.probe.classes.tolist() == [NO_CLASS] * 12


def test_every_image_is_the_one_of_its_name(photos, tmp_path):
    probe = prepare(photos, tmp_path / "out")
    for number, name in enumerate(NAMES):
        with Image.open(photos / name) as image:
            expected = np.asarray(crop_image(image.convert("RGB"), Crop(SIZE)))
        np.testing.assert_array_equal(probe.take_images([number])[0], expected.transpose(2, 0, 1))


def test_blocks_change_nothing(photos, tmp_path, monkeypatch):
    whole = prepare(photos, tmp_path / "whole").images(0, 5)
    monkeypatch.setattr(stores, "SHARD_BYTES", 2 * 3 * SIZE * SIZE)
    monkeypatch.setattr(probes, "CHUNK_BYTES", 3 * SIZE * SIZE, raising=False)
    probe = prepare(photos, tmp_path / "blocks")
    images = probe.store["images"]
    assert (images.shards or images.chunks)[0] == 2
    np.testing.assert_array_equal(probe.images(0, 5), whole)


def test_the_same_folder_gives_the_same_bytes(photos, tmp_path):
    prepare(photos, tmp_path / "a")
    prepare(photos, tmp_path / "b")
    first, second = files_of(tmp_path / "a"), files_of(tmp_path / "b")
    assert list(first.values()) == list(second.values())


def test_the_store_says_what_it_was_made_from(photos, tmp_path):
    made = [prepare(photos, tmp_path / "a").store.attrs["created_from"]]
    (photos / "README").unlink()
    made.append(prepare(photos, tmp_path / "b").store.attrs["created_from"])
    save(photos / "cat/2.png", 31, 20)
    made.append(prepare(photos, tmp_path / "c").store.attrs["created_from"])
    assert [list(entry) for entry in made] == [[str(photos)]] * 3
    assert made[0] == made[1] != made[2]
    assert len(made[0][str(photos)]) == 64


def test_other_files_are_left_out_with_a_note(photos, caplog):
    with caplog.at_level(logging.INFO):
        read_folder(photos)
    (line,) = [record.getMessage() for record in caplog.records if "left out" in record.getMessage()]
    assert "2 files that are no images: 1 .txt, 1 no ending" in line


def test_a_flat_folder_has_no_classes(tmp_path):
    for number in range(3):
        save(tmp_path / "flat" / f"{number}.png")
    folder = read_folder(tmp_path / "flat")
    assert (folder.class_names, folder.classes) == ((), (NO_CLASS,) * 3)


@pytest.mark.parametrize("suffix", sorted(SUFFIXES))
def test_every_kind_of_file(tmp_path, suffix):
    save(tmp_path / "one" / f"a{suffix}", **({"lossless": True} if suffix == ".webp" else {}))
    images = prepare(tmp_path / "one", tmp_path / "out", size=18, resize=20).images(0, 1)
    with Image.open(tmp_path / "one" / f"a{suffix}") as image:
        expected = np.asarray(image.convert("RGB"))[1:19, 3:21]
    np.testing.assert_array_equal(images[0], expected.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    image = Image.fromarray(random_pixels(20, 20)).convert(mode)
    path = tmp_path / "one" / ("a.tif" if mode == "CMYK" else "a.png")
    path.parent.mkdir()
    image.save(path)
    images = prepare(tmp_path / "one", tmp_path / "out", size=20, resize=20).images(0, 1)
    np.testing.assert_array_equal(images[0], np.asarray(image.convert("RGB")).transpose(2, 0, 1))


def exif_bytes(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def test_a_photograph_is_the_right_way_up(tmp_path):
    pixels = random_pixels(20, 20)
    path = tmp_path / "one" / "turned.png"
    path.parent.mkdir()
    Image.fromarray(pixels).save(path, exif=exif_bytes(6))  # to be shown turned by 90 degrees clockwise
    images = prepare(tmp_path / "one", tmp_path / "out", size=20, resize=20).images(0, 1)
    np.testing.assert_array_equal(images[0].transpose(1, 2, 0), np.rot90(pixels, -1))


@pytest.mark.parametrize("damage", [b"Exif\0\0MM\0*\0\0\0\x08\0\xff\x01\x12", b"Exif\0\0neither"])
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_damaged_exif_data_does_not_matter(tmp_path, damage):
    pixels = random_pixels(20, 20)
    path = tmp_path / "one" / "a.png"
    path.parent.mkdir()
    Image.fromarray(pixels).save(path, exif=damage)
    images = prepare(tmp_path / "one", tmp_path / "out", size=20, resize=20).images(0, 1)
    np.testing.assert_array_equal(images[0].transpose(1, 2, 0), pixels)


# Cutting.


@given(st.integers(1, 400))
def test_default_resize_has_the_proportion_of_256_to_224(size):
    assert abs(Crop(size).shorter / size - 256 / 224) <= 0.5 / size
    assert Crop(size).shorter >= size


def test_default_resize():
    assert [Crop(size).shorter for size in (224, 112, 128)] == [256, 128, 146]


def test_the_middle_is_cut_by_hand():
    pixels = random_pixels(6, 9)
    cut = np.asarray(crop_image(Image.fromarray(pixels), Crop(4, 6)))  # no resizing: the shorter side is 6 already
    np.testing.assert_array_equal(cut, pixels[1:5, 2:6])  # (6 - 4) / 2 = 1; (9 - 4) / 2 = 2.5, to the even 2


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 40), st.integers(0, 20))
def test_images_are_cut_as_by_torchvision(height, width, size, more):
    transforms = pytest.importorskip("torchvision.transforms")
    image = Image.fromarray(random_pixels(height, width))
    expected = transforms.CenterCrop(size)(transforms.Resize(size + more)(image))
    assert crop_image(image, Crop(size, size + more)).size == (size, size)
    np.testing.assert_array_equal(np.asarray(crop_image(image, Crop(size, size + more))), np.asarray(expected))


def test_photographs_are_cut_as_by_torchvision(shared, tmp_path):
    transforms = pytest.importorskip("torchvision.transforms")
    root = shared("data/imagenet1k_samples/images")
    probe = prepare(root, tmp_path, size=224, max_images=6)
    cut = transforms.Compose([transforms.Resize(256), transforms.CenterCrop(224)])
    assert probe.count == 6
    assert probe.class_names == []
    for number, name in enumerate(probe.names):
        with Image.open(root / name) as image:
            expected = np.asarray(cut(image.convert("RGB")))
        np.testing.assert_array_equal(probe.take_images([number])[0], expected.transpose(2, 0, 1))


# Which images.


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4), st.integers(1, 40))
def test_max_images_are_spread_over_the_classes(tmp_path_factory, counts, limit):
    root = tmp_path_factory.mktemp("classes")
    for number, count in enumerate(counts):
        (root / str(number)).mkdir()
        for image in range(count):
            (root / str(number) / f"{image}.png").touch()  # never opened
    whole, folder = read_folder(root), read_folder(root, limit)
    assert len(folder.names) == min(limit, sum(counts))
    assert folder.names == tuple(name for name in whole.names if name in set(folder.names))
    assert folder.class_names == whole.class_names
    assert [folder.class_names[number] for number in folder.classes] == [name[0] for name in folder.names]
    share = len(folder.names) / sum(counts)
    for number, count in enumerate(counts):
        assert abs(folder.classes.count(number) - share * count) < 1
    shutil.rmtree(root)


@given(st.lists(st.text("ab/.", min_size=1, max_size=6), max_size=8))
def test_a_listing_is_sorted_and_complete(tmp_path_factory, texts):
    root = tmp_path_factory.mktemp("listing")
    made = {"z.png"}
    for text in texts:
        parts = [part for part in text.split("/") if part.strip(".")]
        path = root.joinpath(*parts, "i.png")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
        made.add(path.relative_to(root).as_posix())
    (root / "z.png").touch()
    shown = sorted((name for name in made if not any(part[0] == "." for part in name.split("/"))), key=Path)
    assert list(scan_folder(root).images) == sorted(shown, key=lambda name: name.split("/"))
    shutil.rmtree(root)


def test_links_are_followed_but_not_round_in_circles(photos, tmp_path):
    save(tmp_path / "elsewhere" / "far.png")
    (photos / "dog").symlink_to(tmp_path / "elsewhere")
    (photos / "cat" / "loop").symlink_to(photos)
    listing = scan_folder(photos)
    assert list(listing.images) == [*NAMES, "dog/far.png"]
    assert read_folder(photos).class_names == ("bird", "cat", "dog")


def test_another_set_of_images_has_another_fingerprint(photos, tmp_path):
    prints = [fingerprint(photos)]
    save(photos / "cat" / "new.png")
    prints.append(fingerprint(photos))
    (photos / "cat" / "new.png").rename(photos / "cat" / "newer.png")
    prints.append(fingerprint(photos))
    save(photos / "cat" / "newer.png", 50, 50)
    prints.append(fingerprint(photos))
    os.utime(photos / "cat" / "newer.png", ns=(1, 1))
    prints.append(fingerprint(photos))
    assert len(set(prints)) == 5
    (photos / "notes.txt").write_text("more")
    save(photos / ".cache" / "x.png")
    assert fingerprint(photos) == prints[-1]
    photos.rename(tmp_path / "moved")
    assert fingerprint(tmp_path / "moved") == prints[-1]


# What can be wrong.


def replace_by_file(root):
    shutil.rmtree(root)
    root.write_text("a file")


def keep_others(root):
    for name in NAMES:
        (root / name).unlink()


def cut_short(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def save_array(path, pixels):
    Image.fromarray(pixels).save(path)


# what is wrong: (how to break the folder, whose name starts the line, what the line must say)
BROKEN = {
    "no folder": (shutil.rmtree, "", ["not a folder", "expected a folder with images (bmp, jpeg, jpg,"]),
    "a file": (replace_by_file, "", ["not a folder"]),
    "no image": (keep_others, "", ["no image in or below it"]),
    "truncated image": (
        lambda root: cut_short(root / "cat/10.JPG"),
        "cat/10.JPG",
        ["image cannot be decoded", "is it truncated?"],
    ),
    "empty image": (lambda root: (root / "cat/2.png").write_bytes(b""), "cat/2.png", ["image cannot be decoded"]),
    "text": (lambda root: (root / "bird/b.bmp").write_text("<html>"), "bird/b.bmp", ["image cannot be decoded"]),
    "16 bits": (
        lambda root: save_array(root / "cat/2.png", np.full((20, 20), 40000, np.uint16)),
        "cat/2.png",
        ["image has 16 bits a channel", "expected 8 bits per channel"],
    ),
    "dangling link": (
        lambda root: (root / "cat/gone.png").symlink_to(root / "nowhere.png"),
        "cat/gone.png",
        ["image not found"],
    ),
    "a line of pixels": (
        lambda root: save_array(root / "cat/2.png", np.zeros((1, 101, 3), np.uint8)),
        "cat/2.png",
        ["image is 1x101 (height x width)", "less narrow"],
    ),
    "not UTF-8": (
        lambda root: (root / os.fsdecode(b"caf\xe9.png")).touch(),
        "",
        ["the name 'caf\\udce9.png' is not UTF-8; rename it"],
    ),
}


@pytest.mark.parametrize("what", BROKEN)
def test_a_bad_folder_is_one_line_and_leaves_nothing(photos, tmp_path, what):
    break_it, name, expected = BROKEN[what]
    break_it(photos)
    with pytest.raises(InputError) as caught:
        prepare(photos, tmp_path / "out")
    line = str(caught.value)
    assert line.startswith(f"{photos / name}: ")
    assert "\n" not in line
    assert [part for part in expected if part not in line] == [], line
    assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_locked_folder(photos):
    (photos / "cat").chmod(0)
    with pytest.raises(InputError, match="cat: the folder cannot be read"):
        scan_folder(photos)
    (photos / "cat").chmod(0o700)


def test_a_crop_larger_than_the_image(photos, tmp_path):
    with pytest.raises(InputError, match="resize must be at least size, 16, not 15"):
        prepare(photos, tmp_path / "out", resize=15)


def test_a_failure_keeps_the_earlier_probe(photos, tmp_path):
    prepare(photos, tmp_path / "out")
    before = files_of(tmp_path / "out")
    cut_short(photos / "cat/10.JPG")
    with pytest.raises(InputError):
        prepare(photos, tmp_path / "out")
    assert files_of(tmp_path / "out") == before


# In the workflow.

PHOTOS = {"photos": {"kind": "folder", "path": "photos", "size": 64}}
SEEN = {"probe": "photos", "model": "lite", "layers": ["blocks.4", "blocks.7"]}


@pytest.mark.workflow
@pytest.mark.slow
def test_units_on_a_folder_are_extracted_and_shown_and_nothing_else(photos, tmp_path, workflow):
    alone = new_place(tmp_path, workflow, designed=None).finish("--dry-run").jobs
    place = new_place(
        tmp_path,
        workflow,
        probes=CONFIG["probes"] | PHOTOS,
        experiments=[*CONFIG["experiments"], SEEN],
        designed=None,
    )
    both = place.finish("--dry-run").jobs
    added = {name: count - alone.get(name, 0) for name, count in both.items() if count != alone.get(name, 0)}
    extracted = {"prepare_folder": 1, "extract_activations": 2, "gather_activations": 1}
    extracted |= {"compute_thresholds": 2}
    assert added == extracted | {"show_units": 2}
    assert set(alone) <= set(both)


@pytest.mark.workflow
def test_only_milan_explains_units_on_a_folder(photos, tmp_path, workflow):
    place = new_place(tmp_path, workflow, probes=PHOTOS, models={"lite": CONFIG["models"]["lite"]}, experiments=[SEEN])
    assert_refused(place.run("--dry-run"), "nothing to do: probe photos has no masks")
