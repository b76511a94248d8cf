"""Images and masks that people bring: each is used as it is meant, or named in one line; what was assumed is noted."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms
from tiny_probe import LABEL_SIZE, TinyRow, mask_pixels, save, write_broden

from nemesis.errors import InputError
from nemesis.probes.folder import Crop, prepare_folder
from nemesis.probes.probe import open_probe, prepare_probe, read_concepts

SIDE = 32
PIXELS = np.random.default_rng(8).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
LABELS = np.kron(np.array([[3, 300], [7, 0]]), np.ones((8, 8), int)).astype(np.uint16)
IMAGE, MASK = "t/0.png", "t/0_object0.png"
PICTURE = Image.fromarray(PIXELS)


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def write_deep_png(path, kind: int, values: np.ndarray):
    """A PNG of 16 bits a channel: values (H, W, channels) uint16; kind as in the format's header."""
    height, width, _ = values.shape
    lines = b"".join(b"\0" + line.astype(">u2").tobytes() for line in values)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


def write_huge_png(path):
    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))


def write_deep_tiff(path):
    """A plain TIFF of 16 bits a channel, RGB, of 32 x 32 px."""
    data = np.full((SIDE, SIDE, 3), 40_000, "<u2").tobytes()
    entries = ((256, 3, 1, SIDE), (257, 3, 1, SIDE), (258, 3, 3, 122), (259, 3, 1, 1), (262, 3, 1, 2), (273, 4, 1, 128))
    entries += ((277, 3, 1, 3), (278, 3, 1, SIDE), (279, 4, 1, len(data)))
    table = struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries) + b"\0" * 4
    path.write_bytes(
        (b"II*\0" + struct.pack("<I", 8) + table).ljust(122, b"\0") + struct.pack("<HHH", 16, 16, 16) + data
    )


def make_exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    return exif.tobytes()


def write_twelve_bits(path):
    PICTURE.save(path, "JPEG")
    data = bytearray(path.read_bytes())
    data[data.index(b"\xff\xc0") + 4] = 12
    path.write_bytes(data)


def frames(path, kind: str):
    PICTURE.save(path, kind, save_all=True, append_images=[PICTURE.transpose(Image.Transpose.ROTATE_180)])


def lab_picture():
    profiles = (ImageCms.createProfile(name) for name in ("sRGB", "LAB"))
    return ImageCms.applyTransform(PICTURE, ImageCms.buildTransform(*profiles, "RGB", "LAB"))


def other_profile() -> bytes:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return profile.replace("sRGB".encode("utf-16-be"), "mine".encode("utf-16-be")).replace(b"sRGB", b"mine")


