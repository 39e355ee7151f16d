import json
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.fixtures.waiting import wait_for
from tests.ops.processes import alive, descendants

STAY = 'touch "$FOLDER/{name}.ready"; while :; do sleep 0.05; done'


def stay(name: str) -> tuple[str, str, float]:
    script = (
        f'trap \'echo "{name} stops" >> "$FOLDER/order"; exit 0\' TERM; '
        f'echo "{name} starts" >> "$FOLDER/order"; ' + STAY.format(name=name)
    )
    return (name, script, 5.0)


def stubborn(name: str) -> tuple[str, str, float]:
    return (name, "trap '' TERM; " + STAY.format(name=name), 60.0)


@contextmanager
def supervised(
    folder: Path, *stages: list[tuple[str, str, float]]
) -> Iterator[subprocess.Popen[str]]:
    with (folder / "out").open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.ops.stack_driver", str(folder), json.dumps(stages)],
            stdout=out,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def said(folder: Path, text: str) -> bool:
    return text in (folder / "out").read_text()


def test_starts_in_order_and_stops_backwards(tmp_path: Path) -> None:
    with supervised(tmp_path, [stay("first")], [stay("second"), stay("third")]) as process:
        wait_for(lambda: said(tmp_path, "all ready"), "all are ready")
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    order = (tmp_path / "order").read_text().splitlines()
    assert order[0] == "first starts"
    assert set(order[1:3]) == {"second starts", "third starts"}
    assert set(order[3:5]) == {"second stops", "third stops"}
    assert order[5] == "first stops"


def test_passes_output_on_with_a_prefix_and_into_files(tmp_path: Path) -> None:
    part = ("speaker", "echo hello; printf 'no newline'; " + STAY.format(name="speaker"), 5.0)
    with supervised(tmp_path, [part]) as process:
        wait_for(lambda: said(tmp_path, "all ready"), "all are ready")
        process.terminate()
        process.wait(20)
    assert said(tmp_path, "speaker | hello\n")
    assert said(tmp_path, "driver  | all ready\n")
    assert (tmp_path / "logs" / "speaker.log").read_text() == "hello\nno newline\n"


def test_starts_a_dead_part_again_with_growing_pauses(tmp_path: Path) -> None:
    part = ("mayfly", 'echo "born $$"; touch "$FOLDER/mayfly.ready"; exit 7', 5.0)
    with supervised(tmp_path, [part]):
        wait_for(
            lambda: (tmp_path / "out").read_text().count("born") >= 3,
            "the part lives a third time",
            timeout_s=20,
        )
    assert said(tmp_path, "mayfly exited with code 7; starts again in 0.5 s")
    assert said(tmp_path, "mayfly exited with code 7; starts again in 1.0 s")
    born = re.findall(r"born (\d+)", (tmp_path / "out").read_text())
    deaths = (tmp_path / "deaths").read_text().split()
    assert deaths[:2] == born[:2], "who died is told by its pid"


def test_kills_what_a_dead_part_left_in_its_group(tmp_path: Path) -> None:
    script = (
        'sleep 600 & echo $! > "$FOLDER/left"; '
        '[ -e "$FOLDER/again" ] && { touch "$FOLDER/parent.ready"; wait; }; '
        'touch "$FOLDER/again"; exit 1'
    )
    with supervised(tmp_path, [("parent", script, 5.0)]):
        wait_for(lambda: said(tmp_path, "parent exited with code 1"), "the part has died")
        first = int((tmp_path / "left").read_text())
        wait_for(lambda: not alive(first), "what it left is dead")


def test_exit_code_two_is_not_tried_again(tmp_path: Path) -> None:
    part = ("wrong", "echo 'rushes: no such setting'; exit 2", 5.0)
    with supervised(tmp_path, [stay("base")], [part]) as process:
        assert process.wait(30) == 2
    assert said(tmp_path, "rushes: no such setting")
    assert said(tmp_path, "wrong cannot run like this")
    assert (tmp_path / "order").read_text().splitlines() == ["base starts", "base stops"]


def test_exit_code_two_of_a_later_start_is_a_death_like_any_other(tmp_path: Path) -> None:
    script = (
        'n=$(ls "$FOLDER" | grep -c "^run"); touch "$FOLDER/run$n"; '
        'case $n in 0) touch "$FOLDER/moody.ready"; '
        'while ! [ -e "$FOLDER/go" ]; do sleep 0.05; done; exit 1;; '
        '1) exit 2;; *) touch "$FOLDER/back"; exec sleep 600;; esac'
    )
    with supervised(tmp_path, [("moody", script, 5.0)]) as process:
        wait_for(lambda: said(tmp_path, "all ready"), "all are ready")
        (tmp_path / "go").touch()
        wait_for((tmp_path / "back").exists, "it is started a third time", timeout_s=90)
        assert process.poll() is None


def test_kills_a_part_that_does_not_stop(tmp_path: Path) -> None:
    name, script, _ = stubborn("deaf")
    with supervised(tmp_path, [(name, script, 0.3)]) as process:
        wait_for(lambda: said(tmp_path, "all ready"), "all are ready")
        process.terminate()
        assert process.wait(20) == 0
    assert said(tmp_path, "killing deaf")


def test_a_slow_part_has_the_time_that_those_before_it_left(tmp_path: Path) -> None:
    script = 'trap \'sleep 1; echo "slow stops" >> "$FOLDER/order"; exit 0\' TERM; ' + STAY.format(
        name="slow"
    )
    with supervised(tmp_path, [("slow", script, 0.1)], [(*stay("quick")[:2], 60.0)]) as process:
        wait_for(lambda: said(tmp_path, "all ready"), "all are ready")
        process.terminate()
        assert process.wait(60) == 0
    assert (tmp_path / "order").read_text().splitlines()[-1] == "slow stops"
    assert not said(tmp_path, "killing")


def test_second_interrupt_kills_at_once(tmp_path: Path) -> None:
    with supervised(tmp_path, [stubborn("one")], [stubborn("two")]) as process:
        wait_for(lambda: said(tmp_path, "all ready"), "all are ready")
        below = descendants(process.pid)
        process.send_signal(signal.SIGINT)
        wait_for(lambda: said(tmp_path, "stopping two"), "the orderly stop begins")
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 0
        assert time.monotonic() - began < 20  # the parts' own patience is 60 s
    assert not any(map(alive, below))


def test_nothing_outlives_a_killed_supervisor(tmp_path: Path) -> None:
    with supervised(tmp_path, [stay("one")], [stubborn("two")]) as process:
        wait_for(lambda: said(tmp_path, "all ready"), "all are ready")
        below = descendants(process.pid)
        assert len(below) >= 2
        process.kill()
        process.wait()
        wait_for(lambda: not any(map(alive, below)), "every part is dead")
