"""What render draws: the bodies where they were, and the films where a library can draw."""

import base64
import ctypes.util
import io
import json
import re
import subprocess
import sys
import zlib
from tempfile import NamedTemporaryFile

import jax
import mujoco
import numpy as np
import pytest
from PIL import Image

from purerl import environments, render
from purerl.policies import acting, film, load, rendering
from purerl.results import run_folder

pytestmark = pytest.mark.usefixtures("shared_programs")

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")

EPISODE = 20


def viewed(page):
    """The JSON that a page shows."""
    data = re.search(r'var system = "([^"]+)"', page).group(1)
    return json.loads(zlib.decompress(base64.b64decode(data)))


def is_one_line(capsys, arguments, *parts):
    with pytest.raises(SystemExit) as ended:
        render.main([str(part) for part in arguments])
    message = capsys.readouterr().err
    assert ended.value.code == 2 and message.startswith("error: ") and message.count("\n") == 1, message
    for part in parts:
        assert part in message, message
    return True


def test_the_page_shows_every_state_of_the_episode(pendulums, tmp_path, capsys):
    assert render.main([str(pendulums["td3"]), "--seed", "6", "--film", "none", "--out", str(tmp_path)]) == 0
    assert "seed 6: return -" in capsys.readouterr().out
    shown = viewed((tmp_path / "seed-6.html").read_text())
    kept = load.read_policies(pendulums["td3"])
    poses, rewards = rendering.episode(acting.environment(kept.settings), kept, 1, 0)
    angle = poses["qpos"][:, 0]
    assert len(shown["states"]["x"]) == len(angle) == EPISODE + 1 == len(rewards) + 1
    half = np.array([x["rot"][0][:3:2] for x in shown["states"]["x"]])  # cos and −sin of half the angle, about −y
    np.testing.assert_allclose(np.abs(half), np.abs([np.cos(angle / 2), np.sin(angle / 2)]).T, atol=1e-3)
    assert shown["opt"]["timestep"] == 0.05 and {"Capsule", "Sphere"} == {x["name"] for x in shown["geoms"]["body 1"]}


def test_bodies_are_drawn_where_physics_has_them():
    env = environments.make("inverted_pendulum")
    state = jax.jit(env.reset)(jax.random.key(0))
    poses = {field: np.asarray(values)[None] for field, values in env.scene.pose(state).items()}
    ((position, _),) = film._places(env.scene.model, poses)
    np.testing.assert_allclose(position, state.pipeline_state.x.pos, atol=1e-4)
    assert env.scene.timestep == pytest.approx(0.04)


def test_gymnasiums_tasks_are_drawn_at_their_pace():
    env = environments.make("HalfCheetah-v5")
    pose = jax.eval_shape(lambda key: env.scene.pose(env.reset(key)), jax.random.key(0))
    assert env.scene.timestep == pytest.approx(0.05) and pose["qpos"].shape == (env.scene.model.nq,)


def test_the_geoms_that_mujoco_hides_are_hidden_and_colours_are_as_there():
    model = mujoco.MjModel.from_xml_string(
        """<mujoco><asset><material name="red" rgba="1 0 0 1"/></asset><worldbody>
        <geom type="plane" size="3 3 1"/>
        <body name="it"><freejoint/><geom size="1" material="red"/><geom size="2" group="3"/>
        <geom type="ellipsoid" size="1 2 3" rgba="0 1 0 1" material="red"/></body></worldbody></mujoco>"""
    )
    scene = environments.base.Scene(model, None, 0.1)
    shown = viewed(film.page(scene, {"qpos": model.qpos0[None]}))["geoms"]
    assert shown["world"][0]["size"] == [0, 0, 0]
    assert [(x["name"], x["rgba"]) for x in shown["it"]] == [("Sphere", [1, 0, 0, 1]), ("Box", [0, 1, 0, 1])]


