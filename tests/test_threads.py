"""Work in another thread: ahead of this one, and behind it."""

import threading

import pytest

from nemesis.threads import load_ahead, on_all_cores, work_behind


def test_items_are_loaded_in_order_and_ahead():
    started, wait = [], threading.Event()

    def load(item):
        started.append(item)
        wait.set()
        return 10 * item

    found = load_ahead(load, range(4))
    assert next(found) == 0
    assert wait.wait(10)
    assert list(found) == [10, 20, 30]
    assert started == [0, 1, 2, 3]
    assert list(load_ahead(load, [])) == []


def test_an_error_while_loading_is_raised_where_the_item_would_be():
    found = load_ahead(lambda item: 1 / item, [2, 0, 1])
    assert next(found) == 0.5
    with pytest.raises(ZeroDivisionError):
        next(found)


def test_calls_behind_are_made_one_by_one_and_all():
    done, free = [], threading.Event()
    with work_behind() as do:
        do(lambda: (free.wait(10), done.append(0)))
        assert done == []
        free.set()
        for number in range(1, 4):
            do(done.append, number)
        assert done[:3] == [0, 1, 2]
    assert done == [0, 1, 2, 3]


@pytest.mark.parametrize("after", [0, 1])
def test_an_error_behind_is_raised(after):
    with pytest.raises(ZeroDivisionError), work_behind() as do:
        do(lambda: 1 / 0)
        for _ in range(after):
            do(list)


def test_an_error_of_the_block_itself_goes_on():
    with pytest.raises(KeyError), work_behind() as do:
        do(list)
        raise KeyError


def test_many_items_on_all_cores_keep_their_order():
    times = on_all_cores(lambda first, second: first * second)
    assert times(range(50), range(50)) == [number**2 for number in range(50)]
    with pytest.raises(ZeroDivisionError):
        on_all_cores(lambda item: 1 / item)([1, 0])
