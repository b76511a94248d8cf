"""Draw one thing of the catalogue: choose its colours, place it, paint its entries."""

import math
from dataclasses import dataclass, field

import numpy as np

from nemesis.probes.minibroden.canvas import Canvas, Look, PaintedRegion, trace_shape
from nemesis.probes.minibroden.catalogue import Catalogue, Entry, Thing, name_colours


@dataclass(frozen=True)
class Pose:
    """Where a thing stands: the canvas position of its anchor and its linear map."""

    x: float  # canvas pixels
    y: float
    matrix: tuple  # 2 x 2, units -> canvas pixels
    anchor: tuple  # in units: the foot of what stands, the centre of what hangs

    def place(self, outline: np.ndarray) -> np.ndarray:
        """Outline in units (n, 2) -> canvas pixels (n, 2)."""
        return (outline - self.anchor) @ np.array(self.matrix).T + (self.x, self.y)


@dataclass
class Instance:
    """What was drawn, for the descriptions."""

    number: int
    name: str
    colour: str
    texture: str | None
    where: str  # "on a table"
    backdrop: bool = False  # a background layer
    parts: dict = field(default_factory=dict)  # part -> (colour, how many)


def make_pose(thing: Thing, height: float, x: float, y: float, rng) -> Pose:
    """A pose with the box `height` canvas pixels high, randomly turned, stretched and mirrored."""
    scale = height / thing.box[1]
    angle = math.radians(rng.uniform(-thing.tilt, thing.tilt))
    mirror = -1.0 if rng.random() < 0.5 else 1.0
    stretch, shear = rng.uniform(0.9, 1.12), rng.uniform(-0.04, 0.04)
    turn = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    matrix = turn @ np.array([[mirror * stretch, shear], [0.0, 1.0]]) * scale
    foot = thing.box[1] if thing.place in ("ground", "top", "water") else thing.box[1] / 2
    return Pose(x, y, tuple(map(tuple, matrix)), (thing.box[0] / 2, foot))


def draw_thing(canvas: Canvas, catalogue: Catalogue, thing: Thing, pose: Pose, number: int, where: str):
    """Paint a thing as instance `number`; returns its Instance."""
    rng = canvas.rng
    palette = choose_palette(catalogue, thing, rng)
    texture = None
    if thing.textures and rng.random() < thing.textured:
        texture = (pick(rng, thing.textures), pick_colour(catalogue, rng), rng.uniform(13, 26))
    size = abs(pose.matrix[1][1]) * thing.box[1]
    if thing.shadow and thing.place in ("ground", "top"):
        _cast_shadow(canvas, thing, pose, size)
    regions, instance = {}, None
    for entry in thing.entries:
        if rng.random() >= entry.chance or (entry.of is not None and entry.of not in regions):
            continue
        look = _choose_look(catalogue, entry, palette, texture, rng)
        region = _region(entry, thing, regions.get(entry.of), number, look)
        outlines = [pose.place(trace_shape(shape, rng)) for shape in entry.draw]
        canvas.paint(outlines, region, origin=(pose.y, pose.x))
        regions.setdefault(entry.name, region)
        if instance is None:
            colour = palette["main"][0] if "main" in palette else look.colour
            instance = Instance(number, thing.name, colour, None, where)
        instance.texture = instance.texture or look.texture
        if entry.name is not None:
            colour, count = instance.parts.get(entry.name, (look.colour, 0))
            instance.parts[entry.name] = (colour, count + count_pieces(entry, outlines))
    return instance


def count_pieces(entry: Entry, outlines: list) -> int:
    """How many things the shapes of one entry look like: those whose boxes overlap are one."""
    if entry.plural is not None:
        return 2 if entry.plural else 1
    groups = []
    for outline in outlines:
        low, high = outline.min(axis=0), outline.max(axis=0)
        touching = [g for g in groups if (low < g[1]).all() and (g[0] < high).all()]
        groups = [g for g in groups if not any(g is other for other in touching)]
        lows, highs = [low, *(g[0] for g in touching)], [high, *(g[1] for g in touching)]
        groups.append((np.min(lows, axis=0), np.max(highs, axis=0)))
    return len(groups)


