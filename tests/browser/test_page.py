"""The page in a browser, before the whole service."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import av
import pytest
from playwright.sync_api import Locator, Page, Route, expect

from jobs.public import public
from tests.fixtures.pictures import picture
from tests.jobs import making

pytestmark = pytest.mark.timeout(300)


def make(page: Page, prompt: str, *, steps: int = 2, length: int = 2) -> Locator:
    """Ask for a short video; its card."""
    page.get_by_label("Prompt").fill(prompt)
    page.locator("#more").evaluate("details => details.open = true")
    page.get_by_label("Steps").fill(str(steps))
    page.locator("#length").fill(str(length))
    page.get_by_role("button", name="Make video").click()
    return page.get_by_role("article", name=prompt, exact=True)


def test_makes_shows_plays_downloads_and_deletes(page: Page) -> None:
    card = make(page, "a kite over the sea")
    expect(card.get_by_role("progressbar")).to_be_visible()
    card.get_by_role("button", name="Play").click()
    video = card.locator("video")
    expect(video).to_have_js_property("readyState", 4)
    assert video.evaluate("video => video.duration") > 0

    with page.expect_download() as download:
        card.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename.endswith(".mp4")
    with av.open(str(download.value.path())) as container:
        assert sum(1 for _ in container.decode(video=0)) > 1

    card.get_by_role("button", name="Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(card).to_have_count(0)


def test_progress_comes_as_it_happens(page: Page) -> None:
    looks: list[str] = []
    page.on("request", lambda asked: looks.append(asked.url.rpartition("/")[2]))
    page.get_by_label("Size").select_option(label="Another size")
    page.get_by_label("Width in pixels").fill("128")
    page.get_by_label("Height in pixels").fill("128")
    card = make(page, "a slow snail", steps=500, length=8)
    expect(card.locator(".standing")).to_contain_text("Denoising")
    expect(card.locator(".preview")).to_have_js_property("complete", True)
    assert card.locator(".preview").evaluate("image => image.naturalWidth") > 100
    first = card.locator("progress").evaluate("bar => bar.value")
    page.wait_for_function(
        "([id, first]) => document.querySelector(`[aria-labelledby=${id}] progress`).value > first",
        arg=[card.get_attribute("aria-labelledby"), first],
    )
    assert "events" in looks
    card.get_by_role("button", name="Cancel").click()
    expect(card.locator(".standing")).to_have_text("Cancelled")
    expect(card.get_by_role("button", name="Try again")).to_be_visible()
    expect(card.locator(".preview")).to_have_count(0)


def test_every_output_of_a_job_is_shown_played_and_downloaded(page: Page) -> None:
    contents: list[str] = []
    page.on("request", lambda asked: contents.append(urlsplit(asked.url).query))
    page.locator("#more").evaluate("details => details.open = true")
    page.get_by_role("spinbutton", name="Outputs").fill("2")
    card = make(page, "two kites")
    outputs = card.get_by_role("group", name="Outputs").get_by_role("button")
    expect(outputs).to_have_count(2)
    for button in outputs.all():
        expect(button.locator("img")).to_have_js_property("complete", True)
    seed = int(card.locator(".seed").inner_text().removeprefix("seed "))

    second = card.get_by_role("button", name=f"Output 2 of 2, seed {seed + 1}")
    second.click()
    expect(second).to_have_attribute("aria-pressed", "true")
    expect(outputs.first).to_have_attribute("aria-pressed", "false")
    expect(card.locator(".seed")).to_have_text(f"seed {seed + 1}")
    card.get_by_role("button", name="Play").click()
    expect(card.locator("video")).to_have_js_property("readyState", 4)
    asked = [parse_qs(query) for query in contents if "variant=video" in query]
    # Several times, where the browser asks for parts.
    assert {place for query in asked for place in query["index"]} == {"1"}, (
        "only what is played is loaded"
    )
    first = card.locator("video").get_attribute("src")
    with page.expect_download() as download:
        card.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename.endswith("-1.mp4")

    outputs.first.click()
    expect(card.locator("video")).to_have_count(1)
    expect(card.locator("video")).not_to_have_attribute("src", first or "")
    expect(card.locator("video")).to_have_js_property("readyState", 4)
    expect(card.locator(".seed")).to_have_text(f"seed {seed}")


def test_images_are_in_the_gallery(page: Page) -> None:
    body = {"prompt": "a tin robot", "n": 2, "seed": 7, "num_inference_steps": 2}
    answer = page.request.post(
        "/v1/images/generations", data=body, headers={"prefer": "respond-async"}
    )
    assert answer.ok
    job_id = answer.json()["id"]
    card = page.locator(f"[data-id={job_id}]")
    shown = card.get_by_alt_text("a tin robot")
    expect(shown).to_have_js_property("complete", True)
    assert shown.evaluate("image => image.naturalWidth") > 0
    expect(card.get_by_role("button", name="Play")).to_be_hidden()
    expect(card.get_by_role("button", name="Remix")).to_be_hidden()

    card.get_by_role("button", name="Output 2 of 2, seed 8").click()
    expect(card.locator(".seed")).to_have_text("seed 8")
    with page.expect_download() as download:
        card.get_by_role("button", name="Download").click()
    assert download.value.suggested_filename == f"{job_id}-1.png"

    card.get_by_role("button", name="Delete").click()
    dialog = page.get_by_role("dialog", name="Delete this image?")
    dialog.get_by_role("button", name="Delete").click()
    expect(card).to_have_count(0)
    assert page.request.get(f"/v1/images/{job_id}").status == 404


def serve_stills(page: Page, workloads: list[str]) -> None:
    """Let the page take the model for one with these workloads; the service stays as it is."""

    def answer(route: Route) -> None:
        models = route.fetch().json()
        for model in models["data"]:
            model["workloads"] = workloads
        route.fulfill(json=models)

    page.route("**/v1/models", answer)
    page.reload()


def test_a_model_that_makes_only_images_is_asked_for_images(page: Page) -> None:
    serve_stills(page, ["t2i", "i2i"])
    button = page.get_by_role("button", name="Make image", exact=True)
    expect(button).to_be_visible()
    expect(page.get_by_role("form", name="New image")).to_be_visible()
    expect(page.locator("#length-field")).to_be_hidden()
    page.locator("#more").evaluate("details => details.open = true")
    page.get_by_label("Steps").fill("2")
    outputs = page.get_by_role("spinbutton", name="Outputs")
    outputs.fill("2")
    page.get_by_label("Prompt").fill("a paper moon")
    with page.expect_response("**/v1/images/generations") as answer:
        button.click()
    assert answer.value.status == 202
    assert answer.value.request.headers["prefer"] == "respond-async"
    card = page.locator(f"[data-id={answer.value.json()['id']}]")
    expect(card.get_by_alt_text("a paper moon")).to_have_js_property("complete", True)
    expect(card.get_by_role("group", name="Outputs").get_by_role("button")).to_have_count(2)

    outputs.fill("99")
    button.click()
    expect(page.locator("#num_outputs-error")).to_be_visible()

    outputs.fill("1")
    choose(page, picture())
    with page.expect_response("**/v1/images/edits") as answer:
        button.click()
    assert answer.value.request.headers["content-type"].startswith("multipart/form-data")
    # The tiny model edits none: what is asked is right, and the refusal is said at its field.
    expect(page.locator("#model-error")).to_contain_text("Must serve i2i")


def test_an_image_that_a_model_needs_is_asked_for(page: Page) -> None:
    serve_stills(page, ["i2i"])
    page.get_by_label("Prompt").fill("a paper moon")
    page.get_by_role("button", name="Make image", exact=True).click()
    expect(page.locator("#image-error")).to_be_visible()


def test_an_image_is_cancelled_and_tried_again(page: Page) -> None:
    long = {"n": 4, "size": "128x128", "num_inference_steps": 500}  # than anybody needs to cancel
    body = {"prompt": "an owl", **long}
    answer = page.request.post(
        "/v1/images/generations", data=body, headers={"prefer": "respond-async"}
    )
    card = page.locator(f"[data-id={answer.json()['id']}]")
    card.get_by_role("button", name="Cancel").click()
    expect(card.locator(".standing")).to_have_text("Cancelled")
    card.get_by_role("button", name="Try again").click()
    again = page.locator("[data-id^=image_]", has_text="an owl").first
    again.get_by_role("button", name="Cancel").click()
    expect(again.locator(".standing")).to_have_text("Cancelled")
    assert again.get_attribute("data-id") != answer.json()["id"]


def listed(kind: str, minutes: list[int]) -> list[dict[str, Any]]:
    """Cancelled jobs of such ages, the newest first, as the API lists them."""
    jobs = []
    for age in minutes:
        ulid = f"01J{10**6 - age:023d}"
        job = making.job(id=f"{kind}_{ulid}", state="cancelled", completed_at=1.0)
        jobs.append(public(job))
    return jobs


def test_two_lists_are_shown_as_one_without_gaps(page: Page) -> None:
    lists = {
        "videos": listed("video", list(range(0, 60, 2))),  # goes on below 46
        "images": listed("image", [1, 3, 51, 99]),
    }

    def answer(route: Route) -> None:
        asked = urlsplit(route.request.url)
        jobs = lists[asked.path.rpartition("/")[2]]
        query = parse_qs(asked.query)
        ids = [job["id"] for job in jobs]
        start = ids.index(query["after"][0]) + 1 if "after" in query else 0
        data = jobs[start : start + int(query["limit"][0])]
        more = start + len(data) < len(jobs)
        route.fulfill(json={"data": data, "last_id": data[-1]["id"], "has_more": more})

    page.route(re.compile(r"/v1/(videos|images)\?"), answer)
    page.reload()
    cards = page.locator("#cards > [data-id]:visible")
    expect(cards).to_have_count(24 + 2)
    page.get_by_role("button", name="Show older").click()
    expect(cards).to_have_count(30 + 4)
    expect(page.get_by_role("button", name="Show older")).to_be_hidden()
    shown = [str(each.get_attribute("data-id")) for each in cards.all()]
    assert shown == sorted(shown, key=lambda each: each.partition("_")[2], reverse=True)


def test_a_remix_takes_the_words_alone(page: Page) -> None:
    card = make(page, "a tin robot")
    card.get_by_role("button", name="Remix").click()
    prompt = page.get_by_label("Prompt")
    expect(prompt).to_be_focused()
    expect(prompt).to_have_value("a tin robot")
    expect(page.get_by_label("Size")).to_be_hidden()
    prompt.fill("a tin robot in the rain")
    prompt.press("Control+Enter")
    remix = page.get_by_role("article", name="a tin robot in the rain", exact=True)
    expect(remix.locator(".seed")).to_have_text(card.locator(".seed").inner_text())
    expect(page.get_by_label("Size")).to_be_visible()


def test_what_the_api_refuses_is_said_at_its_field(page: Page) -> None:
    page.get_by_role("button", name="Make video").click()
    expect(page.get_by_label("Prompt")).to_have_attribute("aria-invalid", "true")
    expect(page.locator("#prompt-error")).to_have_text("Must not be empty, got ''.")

    make(page, "a fox", steps=1000)
    steps = page.get_by_label("Steps")
    expect(steps).to_be_focused()
    expect(page.locator("#num_inference_steps-error")).to_contain_text(
        "Must be from 1 to 500, got 1000"
    )
    steps.fill("3")
    expect(page.locator("#num_inference_steps-error")).to_be_hidden()


def choose(page: Page, data: bytes) -> None:
    """Choose a file as the image."""
    page.locator("#image").set_input_files(
        {"name": "teal.png", "mimeType": "image/png", "buffer": data}
    )
    expect(page.get_by_alt_text("The chosen image")).to_be_visible()


def test_a_video_begins_with_an_image(page: Page) -> None:
    choose(page, picture())
    with page.expect_response("**/v1/videos") as answer:
        card = make(page, "a teal wall")
    assert answer.value.request.headers["content-type"].startswith("multipart/form-data")
    assert answer.value.ok
    card.get_by_role("button", name="Play").click()
    expect(card.locator("video")).to_have_js_property("readyState", 4)
    page.get_by_role("button", name="Remove image").click()
    expect(page.get_by_alt_text("The chosen image")).to_be_hidden()


def test_an_image_that_is_none_is_said_at_its_field(page: Page) -> None:
    choose(page, b"teal")
    page.get_by_label("Prompt").fill("a teal wall")
    page.get_by_role("button", name="Make video").click()
    expect(page.locator("#image-error")).to_have_text("Must be a PNG, JPEG or WebP image.")
    expect(page.locator("#image")).to_be_focused()


def test_asks_for_a_key_and_sends_it_everywhere(page: Page) -> None:
    seen: list[str] = []

    def guard(route: Route) -> None:
        if route.request.headers.get("authorization") == "Bearer rk_good":
            seen.append(route.request.url)
            route.continue_()
        else:
            error = {"message": "an API key is needed", "type": "", "param": None, "code": "key"}
            route.fulfill(status=401, json={"error": error})

    page.route("**/v1/**", guard)
    page.reload()
    key = page.get_by_label("API key")
    expect(key).to_be_focused()
    key.fill("rk_bad")
    key.press("Enter")
    expect(page.locator("#key-error")).to_contain_text("not known here")
    key.fill("rk_good")
    key.press("Enter")
    expect(make(page, "a locked door").get_by_role("button", name="Play")).to_be_visible()
    assert any(url.endswith("/events") for url in seen)
    assert any("/content" in url for url in seen)
    page.get_by_role("button", name="Forget key").click()
    expect(key).to_be_visible()
    assert page.evaluate("sessionStorage.length") == 0


def test_says_when_the_service_does_not_answer(page: Page) -> None:
    page.route("**/v1/videos**", lambda route: route.fulfill(status=503, json={}))
    page.reload()
    problem = page.locator("#gallery-problem")
    expect(problem).to_contain_text("could not be brought up to date")
    page.unroute_all()
    problem.get_by_role("button", name="Try again").click()
    expect(problem).to_be_hidden()


def test_fits_a_phone_and_the_dark(page: Page) -> None:
    light = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.documentElement).backgroundColor") != light
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    expect(page.get_by_role("button", name="Make video")).to_be_visible()
