"""Versions exported for other programs: each form is loaded back by what it is for, and computes
what the app serves. Tiny random models, adapters with random weights that are not zero."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFReader
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

from rlhf_chat.db import Store
from rlhf_chat.errors import ExportError
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.gguf import SOURCE, read_model
from rlhf_chat.inference.model import Model
from rlhf_chat.inference.pull import POCKET_WHEEL
from rlhf_chat.version_export.background import BackgroundExport, of_app
from rlhf_chat.version_export.exporter import Request, export, known_pre_tokenizer
from rlhf_chat.version_export.gguf_tokenizer import EXPRESSIONS, pre_tokenizer_name
from rlhf_chat.version_export.merge_gap import logprobs
from rlhf_chat.versions.adapter_store import AdapterStore
from rlhf_chat.versions.registry import VersionRegistry
from tests.exported_versions import publish
from tests.gguf_files import make_gguf

PROMPT, REPLY = [5, 6, 7, 40, 41], [60, 61, 62, 63]
TALK = [{"role": "user", "content": "hello how are you\n\n 2024  x1"}]


def served(data: Path, model: Model) -> torch.Tensor:
    """What the app computes for version 1."""
    with torch.no_grad(), model.lease.slice():
        model.set_policy(AdapterStore(data / "adapters").load(1))
        return logprobs(model.policy.tree, PROMPT, REPLY)


def of(tree: Any) -> torch.Tensor:
    with torch.no_grad():
        return logprobs(tree.eval().float(), PROMPT, REPLY)


def gguf_in(folder: Path) -> Path:
    [file] = (folder / "rlhf-chat").glob("*/*.gguf")
    return file


@pytest.fixture(params=["nf4", "none"])
def trained(request: pytest.FixtureRequest, toy_folder: Path, tmp_path: Path) -> tuple[Path, Model]:
    """A data folder with a version of the toy."""
    model = Model.load(str(toy_folder), quantization=request.param)
    publish(tmp_path / "data", model)
    return tmp_path / "data", model


def test_a_merged_folder_computes_what_is_served(trained, tmp_path):
    data, model = trained
    made = export(data, Request(form="merged", out=tmp_path / "out"))
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert torch.allclose(of(again), served(data, model), atol=0.1)  # bfloat16
    assert made.gap and made.gap.kl < 1e-3 and made.gap.same_next > 0.9
    words: Any = AutoTokenizer.from_pretrained(tmp_path / "out")
    prompt = words.apply_chat_template(TALK, add_generation_prompt=True)["input_ids"]
    assert list(prompt) == model.encode(TALK)
    assert not any("quantization" in line for line in (tmp_path / "out/config.json").open())


def test_a_merged_folder_can_be_served_and_trained_again(trained, tmp_path):
    data, model = trained
    export(data, Request(form="merged", out=tmp_path / "out", measure=False))
    again = Model.load(str(tmp_path / "out"))
    assert again.encode(TALK) == model.encode(TALK) and again.end_ids == model.end_ids
    assert again.sampling == model.sampling


def by_its_card(folder: Path, dtype: str, *, dequantised: bool = False) -> Any:
    """What the code on the model card loads, in this dtype."""
    card = (folder / "README.md").read_text()
    code = card.split("```python\n")[1].split("```")[0].replace("THIS FOLDER", str(folder))
    assert code.count("bfloat16") >= 1
    code = code.replace("torch.bfloat16", f"torch.{dtype}")
    if dequantised:
        code = code.replace("model = PeftModel", "base = base.dequantize()\nmodel = PeftModel")
    names: dict[str, Any] = {}
    exec(compile(code, "README.md", "exec"), names)
    return names["model"].eval()


# Nats of a log-prob; measured: 0, .022, .28. On a CPU bitsandbytes has a 4-bit product of its own,
# which is not quite that of the dequantised weights.
@pytest.mark.parametrize(
    ("dtype", "dequantised", "close"),
    [("float32", True, 1e-4), ("float32", False, 0.05), ("bfloat16", False, 0.5)],
)
def test_the_adapter_loads_in_peft_and_computes_what_is_served(
    trained, toy_folder, tmp_path, dtype, dequantised, close
):
    """By the code on its model card: transformers quantises the base, PEFT adds the adapter."""
    data, model = trained
    export(data, Request(form="peft", out=tmp_path / "out"))
    config = json.loads((tmp_path / "out" / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == str(toy_folder)
    expected = served(data, model)
    four_bits = model.quantization == "nf4"
    adapted = by_its_card(tmp_path / "out", dtype, dequantised=dequantised and four_bits)
    with torch.no_grad():
        difference = (logprobs(adapted, PROMPT, REPLY) - expected).abs().max()
        without = (logprobs(model.reference.tree, PROMPT, REPLY) - expected).abs().max()
    assert difference < close < without / 5  # the adapter changes far more than that
    if dequantised:
        prompt = model.encode(TALK)
        greedy = Sampling(temperature=0, max_new_tokens=32)
        *_, [reply] = model.stream(model.policy, [prompt], greedy, seed=1)
        written = adapted.generate(
            torch.tensor([prompt]), max_new_tokens=32, do_sample=False, eos_token_id=-1
        )
        assert len(reply.ids) > 8
        assert written[0, len(prompt) :].tolist()[: len(reply.ids)] == reply.ids


@pytest.mark.parametrize(
    ("kind", "kl", "close"), [("f16", 1e-4, 0.01), ("q8_0", 1e-2, 0.3), ("q4_0", 2.0, 5.0)]
)
def test_a_gguf_file_computes_what_is_served(trained, tmp_path, kind, kl, close):
    """As transformers reads it, which knows nothing of how it was written."""
    data, model = trained
    made = export(data, Request(form="gguf", kind=kind, base="trained", out=tmp_path / "out"))
    assert made.gap and made.gap.kl < kl
    again = Model.load(str(gguf_in(tmp_path / "out")), quantization="none", device="cpu")
    assert (of(again.reference.tree) - served(data, model)).abs().max() < close
    assert again.encode(TALK) == model.encode(TALK) and again.end_ids == model.end_ids


def test_the_original_base_is_another_one_where_the_app_used_four_bits(trained, tmp_path):
    data, model = trained
    gaps = [
        export(data, Request(base=base, out=tmp_path / base)).gap
        for base in ("trained", "original")
    ]
    assert gaps[0] and gaps[1]
    assert gaps[1].kl > 10 * gaps[0].kl if model.quantization == "nf4" else gaps[1] == gaps[0]
    assert gaps[0].loss_served == gaps[1].loss_served


@pytest.mark.parametrize("family", ["llama untied", "qwen2", "qwen3"])
def test_every_architecture_that_is_written_is_read_as_the_same_model(
    family, family_folder, tmp_path
):
    """Rows of query and key, biases, norms of heads, untied heads."""
    folder = with_biases(family_folder(family), tmp_path / "base")
    model = Model.load(str(folder), quantization="none", device="cpu")
    publish(tmp_path / "data", model)
    made = export(tmp_path / "data", Request(form="gguf", out=tmp_path / "out"))
    assert made.gap and made.gap.kl < 1e-4 and made.gap.same_next > 0.95
    read = read_model(gguf_in(tmp_path / "out"), model.config, torch.float32)
    assert torch.allclose(of(read), served(tmp_path / "data", model), atol=0.05)


def with_biases(folder: Path, copy: Path) -> Path:
    """The same model with biases that are not zero, as real ones have."""
    model = AutoModelForCausalLM.from_pretrained(folder)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            with torch.no_grad():
                parameter.add_(torch.randn(parameter.shape) * 0.2)
    model.save_pretrained(copy)
    AutoTokenizer.from_pretrained(folder).save_pretrained(copy)
    return copy


@pytest.mark.parametrize("form", ["merged", "gguf"])
def test_an_export_in_the_app_gives_way_to_a_reply_and_changes_nothing_in_the_model(
    toy_nf4, tmp_path, form
):
    publish(tmp_path / "data", toy_nf4)
    store = Store(tmp_path / "data" / "feedback.db")
    versions = VersionRegistry(store, toy_nf4, AdapterStore(tmp_path / "data" / "adapters"))
    versions.serve_live()
    live, policy = toy_nf4.live, toy_nf4.policy_state()
    told: list[str] = []
    exports = BackgroundExport(of_app(versions))
    with toy_nf4.lease.turn():  # a reply is being computed
        exports.begin(Request(version="1", form=form, out=tmp_path / "out"))
        exports.wait(0.5)
        assert exports.running and not (tmp_path / "out").exists()
        told.append(str(exports.told))
    exports.wait()
    store.close()
    assert str(exports.told) == f"v1 is exported: {tmp_path / 'out'}", exports.told
    assert told[0].startswith("Exporting v1: ")
    assert toy_nf4.live is live
    assert all(torch.equal(policy[n], t) for n, t in toy_nf4.policy_state().items())


def test_the_tokenizer_of_a_gguf_base_is_copied_as_it_is(toy_folder, tmp_path):
    base = make_gguf(toy_folder, tmp_path / "base.gguf")
    model = Model.load(str(base), quantization="none", device="cpu")
    publish(tmp_path / "data", model)
    made = export(tmp_path / "data", Request(form="gguf", out=tmp_path / "out"))
    assert made.gap and made.gap.kl < 1e-4
    before, after = (GGUFReader(file).fields for file in (base, gguf_in(tmp_path / "out")))
    told = {key: field.contents() for key, field in before.items() if key.startswith("tokenizer.")}
    assert told and {key: after[key].contents() for key in told} == told
    assert "`base.gguf`" in (tmp_path / "out" / "README.md").read_text()


def test_a_base_that_was_converted_from_a_gguf_file_keeps_the_rules_of_its_tokenizer(tmp_path):
    for pre in ("", "smollm"):
        (tmp_path / SOURCE).write_text(json.dumps({"sha256": "x", "pre": pre}))
        assert known_pre_tokenizer(tmp_path) == pre
    note = {"sha256": POCKET_WHEEL.member_sha256}  # before the name was noted
    (tmp_path / SOURCE).write_text(json.dumps(note))
    assert known_pre_tokenizer(tmp_path) == "smollm"
    assert known_pre_tokenizer(tmp_path / "none") == ""


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}


@pytest.mark.parametrize(
    ("steps", "name"),
    [
        ([BYTES], "gpt-2"),
        ([{"type": "Digits", "individual_digits": True}, BYTES], "smollm"),
        *(
            (
                [
                    {"type": "Split", "pattern": {"Regex": expression}},
                    BYTES | {"use_regex": False},
                ],
                name,
            )
            for expression, name in EXPRESSIONS.items()
        ),
    ],
)
def test_the_rules_of_a_tokenizer_have_a_name_in_llama_cpp(steps, name):
    told: dict[str, Any] = {"model": {"type": "BPE"}}
    told["pre_tokenizer"] = {"type": "Sequence", "pretokenizers": steps}
    assert pre_tokenizer_name(told) == name
    told["pre_tokenizer"]["pretokenizers"] = [{"type": "Punctuation"}, *steps]
    with pytest.raises(ExportError, match="tokenizer cuts texts"):
        pre_tokenizer_name(told)
    told["model"] = {"type": "BPE", "byte_fallback": True}
    with pytest.raises(ExportError, match="SentencePiece"):
        pre_tokenizer_name(told)


def test_every_row_of_the_embeddings_has_a_token_and_a_type(trained, tmp_path):
    data, model = trained
    export(data, Request(form="gguf", out=tmp_path / "out", measure=False))
    fields = GGUFReader(gguf_in(tmp_path / "out")).fields
    tokens, types = (
        fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "token_type")
    )
    assert len(tokens) == len(types) == model.config.vocab_size
    control = {tokens[i] for i, kind in enumerate(types) if kind == 3}
    assert control == {"<|im_start|>", "<|im_end|>", "<|endoftext|>"}
    assert tokens[fields["tokenizer.ggml.eos_token_id"].contents()] == "<|im_end|>"
    assert fields["tokenizer.chat_template"].contents() == model.tokenizer.chat_template


def test_rope_of_llama_3_is_a_tensor_of_factors(family_folder, tmp_path):
    """llama.cpp divides each angle by its factor; 1 is the plain one."""
    folder = with_llama3_rope(family_folder("llama"), tmp_path / "base")
    model = Model.load(str(folder), quantization="none", device="cpu")
    publish(tmp_path / "data", model)
    made = export(tmp_path / "data", Request(form="gguf", out=tmp_path / "out"))
    assert made.gap and made.gap.kl < 1e-4
    [factors] = [t.data for t in GGUFReader(gguf_in(tmp_path / "out")).tensors if "rope" in t.name]
    assert factors.shape == (8,) and factors[0] == pytest.approx(1) and factors[-1] > 1.5


def with_llama3_rope(folder: Path, copy: Path) -> Path:
    config = AutoConfig.from_pretrained(folder)
    config.rope_parameters = {
        "rope_type": "llama3",
        "rope_theta": 500.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 128,
    }
    AutoModelForCausalLM.from_pretrained(folder, config=config).save_pretrained(copy)
    AutoTokenizer.from_pretrained(folder).save_pretrained(copy)
    return copy


def test_the_adapter_alone_has_a_pair_for_each_layer_in_the_order_of_the_model(trained, tmp_path):
    data, _ = trained
    export(data, Request(form="gguf", out=tmp_path / "out", measure=False))
    [file] = (tmp_path / "out").glob("*-lora-f16.gguf")
    reader = GGUFReader(file)
    told = {key: field.contents() for key, field in reader.fields.items()}
    assert told["general.type"] == "adapter" and told["adapter.type"] == "lora"
    assert told["adapter.lora.alpha"] == 16.0 and told["general.architecture"] == "llama"
    pairs = {t.name: torch.tensor(t.data.astype("float32")) for t in reader.tensors}
    weights = {t.name: t.data for t in GGUFReader(gguf_in(tmp_path / "out")).tensors}
    layers = [n for n in weights if "blk." in n and "norm" not in n]
    assert {f"{name}.lora_{side}" for name in layers for side in "ab"} == set(pairs)
    for name in layers:
        rank = len(pairs[f"{name}.lora_a"])
        assert pairs[f"{name}.lora_a"].shape == (rank, weights[name].shape[1])
        assert pairs[f"{name}.lora_b"].shape == (weights[name].shape[0], rank)
