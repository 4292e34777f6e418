"""GGUF files load, quantised to NF4 and whole, and convert to a folder that says the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers.utils import logging as hf_logging

from rlhf_chat.inference import forward_pass, gguf
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.loading import ModelError, resolve
from rlhf_chat.inference.model import Model
from tests.gguf_files import make_gguf


@pytest.fixture(scope="module")
def file(toy_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_gguf(toy_folder, tmp_path_factory.mktemp("gguf") / "toy.gguf")


def logprobs(model: Model) -> torch.Tensor:
    prompt, response = model.encode([{"role": "user", "content": "hello"}]), [20, 21, 22, 23]
    with model.lease.slice(), torch.no_grad():
        return forward_pass.forward(
            model, model.reference, [prompt], [response], temperature=1.0
        ).logprobs


def test_it_says_what_the_model_it_was_made_from_says(file: Path, toy: Model) -> None:
    model = Model.load(str(file), quantization="none")
    assert torch.allclose(logprobs(model), logprobs(toy), atol=0.1)  # Q8_0 rounds
    prompt = [{"role": "user", "content": "hello you"}]
    assert model.encode(prompt) == toy.encode(prompt) and model.end_ids == toy.end_ids


def test_it_is_requantised_to_4_bits_as_a_folder_is(file: Path, tmp_path: Path, toy: Model) -> None:
    gguf.convert(file, tmp_path / "toy", dtype=torch.float32)
    direct, converted = Model.load(str(file)), Model.load(str(tmp_path / "toy"))
    assert torch.allclose(logprobs(direct), logprobs(converted), atol=1e-4)
    assert not torch.allclose(logprobs(direct), logprobs(toy), atol=1e-3)  # it is in 4 bits
    reply = direct.sample(direct.live, [[5, 6, 7]], Sampling(max_new_tokens=4), seed=0)
    assert 1 <= len(reply[0].ids) <= 4


def test_a_base_is_named_by_its_file_wherever_it_lies(file: Path, tmp_path: Path) -> None:
    (tmp_path / "copy.gguf").write_bytes(file.read_bytes())
    first, copy = Model.load(str(file)), Model.load(str(tmp_path / "copy.gguf"))
    assert first.base_hash == copy.base_hash
    gguf.convert(file, tmp_path / "once")
    gguf.convert(file, tmp_path / "twice")
    assert (
        Model.load(str(tmp_path / "once")).base_hash
        == Model.load(str(tmp_path / "twice")).base_hash
    )


def test_converting_shows_no_bar_for_what_takes_no_time(
    file: Path, tmp_path: Path, capfd: pytest.CaptureFixture
) -> None:
    hf_logging.enable_progress_bar()
    gguf.convert(file, tmp_path / "toy")
    assert "shards" not in capfd.readouterr().err


def test_a_folder_is_its_one_gguf_file(file: Path, tmp_path: Path) -> None:
    assert resolve(str(file.parent)) == str(file.resolve())
    for name in ("a.gguf", "b.gguf"):
        (tmp_path / name).write_bytes(b"GGUF")
    with pytest.raises(ModelError, match="2 GGUF files"):
        resolve(str(tmp_path))


def test_an_architecture_that_cannot_be_read_is_refused_in_a_sentence(
    toy_folder: Path, tmp_path: Path
) -> None:
    file = make_gguf(toy_folder, tmp_path / "odd.gguf", architecture="oddball")
    with pytest.raises(ModelError, match="oddball"):
        Model.load(str(file))


def test_a_damaged_file_is_refused_in_a_sentence(file: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.gguf"
    half.write_bytes(file.read_bytes()[:2000])
    with pytest.raises(ModelError, match="cannot be loaded"):
        Model.load(str(half))


def test_a_conversion_cut_short_leaves_no_folder(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> str:
        raise OSError("no space left")

    monkeypatch.setattr(gguf, "sha256", fail)
    with pytest.raises(OSError):
        gguf.convert(file, tmp_path / "toy")
    assert not (tmp_path / "toy").exists()