def choose_palette(catalogue: Catalogue, thing: Thing, rng) -> dict:
    """Role -> (colour name, RGB), different roles in different colours where they can be."""
    palette = {}
    for role, names in thing.colours.items():
        taken = {name for name, _ in palette.values()}
        free = [name for name in names if name not in taken] or names
        palette[role] = resolve_colour(catalogue, pick(rng, free), {}, rng)
    return palette


def resolve_colour(catalogue: Catalogue, text: str, palette: dict, rng):
    """(basic colour name, RGB) of 'role', 'red', '#rrggbb', each perhaps with '*factor'."""
    text, _, factor = text.partition("*")
    if text in palette:
        name, rgb = palette[text]
    elif text.startswith("#"):
        rgb = tuple(int(text[i : i + 2], 16) / 255 for i in (1, 3, 5))
        name = None
    else:
        name, rgb = text, jitter(pick(rng, catalogue.colours[text]), rng)
    if factor:
        rgb = tuple(min(1.0, value * float(factor)) for value in rgb)
        name = name if 0.65 < float(factor) < 1.35 else None
    return name or _nearest_name(catalogue, rgb), rgb


def jitter(rgb, rng, spread: float = 0.05) -> tuple:
    """A colour close to rgb, in [0.02, 0.98]."""
    change = rng.uniform(-spread, spread, 3) + rng.uniform(-spread, spread)
    return tuple(float(value) for value in np.clip(np.array(rgb) + change, 0.02, 0.98))


def pick(rng, options):
    """One of a sequence, all equally likely."""
    return options[int(rng.integers(len(options)))]


def pick_colour(catalogue: Catalogue, rng):
    """A random basic colour as (name, RGB)."""
    return resolve_colour(catalogue, pick(rng, tuple(catalogue.colours)), {}, rng)


def _choose_look(catalogue, entry: Entry, palette, texture, rng) -> Look:
    name, rgb = resolve_colour(catalogue, entry.colour, palette, rng)
    material = pick(rng, entry.material) if entry.material else None
    surface = entry.surface or (catalogue.materials[material] if material else "matte")
    if texture is None or not entry.textured:
        return Look(rgb, name, surface, material)
    kind, (second, second_rgb), period = texture
    if second == name:  # a pattern in one colour would not be seen
        second, second_rgb = ("black", (0.1, 0.1, 0.1)) if name == "white" else ("white", (0.94, 0.94, 0.92))
    angle = rng.uniform(0, math.pi) if rng.random() < 0.6 else 0.0
    return Look(rgb, name, "matte", material, kind, second_rgb, second, period, angle)


def _nearest_name(catalogue: Catalogue, rgb) -> str:
    """Basic colour name of an RGB triple."""
    names = tuple(catalogue.colours)
    return names[int(name_colours(catalogue.colours, np.float32([[rgb]]))[0, 0])]


def _region(entry: Entry, thing: Thing, under: PaintedRegion | None, number: int, look: Look) -> PaintedRegion:
    nested = under.nested if under else None
    part = under.part if under else None
    subpart = under.subpart if under else None
    if entry.nested:
        nested, part, subpart = entry.name, None, None
    elif entry.name is not None and part is not None:
        subpart = entry.name
    elif entry.name is not None:
        part = entry.name
    return PaintedRegion(number, thing.name, nested, part, subpart, look)


def _cast_shadow(canvas: Canvas, thing: Thing, pose: Pose, size: float):
    width, height = thing.box
    shape = ("ellipse", width * (0.5 - 0.12 * canvas.light), height, 0.48 * width, 0.05 * height + 0.04 * width)
    outline = pose.place(trace_shape(shape, canvas.rng))
    canvas.darken([outline], 0.45, max(2.0, 0.04 * size))
