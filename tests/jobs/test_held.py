import pytest

from jobs.held import Held


def test_one_reader_reads_anew_while_the_others_keep_the_old_answer() -> None:
    now, readings = 0.0, 0
    during: list[int] = []

    def read() -> int:
        nonlocal readings
        readings += 1
        if readings > 1:
            during.append(held())  # who comes while it is read
        return readings

    held = Held(read, hold_s=1.0, clock=lambda: now)
    assert [held(), held()] == [1, 1]
    now = 1.0
    assert held() == 2
    assert during == [1]
    assert held() == 2


def test_a_failed_reading_is_told_and_tried_again() -> None:
    now, broken = 0.0, False

    def read() -> float:
        if broken:
            raise ConnectionError
        return now

    held = Held(read, hold_s=1.0, clock=lambda: now)
    held()
    now, broken = 2.0, True
    with pytest.raises(ConnectionError):
        held()
    broken = False
    assert held() == 2.0
