"""The doctor: every warning names its consequence and advice, and the exit code is the worst level.
No test needs a graphics card."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, T5Config

from rlhf_chat import cli, doctor
from rlhf_chat.doctor import FAIL, OK, WARN, preflight
from rlhf_chat.inference import memory, nf4, presets
from rlhf_chat.inference.memory_estimate import COMFORTABLE, GIB, MINIMAL, Workload
from rlhf_chat.inference.model import ModelError
from rlhf_chat.serve import choose_model
from tests.integration.test_app import free_port

GOOD = presets.BY_NAME["good"]


def test_the_whole_examination_runs_and_tells_the_worst(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["doctor", "--json", "--data", str(tmp_path), "--deep"])
    told = json.loads(capsys.readouterr().out)
    levels = {line["level"] for line in told["lines"]}
    assert code == told["exit"] == max(("ok", "warn", "fail").index(x) for x in levels)
    named = {line["what"] for line in told["lines"]}
    assert {"python", "sqlite", "4-bit product", "fits", "memory, weights", "self-test"} <= named
    assert all(line["value"] for line in told["lines"])
    for line in told["lines"]:
        if line["level"] == "warn":
            assert line["consequence"] and line["advice"]


def test_lines_are_read_by_people(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main(["doctor", "--data", str(tmp_path)])
    told = capsys.readouterr().out
    assert "ok    python: " in told and "Traceback" not in told


def test_a_real_4bit_product_is_right_here() -> None:
    assert nf4.matmul_error(torch.device("cpu")) < 1e-4
    assert doctor.four_bits(lambda: 1e-6).level == OK
    assert doctor.four_bits(lambda: 0.3).level == FAIL

    def broken() -> float:
        raise RuntimeError("no kernel image\nis available")

    told = doctor.four_bits(broken)
    assert told.level == FAIL and told.value == "no kernel image" and told.advice


def test_versions_that_were_not_tested_are_named(tmp_path: Path) -> None:
    pins = tmp_path / "requirements.txt"
    pins.write_text(
        f"# tested\ntorch=={torch.__version__.split('+')[0]}\nnumpy==0.1\nnot-there==1\n"
    )
    missing, differ = doctor.packages(pins)
    assert (missing.level, differ.level) == (FAIL, WARN)
    assert "not-there" in missing.value and "instead of 0.1" in differ.value
    assert not list(doctor.packages(tmp_path / "nowhere.txt"))


@pytest.mark.parametrize("version, level", [((3, 51, 3), OK), ((3, 46, 1), WARN)])
def test_a_sqlite_that_can_lose_rows_is_named(version, level) -> None:
    assert doctor.sqlite(version).level == level


@pytest.mark.parametrize("seconds, level", [(0.002, OK), (0.2, WARN), (0.00001, WARN)])
def test_disks_that_are_slow_or_lie_are_named(seconds, level, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "sync_seconds", lambda folder: seconds)
    assert {line.what: line.level for line in doctor.disk(tmp_path)}["fsync"] == level
    monkeypatch.undo()
    assert 0 < doctor.sync_seconds(tmp_path) < 5


def test_a_damaged_database_is_a_finding(tmp_path: Path) -> None:
    assert doctor.database(tmp_path).value == "none yet"
    (tmp_path / "feedback.db").write_bytes(b"not a database at all" * 100)
    assert doctor.database(tmp_path).level == FAIL


@pytest.mark.parametrize("kind", [T5Config, BertConfig])
@pytest.mark.parametrize("made_for", [None, ["BertModel"]])
def test_a_model_that_cannot_chat_is_a_finding(tmp_path: Path, kind, made_for) -> None:
    kind(vocab_size=100, architectures=made_for).save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").touch()
    lines = list(doctor.fit(str(tmp_path), "nf4", torch.device("cpu")))
    assert max(line.level for line in lines) > OK
    assert all("\n" not in line.value for line in lines)
    if kind is T5Config or made_for:
        assert "cannot be used" in lines[-1].value and lines[-1].level == FAIL


@pytest.mark.parametrize("there", ["nothing", "half a configuration"])
def test_a_folder_that_is_no_model_is_a_finding(tmp_path: Path, there: str) -> None:
    if there != "nothing":
        (tmp_path / "model.safetensors").touch()
        (tmp_path / "config.json").write_text("{")
    (line,) = doctor.fit(str(tmp_path), "nf4", torch.device("cpu"))
    assert line.level == FAIL and str(tmp_path) in line.value and "hub" not in line.value


# ---------------------------------------------------------------------- preflight


@pytest.mark.parametrize("gib, way", [(24, Workload()), (8, COMFORTABLE), (5, MINIMAL)])
def test_the_first_way_that_fits_is_taken(gib: int, way: Workload) -> None:
    told = preflight("good", GOOD.config(), "nf4", gib * GIB)
    assert told.fits and told.load == way and told.need.total <= gib * GIB
    assert "\n" not in told.sentence


def test_memory_that_nothing_else_needs_is_for_more_drafts_at_once() -> None:
    ways = [preflight("good", GOOD.config(), "nf4", gib * GIB) for gib in (6, 8, 16, 80)]
    tokens = [way.tokens_at_once for way in ways]
    assert tokens == sorted(tokens) and len(set(tokens)) == 4
    for way in ways:
        assert way.tokens_at_once >= way.load.context
        a_token = way.need.chat / way.load.context
        assert way.need.total + (way.tokens_at_once - way.load.context) * a_token <= way.free


def test_what_does_not_fit_is_refused_with_something_that_does() -> None:
    told = preflight("large", presets.BY_NAME["large"].config(), "nf4", 6 * GIB)
    assert not told.fits and "--model good" in told.sentence
    preset = presets.BY_NAME["good"]
    assert preflight("good", preset.config(), "nf4", 6 * GIB).fits
    plain = preflight("good", GOOD.config(), "none", 7 * GIB)
    assert not plain.fits and "--quantization nf4" in plain.sentence
    assert "--model demo" in preflight("good", GOOD.config(), "nf4", GIB).sentence


def test_the_app_refuses_before_it_loads(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(memory, "free", lambda device: 1 << 20)
    with pytest.raises(ModelError, match="needs"):
        doctor.check_fits("demo", "nf4", torch.device("cpu"))
    flags = ["--model", "demo", "--data", str(tmp_path), "--no-browser", "--port", str(free_port())]
    assert cli.main(flags) == 1
    assert "are free" in capsys.readouterr().err


def test_what_cannot_be_predicted_is_left_to_loading(tmp_path: Path) -> None:
    assert doctor.check_fits(str(tmp_path), "nf4", torch.device("cpu")) is None
    assert doctor.check_fits("no/such-model", "nf4", torch.device("cpu")) is None


def test_files_on_this_machine_are_not_downloaded(tmp_path: Path) -> None:
    file = tmp_path / "model.gguf"
    file.write_bytes(b"GGUF")
    assert doctor.is_here("demo") and doctor.is_here(str(file))
    assert not doctor.is_here("no/such-model") and not doctor.is_here(str(tmp_path / "nothing"))


def test_auto_here_is_the_bundled_model(capsys: pytest.CaptureFixture[str]) -> None:
    name, plan = choose_model("auto", "nf4")
    assert name == "demo" and plan and plan.fits
    assert "No graphics card" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("driver", "built_with", "says"),
    [
        (None, None, ""),
        ("/usr/bin/nvidia-smi", None, "pip install --force-reinstall torch==2."),
        ("/usr/bin/nvidia-smi", "13.0", "driver"),
    ],
)
def test_a_card_that_lies_idle_is_named_with_what_to_do(
    driver: str | None,
    built_with: str | None,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.version, "cuda", built_with)
    monkeypatch.setattr(doctor.shutil, "which", lambda _: driver)
    choose_model("demo", "nf4")
    told, line = capsys.readouterr().out, doctor.card(torch.device("cpu"))
    assert says in line.advice and says in told and line.level == WARN
    assert bool(says) == ("NVIDIA card" in told)
