"""A Hub on loopback, a token that must be found nowhere, and runs small enough to be pushed many times."""

import importlib.util
import shutil
import sys
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub import constants


def _beside(name: str, file: Path):
    """A module that is no package's, under a name of its own."""
    spec = importlib.util.spec_from_file_location(name, file)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


server = _beside("hub_server", Path(__file__).parent / "server.py")
sys.modules["hub_conftest"] = sys.modules[__name__]
QUICK = {"max_length": 16, "training": {"max_steps": 2, "per_device_train_batch_size": 8}}


@pytest.fixture
def loopback(monkeypatch, tmp_path):
    """A Hub of this test alone, to which huggingface_hub in this process is turned, with the canary as token."""
    with server.serve() as hub:
        hub.users[server.CANARY] = server.User("me", orgs={"team": "write", "readers": "read"})
        turned(monkeypatch, hub.endpoint, tmp_path / "hf")
        monkeypatch.setenv("HF_TOKEN", server.CANARY)
        yield hub
    huggingface_hub.close_session()


def turned(monkeypatch, endpoint: str, home: Path) -> None:
    """What huggingface_hub reads from the environment when it is imported, set afterwards.

    A test whose libraries keep copies of it starts a process of its own instead.
    """
    from huggingface_hub import file_download, hf_api

    monkeypatch.setattr(constants, "ENDPOINT", endpoint)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(home / "hub"))
    monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(home / "token"))
    monkeypatch.setattr(
        constants, "HUGGINGFACE_CO_URL_TEMPLATE", endpoint + "/{repo_id}/resolve/{revision}/{filename}"
    )
    monkeypatch.setattr(hf_api.api, "endpoint", endpoint)
    assert file_download.constants is constants
    huggingface_hub.close_session()


@pytest.fixture(scope="session")
def small_run(tmp_path_factory, tiny_bert):
    """A finished run of two stages on tiny data, which tests copy."""
    import hftransfer

    folder = tmp_path_factory.mktemp("runs")
    rows = [f"{'pan soup quiet' if row % 2 else 'oven knife noisy'} {row},{row % 2}" for row in range(60)]
    (folder / "reviews.csv").write_text("\n".join(["text,label", *rows]) + "\n")
    recipe = {
        "name": "small",
        "description": "a <script>small</script> run of `two` stages",
        "model": str(tiny_bert),
        "source": str(folder / "reviews.csv"),
        "stages": [{"finetune": {"data": "$source", **QUICK}}, {"evaluate": {"data": "$source", "max_length": 16}}],
    }
    hftransfer.run(recipe, output_dir=str(folder / "out"))
    return folder / "out"


@pytest.fixture
def run_folder(small_run, tmp_path):
    """A copy of it that a test may change."""
    return Path(shutil.copytree(small_run, tmp_path / "out"))
