"""A table in a room, things to put on it, and the physics of putting them there. World frame: z up, table top at z = 0, metres."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from wesam_ros.data.simulator import backend, objects, textures
from wesam_ros.data.simulator.domains import BUSY, Domain
from wesam_ros.data.simulator.parts import SKINS, Item, Part
from wesam_ros.data.simulator.textures import Image, Rng

_SHOWN, _UNSEEN = 0, 3  # geom groups; the renderer draws the first only
_STEPS, _TIMESTEP = 350, 0.004
_PARKED = -60.0
_REACH = (0.2, 0.16)  # metres from the middle within which things are dropped, so that the camera sees them


def _quaternion(rng: Rng, upright: float) -> npt.NDArray[np.float64]:
    """w x y z: turned about z, and now and then tipped over."""
    yaw = rng.uniform(0, 2 * np.pi)
    about_z = np.array([np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)])
    if rng.random() < upright:
        return about_z
    other = rng.standard_normal(4)
    return np.asarray(other / np.linalg.norm(other))


@dataclass
class Scene:
    """A compiled world with its state; made by build().

    Attributes:
        model, data: MuJoCo's; items: the objects in order of addition, item k being instance k + 1.
        half: half edges of the table top; spread: standard deviation of drop places; both in metres.
        body_of, address_of, speed_of: of each item its body, and where its free joint's qpos and qvel begin.
        instance_of_geom: (ngeom + 1,) instance id or 0; on_table: items that are there.
    """

    model: Any
    data: Any
    items: tuple[Item, ...]
    half: tuple[float, float]
    spread: float
    body_of: list[int]
    address_of: list[int]
    speed_of: list[int]
    instance_of_geom: npt.NDArray[np.uint16]
    on_table: list[int] = field(default_factory=list)

    def add(self, item: int, rng: Rng) -> bool:
        """Drop an item onto the table and let everything settle; False if it would not stay. What was pushed off is taken away."""
        for _ in range(4):
            self._place(item, rng)
            self.on_table.append(item)
            self.settle()
            gone = [k for k in self.on_table if not self._stays(k)]
            self.on_table = [k for k in self.on_table if k not in gone]
            if item not in gone:
                return True
        return False

    def _place(self, item: int, rng: Rng) -> None:
        radius = self.items[item].radius
        if self.on_table and rng.random() < 0.55:  # beside or on top of another
            partner = self.data.xpos[self.body_of[int(rng.choice(self.on_table))]]
            distance, angle = rng.uniform(0, radius + 0.06), rng.uniform(0, 2 * np.pi)
            x, y = partner[0] + distance * np.cos(angle), partner[1] + distance * np.sin(angle)
        else:
            x, y = rng.normal(0, self.spread, 2)
        x, y = np.clip(x, -_REACH[0], _REACH[0]), np.clip(y, -_REACH[1], _REACH[1])
        floor = 0.0
        for other in self.on_table:
            place = self.data.xpos[self.body_of[other]]
            if np.hypot(place[0] - x, place[1] - y) < radius + self.items[other].radius:
                floor = max(floor, place[2] + self.items[other].radius * 0.9)
        turn = _quaternion(rng, 0.72)
        lift = 0.01 if abs(turn[1]) + abs(turn[2]) < 1e-9 else radius
        a, v = self.address_of[item], self.speed_of[item]
        self.data.qpos[a : a + 3] = x, y, floor + lift
        self.data.qpos[a + 3 : a + 7] = turn
        self.data.qvel[v : v + 6] = 0

    def _park(self) -> None:
        for item, (a, v) in enumerate(zip(self.address_of, self.speed_of, strict=True)):
            if item not in self.on_table:
                self.data.qpos[a : a + 3] = 3.0 * item, 0, _PARKED
                self.data.qpos[a + 3 : a + 7] = 1, 0, 0, 0
                self.data.qvel[v : v + 6] = 0

    def settle(self) -> None:
        """Lets the things fall until they lie still, for 1.4 s at most."""
        module = backend.mujoco()
        self._park()
        moving = [self.speed_of[k] for k in self.on_table]
        for _ in range(_STEPS // 50):
            module.mj_step(self.model, self.data, 50)
            speed = max(float(np.abs(self.data.qvel[v : v + 6]).max()) for v in moving)
            if self.data.time > 0.3 and speed < 0.02:
                break
        for v in moving:
            self.data.qvel[v : v + 6] = 0
        self._park()
        module.mj_forward(self.model, self.data)

    def _stays(self, item: int) -> bool:
        x, y, z = self.data.xpos[self.body_of[item]]
        return bool(np.isfinite([x, y, z]).all() and -0.02 < z < 0.8 and abs(x) < self.half[0] and abs(y) < self.half[1])

    def look(
        self, target: npt.ArrayLike, distance: float, elevation: float, azimuth: float, roll: float, focal: float, height: int
    ) -> None:
        """Put the camera distance metres from target; angles in degrees, focal in pixels of an image height pixels high."""
        e, a, r = np.radians([elevation, azimuth, roll])
        back = np.array([np.cos(e) * np.cos(a), np.cos(e) * np.sin(a), np.sin(e)])
        right = np.cross([0.0, 0.0, 1.0], back)
        right /= np.linalg.norm(right)
        up = np.cross(back, right)
        axes = np.stack([np.cos(r) * right + np.sin(r) * up, np.cos(r) * up - np.sin(r) * right, back], 1)
        quaternion = np.zeros(4)
        backend.mujoco().mju_mat2Quat(quaternion, axes.ravel())
        self.model.cam_pos[0] = np.asarray(target) + distance * back
        self.model.cam_quat[0] = quaternion
        self.model.cam_fovy[0] = np.degrees(2 * np.arctan(height / 2 / focal))
        backend.mujoco().mj_forward(self.model, self.data)

    def vertices(self, item: int) -> npt.NDArray[np.float64]:
        """(n, 3) metres in the world frame: the corners of an item's meshes where it lies now."""
        corners = np.concatenate([part.mesh.vert for part in self.items[item].parts])
        body = self.body_of[item]
        return np.asarray(corners @ self.data.xmat[body].reshape(3, 3).T + self.data.xpos[body])

    def camera_pose(self) -> npt.NDArray[np.float64]:
        """(4, 4) from the camera's optical frame (x right, y down, z forward) to the world, metres."""
        pose = np.eye(4)
        pose[:3, :3] = self.data.cam_xmat[0].reshape(3, 3) * [1, -1, -1]  # MuJoCo's cameras look along -z, y up
        pose[:3, 3] = self.data.cam_xpos[0]
        return pose


