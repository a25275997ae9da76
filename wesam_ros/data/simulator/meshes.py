"""Triangle meshes with texture coordinates: the shapes that household objects are put together from. Lengths in metres, z up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Mesh:
    """vert, normal (n, 3); uv (n, 2), v = 0 is the texture's bottom row; face (m, 3) indices, counter-clockwise seen from outside."""

    vert: Array
    normal: Array
    uv: Array
    face: npt.NDArray[np.int64]

    def moved(self, offset: tuple[float, float, float], rotation: Array | None = None) -> Mesh:
        """The mesh rotated by a (3, 3) matrix about its origin, then shifted by offset."""
        turn = np.eye(3) if rotation is None else rotation
        return Mesh(self.vert @ turn.T + np.asarray(offset), self.normal @ turn.T, self.uv, self.face)

    def deformed(self, warp: Callable[[Array], Array]) -> Mesh:
        """The mesh with its (n, 3) vertices mapped by warp and its normals made anew."""
        vert = warp(self.vert)
        return Mesh(vert, smooth_normals(vert, self.face), self.uv, self.face)


def rotation(axis: int, angle: float) -> Array:
    """(3, 3) rotation by angle in radians about coordinate axis 0, 1 or 2."""
    turn = np.eye(3)
    i, j = (axis + 1) % 3, (axis + 2) % 3
    turn[i, i] = turn[j, j] = np.cos(angle)
    turn[i, j], turn[j, i] = -np.sin(angle), np.sin(angle)
    return turn


def smooth_normals(vert: Array, face: npt.NDArray[np.int64]) -> Array:
    """Area-weighted vertex normals (n, 3); vertices at one place share theirs, so that texture seams do not show."""
    _, place = np.unique(np.round(vert, 5), axis=0, return_inverse=True)
    place = place.ravel()
    corners = vert[face]
    flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros((place.max() + 1, 3))
    for corner in range(3):
        np.add.at(total, place[face[:, corner]], flat)
    return _unit(total[place])


def _unit(vectors: Array) -> Array:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.where(length > 1e-12, vectors / np.maximum(length, 1e-12), np.array([0.0, 0.0, 1.0]))


def grid(points: Array, normal: Array | None, uv: Array) -> Mesh:
    """A mesh of (rows, columns, 3) points; columns run counter-clockwise seen from above and rows upwards."""
    rows, columns = points.shape[:2]
    index = np.arange(rows * columns).reshape(rows, columns)
    a, b, c, d = index[:-1, :-1].ravel(), index[:-1, 1:].ravel(), index[1:, 1:].ravel(), index[1:, :-1].ravel()
    face = np.concatenate([np.stack([a, b, c], 1), np.stack([a, c, d], 1)])
    vert = points.reshape(-1, 3)
    corners = vert[face]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    face = face[area > 1e-10]
    flat_normal = smooth_normals(vert, face) if normal is None else normal.reshape(-1, 3)
    return Mesh(vert, flat_normal, uv.reshape(-1, 2), face)


def lathe(profile: Array, segments: int = 32, crease: float = 0.75) -> Mesh:
    """A surface of revolution about z.

    Args:
        profile: (k, 2) radius and height, from the bottom outwards and up; going back down inside makes a hollow vessel.
        segments: sides.
        crease: radians; a profile corner sharper than this keeps a sharp edge.

    Returns:
        the mesh; u runs round the axis, v along the profile by arc length.
    """
    step = np.diff(profile, axis=0)
    length = np.linalg.norm(step, axis=1)
    keep = length > 1e-7
    profile = np.concatenate([profile[:1], profile[1:][keep]])
    step, length = step[keep], length[keep]
    across = np.stack([step[:, 1], -step[:, 0]], 1) / length[:, None]
    arc = np.concatenate([[0.0], np.cumsum(length)]) / length.sum()
    rows: list[tuple[Array, Array, float]] = [(profile[0], across[0], arc[0])]
    for i in range(1, len(profile) - 1):
        before, after = across[i - 1], across[i]
        if np.arccos(np.clip(before @ after, -1, 1)) > crease:
            rows += [(profile[i], before, arc[i]), (profile[i], after, arc[i])]
        else:
            rows.append((profile[i], (before + after) / 2, arc[i]))
    rows.append((profile[-1], across[-1], arc[-1]))
    u = np.linspace(0, 1, segments + 1)
    angle = 2 * np.pi * u
    ring = np.stack([np.cos(angle), np.sin(angle)], 1)
    points = np.stack([np.concatenate([ring * p[0], np.full((len(u), 1), p[1])], 1) for p, _, _ in rows])
    normal = np.stack([np.concatenate([ring * n[0], np.full((len(u), 1), n[1])], 1) for _, n, _ in rows])
    uv = np.stack([np.stack([u, np.full_like(u, v)], 1) for _, _, v in rows])
    return grid(points, _unit(normal), uv)


def arc_fraction(profile: Array, index: int) -> float:
    """v of profile point index on lathe(profile)."""
    length = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(profile, axis=0), axis=1))])
    return float(length[index] / length[-1])