@pytest.mark.skipif(
    not any(map(ctypes.util.find_library, film.LIBRARIES.values())), reason="neither EGL nor OSMesa is here"
)
def test_a_film_shows_a_pendulum_that_moves(pendulums, tmp_path):
    command = [sys.executable, "-m", "purerl.render", pendulums["td3"], "--out", tmp_path, "--seed", "5"]
    subprocess.run([*map(str, command), "--seconds", "0.5"], check=True, capture_output=True)
    with Image.open(tmp_path / "seed-5.gif") as image:
        assert image.size == film.SIZE and image.n_frames == 10 and image.info["duration"] == 50
        first = np.asarray(image.convert("RGB"), int)
        image.seek(9)
        last = np.asarray(image.convert("RGB"), int)
    assert len(np.unique(first.reshape(-1, 3), axis=0)) > 10 and (np.abs(first - last) > 50).any()


def test_a_webp_has_its_frames_and_is_smaller_than_a_gif():
    x, y = np.meshgrid(np.arange(film.SIZE[0]), np.arange(film.SIZE[1]))
    waves = [127 + 60 * np.sin((x + 7 * i) / 9) + 60 * np.sin((y + 5 * i) / 13) for i in range(12)]
    images = np.stack([np.stack([wave, 255 - wave, y / 2], axis=-1) for wave in waves]).astype(np.uint8)
    content = film.webp(images, 0.05)
    with Image.open(io.BytesIO(content)) as image:
        assert (image.format, image.size, image.n_frames, image.info["loop"]) == ("WEBP", film.SIZE, 12, 0)
        image.seek(11)
        assert np.abs(np.asarray(image.convert("RGB"), int) - images[11]).mean() < 5
        assert image.info["duration"] == 50
    assert len(content) < len(film.gif(images, 0.05)) / 2


def test_an_mp4_has_its_frames():
    images = np.random.default_rng(0).integers(0, 255, (12, *film.SIZE[::-1], 3)).astype(np.uint8)
    content = film.mp4(images, 0.05)
    with NamedTemporaryFile(suffix=".mp4") as file:
        file.write(content)
        file.flush()
        assert imageio_ffmpeg.count_frames_and_secs(file.name) == (12, pytest.approx(0.6, abs=0.06))


def test_a_film_takes_as_long_as_the_episode():
    model = mujoco.MjModel.from_xml_string("<mujoco><worldbody/></mujoco>")
    drawn = []

    def count(model, poses):
        drawn.append(len(poses["qpos"]))
        return np.zeros((1, *film.SIZE[::-1], 3), np.uint8)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(film, "_drawn", count)
        for timestep, seconds, number, interval in (
            (0.008, 4.0, 100, 0.04),
            (0.05, 1.0, 20, 0.05),
            (0.05, 90.0, 101, 0.05),
        ):
            scene = environments.base.Scene(model, None, timestep)
            states = 101 if timestep == 0.05 else 1001
            _, between = film.frames(scene, {"qpos": np.zeros((states, 0))}, seconds)
            assert drawn.pop() == number and between == pytest.approx(interval)


def test_bad_input_is_one_line_that_says_what_works(pendulums, tmp_path, capsys, monkeypatch):
    run = pendulums["td3"]
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    assert is_one_line(capsys, [run, "--seconds", "0"], "seconds is 0")
    assert is_one_line(capsys, [run, "--film", "avi"], "avi", "mp4")
    with monkeypatch.context() as patch:
        patch.setattr(ctypes.util, "find_library", lambda name: None)
        patch.setattr(sys, "platform", "linux")
        assert is_one_line(capsys, [run], "EGL or OSMesa", "apt-get install libegl1", "--film none")
    (tmp_path / "policy").mkdir()
    for name in ("curves.csv", run_folder.POLICY):
        (tmp_path / name).write_bytes((run / name).read_bytes())
    (tmp_path / "run.toml").write_text((run / "run.toml").read_text().replace("Pendulum-v1", "fast"))
    assert is_one_line(capsys, [tmp_path, "--film", "none"], "fast has no bodies")
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(ValueError, match=r"an MP4 needs the package imageio_ffmpeg; pip install -e '.*\[film\]'"):
        film.mp4(np.zeros((2, 320, 480, 3), np.uint8), 0.1)