def drawn_camera(domain: Domain, size: tuple[int, int], rng: Rng) -> npt.NDArray[np.float64]:
    """(3, 3) intrinsic matrix K of a camera of the domain, for images of size (H, W)."""
    height, width = size
    focal = float(rng.uniform(*domain.focal)) * width / 640
    return np.array([[focal, 0, (width - 1) / 2], [0, focal, (height - 1) / 2], [0, 0, 1]])


def build(domain: Domain, count: int, size: tuple[int, int], rng: Rng, furnish: Callable[[Furnisher], None] | None = None) -> Scene:
    """Furnish a room and draw count items, for images of size (H, W); all are compiled in, parked far below until they are added.

    `furnish` adds what else there is, such as a bin or a hand, which has no instance id.
    """
    module = backend.mujoco()
    spec = module.MjSpec()
    spec.option.timestep = _TIMESTEP
    spec.option.cone = module.mjtCone.mjCONE_PYRAMIDAL
    spec.option.iterations = 30
    spec.stat.extent, spec.stat.center = 2.0, [0, 0, 0]
    spec.visual.map.znear, spec.visual.map.zfar = 0.03, 6.0
    spec.visual.quality.shadowsize, spec.visual.quality.offsamples, spec.visual.quality.numquads = 2048, 4, 24
    spec.visual.global_.offheight, spec.visual.global_.offwidth = size
    spec.worldbody.add_camera(name="camera", pos=[0, -1, 1])
    room = Furnisher(spec, rng, domain)
    table = room.ground(domain.table)
    half = room.furnish(table)
    room.light()
    pool = [table]
    items = []
    for k in range(count):
        item = _dressed(objects.draw(rng), pool, domain, rng)
        pool.append(item.parts[0].texture)
        items.append(item)
        room.put(item, k)
    if furnish is not None:
        furnish(room)
    model = spec.compile()
    data = module.MjData(model)
    body_of = [model.body(f"item{k}").id for k in range(count)]
    joints = [model.body_jntadr[b] for b in body_of]
    instance = np.zeros(model.ngeom + 1, np.uint16)  # the last entry serves geom -1: nothing hit
    for k, body in enumerate(body_of):
        instance[:-1][model.geom_bodyid == body] = k + 1
    scene = Scene(
        model,
        data,
        tuple(items),
        half,
        float(rng.uniform(*domain.spread)),
        body_of,
        [int(model.jnt_qposadr[j]) for j in joints],
        [int(model.jnt_dofadr[j]) for j in joints],
        instance,
    )
    scene._park()
    module.mj_forward(model, data)
    return scene


