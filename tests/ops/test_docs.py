"""The pages that say what code says say the same."""

import re
from pathlib import Path

from api.app import create_app
from jobs.artifacts import open_artifacts
from jobs.settings import Settings
from jobs.states import EDGES, TERMINAL, State
from jobs.store import JobStore
from jobs.workers import Workers
from ops.settings_page import page

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"


def test_the_settings_page_is_the_settings_class() -> None:
    assert (DOCS / "SETTINGS.md").read_text() == page(), (
        "run: python -m ops.settings_page > docs/SETTINGS.md"
    )


def test_every_setting_says_what_it_is() -> None:
    assert [name for name, field in Settings.model_fields.items() if not field.description] == []


def test_no_page_and_no_container_names_a_setting_that_is_not_there() -> None:
    known = {f"RUSHES_{name.upper()}" for name in Settings.model_fields}
    files = [
        *DOCS.glob("*.md"),
        *ROOT.glob("*.md"),
        ROOT / "Dockerfile",
        ROOT / "docker-compose.yml",
    ]
    named = {name for file in files for name in re.findall(r"RUSHES_[A-Z0-9_]+", file.read_text())}
    assert len(named) > 10
    assert named <= known, named - known


def test_the_state_diagram_is_the_table() -> None:
    text = (DOCS / "STATES.md").read_text()
    drawn = re.findall(r"^    (\S+) --> (\S+?)(?:: (\w+))?$", text, re.MULTILINE)
    table = {(edge.source.value, edge.target.value, edge.event) for edge in EDGES}
    start = {("[*]", State.QUEUED.value, "submit")}
    ends = {(state.value, "[*]", "") for state in TERMINAL}
    assert set(drawn) == table | start | ends
    assert len(drawn) == len(set(drawn))


def test_the_api_page_names_every_route_and_no_other(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path, redis_url="redis://127.0.0.1:1/0")
    store = JobStore.connect(settings)
    app = create_app(settings, store, Workers(store), open_artifacts(settings))
    served = {
        (
            method,
            re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", re.sub(r"<(job:)?job_id>", "<id>", rule.rule)),
        )
        for rule in app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    text = (DOCS / "API.md").read_text()
    named = set(re.findall(r"`(GET|POST|PATCH|DELETE) (/[^`]*)`", text))
    # "`GET /v1/images` and below": what each kind of job has, see the videos' rows.
    below = {(method, path) for method, path in served if path.startswith("/v1/images/{id}")}
    assert {(method, path.replace("images", "videos")) for method, path in below} <= named
    assert named == served - below


def test_every_local_link_leads_somewhere() -> None:
    pages = [*DOCS.glob("*.md"), *ROOT.glob("*.md")]
    assert len(pages) > 5
    for file in pages:
        for target in re.findall(r"\]\((?!https?:|#)([^)#\s]+)", file.read_text()):
            assert (file.parent / target).exists(), f"{file.name} points to {target}"


def test_every_download_of_content_follows_a_redirect() -> None:
    lines = [
        line
        for file in [*DOCS.glob("*.md"), *ROOT.glob("*.md")]
        for line in file.read_text().splitlines()
        if re.search(r"\bcurl\b.*/content\b", line)
    ]
    assert len(lines) >= 2
    for line in lines:  # S3 answers with a presigned link
        assert re.search(r"\bcurl (-\w*L|.*--location)", line), line
