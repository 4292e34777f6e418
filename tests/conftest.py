"""Fixtures every room shares: the toy model, quantised and not, and a fresh database."""

from __future__ import annotations

import os

os.environ.setdefault(
    "OPENBLAS_NUM_THREADS", "1"
)  # small matrices; threads only wait for each other
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from rlhf_chat.db import Store
from rlhf_chat.inference.model import Model
from tests.tiny_models import make_toy

torch.set_num_threads(1)
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def _toy(toy_folder: Path) -> Model:
    return Model.load(str(toy_folder), quantization="none")


@pytest.fixture(scope="session")
def _toy_nf4(toy_folder: Path) -> Model:
    return Model.load(str(toy_folder), quantization="nf4")


@pytest.fixture
def toy(_toy: Model) -> Model:
    """The unquantised toy, with a fresh adapter and the base being served."""
    _toy.set_policy(_toy.base_state())
    _toy.serve(_toy.reference)
    return _toy


@pytest.fixture
def toy_nf4(_toy_nf4: Model) -> Model:
    _toy_nf4.set_policy(_toy_nf4.base_state())
    _toy_nf4.serve(_toy_nf4.reference)
    return _toy_nf4


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    archive = Store(tmp_path / "feedback.db")
    yield archive
    archive.close()
