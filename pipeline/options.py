"""How a model is served: the options that `serve`, `worker`, `generate` and DiffGenerator share."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from pipeline.layout import Layout
from pipeline.outline import Outline
from pipeline.request import Workload

Device = Literal["xpu", "cuda", "cpu"]
DType = Literal["bfloat16", "float16", "float32"]

_UNKNOWN = Outline()


class EngineOptions(BaseModel):
    """One served model and how its gangs run it. Frozen and JSON-ready: Init carries it to the ranks."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    model_path: str = Field(min_length=1)
    """A Diffusers directory or a hub id."""
    served_model_name: str | None = None
    """The names that clients use, comma-separated; the path's last part when omitted."""
    workload_type: Workload | None = None
    """Serve only this workload of those that the model knows."""
    num_gpus: int | None = Field(default=None, ge=1)
    """Devices of all gangs; omitted: 1, on CPU 2."""
    dp_size: int | None = Field(default=None, ge=1)
    sp_degree: int | None = Field(default=None, ge=1)
    ulysses_degree: int | None = Field(default=None, ge=1)
    ring_degree: int | None = Field(default=None, ge=1)
    tp_size: int | None = Field(default=None, ge=1)
    enable_cfg_parallel: bool = False
    device: Device | None = None
    """Omitted: the first of xpu, cuda, cpu that is there."""
    dtype: DType | None = None
    """Omitted: bfloat16 on an accelerator, float32 on CPU."""
    attention_backend: str | None = None
    """Omitted or `auto`: the device's own. Else `sdpa`, `fa2`, `fa3` or a name of diffusers."""
    text_encoder_cpu_offload: bool = False
    image_encoder_cpu_offload: bool = False
    vae_cpu_offload: bool = False
    dit_cpu_offload: bool = False
    """Weights lie in CPU memory while they are not in use."""
    pin_cpu_memory: bool = False
    """Lock offloaded weights in CPU memory, for faster transfers."""
    use_fsdp_inference: bool = False
    """Shard the transformer's weights over the gang; each block is gathered as it runs."""
    hsdp_shard_dim: int | None = Field(default=None, ge=1)
    """Ranks that hold one copy of sharded weights together; omitted: all of the gang."""
    vae_tiling: Literal["on", "off"] | None = None
    """Decode in overlapping tiles, which the ranks share; omitted: Wan's frames of over 832x480 pixels."""
    enable_torch_compile: bool = False
    """Compile the transformer's repeated blocks (torch.compile); results drift by rounding."""
    step_cache: bool = False
    """Foretell denoising steps in which little changes, for requests whose `fidelity` is `bounded`."""
    use_ipex: bool = False
    """Let Intel's extension optimize the transformer: only beside torch 2.8, where it is installed."""
    profile: str | None = None
    """Each rank writes torch profiler traces of its first runs into this folder."""

    @property
    def name(self) -> str:
        """The first name that clients use."""
        return self.names[0]

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that clients may use; the model's path is the last."""
        given = self.served_model_name or self.model_path.rstrip("/").rsplit("/", 1)[-1]
        return tuple(dict.fromkeys([*(name.strip() for name in given.split(",")), self.model_path]))

    @field_validator("served_model_name")
    @classmethod
    def _no_empty_name(cls, value: str | None) -> str | None:
        if value is not None and not all(name.strip() for name in value.split(",")):
            raise ValueError(f"served_model_name must be names separated by commas, got {value!r}")
        return value

    @model_validator(mode="after")
    def _weights_are_in_one_place(self) -> Self:
        if self.hsdp_shard_dim is not None and not self.use_fsdp_inference:
            raise ValueError("hsdp_shard_dim says how use_fsdp_inference shards: give both")
        if self.use_fsdp_inference and self.dit_cpu_offload:
            raise ValueError(
                "use_fsdp_inference and dit_cpu_offload exclude each other: weights are sharded or offloaded"
            )
        if self.use_fsdp_inference and self.step_cache:
            raise ValueError(
                "use_fsdp_inference and step_cache exclude each other: sharded blocks are never skipped"
            )
        return self

    @model_validator(mode="after")
    def _degrees_fit(self) -> Self:
        """What contradicts itself is refused before anybody looks for devices."""
        if self.num_gpus is not None:
            self.layout(num_gpus=self.num_gpus)
        elif self.sp_degree is not None:
            Layout.plan(
                self.sp_degree, ulysses_degree=self.ulysses_degree, ring_degree=self.ring_degree
            )
        return self

    def layout(self, *, num_gpus: int, model: Outline = _UNKNOWN) -> Layout:
        """The layout that these options ask for on `num_gpus` devices.

        Raises:
            ValueError: degrees that do not fit, with the numbers, or not this model.
        """
        if self.enable_cfg_parallel and not model.guided:
            raise ValueError(
                f"{self.name} is not guided: a step has one branch, which enable_cfg_parallel cannot "
                "split; without it the ranks share the sequence"
            )
        layout = Layout.plan(
            num_gpus,
            dp_size=self.dp_size,
            sp_degree=self.sp_degree,
            ulysses_degree=self.ulysses_degree,
            ring_degree=self.ring_degree,
            tp_size=self.tp_size,
            enable_cfg_parallel=self.enable_cfg_parallel,
            heads=model.heads,
        )
        if self.use_fsdp_inference and layout.tp > 1:
            raise ValueError(
                f"use_fsdp_inference with tp {layout.tp} is not served: tensor parallelism shares the weights already"
            )
        if self.step_cache and layout.tp > 1:
            raise ValueError(
                f"step_cache with tp {layout.tp} is not served: blocks shared out by width are never skipped"
            )
        if layout.gang_size % (self.hsdp_shard_dim or 1):
            raise ValueError(
                f"hsdp_shard_dim {self.hsdp_shard_dim} does not divide the gang's {layout.gang_size} ranks"
            )
        return layout
