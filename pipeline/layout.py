"""How a gang's ranks share one generation: one validated value, built once and passed down."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class Layout:
    """The degrees of one gang: size = cfg x ring x ulysses x tp; `dp` gangs make up `num_gpus`.

    - cfg: conditional and unconditional branch on different ranks (1 or 2).
    - ulysses: all-to-all over attention heads (DeepSpeed-Ulysses, arXiv:2309.14509).
    - ring: K and V blocks passed around (Ring Attention, arXiv:2310.01889).
    - tp: column and row sharding of the transformer (Megatron-LM, arXiv:1909.08053).
    - dp: replicas, each a gang of its own.

    Ranks are numbered with tp fastest, then ulysses, ring, cfg.
    """

    cfg: int = 1
    ring: int = 1
    ulysses: int = 1
    tp: int = 1
    dp: int = 1

    def __post_init__(self) -> None:
        for name in ("cfg", "ring", "ulysses", "tp", "dp"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} degree must be at least 1, got {getattr(self, name)}")
        if self.cfg > 2:
            raise ValueError(f"cfg degree must be 1 or 2 (two branches), got {self.cfg}")

    @property
    def gang_size(self) -> int:
        """Ranks of one gang."""
        return self.cfg * self.ring * self.ulysses * self.tp

    @property
    def num_gpus(self) -> int:
        """Devices of all gangs."""
        return self.dp * self.gang_size

    @property
    def sp(self) -> int:
        """Sequence parallel degree: ring x ulysses."""
        return self.ring * self.ulysses

    @classmethod
    def plan(
        cls,
        num_gpus: int,
        *,
        dp_size: int | None = None,
        sp_degree: int | None = None,
        ulysses_degree: int | None = None,
        ring_degree: int | None = None,
        tp_size: int | None = None,
        enable_cfg_parallel: bool = False,
        heads: int | None = None,
    ) -> Self:
        """Fill the omitted degrees by one rule and check the product.

        dp 1, tp 1, cfg 2 only with CFG parallel asked for, sp = num_gpus / (dp x cfg x tp), ulysses
        = the largest divisor of sp that divides heads / tp, ring = the rest.

        `heads` are the transformer's attention heads; None skips what depends on them.

        Raises:
            ValueError: with the numbers that do not fit.
        """
        dp, tp, cfg = dp_size or 1, tp_size or 1, 2 if enable_cfg_parallel else 1
        if num_gpus < 1:
            raise ValueError(f"num_gpus must be at least 1, got {num_gpus}")
        if enable_cfg_parallel and num_gpus % 2:
            raise ValueError(
                f"CFG parallel needs an even number of devices, got num_gpus {num_gpus}"
            )
        if num_gpus % (dp * cfg * tp):
            raise ValueError(
                f"num_gpus {num_gpus} is not divisible by dp {dp} x cfg {cfg} x tp {tp} = {dp * cfg * tp}"
            )
        if heads is not None:
            cls(tp=tp).check_heads(heads)
        sp = num_gpus // (dp * cfg * tp)
        if sp_degree is not None and sp_degree != sp:
            raise ValueError(
                f"sp_degree {sp_degree} does not fit: num_gpus {num_gpus} / (dp {dp} x cfg {cfg} x tp {tp}) = {sp}"
            )
        ulysses, ring = _split(
            sp, ulysses_degree, ring_degree, None if heads is None else heads // tp
        )
        return cls(cfg=cfg, ring=ring, ulysses=ulysses, tp=tp, dp=dp)

    def check_heads(self, heads: int) -> None:
        """Hold the layout against a transformer's number of attention heads.

        Raises:
            ValueError: they cannot be shared out; the message names degrees that can.
        """
        if heads % self.tp:
            raise ValueError(f"{heads} heads do not divide by tp {self.tp}{_fits(heads)}")
        own = heads // self.tp
        if own % self.ulysses:
            of = f" ({heads} / tp {self.tp})" if self.tp > 1 else ""
            raise ValueError(f"{own} heads{of} do not divide by ulysses {self.ulysses}{_fits(own)}")

    def __str__(self) -> str:
        return (
            f"{self.num_gpus} = dp {self.dp} x cfg {self.cfg} x ring {self.ring} "
            f"x ulysses {self.ulysses} x tp {self.tp}"
        )


def _split(sp: int, ulysses: int | None, ring: int | None, heads: int | None) -> tuple[int, int]:
    """Ulysses and ring degrees whose product is `sp`."""
    for name, given in (("ulysses", ulysses), ("ring", ring)):
        if given is not None and sp % given:
            raise ValueError(
                f"{name} {given} does not divide the sequence parallel degree {sp}{_fits(sp)}"
            )
    if ulysses is None and ring is not None:
        ulysses = sp // ring
    if ulysses is None:
        ulysses = max(u for u in _divisors(sp) if heads is None or heads % u == 0)
    if ring is None:
        ring = sp // ulysses
    if ulysses * ring != sp:
        raise ValueError(
            f"ulysses {ulysses} x ring {ring} must be the sequence parallel degree {sp}"
        )
    if heads is not None:
        Layout(ulysses=ulysses).check_heads(heads)
    return ulysses, ring


def _fits(heads: int) -> str:
    return f"; degrees that do: {', '.join(str(degree) for degree in _divisors(heads))}"


def _divisors(number: int) -> list[int]:
    return [d for d in range(1, number + 1) if number % d == 0]
