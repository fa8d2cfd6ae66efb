import copy
import threading

from toolkit.backbones import Base


def test_a_copy_of_a_base_is_locked_by_itself(tiny_base: Base) -> None:
    copied = copy.deepcopy(tiny_base)
    assert copied.weights == tiny_base.weights and copied.lock is not tiny_base.lock
    with tiny_base.lock, tiny_base.lock:
        taken: list[bool] = []

        def take_both() -> None:
            taken.extend((tiny_base.lock.acquire(blocking=False), copied.lock.acquire()))

        other = threading.Thread(target=take_both)
        other.start()
        other.join()
    assert taken == [False, True]
