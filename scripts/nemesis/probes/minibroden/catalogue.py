"""The catalogue: read catalogue.yaml into frozen dataclasses and check it.

Everything that can be wrong in the file is an InputError that names the place.

Colours are named by the nearest prototype of the catalogue in CIELAB.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import yaml

from nemesis.errors import InputError
from nemesis.probes.minibroden.canvas import SHAPES
from nemesis.probes.minibroden.patterns import PATTERNS
from nemesis.probes.minibroden.surfaces import SURFACES

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C one is ten times as fast
CATALOGUE = Path(__file__).with_name("catalogue.yaml")
CATEGORIES = ("scene", "color", "object", "part", "material", "texture")
PLACES = ("ground", "wall", "sky", "water", "top", "under")
ZONES = ("ground", "wall", "sky", "water", "under", "none")
EDGES = ("straight", "hills", "ridge", "waves", "trees")
_TO_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]], dtype=np.float32)
_WHITE = np.array([0.9505, 1.0, 1.089], dtype=np.float32)


@dataclass(frozen=True)
class Entry:
    """One drawn region of a thing: shapes that share a name and a look."""

    draw: tuple
    name: str | None = None  # part name; None: belongs to the thing only
    of: str | None = None  # the part (or nested object) that this one lies on
    nested: bool = False  # the name is an object inside the thing, not a part
    colour: str = "main"
    material: tuple = ()
    surface: str | None = None
    textured: bool = False
    chance: float = 1.0
    plural: bool | None = None  # None: by how many separate pieces the shapes make


@dataclass(frozen=True)
class Thing:
    """An object class in its own units: `box` is its (width, height)."""

    name: str
    box: tuple
    size: tuple  # height of the box as a share of the picture's, far and near
    place: str
    entries: tuple
    colours: dict  # role -> colour names
    textures: tuple = ()  # which textures its textured entries may carry
    textured: float = 0.0  # how often
    tilt: float = 4.0  # most degrees
    top: float | None = None  # height (in units) of a surface that carries things
    shadow: bool = True
    flock: tuple = (1, 1)  # how many are drawn together


@dataclass(frozen=True)
class Backdrop:
    """A background region: everything from its upper edge down to the lower border."""

    object: str
    top: tuple  # share of the height, (lowest, highest)
    looks: tuple  # ((material or None, surface or None, colours, weight), ...)
    zone: str = "none"
    edge: str = "straight"
    chance: float = 1.0


@dataclass(frozen=True)
class Scene:
    name: str
    weight: float
    layers: tuple
    things: dict  # thing name -> weight
    count: tuple  # fewest and most things
    at: str = "in"  # preposition


@dataclass(frozen=True)
class Catalogue:
    colours: dict  # name without -c -> RGB prototypes in [0, 1]
    materials: dict  # name -> surface
    textures: tuple
    things: dict
    scenes: tuple
    swatches: float  # share of pictures that show one texture only
    synonyms: dict
    plurals: dict
    mass: frozenset  # nouns without an article
    concepts: tuple  # all names; a concept's code is its position + 1

    def code(self, name: str | None) -> int:
        """Code of a concept in the planes that the painter makes; 0 for None."""
        return 0 if name is None else self._codes()[name]

    def _codes(self) -> dict:
        return _index(self.concepts)


@cache
def load_catalogue(path: Path = CATALOGUE) -> Catalogue:
    """Read and check a catalogue; InputError names what is wrong."""
    try:
        raw = yaml.load(Path(path).read_text(encoding="utf-8"), Loader=_LOADER)  # a safe loader
    except (OSError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read as YAML ({error})") from error
    sections = {"colours", "materials", "textures", "objects", "scenes", "swatches"}
    _check_keys(path, raw, sections | {"synonyms", "plurals", "mass"}, sections)
    for section in sections - {"textures", "swatches"}:
        if not isinstance(raw[section], dict) or not raw[section]:
            raise InputError(f"{path}: {section}: expected names and what they mean")
    colours = {name: tuple(_rgb(path, text) for text in texts) for name, texts in raw["colours"].items()}
    catalogue = Catalogue(
        colours=colours,
        materials=_known_values(f"{path}: materials", raw["materials"], SURFACES),
        textures=_known(f"{path}: textures", raw["textures"], PATTERNS),
        things={name: _thing(f"{path}: objects.{name}", name, body) for name, body in raw["objects"].items()},
        scenes=tuple(_scene(f"{path}: scenes.{name}", name, body) for name, body in raw["scenes"].items()),
        swatches=_number(f"{path}: swatches", raw["swatches"], 0, 1),
        synonyms={name: tuple(words) for name, words in (raw.get("synonyms") or {}).items()},
        plurals=dict(raw.get("plurals") or {}),
        mass=frozenset(raw.get("mass") or ()),
        concepts=(),
    )
    _check_references(path, catalogue)
    return _with_concepts(catalogue)


def concept_names(catalogue: Catalogue) -> dict:
    """Category -> the names that the catalogue can put into that category."""
    objects, parts = set(catalogue.things), set()
    for scene in catalogue.scenes:
        objects.update(layer.object for layer in scene.layers)
    for thing in catalogue.things.values():
        for entry in thing.entries:
            if entry.name is not None:
                (objects if entry.nested else parts).add(entry.name)
    return {
        "scene": {scene.name for scene in catalogue.scenes},
        "color": {f"{name}-c" for name in catalogue.colours},
        "object": objects,
        "part": parts,
        "material": set(catalogue.materials),
        "texture": set(catalogue.textures),
    }


def to_lab(rgb: np.ndarray) -> np.ndarray:
    """sRGB in [0, 1], (..., 3) -> CIELAB (..., 3)."""
    rgb = np.asarray(rgb, dtype=np.float32)
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _WHITE
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    return np.stack([116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2])], -1)


def name_colours(prototypes: dict, rgb: np.ndarray) -> np.ndarray:
    """Index into the names of `prototypes` for each pixel of rgb (h, w, 3) -> (h, w)."""
    lab, owner = _prototype_table(tuple((name, tuple(shades)) for name, shades in prototypes.items()))
    weight = np.float32((0.7, 1.0, 1.0))  # lightness says less about a name than hue
    lab = lab * weight  # (prototypes, 3)
    scores = to_lab(rgb) * weight @ (2 * lab.T) - (lab**2).sum(axis=1)  # (h, w, prototypes)
    return owner[scores.argmax(axis=-1)]  # the largest score is the smallest distance


@cache
def _index(concepts: tuple) -> dict:
    return {name: position + 1 for position, name in enumerate(concepts)}


def _with_concepts(catalogue: Catalogue) -> Catalogue:
    names = sorted(set().union(*concept_names(catalogue).values()))
    return Catalogue(**{**catalogue.__dict__, "concepts": tuple(names)})


def _thing(where: str, name: str, body: dict) -> Thing:
    optional = {"colours", "textures", "textured", "tilt", "top", "shadow", "flock"}
    _check_keys(where, body, {"box", "size", "place", "draw"} | optional, {"box", "size", "place", "draw"})
    if not isinstance(body["draw"], list) or not body["draw"]:
        raise InputError(f"{where}.draw: expected a list of entries")
    if body["place"] not in PLACES:
        raise InputError(f"{where}.place: {body['place']!r} is not one of {', '.join(PLACES)}")
    entries = tuple(_entry(f"{where}.draw[{i}]", item) for i, item in enumerate(body["draw"]))
    return Thing(
        name=name,
        box=_pair(f"{where}.box", body["box"]),
        size=_pair(f"{where}.size", body["size"]),
        place=body["place"],
        entries=entries,
        colours={role: tuple(names) for role, names in (body.get("colours") or {}).items()},
        textures=tuple(body.get("textures", ())),
        textured=_number(f"{where}.textured", body.get("textured", 0.25 if "textures" in body else 0), 0, 1),
        tilt=_number(f"{where}.tilt", body.get("tilt", 4), 0, 180),
        top=body.get("top"),
        shadow=bool(body.get("shadow", True)),
        flock=_pair(f"{where}.flock", body.get("flock", [1, 1])),
    )


def _entry(where: str, item: dict) -> Entry:
    keys = {"name", "draw", "of", "as", "colour", "material", "surface", "textured", "chance", "plural"}
    _check_keys(where, item, keys, {"draw"})
    if item.get("as", "object") != "object":
        raise InputError(f"{where}.as: only `object` is known")
    material = item.get("material", ())
    if not isinstance(item["draw"], list) or not item["draw"]:
        raise InputError(f"{where}.draw: expected a list of shapes")
    for shape in item["draw"]:
        _check_shape(where, shape)
    return Entry(
        draw=tuple(tuple(shape) for shape in item["draw"]),
        name=item.get("name"),
        of=item.get("of"),
        nested="as" in item,
        colour=str(item.get("colour", "main")),
        material=(material,) if isinstance(material, str) else tuple(material),
        surface=item.get("surface"),
        textured=bool(item.get("textured", False)),
        chance=_number(f"{where}.chance", item.get("chance", 1), 0, 1),
        plural=item.get("plural"),
    )


def _check_shape(where: str, shape):
    if not isinstance(shape, list) or not shape or shape[0] not in SHAPES:
        raise InputError(f"{where}.draw: {shape!r} is not a shape; known are {', '.join(SHAPES)}")
    needed, given = SHAPES[shape[0]], len(shape) - 1
    if given != needed and (needed is not None or given < 6 or given % 2):
        raise InputError(f"{where}.draw: {shape!r} takes {needed or 'six or more, an even number of'} numbers")
    if not all(isinstance(value, int | float) for value in shape[1:]):
        raise InputError(f"{where}.draw: {shape!r} holds something that is not a number")


def _scene(where: str, name: str, body: dict) -> Scene:
    keys = {"weight", "layers", "objects", "count"}
    _check_keys(where, body, keys | {"at"}, keys)
    if not isinstance(body["objects"], dict) or not isinstance(body["layers"], list):
        raise InputError(f"{where}: `objects` takes names with weights, `layers` a list")
    layers = tuple(_backdrop(f"{where}.layers[{i}]", item) for i, item in enumerate(body["layers"]))
    weight = _number(f"{where}.weight", body["weight"], 0, 1000)
    things = {key: _number(f"{where}.objects.{key}", value, 0, 1000) for key, value in body["objects"].items()}
    count = _pair(f"{where}.count", body["count"])
    return Scene(name, weight, layers, things, count, str(body.get("at", "in")))


def _backdrop(where: str, item: dict) -> Backdrop:
    _check_keys(where, item, {"object", "top", "looks", "zone", "edge", "chance"}, {"object", "top", "looks"})
    zone, edge = item.get("zone", "none"), item.get("edge", "straight")
    if zone not in ZONES:
        raise InputError(f"{where}.zone: {zone!r} is not one of {', '.join(ZONES)}")
    if edge not in EDGES:
        raise InputError(f"{where}.edge: {edge!r} is not one of {', '.join(EDGES)}")
    looks = []
    for look in item["looks"]:
        _check_keys(where, look, {"material", "surface", "colours", "weight"}, {"colours"})
        looks.append((look.get("material"), look.get("surface"), tuple(look["colours"]), look.get("weight", 1)))
    chance = _number(f"{where}.chance", item.get("chance", 1), 0, 1)
    return Backdrop(item["object"], _pair(f"{where}.top", item["top"]), tuple(looks), zone, edge, chance)


def _check_references(path, catalogue: Catalogue):
    for name, thing in catalogue.things.items():
        where = f"{path}: objects.{name}"
        _known(f"{where}.textures", thing.textures, catalogue.textures)
        seen = set()
        for entry in thing.entries:
            _known(f"{where}.material", entry.material, catalogue.materials)
            _known(f"{where}.surface", [entry.surface] if entry.surface else [], SURFACES)
            _check_colour(where, entry.colour, set(catalogue.colours) | set(thing.colours))
            if entry.of is not None and entry.of not in seen:
                raise InputError(f"{where}: a part lies on {entry.of!r}, which is not drawn before it")
            seen.add(entry.name)
        for names in thing.colours.values():
            for colour in names:
                _check_colour(where, colour, catalogue.colours)
    for scene in catalogue.scenes:
        where = f"{path}: scenes.{scene.name}"
        _known(f"{where}.objects", scene.things, catalogue.things)
        for layer in scene.layers:
            for material, surface, colours, _ in layer.looks:
                _known(f"{where}.layers", [material] if material else [], catalogue.materials)
                _known(f"{where}.layers", [surface] if surface else [], SURFACES)
                for colour in colours:
                    _check_colour(where, colour, catalogue.colours)


def _check_colour(where: str, text: str, known):
    name, _, factor = str(text).partition("*")
    if factor:
        try:
            float(factor)
        except ValueError:
            raise InputError(f"{where}: {text!r} does not end in a number") from None
    if name.startswith("#"):
        _rgb(where, name)
    elif name not in known:
        raise InputError(f"{where}: {name!r} is neither a colour nor a colour role here")


def _rgb(where, text) -> tuple:
    """'#rrggbb' -> three numbers in [0, 1]."""
    digits = str(text).removeprefix("#")
    try:
        if len(digits) != 6:
            raise ValueError(digits)
        return tuple(int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4))
    except ValueError:
        raise InputError(f"{where}: {text!r} is not a colour like '#3366cc'") from None


def _check_keys(where, body, allowed: set, required: set):
    if not isinstance(body, dict):
        raise InputError(f"{where}: expected keys and values, found {type(body).__name__}")
    if unknown := set(body) - allowed:
        raise InputError(f"{where}: unknown key {sorted(unknown)[0]!r}; known are {', '.join(sorted(allowed))}")
    if missing := required - set(body):
        raise InputError(f"{where}: the key {sorted(missing)[0]!r} is missing")


def _known(where, names, known) -> tuple:
    for name in names:
        if name not in known:
            raise InputError(f"{where}: {name!r} is not known; known are {', '.join(map(str, known))}")
    return tuple(names)


def _known_values(where, table: dict, known) -> dict:
    _known(where, table.values(), known)
    return dict(table)


def _pair(where, value) -> tuple:
    if not (isinstance(value, list) and len(value) == 2 and all(isinstance(v, int | float) for v in value)):
        raise InputError(f"{where}: expected two numbers, found {value!r}")
    return tuple(value)


def _number(where, value, low: float, high: float) -> float:
    if not isinstance(value, int | float) or not low <= value <= high:
        raise InputError(f"{where}: expected a number from {low} to {high}, found {value!r}")
    return float(value)


@cache
def _prototype_table(prototypes: tuple):
    shades = [shade for _, shades in prototypes for shade in shades]
    owner = [i for i, (_, shades) in enumerate(prototypes) for _ in shades]
    return to_lab(np.array(shades)), np.array(owner)
