"""MuJoCo with an offscreen OpenGL: the one place that imports it and says what to install where it is missing."""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
import sys
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from wesam_ros import install_extra

if TYPE_CHECKING:
    from typing import Self

_REMEDY = "install libegl1 and libegl-mesa0 (MUJOCO_GL=egl) or libosmesa6 (MUJOCO_GL=osmesa)"
_LOG = logging.getLogger(__name__)


class SimulatorError(RuntimeError):
    """The simulator cannot run here; the message says what to install."""


def mujoco() -> Any:
    """The mujoco module, set up for offscreen rendering.

    Where MUJOCO_GL is unset it is chosen: EGL where a device answers, else OSMesa. It is MuJoCo that reads it, when first imported.

    Raises:
        SimulatorError: mujoco is not installed, or no offscreen OpenGL was found.
    """
    if "mujoco" not in sys.modules and not os.environ.get("MUJOCO_GL"):
        os.environ["MUJOCO_GL"] = _offscreen()
        _LOG.info("MUJOCO_GL was unset; rendering with %s", os.environ["MUJOCO_GL"])
    try:
        return importlib.import_module("mujoco")
    except ModuleNotFoundError as error:
        if error.name != "mujoco":
            raise
        raise SimulatorError(f"the simulator needs mujoco; {install_extra('sim')}") from error
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        raise SimulatorError(f"mujoco found no OpenGL for MUJOCO_GL={os.environ.get('MUJOCO_GL')!r} ({error}); {_REMEDY}") from error


class Renderer:
    """Colour, depth and geom ids of a model's first camera, in two passes where mujoco.Renderer needs three. Close it, or OpenGL leaks.

    Raises:
        SimulatorError: OpenGL gives no context.
    """

    def __init__(self, model: Any, height: int, width: int) -> None:
        self._mujoco = mujoco()
        self._model, self._height, self._width = model, height, width
        try:
            self._gl = self._mujoco.GLContext(width, height)
            self._gl.make_current()
            self._context = self._mujoco.MjrContext(model, self._mujoco.mjtFontScale.mjFONTSCALE_100.value)
        except (ImportError, AttributeError, OSError, RuntimeError, self._mujoco.FatalError) as error:
            raise SimulatorError(
                f"OpenGL gave no offscreen context with MUJOCO_GL={os.environ.get('MUJOCO_GL')!r} ({error}); {_REMEDY}"
            ) from error
        self._mujoco.mjr_setBuffer(self._mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._context.readDepthMap = self._mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = self._mujoco.MjvScene(model, maxgeom=1000)
        self._options, self._perturbation, self._camera = self._mujoco.MjvOption(), self._mujoco.MjvPerturb(), self._mujoco.MjvCamera()
        self._camera.type, self._camera.fixedcamid = self._mujoco.mjtCamera.mjCAMERA_FIXED, 0

    def render(self, data: Any) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32], npt.NDArray[np.int32]]:
        """Colour (H, W, 3), depth (H, W) in metres along the axis, and the geom seen (H, W), -1 for none."""
        module, rect = self._mujoco, self._mujoco.MjrRect(0, 0, self._width, self._height)
        self._gl.make_current()
        module.mjv_updateScene(
            self._model, data, self._options, self._perturbation, self._camera, module.mjtCatBit.mjCAT_ALL.value, self._scene
        )
        colour = np.empty((self._height, self._width, 3), np.uint8)
        module.mjr_render(rect, self._scene, self._context)
        module.mjr_readPixels(colour, None, rect, self._context)

        codes, nearness = np.empty_like(colour), np.empty(colour.shape[:2], np.float32)
        kept = self._scene.flags.copy()
        for flag in ("SHADOW", "REFLECTION", "SKYBOX"):
            self._scene.flags[int(getattr(module.mjtRndFlag, f"mjRND_{flag}"))] = 0
        for flag in ("SEGMENT", "IDCOLOR"):
            self._scene.flags[int(getattr(module.mjtRndFlag, f"mjRND_{flag}"))] = 1
        module.mjr_render(rect, self._scene, self._context)
        module.mjr_readPixels(codes, nearness, rect, self._context)
        self._scene.flags[:] = kept

        near, far = (float(v) * self._model.stat.extent for v in (self._model.vis.map.znear, self._model.vis.map.zfar))
        depth = near * far / (near + nearness * (far - near))  # the inverse of a projection whose depth runs from 1 (near) to 0 (far)
        geom_of_code = np.full(self._scene.ngeom + 1, -1, np.int32)
        for shown in self._scene.geoms[: self._scene.ngeom]:
            if shown.objtype == module.mjtObj.mjOBJ_GEOM:
                geom_of_code[shown.segid + 1] = shown.objid
        code = codes.astype(np.int32) @ np.array([1, 256, 65536], np.int32)
        code[code > self._scene.ngeom] = 0
        return colour[::-1].copy(), np.ascontiguousarray(depth[::-1], np.float32), geom_of_code[code[::-1]]

    def close(self) -> None:
        """Give OpenGL's memory back; the renderer is of no use afterwards."""
        self._gl.make_current()
        self._context.free()
        self._gl.free()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _offscreen() -> str:
    try:
        egl = ctypes.CDLL("libEGL.so.1")
        egl.eglGetProcAddress.restype = ctypes.c_void_p
        egl.eglGetProcAddress.argtypes = [ctypes.c_char_p]
        address = egl.eglGetProcAddress(b"eglQueryDevicesEXT")
        count = ctypes.c_int(0)
        if address:
            query = ctypes.CFUNCTYPE(ctypes.c_uint, ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int))(address)
            if query(0, None, ctypes.byref(count)) and count.value > 0:
                return "egl"
    except OSError:
        pass  # no EGL library: OSMesa is tried next
    for name in ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"):
        try:
            ctypes.CDLL(name)
            return "osmesa"
        except OSError:
            continue
    raise SimulatorError(f"no offscreen OpenGL found; {_REMEDY}")
