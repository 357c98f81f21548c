"""An episode as an interactive web page (Brax's viewer), and as the frames of a film (MuJoCo's renderer).

`poses` are the poses of T successive states: the fields of a `Scene`'s pose, each `[T, ...]`.
"""

import ctypes.util
import importlib
import io
import os
import sys
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Shaped, UInt8

from purerl.errors import require

if TYPE_CHECKING:
    from purerl.environments.base import Scene

Poses = dict[str, Shaped[np.ndarray, "states ..."]]
Images = UInt8[np.ndarray, "n height width 3"]
Model = Any  # mujoco.MjModel: MuJoCo's compiled classes have no types

SIZE = (480, 320)  # of a film [pixels]. MP4 needs multiples of 16.
FRAMES_PER_SECOND = 25
MESHES = ("nmesh", "mesh_faceadr", "mesh_face", "mesh_vertadr", "mesh_vert")  # fields of meshes that the viewer reads
PLAIN = (0.5, 0.5, 0.5, 1.0)  # the color of a geom without its own color
CHOOSING = ("mujoco.rendering.classic.gl_context", "mujoco.gl_context")  # modules that choose; the names vary
LIBRARIES = {"egl": "EGL", "osmesa": "OSMesa"}  # libraries that draw without a screen
MISSING = (
    "drawing a film without a screen needs the library EGL or OSMesa; apt-get install libegl1 libegl-mesa0, "
    "or leave the film out with --film none"
)


def use_no_screen() -> None:
    """Let MuJoCo draw without a screen. Raises ValueError if no library can draw.

    MuJoCo chooses its library when it is imported. If that has happened, it chooses again.
    """
    if sys.platform != "linux" or "MUJOCO_GL" in os.environ:
        return
    found = [name for name, library in LIBRARIES.items() if ctypes.util.find_library(library)]
    if not found:
        raise ValueError(MISSING)
    os.environ["MUJOCO_GL"] = found[0]
    for name in CHOOSING:
        if name in sys.modules:
            importlib.reload(sys.modules[name])


def page(scene: "Scene", poses: Poses) -> str:
    """Return the HTML of Brax's viewer. The page loads its scripts, such as Three.js, from the network when opened."""
    from brax.base import Transform
    from brax.io import html, json

    states: list[Any] = [
        SimpleNamespace(x=Transform(*place))  # pyright: ignore[reportArgumentType]  # the viewer accepts NumPy arrays
        for place in _places(scene.model, poses)
    ]
    return html.render_from_json(json.dumps(_viewed(scene), states), "100vh", colab=False, base_url=None)


def _places(
    model: Model, poses: Poses
) -> Iterator[tuple[Float[np.ndarray, "bodies 3"], Float[np.ndarray, "bodies 4"]]]:
    """Yield `(positions [bodies, 3], quaternions [bodies, 4])` of every body except the world, for each state."""
    mujoco = _mujoco()
    for data in _posed(model, poses):
        mujoco.mj_kinematics(model, data)
        yield data.xpos[1:].round(4), data.xquat[1:].round(4)


def _mujoco() -> Any:
    """Return the module MuJoCo, typed as `Any`, because its compiled classes have no types."""
    import mujoco

    return mujoco


def _posed(model: Model, poses: Poses) -> Iterator[Any]:
    data = _mujoco().MjData(model)
    for i in range(len(poses["qpos"])):
        for name, values in poses.items():
            getattr(data, name)[:] = values[i]
        yield data


def _viewed(scene: "Scene") -> Any:
    """Return the part of a `brax.System` that its viewer reads.

    The viewer shows the same geoms as MuJoCo, groups 0 to 2. A plane is infinite. An ellipsoid is shown as a box,
    because the viewer does not support ellipsoids.
    """
    mujoco, model = _mujoco(), scene.model
    shown = np.flatnonzero(model.geom_group <= 2)
    kinds = (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_ELLIPSOID)
    plane, ellipsoid = (model.geom_type[shown] == kind for kind in kinds)
    material, rgba = model.geom_matid[shown], model.geom_rgba[shown]
    if model.nmat:  # A geom's own color overrides that of the material, as in MuJoCo.
        plain = (material >= 0) & (rgba == PLAIN).all(axis=1)
        rgba = np.where(plain[:, None], model.mat_rgba[material], rgba)
    meshes = {name: getattr(model, name) for name in MESHES}
    return SimpleNamespace(
        mj_model=SimpleNamespace(geom_rgba=rgba, **meshes),
        opt=SimpleNamespace(timestep=scene.timestep),
        link_names=[model.body(i).name or f"body {i}" for i in range(1, model.nbody)],
        ngeom=len(shown),
        geom_bodyid=model.geom_bodyid[shown],
        geom_type=np.where(ellipsoid, mujoco.mjtGeom.mjGEOM_BOX, model.geom_type[shown]),
        geom_pos=model.geom_pos[shown],
        geom_quat=model.geom_quat[shown],
        geom_size=np.where(plane[:, None], 0.0, model.geom_size[shown]),
        geom_dataid=model.geom_dataid[shown],
    )