def superquadric(radii: tuple[float, float, float], pinch: float, square: float, rows: int = 20, columns: int = 32) -> Mesh:
    """The superellipsoid of Barr (1981) with half-axes radii.

    Its exponents are pinch (vertical) and square (horizontal): 1 is round, towards 0 boxy, 2 a diamond.
    """
    lat = np.linspace(-np.pi / 2, np.pi / 2, rows)[:, None]
    lon = np.linspace(-np.pi, np.pi, columns + 1)[None, :]

    def power(value: Array, exponent: float) -> Array:
        return np.sign(value) * np.abs(value) ** exponent

    x = power(np.cos(lat), pinch) * power(np.cos(lon), square) * radii[0]
    y = power(np.cos(lat), pinch) * power(np.sin(lon), square) * radii[1]
    z = power(np.sin(lat), pinch) * radii[2] * np.ones_like(lon)
    x[[0, -1]] = y[[0, -1]] = 0.0
    uv = np.stack(np.broadcast_arrays((lon + np.pi) / (2 * np.pi), (lat + np.pi / 2) / np.pi), -1)
    return grid(np.stack([x, y, z], -1), None, uv)


def rounded_box(half: tuple[float, float, float], radius: float) -> Mesh:
    """A box with half edges half and rounded edges; its faces use the cells of a 3 x 2 texture atlas.

    Lower row of cells: front (-y), right (+x), top (+z); upper row: back (+y), left (-x), bottom (-z).
    """
    size = np.asarray(half)
    inner = size - radius
    cells = [((0, 2), 1, -1.0), ((1, 2), 0, 1.0), ((0, 1), 2, 1.0), ((0, 2), 1, 1.0), ((1, 2), 0, -1.0), ((0, 1), 2, -1.0)]
    mirrored = {3, 4, 5}
    meshes = []
    for cell, ((right, up), out, sign) in enumerate(cells):
        a, b = (np.concatenate([[-size[k]], np.linspace(-inner[k], inner[k], 5), [size[k]]]) for k in (right, up))
        points = np.zeros((len(b), len(a), 3))
        points[..., right] = a[None, :] * (-1 if cell in mirrored else 1)
        points[..., up] = b[:, None]
        points[..., out] = sign * size[out]
        inside = np.clip(points, -inner, inner)
        normal = _unit(points - inside)
        u = (np.linspace(0, 1, len(a)) if size[right] == 0 else (a + size[right]) / (2 * size[right])) * 0.98 + 0.01
        v = (b + size[up]) / (2 * size[up]) * 0.98 + 0.01
        uv = np.stack(np.meshgrid((cell % 3 + u) / 3, (cell // 3 + v) / 2), -1)
        meshes.append(grid(inside + normal * radius, normal, uv))
    return merge(meshes)


def merge(meshes: list[Mesh]) -> Mesh:
    """One mesh of several that share a texture."""
    start = np.cumsum([0] + [len(m.vert) for m in meshes[:-1]])
    return Mesh(
        np.concatenate([m.vert for m in meshes]),
        np.concatenate([m.normal for m in meshes]),
        np.concatenate([m.uv for m in meshes]),
        np.concatenate([m.face + s for m, s in zip(meshes, start, strict=True)]),
    )


def sweep(path: Array, radius: Array, sides: int = 14, flatten: float = 1.0) -> Mesh:
    """A tube along path (k, 3) with radius (k,), closed where it is 0; flatten scales the second cross axis. u round, v along."""
    tangent = _unit(np.gradient(path, axis=0))
    first = np.cross(tangent[0], [0.0, 0.0, 1.0] if abs(tangent[0, 2]) < 0.9 else [1.0, 0.0, 0.0])
    frames = []
    for t in tangent:
        first = first - (first @ t) * t
        first = first / np.linalg.norm(first)
        frames.append((first, np.cross(t, first)))
    u = np.linspace(0, 1, sides + 1)
    cos, sin = np.cos(2 * np.pi * u), np.sin(2 * np.pi * u) * flatten
    points = np.stack([p + r * (cos[:, None] * a + sin[:, None] * b) for p, r, (a, b) in zip(path, radius, frames, strict=True)])
    uv = np.stack(np.meshgrid(u, np.linspace(0, 1, len(path))), -1)
    return grid(points, None, uv)


def prism(outline: Array, height: float) -> Mesh:
    """An outline (k, 2), counter-clockwise, star-shaped about the origin, raised from z = 0 to height; flat faces show all the texture."""
    ring = np.concatenate([outline, outline[:1]])
    tangent = np.roll(outline, -1, 0) - np.roll(outline, 1, 0)
    side = _unit(np.stack([tangent[:, 1], -tangent[:, 0], np.zeros(len(outline))], 1))
    side = np.concatenate([side, side[:1]])
    flat = ring / (2.05 * np.abs(outline).max()) + 0.5
    along = np.stack([np.linspace(0, 1, len(ring)), np.zeros(len(ring))], 1)
    down, up = np.broadcast_to([0.0, 0.0, -1.0], side.shape), np.broadcast_to([0.0, 0.0, 1.0], side.shape)
    middle = np.full_like(flat, 0.5)
    rows = [
        (0.0, 0.0, down, middle),
        (1.0, 0.0, down, flat),
        (1.0, 0.0, side, along + np.array([0, 0.45])),
        (1.0, height, side, along + np.array([0, 0.55])),
        (1.0, height, up, flat),
        (0.0, height, up, middle),
    ]
    points = np.stack([np.concatenate([ring * s, np.full((len(ring), 1), z)], 1) for s, z, _, _ in rows])
    return grid(points, np.stack([n for _, _, n, _ in rows]), np.stack([uv for _, _, _, uv in rows]))
