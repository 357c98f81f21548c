"""What the solver supports of a model, and what it refuses."""

import jax.numpy as jnp
import pytest

from purerl.environments.mujoco import dynamics

MODEL = """
<mujoco>
  <option {option}/>
  <worldbody>
    <body><joint name="hinge" type="hinge" axis="0 1 0" {joint}/><geom size="0.1" mass="1" pos="0 0 0.5"/></body>
  </worldbody>
  <actuator>{actuator}</actuator>
  {more}
</mujoco>
"""
MOTOR = '<motor joint="hinge" ctrlrange="-1 1"/>'


def write(folder, option="", actuator=MOTOR, joint="", more=""):
    file = folder / "model.xml"
    file.write_text(MODEL.format(option=option, actuator=actuator, joint=joint, more=more))
    return file


@pytest.mark.parametrize(
    "model, words",
    [
        ({"actuator": '<intvelocity joint="hinge" actrange="-1 1"/>'}, "actuators with activation states are not supp"),
        ({"actuator": '<general joint="hinge" dyntype="filter" dynprm="0.1"/>'}, "actuators with activation states"),
        ({"option": 'integrator="implicit"'}, "integrator 'implicit' is not supported; known: Euler, RK4"),
        ({"option": 'integrator="implicitfast"'}, "integrator 'implicitfast' is not supported; known: Euler, RK4"),
        ({"option": 'cone="elliptic"'}, "elliptic friction cones are not supported; use cone 'pyramidal'"),
        (
            {"more": '<equality><joint joint1="hinge"/></equality>'},
            "equality constraints are not supported; remove",
        ),
        ({"joint": 'frictionloss="0.1"'}, "friction losses are not supported; use damping"),
        ({"actuator": '<motor name="arm" joint="hinge"/>'}, "actuator 'arm' has no ctrlrange"),
        ({"actuator": '<motor joint="hinge"/>'}, "actuator 0 has no ctrlrange"),
    ],
)
def test_what_the_solver_does_not_support_is_refused(tmp_path, model, words):
    with pytest.raises(ValueError, match=words) as refused:
        dynamics.load_body(write(tmp_path, **model))
    assert "\n" not in str(refused.value) and "model.xml" in str(refused.value)


def test_a_model_of_ones_own_is_loaded(tmp_path):
    body = dynamics.load_body(write(tmp_path, 'integrator="RK4"'))
    state = dynamics.initial_state(body, jnp.zeros(1), jnp.ones(1), lambda body, data: {})
    assert (body.model.nq, body.model.nu) == (1, 1) and state.qvel == 1.0
