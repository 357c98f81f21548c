"""Nothing is collected while a run is made ready, and the collector is as it was afterwards."""

import gc
import weakref

import pytest

from purerl.runs.garbage_collection import paused


class Ring:
    """Garbage that only the collector frees."""

    def __init__(self):
        self.itself = self


def test_nothing_is_collected_while_paused_and_all_that_comes_later_is():
    with paused():
        inside, threshold = weakref.ref(Ring()), gc.get_threshold()[0]
        assert [[] for _ in range(10 * threshold)] and inside() is not None
    later = weakref.ref(Ring())
    gc.collect()
    assert later() is None


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_as_it_was_whatever_happens(enabled):
    (gc.enable if enabled else gc.disable)()
    try:
        with pytest.raises(KeyError), paused():
            assert not gc.isenabled()
            raise KeyError
        with paused(), paused():
            pass
        assert gc.isenabled() is enabled
    finally:
        gc.enable()
