"""What a layout depends on of a model on the Hugging Face hub, without fetching its weights."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

_CONFIGS = ("model_index.json", "*/config.json")


def configs_of(repo_id: str) -> Path:
    """A directory with the model's configs, some kilobytes.

    Raises:
        ValueError: there is no such model, or the hub does not answer and has not been asked before.
    """
    try:
        return Path(snapshot_download(repo_id, allow_patterns=list(_CONFIGS)))
    except (HfHubHTTPError, OSError, ValueError) as error:
        what = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"{repo_id} is neither a directory here nor to be had from the hub: {what}"
        ) from error


def parameters_of(repo_id: str) -> dict[str, int]:
    """Numbers in each component, from the headers of its files; empty if the hub does not answer."""
    api, counts = HfApi(), Counter[str]()
    try:
        for file in api.list_repo_files(repo_id):
            component, separator, name = file.partition("/")
            if separator and name.endswith(".safetensors"):
                header = api.parse_safetensors_file_metadata(repo_id, file)
                counts[component] += sum(header.parameter_count.values())
    except (HfHubHTTPError, OfflineModeIsEnabled, OSError, ValueError):
        return {}
    return dict(counts)
