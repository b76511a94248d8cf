"""Compose a picture: choose a scene, lay its background, choose and place its things."""

import math
from dataclasses import dataclass

import numpy as np

from nemesis.probes.minibroden.canvas import Canvas, Look, PaintedRegion
from nemesis.probes.minibroden.catalogue import Backdrop, Catalogue, Scene, Thing
from nemesis.probes.minibroden.things import (
    Instance,
    draw_thing,
    jitter,
    make_pose,
    pick,
    pick_colour,
    resolve_colour,
)


@dataclass(frozen=True)
class LaidBackdrop:
    """A background layer as it was laid: its rows are top ... bottom (canvas pixels)."""

    layer: Backdrop
    instance: Instance
    top: float
    bottom: float


@dataclass
class Drawing:
    """A finished drawing: the canvas and what is on it."""

    canvas: Canvas
    instances: list  # things and background layers
    scene: str | None = None
    texture: str | None = None  # image-level texture of a swatch


def draw_image(catalogue: Catalogue, size: int, seed: int, number: int) -> Drawing:
    """Draw image `number`; it depends on (seed, number, size) and the catalogue alone."""
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, number])))
    canvas = Canvas(size, rng)
    if rng.random() < catalogue.swatches:
        return _draw_swatch(canvas, catalogue)
    weights = np.array([scene.weight for scene in catalogue.scenes])
    scene = catalogue.scenes[_weighted(rng, weights)]
    laid = _lay_background(canvas, catalogue, scene)
    instances = [item.instance for item in laid]
    for thing, pose, where in _plan_things(canvas, catalogue, scene, laid):
        instances.append(draw_thing(canvas, catalogue, thing, pose, len(instances) + 1, where))
    _light(canvas)
    return Drawing(canvas, instances, scene=scene.name)


def finish_picture(canvas: Canvas) -> np.ndarray:
    """The 8-bit picture (size, size, 3): downsampled, with a little camera noise."""
    picture = canvas.picture()
    grain = canvas.rng.standard_normal(picture.shape, dtype=np.float32)
    picture = picture + np.float32(canvas.rng.uniform(0.003, 0.012)) * grain
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)


def _draw_swatch(canvas: Canvas, catalogue: Catalogue) -> Drawing:
    """A picture that shows nothing but one texture."""
    rng = canvas.rng
    kind = pick(rng, catalogue.textures)
    colour, rgb = pick_colour(catalogue, rng)
    others = [name for name in catalogue.colours if name != colour]
    second, second_rgb = resolve_colour(catalogue, pick(rng, others), {}, rng)
    surface = pick(rng, ("matte", "fabric", "stone", "smooth"))
    side = canvas.side
    look = Look(rgb, colour, surface, None, kind, second_rgb, second, rng.uniform(18, 64), rng.uniform(0, math.pi))
    canvas.paint([_rows(side, 0.0)], PaintedRegion(1, None, look=look), relief=0)
    _light(canvas)
    return Drawing(canvas, [], texture=kind)


def _lay_background(canvas: Canvas, catalogue: Catalogue, scene: Scene) -> list:
    rng, side = canvas.rng, canvas.side
    present = [layer for layer in scene.layers if rng.random() < layer.chance]
    tops = [rng.uniform(*layer.top) * side for layer in present]
    laid = []
    for i, layer in enumerate(present):
        bottom = tops[i + 1] if i + 1 < len(tops) else side
        look = _backdrop_look(catalogue, layer, rng)
        number = len(laid) + 1
        outline = _edge(layer.edge, tops[i], side, rng)
        canvas.paint([outline], PaintedRegion(number, layer.object, look=look), relief=0, origin=(0, 0))
        instance = Instance(number, layer.object, look.colour, look.texture, f"{scene.at} a {scene.name}", True)
        laid.append(LaidBackdrop(layer, instance, tops[i], bottom))
    return laid


def _backdrop_look(catalogue: Catalogue, layer: Backdrop, rng) -> Look:
    weights = np.array([weight for *_, weight in layer.looks])
    material, surface, colours, _ = layer.looks[_weighted(rng, weights)]
    name, rgb = resolve_colour(catalogue, pick(rng, colours), {}, rng)
    rgb = jitter(rgb, rng, 0.03)
    surface = surface or (catalogue.materials[material] if material else "matte")
    return Look(rgb, name, surface, material)


def _plan_things(canvas: Canvas, catalogue: Catalogue, scene: Scene, laid: list) -> list:
    """(thing, pose, where) in drawing order: what is far away first."""
    rng = canvas.rng
    names, weights = list(scene.things), np.array(list(scene.things.values()), dtype=float)
    wanted = int(rng.integers(scene.count[0], scene.count[1] + 1))
    plan, placed_top = [], []
    for _ in range(wanted):
        index = _weighted(rng, weights)
        weights[index] *= 0.25  # seldom the same thing again
        thing = catalogue.things[names[index]]
        for _ in range(int(rng.integers(thing.flock[0], thing.flock[1] + 1))):
            (placed_top if thing.place == "top" else plan).append(thing)
    placed = [_place(canvas, thing, laid, plan) for thing in plan]
    placed = sorted((item for item in placed if item is not None), key=lambda item: item[0])
    result = [item[1:] for item in placed]
    for thing in placed_top:
        _put_on_top(canvas, thing, result, laid)
    return result


