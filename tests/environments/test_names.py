"""What environments are called, and which name is told where one is misspelled."""

import pytest

from purerl import environments
from purerl.environments import brax, names
from purerl.environments.mujoco import tasks


def refused(make):
    """The one line with which `make()` is refused."""
    with pytest.raises(ValueError) as error:
        make()
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize(
    "name, nearest",
    [
        ("HalfCheetah", "HalfCheetah-v5"),
        ("halfcheeta", "halfcheetah"),
        ("HALFCHEETAH", "HalfCheetah-v5"),
        ("half-cheetah", "halfcheetah"),
        ("Hopper-v6", "Hopper-v5"),
        ("hopper-v3", "hopper"),
        ("Walker2D", "Walker2d-v5"),
        ("InvertedDoublePendulum", "InvertedDoublePendulum-v5"),
        ("Pendulum", "Pendulum-v1"),
        ("pendulum-v1", "Pendulum-v1"),
        ("brax:ant", "ant"),
        ("gymnasium:HalfCheetah-v5", "HalfCheetah-v5"),
        ("playground:HalfCheetah", "HalfCheetah-v5"),
        ("CheetahRun", "playground:CheetahRun"),
        ("cheetah_run", "playground:CheetahRun"),
        ("Playground:CheetahRun", "playground:CheetahRun"),
        ("playground:cheetahrun", "CheetahRun"),
        ("MountainCarContinuous-v0", "gymnax:MountainCarContinuous-v0"),
        ("PointRobot", "gymnax:PointRobot-misc"),
    ],
)
def test_the_nearest_name_of_any_family_is_told(name, nearest):
    assert f"; did you mean {nearest}" in refused(lambda: environments.make(name))


def test_no_name_is_told_of_a_package_that_is_not_there(monkeypatch):
    assert {"playground:CheetahRun", "gymnax:Pendulum-v1"} <= set(names.everywhere())
    monkeypatch.setattr(names, "find_spec", lambda package: None)
    assert set(names.everywhere()) == {*names.BRAX, "Pendulum-v1"}
    assert "playground" not in refused(lambda: environments.make("CheetahRun"))


def test_names_are_those_that_the_families_know():
    assert set(names.BRAX) == set(brax.names())
    assert {f"{x}-{version}" for x in names.GYMNASIUM for version in ("v4", "v5")} - {"Pusher-v4"} == set(tasks.TASKS)
    registry = pytest.importorskip("mujoco_playground").registry
    assert {f"playground:{x}" for x in registry.ALL_ENVS} == {
        x for x in names.everywhere() if x.startswith("playground:")
    }
    assert set(names.GYMNAX) < set(pytest.importorskip("gymnax").registered_envs)
