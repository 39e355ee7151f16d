"""Every command line of the deployment guide, `rushes` for `sglang`, through start-up's checks.

What is checked is what runs before a gang starts: options, environment, ports, keys, devices, layout,
backend, attention. Nothing is loaded. The table says what becomes of each where no accelerator is.
"""

from __future__ import annotations

import ast
import os
import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from jobs.errors import SettingsError
from ops.cli import app
from ops.options import Refused
from pipeline.gang import placement
from pipeline.gang.gang import GangError
from pipeline.generator import DiffGenerator
from pipeline.options import EngineOptions

GUIDE = Path(__file__).with_name("guide.md").read_text()
ACCEPTED = "accepted"
NO_FA3 = "attention_backend fa3 cannot serve here: it is not made for cpu; use sdpa instead"
NO_XCCL = "TORCH_DISTRIBUTED_BACKEND=xccl is not for cpu: leave it unset for gloo"

COMMANDS = [
    ("generate", "--num-gpus 1 --text-encoder-cpu-offload --vae-cpu-offload", ACCEPTED),
    ("generate", "--help", ACCEPTED),
    ("serve", "--num-gpus 1 --host 0.0.0.0", ACCEPTED),
    ("serve", "--num-gpus 4 --dp-size 4", ACCEPTED),
    ("serve", "--ulysses-degree 4 --attention-backend fa3", NO_FA3),
    ("serve", "--ring-degree 2 --ulysses-degree 2 --attention-backend fa3", NO_FA3),
    ("serve", "--num-gpus 8 --dp-size 2 --sp-degree 4", ACCEPTED),
    ("serve", "--num-gpus 2 --enable-cfg-parallel", ACCEPTED),
    ("serve", "--image-encoder-cpu-offload --vae-cpu-offload --pin-cpu-memory", ACCEPTED),
    ("serve", "--use-fsdp-inference --hsdp-shard-dim 4", ACCEPTED),
    ("serve", "--enable-torch-compile", ACCEPTED),
    ("serve", "--attention-backend fa3", NO_FA3),
    ("serve", "--attention-backend sdpa", ACCEPTED),
    ("serve", "--workload-type t2v --host 0.0.0.0", ACCEPTED),
    ("serve", "--workload-type t2v --attention-backend fa3 --enable-torch-compile", NO_XCCL),
]
"""Command, options by which to know it again, and what becomes of it; in the guide's order."""

CALLS = [ACCEPTED, ACCEPTED, NO_FA3, ACCEPTED, ACCEPTED]


def blocks(kind: str) -> list[str]:
    return re.findall(rf"```{kind}\n(.*?)```", GUIDE, re.DOTALL)


def command_lines() -> list[tuple[dict[str, str], list[str]]]:
    """Each command with the variables that its own block exports."""
    found = []
    for block in blocks("bash"):
        # The guide writes comments behind a line's backslash, which no shell would read so.
        text = re.sub(r"\\[ \t]*#.*$", r"\\", block, flags=re.MULTILINE).replace("\\\n", " ")
        text = text.replace("MODEL_PATH", "own/model")  # what a reader puts in its place
        exports: dict[str, str] = {}
        for line in text.splitlines():
            command = line.partition(" ")[0]
            if command == "export":
                name, _, value = shlex.split(line, comments=True)[1].partition("=")
                exports[name] = value
            elif command == "sglang":
                found.append((exports, shlex.split(line, comments=True)[1:]))
    return found


LINES = command_lines()


class Accepted(Exception):
    """Start-up has nothing left to check."""


def accept(*_: object, **__: object) -> None:
    raise Accepted


@pytest.fixture(scope="module")
def asked_once() -> Any:
    """The real probe of this machine, asked once for each question: it loads torch each time."""
    real, answers = placement.probe, dict[tuple[Any, ...], Any]()

    def probe(options: EngineOptions) -> Any:
        backend = os.environ.get("TORCH_DISTRIBUTED_BACKEND", "")
        question = (options.device, options.attention_backend, backend)
        if question not in answers:
            try:
                answers[question] = real(options)
            except GangError as error:
                answers[question] = error
        if isinstance(answers[question], GangError):
            raise GangError(str(answers[question]))
        return answers[question]

    return probe


