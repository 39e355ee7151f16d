"""The option set that `serve`, `worker` and `generate` share: defined once, in the guide's words."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Concatenate, Literal, ParamSpec, TypeVar

import typer
from pydantic import ValidationError

from jobs.settings import LogLevel, Settings, load_settings
from pipeline.options import Device, DType, EngineOptions
from pipeline.request import Workload

DEMO_MODEL = Path(__file__).parent / "demo_model" / "model"
DEMO_NAME = "demo"

P = ParamSpec("P")
R = TypeVar("R")


class Refused(Exception):
    """What was asked for cannot be: one line that says why, exit code 2."""


@dataclass(frozen=True)
class Chosen:
    """What the shared options and the environment come to."""

    engine: EngineOptions
    settings: Settings

    def tell_ranks(self) -> None:
        """Put the log level where ranks that this process starts read it.

        For a command that shows its own progress: silent but for warnings unless told otherwise.
        """
        told = "log_level" in self.settings.model_fields_set
        os.environ["RUSHES_LOG_LEVEL"] = self.settings.log_level if told else "warning"


def _option(panel: str, text: str, **more: Any) -> Any:
    return typer.Option(help=text, show_default=False, rich_help_panel=panel, **more)


def _model(text: str) -> Any:
    return _option("Model", text)


def _degree(text: str) -> Any:
    return _option("Layout", text, min=1, metavar="N")


def _memory(text: str, **more: Any) -> Any:
    return _option("Memory", text, **more)


def _service(text: str, **more: Any) -> Any:
    return _option("Service", text, **more)


def of_request(text: str) -> Any:
    """A parameter of the request; omitted, the model's default holds."""
    return _option("Request", text)


def _declared(
    *,
    model_path: Annotated[
        str | None, _model("A Diffusers directory or hub id. Omitted: the demo model.")
    ] = None,
    served_model_name: Annotated[
        str | None, _model("The name clients use. Omitted: the path's last part.")
    ] = None,
    workload_type: Annotated[
        Workload | None, _model("Serve only this workload of those that the model knows.")
    ] = None,
    device: Annotated[
        Device | None, _model("Omitted: the first of xpu, cuda, cpu that is there.")
    ] = None,
    dtype: Annotated[
        DType | None, _model("Omitted: bfloat16 on an accelerator, float32 on CPU.")
    ] = None,
    num_gpus: Annotated[
        int | None, _degree("Devices of all gangs together. Omitted: 1, on CPU 2.")
    ] = None,
    dp_size: Annotated[int | None, _degree("Gangs, each with a copy of the model.")] = None,
    sp_degree: Annotated[int | None, _degree("Sequence parallel degree: ring x ulysses.")] = None,
    ulysses_degree: Annotated[int | None, _degree("All-to-all over attention heads.")] = None,
    ring_degree: Annotated[int | None, _degree("Ring attention: K and V passed around.")] = None,
    tp_size: Annotated[int | None, _degree("Tensor parallel degree of the transformer.")] = None,
    enable_cfg_parallel: Annotated[
        bool,
        _option("Layout", "Conditional and unconditional branch on different ranks."),
    ] = False,
    attention_backend: Annotated[
        str | None,
        _option("Speed", "auto, sdpa, fa2, fa3 or a name of diffusers. Omitted: the device's own."),
    ] = None,
    vae_tiling: Annotated[
        Literal["on", "off"] | None,
        _memory("Decode in tiles, shared by the ranks. Omitted: frames over 832x480 pixels."),
    ] = None,
    enable_torch_compile: Annotated[
        bool, _option("Speed", "Compile the transformer's blocks; results drift by rounding.")
    ] = False,
    step_cache: Annotated[
        bool,
        _option(
            "Speed", "Foretell steps that change little, where a request's fidelity is bounded."
        ),
    ] = False,
    use_ipex: Annotated[
        bool, _option("Speed", "Optimize with Intel's extension, where torch 2.8 and it are there.")
    ] = False,
    profile: Annotated[
        Path | None,
        _option("Speed", "Each rank writes torch profiler traces of its first runs here."),
    ] = None,
    text_encoder_cpu_offload: Annotated[
        bool, _memory("Text encoder in CPU memory while not in use.")
    ] = False,
    image_encoder_cpu_offload: Annotated[
        bool, _memory("Image encoder in CPU memory while not in use.")
    ] = False,
    vae_cpu_offload: Annotated[bool, _memory("VAE in CPU memory while not in use.")] = False,
    dit_cpu_offload: Annotated[
        bool, _memory("Transformer in CPU memory, on the device block by block.")
    ] = False,
    pin_cpu_memory: Annotated[
        bool, _memory("Lock offloaded weights in CPU memory, for faster transfers.")
    ] = False,
    use_fsdp_inference: Annotated[
        bool, _memory("Shard the transformer's weights over the gang.")
    ] = False,
    hsdp_shard_dim: Annotated[
        int | None, _memory("Ranks that hold one copy of sharded weights. Omitted: all.", min=1)
    ] = None,
    host: Annotated[str | None, _service("Address to listen on [RUSHES_HOST, 127.0.0.1].")] = None,
    port: Annotated[
        int | None, _service("Port to listen on [RUSHES_PORT, 30000].", min=1, max=65535)
    ] = None,
    log_level: Annotated[
        LogLevel | None, _service("How much every process says [RUSHES_LOG_LEVEL, info].")
    ] = None,
) -> None:
    """Only its signature is used: what Typer offers, with EngineOptions' own names and defaults."""


