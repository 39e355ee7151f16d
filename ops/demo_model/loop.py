"""What both training loops share: capturing a step, and a schedule that ends on the clock."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

Body = Callable[[], None]
Function = TypeVar("Function", bound=Callable[..., Tensor])


def capture(body: Body, device: torch.device, name: str, warmup: int = 3) -> Body:
    """`body` as a CUDA graph, or as it is on the CPU or where capturing fails.

    `body` must read and write fixed tensors. It runs `warmup` times for real.
    """
    if device.type != "cuda":
        return body
    start = time.monotonic()
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(warmup):
            body()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            body()
    except RuntimeError as error:
        print(f"!! {name}: no CUDA graph, running eagerly: {error}", flush=True)
        torch.cuda.synchronize()
        return body
    print(f"{name}: captured in {time.monotonic() - start:.1f} s", flush=True)
    return graph.replay


def compiled(function: Function, device: torch.device, dynamic: bool | None = None) -> Function:
    """`function` under torch.compile on a GPU; the first failure aloud, then eagerly."""
    if device.type != "cuda":
        return function
    torch._dynamo.config.recompile_limit = 64
    fast = torch.compile(function, dynamic=dynamic)
    broken = False

    def call(*args: object) -> Tensor:
        nonlocal broken
        if not broken:
            try:
                return fast(*args)
            except RuntimeError as error:
                broken = True
                print(f"!! {function.__name__}: not compiled: {error!r:.2000}", flush=True)
        return function(*args)

    return call  # type: ignore[return-value]


@dataclass(slots=True)
class Clock:
    """A learning rate that is flat until `flat` of `seconds` are over, then falls to 0."""

    peak: float
    seconds: float
    flat: float
    warmup: int
    device: torch.device
    limit: int | None = None
    iteration: int = 0
    started: float = field(default_factory=time.monotonic)

    def fraction(self) -> float:
        """How much of the loop is over, 0..1; waits for the device, so that the clock is true."""
        if self.device.type == "cuda":
            torch.cuda.synchronize()
        if self.limit is not None:
            return min(1.0, self.iteration / self.limit)
        return min(1.0, (time.monotonic() - self.started) / self.seconds)

    def rate(self, fraction: float) -> float:
        """The learning rate now."""
        rising = min(1.0, (self.iteration + 1) / max(1, self.warmup))
        return self.peak * rising * min(1.0, (1 - fraction) / (1 - self.flat))


@dataclass(slots=True)
class Optimizer:
    """AdamW whose step can be captured, gradients in fixed memory, and an average of the weights."""

    parameters: list[nn.Parameter]
    device: torch.device
    weight_decay: float = 0.0
    ema_decay: float = 0.0
    clip: float = 1.0
    rate: Tensor = field(init=False)
    ema: list[Tensor] = field(init=False)
    adam: torch.optim.AdamW = field(init=False)

    def __post_init__(self) -> None:
        on_gpu = self.device.type == "cuda"
        self.rate = torch.zeros((), device=self.device)
        self.adam = torch.optim.AdamW(
            self.parameters,
            lr=self.rate,
            betas=(0.9, 0.99),
            weight_decay=self.weight_decay,
            fused=on_gpu,
            capturable=on_gpu,
        )
        self.ema = [p.detach().clone() for p in self.parameters] if self.ema_decay else []
        for parameter in self.parameters:
            parameter.grad = torch.zeros_like(parameter)

    def clear(self) -> None:
        """Zero the gradients where they lie."""
        torch._foreach_zero_([p.grad for p in self.parameters if p.grad is not None])

    def step(self) -> None:
        """One update at `rate`."""
        nn.utils.clip_grad_norm_(self.parameters, self.clip, foreach=True)
        self.adam.step()
        if self.ema:
            torch._foreach_lerp_(self.ema, [p.data for p in self.parameters], 1 - self.ema_decay)

    @torch.no_grad()
    def use_average(self) -> None:
        """Replace the weights by their average."""
        for parameter, average in zip(self.parameters, self.ema, strict=True):
            parameter.copy_(average)