@pytest.fixture(autouse=True)
def only_checks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, asked_once: Any) -> None:
    """Stop where the first process would be started; no accelerator, a home of one's own."""
    monkeypatch.setenv("RUSHES_HOME", str(tmp_path))
    monkeypatch.setenv("RUSHES_OPEN", "1")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr("ops.stack.ports.is_free", lambda *_: True)
    monkeypatch.setattr("ops.stack.serve.Supervisor.run", accept)
    monkeypatch.setattr("pipeline.generator.Dispatcher.start", accept)
    monkeypatch.setattr("ops.devices.probe", asked_once)
    monkeypatch.setattr("pipeline.generator.probe", asked_once)
    if asked_once(EngineOptions(model_path="m"))["device"] != "cpu":
        pytest.skip("an accelerator is there: other lines are accepted")


def outcome(arguments: list[str]) -> str:
    """What becomes of a command line of ours."""
    result = CliRunner().invoke(app, arguments)
    if isinstance(result.exception, Accepted) or result.exit_code == 0:
        return ACCEPTED
    if isinstance(result.exception, Refused | SettingsError):
        return str(result.exception)
    return f"{result.output} {result.exception!r}"


def test_the_table_has_every_line_of_the_guide() -> None:
    assert len(LINES) == len(COMMANDS)
    for (_, arguments), (command, options, _) in zip(LINES, COMMANDS, strict=True):
        assert arguments[0] == command
        assert set(options.split()) <= set(arguments), options


@pytest.mark.parametrize(
    ("line", "expected"),
    [(line, expected) for line, (_, _, expected) in zip(LINES, COMMANDS, strict=False)],
    ids=[f"{command} {options}" for command, options, _ in COMMANDS],
)
def test_a_line_of_the_guide_is_accepted_or_refused_by_name(
    monkeypatch: pytest.MonkeyPatch,
    line: tuple[dict[str, str], list[str]],
    expected: str,
) -> None:
    exports, arguments = line
    for name, value in exports.items():
        monkeypatch.setenv(name, value)
    assert outcome(arguments) == expected


def calls() -> list[dict[str, Any]]:
    """The keywords of each `from_pretrained` of the guide."""
    return [
        {keyword.arg: ast.literal_eval(keyword.value) for keyword in node.keywords if keyword.arg}
        for block in blocks("python")
        for node in ast.walk(ast.parse(block))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "from_pretrained"
    ]


@pytest.mark.parametrize("index", range(len(CALLS)))
def test_a_call_of_the_guide_is_accepted_or_refused_by_name(index: int) -> None:
    assert len(calls()) == len(CALLS)
    try:
        DiffGenerator.from_pretrained(**calls()[index])
    except Accepted:
        said = ACCEPTED
    except Exception as error:  # noqa: BLE001  # whatever it says is what becomes of the call
        said = str(error)
    assert said == CALLS[index]


def test_beyond_loopback_the_guide_needs_a_key_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RUSHES_OPEN")
    said = outcome(LINES[2][1])
    assert "there are no API keys: make one with `rushes keys create NAME`" in said


def test_one_meeting_place_is_refused_for_several_gangs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MASTER_ADDR", "localhost")
    assert outcome(LINES[3][1]).startswith("MASTER_ADDR=localhost names one meeting place for dp")
    assert outcome(LINES[7][1]) == ACCEPTED


def test_an_unknown_switch_is_an_error() -> None:
    assert "No such option: --dit-gpu-offload" in outcome(["serve", "--dit-gpu-offload"])
    with pytest.raises(TypeError, match="unexpected keyword argument 'dit_gpu_offload'"):
        DiffGenerator.from_pretrained("m", dit_gpu_offload=True)  # type: ignore[call-arg]
