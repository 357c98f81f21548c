"""Contacts here are those of MuJoCo's C code, over random poses."""

import jax
import jax.numpy as jnp
import mujoco
import numpy as np
import pytest
from mujoco import mjx

from purerl.environments.mujoco import contacts

MODEL = """<mujoco><worldbody>
  <body><freejoint/><geom type="capsule" size="0.02 0.1" condim="3" margin="0.002"/></body>
  <geom type="{}" size="{}" condim="3" margin="0.002"/>
</worldbody></mujoco>"""


@pytest.mark.parametrize(
    "kind, size", [("plane", "1 1 1"), ("capsule", "0.03 0.1"), ("sphere", "0.05"), ("cylinder", "0.05 0.05")]
)
def test_contacts_are_where_the_c_code_finds_them(kind, size):
    model = mujoco.MjModel.from_xml_string(MODEL.format(kind, size))
    data, random = mujoco.MjData(model), np.random.default_rng(0)
    poses, expected, axes = [], [], 6 if kind == "plane" else 3  # of the frame; else the tangents are arbitrary
    while len(poses) < 200:
        rotation = random.normal(size=4)
        data.qpos = [*random.uniform(-0.15, 0.15, 3), *rotation / np.linalg.norm(rotation)]
        mujoco.mj_forward(model, data)
        # EPA, which finds deep overlaps with a cylinder in the C code, stops short of the least one.
        if 1 <= data.ncon <= 1 + (kind == "plane") and (kind != "cylinder" or data.contact.dist[0] > -0.02):
            poses.append(data.qpos.copy())
            first = data.contact[0]
            expected.append(np.concatenate([[first.dist], first.pos, first.frame[:axes]]))

    on_device = mjx.put_model(model)
    with contacts.as_in_c():
        blank = mjx.make_data(on_device)

    def found(qpos):
        with contacts.as_in_c():
            contact = mjx.collision(on_device, mjx.kinematics(on_device, blank.replace(qpos=qpos)))._impl.contact
        return jnp.concatenate([contact.dist[:, None], contact.pos, contact.frame.reshape(-1, 9)[:, :axes]], axis=1)

    ours = np.asarray(jax.jit(jax.vmap(found))(jnp.asarray(np.array(poses), jnp.float32)))
    error = np.min(np.abs(ours - np.array(expected)[:, None]).max(axis=2), axis=1)  # of a plane's two, the same one
    assert np.median(error) < 1e-5 and np.quantile(error, 0.9) < 1e-3


def test_mjx_has_its_own_contacts_back_afterwards():
    before = dict(contacts.collision_driver._COLLISION_FUNC)
    with pytest.raises(ZeroDivisionError), contacts.as_in_c():
        assert before != contacts.collision_driver._COLLISION_FUNC
        raise ZeroDivisionError
    assert before == contacts.collision_driver._COLLISION_FUNC
