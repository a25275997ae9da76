"""Household things: each maker draws one object of its kind from a Generator. Lengths in metres, z up, base near z = 0."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from wesam_ros.data.simulator import meshes, packaging, textures
from wesam_ros.data.simulator.meshes import Array, Mesh
from wesam_ros.data.simulator.parts import Item, Part, any_gloss, any_skin, one_tone
from wesam_ros.data.simulator.textures import Colour, Image, Rng
from wesam_ros.data.simulator.tools import hammer, scissors, screwdriver, spoon


def box(rng: Rng) -> Item:
    """A carton, or a cube."""
    y, x, z = sorted(float(v) for v in rng.uniform([0.012, 0.03, 0.045], [0.035, 0.065, 0.125]))
    if rng.random() < 0.25:
        x = y = z = float(rng.uniform(0.025, 0.05))
    edge = min(x, y, z) * float(rng.choice([0.04, 0.08, 0.25]))
    atlas = packaging.carton(rng, (x, y, z)) if rng.random() < 0.82 else any_skin(rng, 512)
    mesh = meshes.rounded_box((x, y, z), edge)
    if rng.random() < 0.5:
        mesh = mesh.moved((0, 0, 0), meshes.rotation(0, -np.pi / 2))
        z = y
    return Item("box", (Part(mesh.moved((0, 0, z)), atlas, any_gloss(rng, 0.02, 0.4)),))


def can(rng: Rng) -> Item:
    """A can with a wrapper."""
    r, h = rng.uniform(0.025, 0.05), rng.uniform(0.035, 0.15)
    rim = 0.004
    neck = r * rng.uniform(0.8, 0.97)
    profile = np.array(
        [
            [0, 0.003],
            [neck * 0.9, 0.003],
            [neck, 0],
            [r, rim * 2],
            [r, h - rim * 2],
            [neck, h],
            [neck * 0.93, h],
            [neck * 0.9, h - rim],
            [0, h - rim],
        ]
    )
    low, high = meshes.arc_fraction(profile, 3), meshes.arc_fraction(profile, 4)
    metal = float(rng.uniform(0.5, 0.85))
    ends: Colour = (metal, metal, metal * rng.uniform(0.85, 1.0)) if rng.random() < 0.7 else textures.colour(rng)
    return Item(
        "can", (Part(meshes.lathe(profile), packaging.wrapper(rng, low, high, ends, 2 * np.pi * r / h), any_gloss(rng, 0.15, 0.7)),)
    )


def bottle(rng: Rng) -> Item:
    """A bottle with a shoulder, a neck and a cap."""
    r, h = rng.uniform(0.022, 0.045), rng.uniform(0.12, 0.25)
    neck = r * rng.uniform(0.25, 0.6)
    body, shoulder = h * rng.uniform(0.4, 0.65), h * rng.uniform(0.72, 0.85)
    t = np.linspace(0, 1, 7)[1:-1]
    bow = np.stack([r + (neck - r) * (3 * t**2 - 2 * t**3), body + (shoulder - body) * t], 1)
    waist = float(rng.choice([0, 0, rng.uniform(0.05, 0.2)]))
    s = np.linspace(0, 1, 8)
    side = np.stack([r * (1 - waist * np.sin(np.pi * s)), 0.008 + (body - 0.008) * s], 1)
    cap = neck * rng.uniform(1.05, 1.3)
    profile = np.concatenate([[[0, 0], [r * 0.85, 0]], side, bow, [[neck, shoulder], [neck, h * 0.9], [cap, h * 0.9], [cap, h], [0, h]]])
    low, high = meshes.arc_fraction(profile, 3), meshes.arc_fraction(profile, 8)
    glass = textures.colour(rng)
    image = packaging.wrapper(rng, low, low + (high - low) * rng.uniform(0.6, 1), glass, 2 * np.pi * r / body)
    v_cap = meshes.arc_fraction(profile, len(profile) - 4)
    image[: int((1 - v_cap) * 512)] = textures.rgb255(textures.colour(rng))
    return Item("bottle", (Part(meshes.lathe(profile), image, any_gloss(rng, 0.2, 0.8)),))


def _vessel(rng: Rng, outer: Array, wall: float) -> tuple[Mesh, tuple[tuple[float, ...], ...]]:
    """A hollow lathe body of an outer profile, and a ring of boxes with a floor that it collides with."""
    back = outer[1:][::-1]
    inner = np.stack([np.maximum(back[:, 0] - wall, 0.001), np.maximum(back[:, 1], wall * 1.5)], 1)
    mesh = meshes.lathe(np.concatenate([outer, inner, [[0, wall * 1.5]]]), 36)
    top, foot = outer[-1], outer[1]
    height, r = float(top[1]), float(top[0])
    sides: list[tuple[float, ...]] = [(0, 0, wall, float(foot[0]) * 0.7, float(foot[0]) * 0.7, wall, 0)]
    levels = [0.15, 0.5, 0.85]
    for level in levels:
        ring = float(np.interp(level * height, outer[1:, 1], outer[1:, 0])) - wall
        for k in range(10):
            a = 2 * np.pi * k / 10
            sides.append((ring * np.cos(a), ring * np.sin(a), level * height, wall, np.pi * max(ring, r * 0.3) / 10, height * 0.17, a))
    return mesh, tuple(sides)


def _pottery(rng: Rng) -> Image:
    image = any_skin(rng, 512) if rng.random() < 0.6 else packaging.wrapper(rng, 0.15, 0.42, textures.colour(rng), 3)
    if rng.random() < 0.7:
        image[:256] = textures.rgb255(textures.near(rng, (0.85, 0.84, 0.8) if rng.random() < 0.6 else textures.colour(rng), 0.05))
    return image


def mug(rng: Rng) -> Item:
    """A mug with a handle."""
    r, h = float(rng.uniform(0.032, 0.048)), float(rng.uniform(0.06, 0.115))
    belly = rng.uniform(-0.1, 0.15)
    s = np.linspace(0, 1, 7)
    outer = np.concatenate(
        [[[0, 0], [r * 0.8, 0]], np.stack([r * (0.93 + 0.07 * s + belly * np.sin(np.pi * s)), 0.006 + (h - 0.006) * s], 1)]
    )
    mesh, colliders = _vessel(rng, outer, 0.003)
    texture = _pottery(rng)
    a = np.linspace(-np.pi / 2, np.pi / 2, 12)
    depth, tall = rng.uniform(0.02, 0.032), h * rng.uniform(0.25, 0.36)
    path = np.stack([r * 0.97 + depth * np.cos(a), np.zeros(12), h * 0.52 + tall * np.sin(a)], 1)
    handle = meshes.sweep(path, np.full(12, rng.uniform(0.0045, 0.0075)))
    tone = textures.rgb255(textures.colour(rng)) if rng.random() < 0.3 else tuple(int(v) for v in texture[400, 10])
    gloss = any_gloss(rng, 0.15, 0.7)
    return Item("mug", (Part(mesh, texture, gloss, False), Part(handle, np.full((16, 16, 3), tone, np.uint8), gloss)), colliders)


def bowl(rng: Rng) -> Item:
    """A bowl."""
    r, h = float(rng.uniform(0.05, 0.095)), float(rng.uniform(0.035, 0.075))
    s = np.linspace(0, 1, 9)
    foot = r * rng.uniform(0.35, 0.6)
    side = np.stack([foot + (r - foot) * np.sin(s * np.pi / 2) ** rng.uniform(0.7, 1.4), 0.004 + (h - 0.004) * s ** rng.uniform(1, 2)], 1)
    outer = np.concatenate([[[0, 0], [foot * 0.95, 0]], side])
    mesh, colliders = _vessel(rng, outer, 0.0035)
    return Item("bowl", (Part(mesh, _pottery(rng), any_gloss(rng, 0.1, 0.7), False),), colliders)


def plate(rng: Rng) -> Item:
    """A plate."""
    r, h = float(rng.uniform(0.07, 0.11)), float(rng.uniform(0.012, 0.022))
    outer = np.array([[0, 0], [r * 0.6, 0], [r * 0.66, 0.003], [r * 0.8, h * 0.5], [r, h]])
    inner = np.array([[r * 0.985, h + 0.001], [r * 0.78, h * 0.5 + 0.003], [r * 0.62, 0.006], [0, 0.005]])
    return Item("plate", (Part(meshes.lathe(np.concatenate([outer, inner]), 40), _pottery(rng), any_gloss(rng, 0.1, 0.6)),))


def _rind(rng: Rng, tones: list[Colour], grain: float) -> Image:
    mottle = 0.6 * textures.noise(rng, 256, 3, 5) + 0.4 * np.linspace(0, 1, 256, dtype=np.float32)[:, None]
    return textures.shaded(textures.ramp(mottle, tones), textures.noise(rng, 256, 90, 2), grain)


FRUIT: dict[str, list[Colour]] = {
    "red": [(0.35, 0.03, 0.05), (0.7, 0.1, 0.1), (0.85, 0.6, 0.2)],
    "green": [(0.3, 0.5, 0.1), (0.55, 0.7, 0.2), (0.7, 0.75, 0.35)],
    "orange": [(0.85, 0.4, 0.05), (0.95, 0.55, 0.1)],
    "yellow": [(0.75, 0.6, 0.1), (0.95, 0.85, 0.25)],
    "purple": [(0.2, 0.05, 0.2), (0.45, 0.15, 0.35)],
    "brown": [(0.35, 0.22, 0.12), (0.6, 0.45, 0.28), (0.7, 0.6, 0.4)],
}


def fruit(rng: Rng) -> Item:
    """An apple, orange, lemon, pear or potato."""
    t = np.linspace(-np.pi / 2, np.pi / 2, 22)
    r = float(rng.uniform(0.026, 0.048))
    kind = str(rng.choice(["apple", "orange", "lemon", "pear", "potato"]))
    tones = {
        "apple": ["red", "green", "yellow"],
        "orange": ["orange"],
        "lemon": ["yellow", "green"],
        "pear": ["green", "yellow", "brown"],
        "potato": ["brown", "purple", "red"],
    }[kind]
    x, z = np.cos(t), np.sin(t)
    if kind == "apple":
        dimple = 0.28 * np.sin(t) ** 8 * np.sign(np.sin(t)) * np.exp(-((x / 0.3) ** 2))
        x, z = np.cos(t) * (1 + 0.1 * np.sin(t)), np.sin(t) * 0.92 - dimple
    elif kind == "lemon":
        r *= 0.75
        z = np.sin(t) * 1.3 + 0.18 * np.sin(t) ** 9
    elif kind == "pear":
        x, z = np.cos(t) * (1 - 0.35 * np.sin(t) - 0.1 * np.sin(t) ** 2), 1.35 * np.sin(t)
    x[[0, -1]] = 0
    mesh = meshes.lathe(np.stack([x * r, (z - z.min()) * r], 1), 28)
    if kind == "potato":
        mesh = _lumpy(rng, mesh, 0.25)
    skin = _rind(rng, FRUIT[str(rng.choice(tones))], {"orange": 0.25, "lemon": 0.2}.get(kind, 0.1))
    parts = [Part(mesh, skin, any_gloss(rng, 0.05, 0.45))]
    if kind in ("apple", "pear"):
        top = float(z[-1] - z.min()) * r
        path = np.stack([np.linspace(0, 0.006, 5), np.zeros(5), np.linspace(top - 0.004, top + 0.016, 5)], 1)
        stem = meshes.sweep(path, np.array([0.002, 0.002, 0.002, 0.002, 0.0]), 6)
        parts.append(Part(stem, one_tone(rng, (0.3, 0.2, 0.1)), 0.05, False))
    return Item(kind, tuple(parts))


def _lumpy(rng: Rng, mesh: Mesh, amount: float) -> Mesh:
    """The mesh swollen and bent by a few smooth waves."""
    waves = rng.normal(0, 1, (4, 3)) * 28
    phase = rng.uniform(0, 2 * np.pi, 4)
    scale = rng.uniform(0.75, 1.35, 3)

    def warp(vert: Array) -> Array:
        swell = 1 + amount * np.mean(np.sin(vert @ waves.T + phase), axis=1)
        centre = vert.mean(0)
        return np.asarray((vert - centre) * swell[:, None] * scale + centre)

    return mesh.deformed(warp)


def banana(rng: Rng) -> Item:
    """A banana."""
    s = np.linspace(0, 1, 18)
    bend, length = rng.uniform(0.6, 1.5), rng.uniform(0.13, 0.2)
    a = (s - 0.5) * bend
    path = np.stack([np.sin(a) * length / bend, (1 - np.cos(a)) * length / bend, np.full(18, 0.018)], 1)
    radius = rng.uniform(0.014, 0.02) * np.clip(np.minimum(s * 6, (1 - s) * 3.2), 0, 1) ** 0.6
    image = _rind(rng, [(0.85, 0.7, 0.15), (0.95, 0.85, 0.3), (0.75, 0.7, 0.25)] if rng.random() < 0.7 else FRUIT["green"], 0.1)
    image[:14] = image[-18:] = (60, 45, 25)
    return Item("banana", (Part(meshes.sweep(path, radius, 12, 0.9), image, any_gloss(rng, 0.05, 0.3)),))


def ball(rng: Rng) -> Item:
    """A ball."""
    r = float(rng.uniform(0.02, 0.05))
    t = np.linspace(-np.pi / 2, np.pi / 2, 20)
    profile = np.stack([r * np.cos(t), r + r * np.sin(t)], 1)
    profile[[0, -1], 0] = 0
    return Item("ball", (Part(meshes.lathe(profile, 28), any_skin(rng), any_gloss(rng)),))


def book(rng: Rng) -> Item:
    """A book with a cover."""
    w, h, t = (float(v) for v in rng.uniform([0.045, 0.07, 0.004], [0.085, 0.115, 0.02]))
    half = (w, t, h)
    atlas = packaging.carton(rng, half)
    front = cv2.resize(packaging.cover(rng), (171, 256), interpolation=cv2.INTER_AREA)
    atlas[256:, :171] = front
    pages = np.repeat(rng.integers(190, 245, (256, 1, 1)).astype(np.uint8), 171, 1).repeat(3, 2)
    atlas[256:, 171:342] = pages
    atlas[256:, 342:] = pages[:, :170]
    mesh = meshes.rounded_box(half, min(0.002, t * 0.3)).moved((0, 0, 0), meshes.rotation(0, -np.pi / 2))
    return Item("book", (Part(mesh.moved((0, 0, t)), atlas.astype(np.uint8), any_gloss(rng, 0.02, 0.35)),))


def tube(rng: Rng) -> Item:
    """A tube of paste, or a roll."""
    r, length = float(rng.uniform(0.012, 0.028)), float(rng.uniform(0.1, 0.19))
    if rng.random() < 0.5:  # a tube of paste: round at the cap, pressed flat at the end
        rows, u = np.linspace(0, 1, 14), np.linspace(0, 2 * np.pi, 25)
        wide = r * (1 + 0.35 * rows[:, None])
        points = np.stack(
            [wide * np.cos(u), r * (1 - rows[:, None] * 0.95) * np.sin(u), np.broadcast_to(rows[:, None] * length, (14, 25))], -1
        )
        mesh = meshes.grid(points, None, np.stack(np.meshgrid(np.linspace(0, 1, 25), rows), -1))
        cap = meshes.lathe(np.array([[0, -0.018], [r * 0.6, -0.018], [r * 0.7, 0], [0, 0.001]]), 20)
        lay = meshes.rotation(0, -np.pi / 2)
        label = packaging.wrapper(rng, 0.08, 0.92, textures.colour(rng), 2 * np.pi * r / length)
        parts = (
            Part(mesh.moved((0, 0, r), lay), label, any_gloss(rng)),
            Part(cap.moved((0, 0, r), lay), one_tone(rng, textures.colour(rng)), 0.2),
        )
        return Item("tube", parts)
    profile = np.array([[0, 0], [r, 0], [r, length], [r * 0.8, length], [r * 0.8, length * 0.97], [0, length * 0.97]])
    image = packaging.wrapper(rng, 0.1, meshes.arc_fraction(profile, 2), textures.colour(rng), 2 * np.pi * r / length)
    return Item("tube", (Part(meshes.lathe(profile, 24), image, any_gloss(rng)),))


def block(rng: Rng) -> Item:
    """A prism of a random outline: toy blocks, cutters, soap, nuts, tiles, lids."""
    n = int(rng.choice([3, 4, 5, 6, 8, 40]))
    a = np.linspace(0, 2 * np.pi, n, endpoint=False) if n < 40 else np.linspace(0, 2 * np.pi, 48, endpoint=False)
    radii = np.ones(len(a))
    if n == 40:
        radii = 1 + rng.uniform(0.1, 0.4) * np.cos(a * int(rng.integers(2, 8)) + rng.uniform(0, 6))
    outline = np.stack([np.cos(a), np.sin(a) * rng.uniform(0.5, 1)], 1) * radii[:, None] * rng.uniform(0.025, 0.06)
    height = float(rng.choice([rng.uniform(0.008, 0.03), rng.uniform(0.03, 0.1)]))
    return Item("block", (Part(meshes.prism(outline, height), any_skin(rng, 512), any_gloss(rng)),))


def blob(rng: Rng) -> Item:
    """A superquadric, often tapered and lumpy: soap, sponges, toys, stones, pouches, bread."""
    radii = tuple(float(v) for v in rng.uniform(0.018, 0.06, 3))
    mesh = meshes.superquadric((radii[0], radii[1], radii[2]), float(rng.uniform(0.15, 1.3)), float(rng.uniform(0.15, 1.3)))
    taper, twist = rng.uniform(-0.5, 0.5), rng.choice([0, 0, rng.uniform(-12, 12)])

    def warp(vert: Array) -> Array:
        scale = 1 + taper * vert[:, 2:] / radii[2] * 0.6
        angle = twist * vert[:, 2]
        x, y = vert[:, 0] * np.cos(angle) - vert[:, 1] * np.sin(angle), vert[:, 0] * np.sin(angle) + vert[:, 1] * np.cos(angle)
        return np.asarray(np.concatenate([np.stack([x, y], 1) * scale, vert[:, 2:]], 1))

    mesh = _lumpy(rng, mesh.deformed(warp), float(rng.choice([0, 0.1, 0.3])))
    image = any_skin(rng, 512) if rng.random() < 0.7 else packaging.cover(rng)
    return Item("blob", (Part(mesh.moved((0, 0, radii[2])), image, any_gloss(rng)),))


def vase(rng: Rng) -> Item:
    """A lathe body of random profile: vases, jars, lamps, pawns, pots, cups."""
    h, r = rng.uniform(0.05, 0.18), rng.uniform(0.022, 0.05)
    s = np.linspace(0, 1, 14)
    shape = 0.65 + 0.35 * np.sin(s * rng.uniform(2, 9) + rng.uniform(0, 6)) + rng.uniform(-0.2, 0.2) * s
    radius = r * np.clip(shape, 0.25, 1.2)
    if rng.random() < 0.3:
        radius = r * np.clip(np.repeat(rng.uniform(0.35, 1.1, 7), 2), 0.2, 1.2)
    profile = np.concatenate([[[0, 0]], np.stack([radius, s * h], 1), [[0, h]]])
    image = any_skin(rng, 512) if rng.random() < 0.5 else packaging.wrapper(rng, 0.25, 0.75, textures.colour(rng), 2 * np.pi * r / h)
    return Item("vase", (Part(meshes.lathe(profile), image, any_gloss(rng, 0.05, 0.7)),))


MAKERS: dict[Callable[[Rng], Item], float] = {
    box: 5,
    can: 2.2,
    bottle: 1.6,
    mug: 1.8,
    bowl: 1.4,
    plate: 0.5,
    fruit: 2.2,
    banana: 0.8,
    ball: 0.8,
    book: 1.2,
    tube: 1.2,
    hammer: 0.5,
    screwdriver: 0.5,
    scissors: 0.5,
    spoon: 0.4,
    block: 1.8,
    blob: 2.2,
    vase: 1.6,
}


def draw(rng: Rng) -> Item:
    """One object of a kind drawn by weight."""
    weights = np.array(list(MAKERS.values()))
    return list(MAKERS)[int(rng.choice(len(weights), p=weights / weights.sum()))](rng)
