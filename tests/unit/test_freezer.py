"""The server's settings gc_freeze and gc_threshold."""

import gc

import pytest

from turboapi._serving.freezer import Freezer


@pytest.fixture(autouse=True)
def collector():
    gc.unfreeze()  # what conftest.py has frozen
    before = gc.get_threshold()
    yield
    gc.unfreeze()
    gc.enable()
    gc.set_threshold(*before)
    gc.freeze()


def test_freezes_once_and_undoes_it():
    freezer = Freezer(True)
    freezer.freeze()
    frozen = gc.get_freeze_count()
    assert frozen > 1000
    kept = [[] for _ in range(1000)]
    freezer.freeze()
    assert gc.get_freeze_count() < frozen + len(kept)
    freezer.unfreeze()
    assert gc.get_freeze_count() == 0
    freezer.unfreeze()


def test_garbage_is_not_frozen():
    class Thing:
        pass

    thing = Thing()
    thing.itself = thing
    before = sum(type(each) is Thing for each in gc.get_objects())
    del thing
    Freezer(True).freeze()
    gc.unfreeze()
    assert sum(type(each) is Thing for each in gc.get_objects()) == before - 1


@pytest.mark.parametrize("enabled", [True, False])
def test_threshold(enabled):
    before = gc.get_threshold()
    freezer = Freezer(enabled, 12_345)
    for _ in range(2):  # a server that is started again
        freezer.freeze()
        freezer.freeze()  # by another of its threads
        assert gc.get_threshold() == (12_345, *before[1:])
        freezer.unfreeze()
        assert gc.get_threshold() == before
        freezer.unfreeze()


def test_threshold_of_the_program():
    before = gc.get_threshold()
    freezer = Freezer(True, 12_345)
    freezer.freeze()
    gc.set_threshold(777, 7, 7)  # the start of another thread's lifespan
    freezer.freeze()
    assert gc.get_threshold() == (12_345, 7, 7)
    freezer.unfreeze()
    assert gc.get_threshold() == (before[0], 7, 7)
    freezer.freeze()
    gc.set_threshold(888)  # by the application while it is served, or at its end
    freezer.unfreeze()
    assert gc.get_threshold()[0] == 888


@pytest.mark.parametrize("turn_off", [gc.disable, lambda: gc.set_threshold(0)])
def test_a_collector_that_is_off(turn_off):
    turn_off()
    before = gc.get_threshold()
    freezer = Freezer(True, 12_345)
    freezer.freeze()
    assert gc.get_threshold() == before and gc.get_freeze_count() == 0
    freezer.unfreeze()
    assert gc.get_threshold() == before


def test_off():
    freezer = Freezer(False)
    freezer.freeze()
    assert gc.get_freeze_count() == 0


def test_a_program_that_takes_care_of_it_itself():
    gc.disable()
    Freezer(True).freeze()
    assert gc.get_freeze_count() == 0
    gc.enable()
    gc.freeze()
    freezer = Freezer(True)
    freezer.freeze()
    freezer.unfreeze()
    assert gc.get_freeze_count() > 0