def frames(scene: "Scene", poses: Poses, seconds: float) -> tuple[Images, float]:
    """Return `(frames [n, height, width, 3], seconds between two frames)` of the first `seconds` of an episode.

    There are at most 25 frames per second. The camera is `track`, if the model has one. Raises ValueError if no library
    can draw.
    """
    stride = max(1, round(1 / (FRAMES_PER_SECOND * scene.timestep)))
    steps = slice(0, max(1, round(seconds / scene.timestep)), stride)
    return _drawn(scene.model, {name: values[steps] for name, values in poses.items()}), stride * scene.timestep


def draw_once(scene: "Scene") -> None:
    """Draw one picture. Raises ValueError if no library can draw."""
    _drawn(scene.model, {"qpos": np.asarray(scene.model.qpos0)[None]})


def _drawn(model: Model, poses: Poses) -> Images:
    mujoco = _mujoco()
    names = [model.camera(i).name for i in range(model.ncam)]
    camera, (width, height) = "track" if "track" in names else _camera(model, poses), SIZE
    model.vis.global_.offwidth, model.vis.global_.offheight = width, height
    model.vis.headlight.ambient[:] = 0.4  # Some models have no light.
    try:
        renderer = mujoco.Renderer(model, height, width)
    except Exception as error:  # MuJoCo and PyOpenGL pass on any exception of their libraries.
        reason = (str(error).splitlines() or [""])[0]
        raise ValueError(f"{MISSING} ({type(error).__name__}: {reason})") from error
    images = []
    for data in _posed(model, poses):
        mujoco.mj_forward(model, data)
        renderer.update_scene(data, camera=camera)
        images.append(renderer.render())
    renderer.close()
    return np.stack(images)


def _camera(model: Model, poses: Poses) -> Any:
    """Return a fixed camera that sees all moving bodies during the whole episode."""
    mujoco = _mujoco()
    moving = np.flatnonzero(model.geom_bodyid > 0)
    places = []
    for data in _posed(model, poses):
        mujoco.mj_kinematics(model, data)
        places.append(data.geom_xpos[moving])
    places, camera = np.stack(places), mujoco.MjvCamera()
    if places.size:
        low, high = places.min(axis=(0, 1)), places.max(axis=(0, 1))
        camera.lookat[:] = (low + high) / 2
        camera.distance = 1.5 * (np.linalg.norm(high - low) + 2 * model.geom_rbound[moving].max())
    camera.azimuth, camera.elevation = 90.0, -15.0
    return camera


def gif(images: Images, interval: float) -> bytes:
    """Return the bytes of a repeating GIF with `interval` seconds between frames, rounded to 0.01 s."""
    from PIL import Image

    content, (first, *rest) = io.BytesIO(), [Image.fromarray(image).quantize(128) for image in images]
    first.save(content, "GIF", save_all=True, append_images=rest, duration=round(100 * interval) * 10, loop=0)
    return content.getvalue()


def webp(images: Images, interval: float) -> bytes:
    """Return the bytes of a repeating WebP with `interval` seconds between frames, rounded to 0.001 s.

    It is a fraction of the size of a GIF, and browsers and Markdown pages show it as a picture.
    """
    from PIL import Image

    content, (first, *rest) = io.BytesIO(), [Image.fromarray(image) for image in images]
    first.save(content, "WEBP", save_all=True, append_images=rest, duration=round(1000 * interval), loop=0, quality=60)
    return content.getvalue()


def mp4(images: Images, interval: float) -> bytes:
    """Return the bytes of an H.264 film. Raises ValueError if `imageio_ffmpeg`, which contains ffmpeg, is missing."""
    from tempfile import TemporaryDirectory

    ffmpeg = require("imageio_ffmpeg", "film", "an MP4")
    with TemporaryDirectory() as folder:
        file = os.path.join(folder, "film.mp4")
        writer = ffmpeg.write_frames(file, SIZE, fps=1 / interval)
        with warnings.catch_warnings(category=RuntimeWarning, action="ignore"):  # JAX warns about every fork.
            writer.send(None)
        for image in images:
            writer.send(np.ascontiguousarray(image))
        writer.close()
        with open(file, "rb") as opened:
            return opened.read()


FILMS = {"gif": gif, "webp": webp, "mp4": mp4}