# what is wrong with an image: (how to write it, what the line must say)
REFUSED = {
    "RGB of 16 bits": (lambda path: write_deep_png(path, 2, PIXELS.astype(np.uint16)), "has 16 bits a channel"),
    "RGBA of 16 bits": (
        lambda path: write_deep_png(path, 6, np.full((SIDE, SIDE, 4), 9, np.uint16)),
        "has 16 bits a channel",
    ),
    "grey with alpha of 16 bits": (
        lambda path: write_deep_png(path, 4, np.full((SIDE, SIDE, 2), 9, np.uint16)),
        "has 16 bits a channel",
    ),
    "TIFF of 16 bits": (write_deep_tiff, "has 16 bits a channel"),
    "PPM of 12 bits": (
        lambda path: path.write_bytes(b"P6 32 32 4095\n" + PIXELS.astype(">u2").tobytes()),
        "has 12 bits a channel",
    ),
    "PGM of 16 bits": (
        lambda path: path.write_bytes(b"P5 32 32 65535\n" + PIXELS[..., 0].astype(">u2").tobytes()),
        "has 16 bits a channel",
    ),
    "floats": (lambda path: Image.fromarray(np.zeros((SIDE, SIDE), np.float32)).save(path, "TIFF"), "has 32 bits"),
    "JPEG of 12 bits": (write_twelve_bits, "JPEG file of 12 bits a channel"),
    "Lab": (lambda path: lab_picture().save(path, "TIFF"), "has mode LAB; expected RGB or grey"),
    "HEIC": (lambda path: path.write_bytes(b"\0\0\0\x18ftypheic" + b"\0" * 99), "HEIC file; convert it"),
    "empty": (lambda path: path.write_bytes(b""), "the file is empty"),
    "text": (lambda path: path.write_text("a text that is called .png"), "no image of a known format"),
    "too many pixels": (write_huge_png, "too many pixels; expected at most 178,956,970"),
    "broken link": (lambda path: path.symlink_to("nowhere.png"), "image not found"),
}
# what is remarkable about an image: (how to write it, the note, the pixels that are expected)
NOTED = {
    "transparent": (
        lambda path: Image.fromarray(np.dstack([PIXELS, PIXELS[..., 0]])).save(path),
        "images with transparent pixels",
        PIXELS,
    ),
    "a colour that is transparent": (
        lambda path: PICTURE.save(path, transparency=tuple(PIXELS[3, 5].tolist())),
        "images with transparent pixels",
        PIXELS,
    ),
    "animated PNG": (lambda path: frames(path, "PNG"), "images with several frames", PIXELS),
    "animated GIF": (lambda path: frames(path, "GIF"), "images with several frames", None),
    "pages": (lambda path: frames(path, "TIFF"), "images with several frames", PIXELS),
    "CMYK": (lambda path: PICTURE.convert("CMYK").save(path, "TIFF"), "images in CMYK", PIXELS),
    "colour profile": (
        lambda path: PICTURE.save(path, icc_profile=other_profile()),
        "images with a colour profile that is not called sRGB",
        PIXELS,
    ),
    "turned": (lambda path: PICTURE.save(path, exif=make_exif(3)), "images turned upright", PIXELS[::-1, ::-1]),
    "mirrored": (lambda path: PICTURE.save(path, exif=make_exif(4)), "images turned upright", PIXELS[::-1]),
    "no EXIF": (lambda path: PICTURE.save(path, exif=b"Exif\0\0neither"), "images with damaged EXIF data", PIXELS),
    "cut EXIF": (
        lambda path: PICTURE.save(path, exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff\x01\x12"),
        "images with damaged EXIF data",
        PIXELS,
    ),
}
PLAIN = {
    "grey": lambda path: Image.fromarray(PIXELS[..., 0]).save(path),
    "one bit": lambda path: PICTURE.convert("1").save(path),
    "palette": lambda path: PICTURE.quantize(256).save(path),
    "opaque": lambda path: PICTURE.convert("RGBA").save(path),
    "sRGB": lambda path: PICTURE.save(
        path, icc_profile=ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    ),
    "upright": lambda path: PICTURE.save(path, exif=make_exif(1)),
}


@pytest.fixture
def root(tmp_path):
    """A probe of one image and one mask, both to be replaced."""
    return write_broden(tmp_path / "broden", [TinyRow(IMAGE, "train", PIXELS, {"object": [LABELS]})])


def replace(path, write):
    path.unlink()
    write(path)


def as_broden(root, out):
    prepare_probe(root, out / "probe.zarr", out / "concepts.csv")
    return open_probe(out / "probe.zarr")


def as_folder(root, out):
    (root / "images" / MASK).unlink(missing_ok=True)
    prepare_folder(root / "images", out / "probe.zarr", out / "concepts.csv", Crop(SIDE, SIDE))
    return open_probe(out / "probe.zarr")


def notes_on_images(probe) -> list[str]:
    return [note for note in probe.store.attrs["notes"] if note.startswith("images ")]


@pytest.mark.parametrize("prepare", [as_broden, as_folder])
@pytest.mark.parametrize("what", REFUSED)
def test_an_image_that_cannot_be_used_is_one_line(root, tmp_path, what, prepare):
    write, message = REFUSED[what]
    replace(root / "images" / IMAGE, write)
    with pytest.raises(InputError) as caught:
        prepare(root, tmp_path / "out")
    line = str(caught.value)
    assert line.startswith(f"{root / 'images' / IMAGE}: image ")
    assert message in line


@pytest.mark.parametrize("prepare", [as_broden, as_folder])
@pytest.mark.parametrize("what", NOTED)
@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_what_is_assumed_of_an_image_is_noted_and_shown(root, tmp_path, caplog, what, prepare):
    write, note, pixels = NOTED[what]
    replace(root / "images" / IMAGE, write)
    probe = prepare(root, tmp_path / "out")
    (found,) = notes_on_images(probe)
    assert found.startswith(note) and found.endswith(f": 1 ({'images/' * (prepare is as_broden)}{IMAGE})")
    assert [record.levelname for record in caplog.records if found in record.getMessage()] == ["WARNING"]
    if pixels is not None:
        np.testing.assert_array_equal(probe.images(0, 1)[0], pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("prepare", [as_broden, as_folder])
@pytest.mark.parametrize("what", PLAIN)
def test_an_image_without_anything_to_remark(root, tmp_path, what, prepare):
    replace(root / "images" / IMAGE, PLAIN[what])
    assert notes_on_images(prepare(root, tmp_path / "out")) == []


def test_files_are_counted_and_the_first_is_named(tmp_path):
    for name in ("b.png", "a.png", "c.png"):
        save(tmp_path / "photos" / name, PIXELS)
    for name in ("b.png", "c.png"):
        PICTURE.save(tmp_path / "photos" / name, exif=make_exif(8))
    (tmp_path / "photos" / "d.heic").touch()
    prepare_folder(tmp_path / "photos", tmp_path / "p.zarr", tmp_path / "c.csv", Crop(8))
    assert open_probe(tmp_path / "p.zarr").store.attrs["notes"] == [
        "left out 1 files that are no images: 1 .heic",
        "images turned upright, as their EXIF data says: 2 (first b.png)",
    ]


def test_a_class_without_images_is_named(tmp_path):
    for name in ("ant", "bee"):
        (tmp_path / "f" / name).mkdir(parents=True)
    PICTURE.save(tmp_path / "f/bee/0.png")
    prepare_folder(tmp_path / "f", tmp_path / "p.zarr", tmp_path / "c.csv", Crop(SIDE))
    probe = open_probe(tmp_path / "p.zarr")
    assert probe.class_names == ["bee"]
    assert probe.store.attrs["notes"] == ["folders without an image, which are no classes: 1 (ant)"]


def test_odd_names(tmp_path):
    names = sorted(
        ["a b.png", 'it\'s "q".png', "{x}.png", "ü 猫.png", "new\nline.png", "%d&_|<.png", "a,b;c.png", " .png"]
    )
    for number, name in enumerate(names):
        save(tmp_path / "photos" / name, np.full((9, 9, 3), number, np.uint8))
    (tmp_path / "photos" / "folder.png").mkdir()
    prepare_folder(tmp_path / "photos", tmp_path / "p.zarr", tmp_path / "c.csv", Crop(8))
    probe = open_probe(tmp_path / "p.zarr")
    assert probe.names == names
    assert probe.images(0, len(names))[:, 0, 0, 0].tolist() == list(range(len(names)))


# Masks.


def deep_labels(path):
    write_deep_png(path, 2, mask_pixels(LABELS).astype(np.uint16))


BAD_MASKS = {
    "16 bits": (deep_labels, "mask has 16 bits a channel"),
    "16 bits and alpha": (
        lambda path: write_deep_png(path, 6, np.full((LABEL_SIZE, LABEL_SIZE, 4), 3, np.uint16)),
        "mask has 16 bits a channel",
    ),
    "JPEG": (lambda path: Image.fromarray(mask_pixels(LABELS)).save(path, "JPEG"), "mask is a JPEG file"),
    "WebP": (lambda path: Image.fromarray(mask_pixels(LABELS)).save(path, "WEBP"), "mask is a WebP file"),
    "TIFF with JPEG inside": (
        lambda path: Image.fromarray(mask_pixels(LABELS)).save(path, "TIFF", compression="jpeg"),
        "mask is a TIFF file, which may not keep labels exactly",
    ),
    "PPM with another white": (
        lambda path: path.write_bytes(b"P6 16 16 100\n" + np.full((16, 16, 3), 3, np.uint8).tobytes()),
        "mask has the maximum 100, which changes labels",
    ),
    "several frames": (
        lambda path: Image.fromarray(mask_pixels(LABELS)).save(
            path, save_all=True, append_images=[Image.fromarray(mask_pixels(LABELS[::-1]))]
        ),
        "mask has several frames",
    ),
    "palette": (lambda path: Image.fromarray(mask_pixels(LABELS)).quantize(4).save(path), "mask has mode P"),
    "grey saved as RGB": (
        lambda path: save(path, np.full((16, 16, 3), 3, np.uint8)),
        "label number 771 is not in label.csv (RGB (3, 3, 3), label = R + 256 G)",
    ),
}


@pytest.mark.parametrize("what", BAD_MASKS)
def test_a_mask_that_does_not_hold_labels_is_one_line(root, tmp_path, what):
    write, message = BAD_MASKS[what]
    replace(root / "images" / MASK, write)
    with pytest.raises(InputError) as caught:
        as_broden(root, tmp_path / "out")
    line = str(caught.value)
    assert line.startswith(f"{root / 'images' / MASK}: ")
    assert message in line


@pytest.mark.parametrize(("kind", "suffix"), [("PNG", ".png"), ("BMP", ".bmp"), ("TIFF", ".tif"), ("PPM", ".ppm")])
def test_masks_without_loss_are_read(root, tmp_path, kind, suffix):
    replace(root / "images" / MASK, lambda path: Image.fromarray(mask_pixels(LABELS)).save(path, kind))
    np.testing.assert_array_equal(as_broden(root, tmp_path / "out").labels(0, 1)[0, 0], LABELS)


def test_transparent_labels_count(root, tmp_path):
    pixels = np.dstack([mask_pixels(LABELS), np.where(LABELS == 3, 0, 255).astype(np.uint8)])
    replace(root / "images" / MASK, lambda path: Image.fromarray(pixels).save(path))
    probe = as_broden(root, tmp_path / "out")
    np.testing.assert_array_equal(probe.labels(0, 1)[0, 0], LABELS)
    assert any("masks with transparent pixels" in note for note in probe.store.attrs["notes"])


# Turned images and their masks.


@pytest.mark.parametrize("orientation", [2, 3, 4])
def test_an_image_and_its_mask_are_turned_alike(root, tmp_path, orientation):
    Image.fromarray(mask_pixels(LABELS)).save(root / "images" / MASK, exif=make_exif(orientation))
    PICTURE.save(root / "images" / IMAGE, exif=make_exif(orientation))
    probe = as_broden(root, tmp_path / "out")
    turn = {2: np.s_[:, ::-1], 3: np.s_[::-1, ::-1], 4: np.s_[::-1]}[orientation]
    np.testing.assert_array_equal(probe.images(0, 1)[0], PIXELS[turn].transpose(2, 0, 1))
    np.testing.assert_array_equal(probe.labels(0, 1)[0, 0], LABELS[turn])


def test_an_image_that_fits_only_as_it_is_stored(root, tmp_path):
    text = (root / "index.csv").read_text()
    (root / "index.csv").write_text(text.replace(",32,32,", ",20,30,"))
    small = PICTURE.resize((30, 20))
    small.save(root / "images" / IMAGE, exif=make_exif(6))
    with pytest.raises(InputError, match=r"image is 30x20 .* index.csv says 20x30 .*; an EXIF orientation counts"):
        as_broden(root, tmp_path / "out")
    small.transpose(Image.Transpose.ROTATE_90).save(root / "images" / IMAGE, exif=make_exif(6))
    expected = np.asarray(small).transpose(2, 0, 1)
    np.testing.assert_array_equal(as_broden(root, tmp_path / "out").images(0, 1)[0], expected)


# The cases.


def test_case_of_masks_of_16_bits(shared, tmp_path):
    with pytest.raises(InputError, match=r"i0_o.png: mask has 16 bits a channel; expected 8"):
        as_broden(shared("cases/mask-16-bit/probe"), tmp_path / "out")


def test_case_of_a_broden_image_that_is_turned(shared, tmp_path):
    root = shared("cases/exif-orientation-broden/probe")
    probe = as_broden(root, tmp_path / "out")
    assert notes_on_images(probe) == ["images turned upright, as their EXIF data says: 4 (first images/i0.jpg)"]
    numbers = {row["name"]: row["number"] for row in read_concepts(tmp_path / "out/concepts.csv")}
    images = probe.images(0, probe.count).astype(int)[..., ::2, ::2]  # label maps are half as large
    planes = probe.labels(0, probe.count)
    for name, channel in (("red-c", 0), ("blue-c", 2)):
        shown = (planes == numbers[name]).any(axis=1)
        assert shown.any()
        assert images[:, channel][shown].mean() > images[:, 2 - channel][shown].mean() + 50