def _choose(
    *,
    model_path: str | None,
    served_model_name: str | None,
    profile: Path | None,
    host: str | None,
    port: int | None,
    log_level: LogLevel | None,
    **engine: Any,
) -> Chosen:
    if model_path is None:
        if not (DEMO_MODEL / "model_index.json").exists():
            raise Refused(f"no demo model in {DEMO_MODEL}: give --model-path")
        model_path, served_model_name = str(DEMO_MODEL), served_model_name or DEMO_NAME
    elif model_path.startswith(("/", "./", "../", "~")):  # else it may be a hub id
        directory = Path(model_path).expanduser()
        if not (directory / "model_index.json").exists():
            raise Refused(
                f"--model-path {model_path} is no Diffusers directory: no model_index.json"
            )
        model_path = str(directory)
    elif model_path.count("/") != 1 and not Path(model_path).is_dir():
        raise Refused(
            f"--model-path {model_path}: no such directory is here, and no hub id is like that: owner/name"
        )
    try:
        chosen = EngineOptions(
            model_path=model_path,
            served_model_name=served_model_name,
            profile=None if profile is None else str(profile.absolute()),
            **engine,
        )
    except ValidationError as error:
        words = "; ".join(problem["msg"] for problem in error.errors())
        raise Refused(words.removeprefix("Value error, ")) from None
    return Chosen(chosen, load_settings(host=host, port=port, log_level=log_level))


def shared_options(command: Callable[Concatenate[Chosen, P], R]) -> Callable[..., R]:
    """Give `command` the shared option set: Typer sees its parameters before the command's own.

    The command's first parameter receives the `Chosen` that they come to.
    """
    shared = inspect.signature(_declared, eval_str=True).parameters
    own = list(inspect.signature(command, eval_str=True).parameters.values())[1:]

    def with_shared(**given: Any) -> R:
        chosen = _choose(**{name: given.pop(name) for name in shared})
        return command(chosen, **given)  # type: ignore[call-arg]

    keyword = [p.replace(kind=inspect.Parameter.KEYWORD_ONLY) for p in own]
    parameters = [*keyword, *shared.values()]
    with_shared.__name__ = command.__name__
    with_shared.__doc__ = command.__doc__
    with_shared.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    with_shared.__annotations__ = {p.name: p.annotation for p in parameters}
    return with_shared


def to_arguments(options: EngineOptions) -> list[str]:
    """The command line that gives these options again."""
    arguments = []
    for name, value in options:
        flag = f"--{name.replace('_', '-')}"
        if value is True:
            arguments.append(flag)
        elif value not in (None, False):
            arguments += [flag, str(value)]
    return arguments