def _dressed(item: Item, pool: list[Image], domain: Domain, rng: Rng) -> Item:
    """The item with the domain's gloss and reflections and, camouflaged, in a texture of the table or of another item."""
    factor, floor = domain.gloss
    borrowed = pool[int(rng.integers(len(pool))) if rng.random() < 0.5 else 0] if rng.random() < domain.camouflage else None
    shine = float(rng.uniform(*domain.reflection)) if domain.reflection[1] > 0 else 0.0
    parts = []
    for p in item.parts:
        texture = p.texture if borrowed is None else borrowed
        if shine > 0:
            texture = textures.reflecting(texture, pool[0], shine, rng)
        parts.append(Part(p.mesh, texture, float(np.clip(max(p.gloss * factor, floor), 0, 1)), p.solid))
    return Item(item.kind, tuple(parts), item.colliders)


class Furnisher:
    """Adds assets and bodies to a spec; one per build()."""

    def __init__(self, spec: Any, rng: Rng, domain: Domain) -> None:
        self.spec, self.rng, self.domain, self.module = spec, rng, domain, backend.mujoco()
        self._made: dict[int, tuple[str, Image]] = {}  # by id(); the image is held lest its id goes to another

    def material(self, name: str, image: Image, gloss: float, repeat: float = 1.0, mirror: float = 0.0) -> str:
        """Adds a material of a texture, once each; gives its name."""
        if id(image) not in self._made:
            self._made[id(image)] = (f"{name}-texture", image)
            made = self.spec.add_texture(
                name=f"{name}-texture", type=self.module.mjtTexture.mjTEXTURE_2D, width=image.shape[1], height=image.shape[0], nchannel=3
            )
            made.data = np.ascontiguousarray(image[::-1]).tobytes()
        slots = [""] * int(self.module.mjtTextureRole.mjNTEXROLE)
        slots[int(self.module.mjtTextureRole.mjTEXROLE_RGB)] = self._made[id(image)][0]
        self.spec.add_material(
            name=name, textures=slots, texrepeat=[repeat, repeat], specular=gloss, shininess=0.2 + 0.7 * gloss, reflectance=mirror
        )
        return name

    def ground(self, weights: dict[str, float]) -> Image:
        """A texture for table, floor or wall: mostly muted."""
        image = textures.surface(self.rng, weights)
        return textures.muted(image, self.rng) if self.rng.random() < self.domain.muted else image

    def furnish(self, table: Image) -> tuple[float, float]:
        """Table, floor and walls, and now and then a mat or a board behind the things; gives the table's half edges."""
        rng, geom = self.rng, self.module.mjtGeom
        half = (float(rng.uniform(0.45, 0.8)), float(rng.uniform(0.4, 0.65)))
        if rng.random() < 0.3:
            half = (1.4, 1.1)
        mirror = max(0.0, float(rng.uniform(*self.domain.mirror)))
        top = self.material("table", table, float(rng.uniform(0, 0.4)), float(rng.choice([1, 1, 2])), mirror)
        self.spec.worldbody.add_geom(
            name="table", type=geom.mjGEOM_BOX, size=[*half, 0.02], pos=[0, 0, -0.02], material=top, friction=[0.9, 0.02, 0.002]
        )
        self._plane("floor", [0, 0, -0.75], [1, 0, 0, 0], self.ground(self.domain.table), float(rng.choice([2, 3, 5])))
        for name, x, y, quat in (("wall0", 0.0, 1.0, [0.7071, 0.7071, 0, 0]), ("wall1", -1.0, 0.0, [0.7071, 0, 0.7071, 0])):
            shift = float(rng.uniform(1.3, 2.8))
            image = self.ground(BUSY if rng.random() < 0.15 else {"plain": 4, "wood": 1, "tiles": 1, "scene": 0.5})
            self._plane(name, [x * shift, y * shift, 0.5], quat, image, 1.0)
            if name == "wall1":
                self._plane("wall2", [shift, 0.0, 0.5], [0.7071, 0, -0.7071, 0], image, 1.0)
        for k in range(int(rng.integers(0, 4))):  # furniture that stands about, out of reach
            size = rng.uniform([0.1, 0.1, 0.2], [0.4, 0.4, 0.5])
            side = rng.uniform(0, np.pi)
            place = np.array([-np.sin(side), np.cos(side)]) * rng.uniform(1.2, 1.7) * max(1.0, half[0] / 0.8)
            stuff = self.material(f"thing{k}", textures.surface(rng, SKINS, 256), 0.2)
            self.spec.worldbody.add_geom(
                type=geom.mjGEOM_BOX, size=list(size), pos=[*place, -0.75 + size[2]], material=stuff, contype=0, conaffinity=0
            )
        if rng.random() < 0.2:
            mat = self.material("mat", textures.surface(rng, self.domain.table, 256), 0.1)
            size = rng.uniform([0.12, 0.1], [0.3, 0.25])
            self.spec.worldbody.add_geom(
                name="mat", type=geom.mjGEOM_BOX, size=[*size, 0.0008], pos=[*rng.normal(0, 0.1, 2), 0.0008], material=mat
            )
        return half

    def _plane(self, name: str, place: list[float], quat: list[float], image: Image, repeat: float) -> None:
        self.spec.worldbody.add_geom(
            name=name,
            type=self.module.mjtGeom.mjGEOM_PLANE,
            size=[4, 4, 0.5],
            pos=place,
            quat=quat,
            contype=0,
            conaffinity=0,
            material=self.material(name, image, 0.05, repeat),
        )

    def light(self) -> None:
        """Lamps above, the first with shadows, and ambient light; together kept from saturating the renderer's 8 bits."""
        rng, domain = self.rng, self.domain
        head = self.spec.visual.headlight
        count = int(rng.integers(domain.lights[0], domain.lights[1] + 1))
        powers = [float(rng.uniform(*domain.key)) * (1.0 if k == 0 else float(rng.uniform(0.15, 0.4))) for k in range(count)]
        base = float(rng.uniform(*domain.ambient))
        scale = min(1.0, 1.2 / (base + sum(powers)))
        head.active, head.diffuse, head.specular = 1, [0.06] * 3, [0.0] * 3
        head.ambient = [float(v) for v in np.clip(scale * base * np.exp(rng.normal(0, domain.tint, 3)), 0, 1)]
        for k, power in enumerate(powers):
            azimuth, height = rng.uniform(0, 2 * np.pi), np.radians(rng.uniform(35, 85))
            way = np.array([np.cos(height) * np.cos(azimuth), np.cos(height) * np.sin(azimuth), np.sin(height)])
            hue = np.exp(rng.normal(0, domain.tint, 3)) * power * scale
            shine = float(rng.uniform(0.3, 0.9)) if k < 2 else 0.1
            self.spec.worldbody.add_light(
                pos=list(way * rng.uniform(2.0, 3.0)),
                dir=list(-way),
                type=self.module.mjtLightType.mjLIGHT_SPOT,
                cutoff=55.0,
                exponent=1.0,
                ambient=[0, 0, 0],
                diffuse=[float(v) for v in hue],
                specular=[shine] * 3,
                castshadow=bool(k == 0 or (k == 1 and rng.random() < 0.3)),
            )

    def put(self, item: Item, number: int) -> None:
        """The item as a free body of the name item<number>."""
        body = self.spec.worldbody.add_body(name=f"item{number}", pos=[3.0 * number, 0, _PARKED])
        body.add_freejoint()
        contact: dict[str, Any] = {"friction": [0.8, 0.02, 0.003], "condim": 4, "density": 350}
        for k, part in enumerate(item.parts):
            name = f"item{number}-{k}"
            mesh = part.mesh
            self.spec.add_mesh(
                name=name,
                uservert=mesh.vert.ravel(),
                usernormal=mesh.normal.ravel(),
                userface=mesh.face.ravel().astype(np.int32),
                usertexcoord=mesh.uv.ravel(),
                maxhullvert=48,
                inertia=self.module.mjtMeshInertia.mjMESH_INERTIA_CONVEX,
            )
            solid = {**contact} if part.solid else {"contype": 0, "conaffinity": 0, "mass": 0.02}
            body.add_geom(
                type=self.module.mjtGeom.mjGEOM_MESH,
                meshname=name,
                material=self.material(name, part.texture, part.gloss),
                group=_SHOWN,
                **solid,
            )
        for x, y, z, dx, dy, dz, yaw in item.colliders:
            body.add_geom(
                type=self.module.mjtGeom.mjGEOM_BOX,
                size=[dx, dy, dz],
                pos=[x, y, z],
                quat=[np.cos(yaw / 2), 0, 0, np.sin(yaw / 2)],
                group=_UNSEEN,
                **contact,
            )