def _place(canvas: Canvas, thing: Thing, laid: list, plan: list):
    """(depth, thing, pose, where), or None where the scene has no such zone."""
    rng, side = canvas.rng, canvas.side
    zones = [item for item in laid if item.layer.zone == thing.place]
    if not zones:
        return None
    zone = pick(rng, zones)
    near = rng.random() ** 0.8
    height = side * (thing.size[0] + (thing.size[1] - thing.size[0]) * near) * rng.uniform(0.85, 1.15)
    x = side * rng.uniform(0.06, 0.94)
    span = zone.bottom - zone.top
    if thing.place in ("ground", "water"):
        y = zone.top + span * (0.12 + 0.82 * near)
        return 2 + y / side, thing, make_pose(thing, height, x, y, rng), f"on the {zone.layer.object}"
    if thing.place == "under":
        y = zone.top + span * rng.uniform(0.1, 0.9)
        return 3 + near, thing, make_pose(thing, height, x, y, rng), f"in the {zone.layer.object}"
    y = zone.top + span * rng.uniform(0.2, 0.8)
    if thing.place == "wall" and height > 1.1 * span:
        height = 1.1 * span
    depth = 1.5 if thing.place == "wall" else near
    preposition = "on" if thing.place == "wall" else "in"
    pose = make_pose(thing, height, x, y, rng)
    return depth, thing, pose, f"{preposition} the {zone.layer.object}"


def _put_on_top(canvas: Canvas, thing: Thing, result: list, laid: list):
    """Put a small thing on something with a top that is already placed, else on the ground."""
    rng, side = canvas.rng, canvas.side
    hosts = [i for i, (host, *_) in enumerate(result) if host.top is not None]
    if hosts:
        index = pick(rng, hosts)
        host, host_pose, _ = result[index]
        width = host.box[0]
        spot = np.array([[width * rng.uniform(0.15, 0.85), host.top]])
        x, y = host_pose.place(spot)[0]
        host_height = abs(host_pose.matrix[1][1]) * host.box[1]
        height = max(0.11 * side, min(side * rng.uniform(*thing.size), 0.75 * host_height))
        result.append((thing, make_pose(thing, height, x, y, rng), f"on a {host.name}"))
        return
    placed = [item for item in laid if item.layer.zone == "ground"]
    if placed:
        zone = pick(rng, placed)
        y = zone.top + (zone.bottom - zone.top) * rng.uniform(0.25, 0.95)
        height = side * rng.uniform(*thing.size)
        pose = make_pose(thing, height, side * rng.uniform(0.1, 0.9), y, rng)
        result.append((thing, pose, f"on the {zone.layer.object}"))


def _light(canvas: Canvas):
    """Exposure, tint and a slow gradient over the whole picture."""
    rng, side = canvas.rng, canvas.side
    ramp = np.linspace(-1, 1, side, dtype=np.float32)
    gradient = canvas.light * 0.09 * ramp[None, :] - rng.uniform(-0.03, 0.09) * ramp[:, None]
    vignette = rng.uniform(0, 0.12) * (ramp[None, :] ** 2 + ramp[:, None] ** 2)
    warm = rng.uniform(-0.05, 0.06)
    tint = np.float32((1 + warm, 1.0, 1 - warm)) * np.float32(rng.uniform(0.82, 1.12))
    canvas.rgb *= (1 + gradient - vignette)[..., None]
    haze = np.float32(rng.uniform(0, 0.12) if rng.random() < 0.3 else 0.0)
    canvas.rgb *= tint * (1 - haze)
    canvas.rgb += 0.8 * haze


def _rows(side: int, top: float) -> np.ndarray:
    return np.array([(0, top), (side, top), (side, side), (0, side)], dtype=float)


def _edge(kind: str, top: float, side: int, rng) -> np.ndarray:
    """Outline of everything under an upper edge of this kind at `top`."""
    if kind == "straight":
        return _rows(side, top)
    x = np.linspace(-2, side + 2, 97)
    t = x / side
    phase = rng.uniform(0, 2 * math.pi, 3)
    if kind == "hills":
        lift = 0.05 * np.sin(3.1 * t + phase[0]) + 0.02 * np.sin(9 * t + phase[1])
    elif kind == "waves":
        lift = 0.008 * np.sin(30 * t + phase[0]) + 0.006 * np.sin(51 * t + phase[1])
    elif kind == "trees":
        lift = 0.05 * np.abs(np.sin(17 * t + phase[0])) + 0.03 * np.abs(np.sin(41 * t + phase[1]))
    else:  # ridge
        peaks = rng.uniform(-0.02, 0.16, 9)
        lift = np.interp(t, np.linspace(-0.1, 1.1, 9), peaks) + 0.012 * rng.standard_normal(97)
    edge = np.stack([x, top - side * lift], axis=1)
    return np.concatenate([edge, [(side + 2, side + 2), (-2, side + 2)]])


def _weighted(rng, weights: np.ndarray) -> int:
    return int(np.searchsorted(np.cumsum(weights), rng.random() * weights.sum(), side="right"))
