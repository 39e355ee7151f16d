import pytest

from pipeline.advice import advise
from pipeline.layout import Layout
from pipeline.limits import ModelCard
from pipeline.options import EngineOptions
from pipeline.request import Params, resolve

CARD = ModelCard(
    name="wan",
    family="wan",
    workloads=("t2v", "t2i", "i2v"),
    width=832,
    height=480,
    num_frames=81,
    fps=16,
    num_inference_steps=50,
    guidance_scale=5.0,
    max_width=1280,
    max_height=1280,
    max_num_frames=161,
    max_images=1,
)


def advice(
    *, options: dict[str, object] | None = None, layout: Layout | None = None, **params: object
) -> str:
    request = resolve(Params.model_validate({"prompt": "a fox"} | params), CARD)
    return advise(
        request,
        CARD,
        EngineOptions.model_validate({"model_path": "wan"} | (options or {})),
        layout or Layout(),
        in_host_memory=False,
    )


def test_everything_that_would_need_less_is_named() -> None:
    assert advice(layout=Layout(ulysses=2)) == (
        "ask for num_frames 41 instead of 81 or size 576x336 instead of 832x480; or start the service "
        "with --text-encoder-cpu-offload, --image-encoder-cpu-offload, --vae-cpu-offload, "
        "--dit-cpu-offload, --vae-tiling on, --use-fsdp-inference, --sp-degree 4 --num-gpus 4"
    )


@pytest.mark.parametrize(
    ("options", "layout", "absent"),
    [
        ({"vae_cpu_offload": True}, Layout(ulysses=2), "--vae-cpu-offload"),
        ({"vae_tiling": "on"}, Layout(ulysses=2), "--vae-tiling"),
        ({"use_fsdp_inference": True}, Layout(ulysses=2), "--use-fsdp"),
        ({"use_fsdp_inference": True}, Layout(ulysses=2), "--dit-cpu-offload"),
        ({}, Layout(), "--use-fsdp"),
        ({}, Layout(tp=2), "--use-fsdp"),
    ],
)
def test_what_is_on_or_cannot_be_is_not_advised(
    options: dict[str, object], layout: Layout, absent: str
) -> None:
    assert absent not in advice(options=options, layout=layout)


def test_more_devices_count_every_degree() -> None:
    assert "--sp-degree 4 --num-gpus 16" in advice(layout=Layout(cfg=2, ring=2, dp=2))


def test_frames_and_sides_stay_what_the_card_allows() -> None:
    assert "num_frames 5 instead of 13" in advice(num_frames=13)
    assert "num_frames" not in advice(num_frames=1)
    assert "num_frames" not in advice(num_frames=5)
    assert "size" not in advice(size="16x16")


def test_offloading_is_no_advice_where_the_device_is_the_host() -> None:
    request = resolve(Params(prompt="a fox"), CARD)
    options = EngineOptions(model_path="wan")
    assert "offload" not in advise(request, CARD, options, Layout(), in_host_memory=True)
