import inspect
import os
from pathlib import Path
from typing import Annotated

import pytest
import typer
from typer.testing import CliRunner

from ops.options import DEMO_MODEL, Chosen, Refused, shared_options, to_arguments
from pipeline.options import EngineOptions


def parse(*arguments: str) -> tuple[Chosen, str]:
    """What a command with one parameter of its own gets from a command line."""
    seen: list[tuple[Chosen, str]] = []
    app = typer.Typer()

    @app.command()
    @shared_options
    def command(chosen: Chosen, own: Annotated[str, typer.Option()] = "mine") -> None:
        """Helps."""
        seen.append((chosen, own))

    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return seen[0]


def test_every_option_arrives() -> None:
    chosen, own = parse(
        *("--model-path", "Wan-AI/Wan2.1-T2V-1.3B-Diffusers", "--served-model-name", "wan"),
        *("--workload-type", "t2v", "--num-gpus", "16", "--dp-size", "2", "--sp-degree", "4"),
        *("--ulysses-degree", "2", "--ring-degree", "2", "--tp-size", "1"),
        *("--enable-cfg-parallel", "--device", "xpu", "--dtype", "bfloat16"),
        *("--attention-backend", "fa3", "--text-encoder-cpu-offload"),
        *("--image-encoder-cpu-offload", "--vae-cpu-offload", "--dit-cpu-offload"),
        *("--pin-cpu-memory", "--enable-torch-compile", "--step-cache", "--use-ipex"),
        *("--profile", "/tmp/traces"),
        *("--host", "0.0.0.0", "--port", "8000", "--log-level", "debug", "--own", "yours"),
    )
    assert chosen.engine == EngineOptions(
        model_path="Wan-AI/Wan2.1-T2V-1.3B-Diffusers",
        served_model_name="wan",
        workload_type="t2v",
        num_gpus=16,
        dp_size=2,
        sp_degree=4,
        ulysses_degree=2,
        ring_degree=2,
        tp_size=1,
        enable_cfg_parallel=True,
        device="xpu",
        dtype="bfloat16",
        attention_backend="fa3",
        text_encoder_cpu_offload=True,
        image_encoder_cpu_offload=True,
        vae_cpu_offload=True,
        dit_cpu_offload=True,
        pin_cpu_memory=True,
        enable_torch_compile=True,
        step_cache=True,
        use_ipex=True,
        profile="/tmp/traces",
    )
    settings = chosen.settings
    assert (settings.host, settings.port, settings.log_level) == ("0.0.0.0", 8000, "debug")
    assert own == "yours"


def test_every_engine_option_has_one() -> None:
    def command(chosen: Chosen) -> None:
        """Helps."""

    assert set(EngineOptions.model_fields) <= set(
        inspect.signature(shared_options(command)).parameters
    )


def test_the_environment_holds_where_the_command_line_is_silent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("RUSHES_PORT", "31000")
    monkeypatch.setenv("RUSHES_LOG_LEVEL", "error")
    settings = parse("--model-path", "own/m", "--port", "32000")[0].settings
    assert (settings.port, settings.log_level) == (32000, "error")


def test_without_a_model_the_demo_model_is_meant(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "model_index.json").touch()
    monkeypatch.setattr("ops.options.DEMO_MODEL", tmp_path)
    engine = parse()[0].engine
    assert (engine.model_path, engine.name) == (str(tmp_path), "demo")


def test_a_missing_demo_model_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("ops.options.DEMO_MODEL", tmp_path / "nowhere")
    with pytest.raises(Refused, match="give --model-path"):
        parse()


def test_the_demo_model_is_looked_for_inside_the_package() -> None:
    assert DEMO_MODEL.parts[-3:] == ("ops", "demo_model", "model")


def test_a_local_path_must_be_a_diffusers_directory(tmp_path: Path) -> None:
    with pytest.raises(Refused, match=r"no Diffusers directory: no model_index\.json"):
        parse("--model-path", str(tmp_path))
    with pytest.raises(Refused, match="nowhere: no such directory is here, and no hub id"):
        parse("--model-path", "nowhere")
    (tmp_path / "model_index.json").touch()
    assert parse("--model-path", str(tmp_path))[0].engine.model_path == str(tmp_path)


@pytest.mark.parametrize(("told", "level"), [((), "warning"), (("--log-level", "info"), "info")])
def test_a_command_with_its_own_progress_is_quiet_unless_told(
    told: tuple[str, ...], level: str
) -> None:
    parse("--model-path", "own/m", *told)[0].tell_ranks()
    assert os.environ["RUSHES_LOG_LEVEL"] == level


def test_sharded_weights_arrive() -> None:
    chosen, _ = parse("--model-path", "own/m", "--use-fsdp-inference", "--hsdp-shard-dim", "2")
    expected = EngineOptions(model_path="own/m", use_fsdp_inference=True, hsdp_shard_dim=2)
    assert chosen.engine == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--hsdp-shard-dim", "4"), "give both"),
        (("--use-fsdp-inference", "--dit-cpu-offload"), "exclude each other"),
        (("--use-fsdp-inference", "--step-cache"), "exclude each other"),
        (("--sp-degree", "2", "--ulysses-degree", "4"), "ulysses 4 does not divide .* degree 2"),
        (("--sp-degree", "4", "--ulysses-degree", "2", "--ring-degree", "1"), "ulysses 2 x ring 1"),
        (("--num-gpus", "4", "--sp-degree", "2"), "sp_degree 2 does not fit: num_gpus 4"),
        (("--num-gpus", "3", "--enable-cfg-parallel"), "even number of devices"),
    ],
)
def test_options_that_contradict_each_other_are_refused(
    arguments: tuple[str, ...], words: str
) -> None:
    with pytest.raises(Refused, match=words):
        parse("--model-path", "own/m", *arguments)


@pytest.mark.parametrize(
    "options",
    [
        EngineOptions(model_path="own/m"),
        EngineOptions(
            model_path="a model/with spaces",
            served_model_name="wan",
            num_gpus=8,
            dp_size=2,
            ulysses_degree=2,
            enable_cfg_parallel=True,
            device="cpu",
            dtype="float32",
            attention_backend="sdpa",
            vae_cpu_offload=True,
            profile="/traces of mine",
        ),
    ],
)
def test_the_command_line_gives_the_options_again(options: EngineOptions) -> None:
    assert parse(*to_arguments(options))[0].engine == options
