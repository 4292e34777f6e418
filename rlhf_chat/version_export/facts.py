"""What the database and the files know about a version and its base, as the model card states it.
No words of conversations, ratings or raters are among them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
from huggingface_hub import try_to_load_from_cache
from transformers import GenerationConfig

from rlhf_chat.db import Round, Store
from rlhf_chat.errors import from_stored
from rlhf_chat.inference import loading, presets
from rlhf_chat.inference.generate import Sampling, default_sampling
from rlhf_chat.inference.gguf import is_gguf
from rlhf_chat.inference.local_models import OLLAMA
from rlhf_chat.inference.model_cache import source_note
from rlhf_chat.version_export.source import Source
from rlhf_chat.versions.leaderboard import Leaderboard, Standing

PASSED = ("provisional", "passed", "proved")  # the last one in rounds of older versions
README_BYTES = 1 << 20


@dataclass(frozen=True)
class Base:
    """The model below the adapter."""

    name: str  # a hub id, or what the folder or file is called
    hub: str  # its id; "" if it did not come from the hub
    path: str  # where it is on this machine, or its hub id
    licence: str  # as the hub spells it; "" if unknown
    gguf_source: str  # the GGUF file that its weights came from; "" for others
    sampling: Sampling

    @property
    def slug(self) -> str:
        """For names of files and folders."""
        plain = "".join(c if c.isalnum() or c in ".-" else "-" for c in self.name.split("/")[-1])
        return plain.strip(".-").lower() or "model"


@dataclass(frozen=True)
class Facts:
    base: Base
    quantization: str
    sampling: Sampling  # that the version was trained and tested with
    number: int
    given_name: str
    created_at: str
    parent: int
    kl: float | None  # nats per reply, from the base
    ratings: Mapping[str, int]  # kind -> how many that count now were there when its round began
    simulated: bool  # rated by a simulated rater
    changed: tuple[tuple[str, float, float], ...]  # feature, its change, its weight
    gate: str  # the verdict, in a sentence; "" if none is kept
    checks: tuple[tuple[str, bool], ...]  # name of each check, and whether it was passed
    standing: Standing | None


def facts_of(store: Store, source: Source, base: Base) -> Facts:
    """What is known of a version."""
    version = source.version
    round_ = store.rounds.get(version.round_id) if version.round_id else None
    verdict = (round_.verdict if round_ else None) or {}
    card = verdict.get("card") or {}
    standings = Leaderboard(store).standings()
    return Facts(
        base=base,
        quantization=source.quantization,
        sampling=_trained_with(round_) or base.sampling,
        number=version.version,
        given_name=version.name,
        created_at=version.created_at,
        parent=version.parent or 0,
        kl=version.kl,
        ratings=_ratings(store, round_),
        simulated=bool(round_ and round_.rater),
        changed=tuple((str(n), float(c), float(w)) for n, c, w in card.get("changed", [])),
        gate=str(from_stored(round_.reason)) if round_ and verdict.get("tier") in PASSED else "",
        checks=tuple((str(one["name"]), bool(one["passed"])) for one in verdict.get("checks", [])),
        standing=next((s for s in standings if s.version.version == version.version), None),
    )


def _ratings(store: Store, round_: Round | None) -> dict[str, int]:
    if round_ is None:
        return {}
    return store.feedback.kinds_until(round_.watermark, round_.rater)


def _trained_with(round_: Round | None) -> Sampling | None:
    """None for versions that were not trained, and where older rounds did not keep it."""
    kept = round_.config.get("sampling") if round_ else None
    return Sampling(**kept) if isinstance(kept, dict) else None


# ---------------------------------------------------------------------- the base


def base_of(name: str) -> Base:
    """`name` as in --model. Raises ModelError where it is not here."""
    hub = presets.hub_id(name)
    path = loading.resolve(hub)
    note = source_note(Path(path))
    return Base(
        name="rlhf-chat-demo" if name == "demo" else hub if hub in presets.BY_HUB else _short(hub),
        hub=hub if _is_hub(hub) else "",
        path=path,
        licence=_licence(hub, path),
        gguf_source=str(note.get("file", "")) or (_file_name(name, path) if is_gguf(path) else ""),
        sampling=_sampling(name, path),
    )


def _is_hub(name: str) -> bool:
    if name.startswith(OLLAMA) or Path(name).expanduser().exists():
        return False
    return name.count("/") == 1


def _file_name(name: str, path: str) -> str:
    """Ollama names its files by their hash."""
    return name if name.startswith(OLLAMA) else Path(path).name


def _short(name: str) -> str:
    if _is_hub(name):
        return name
    plain = name.removeprefix(OLLAMA)
    file = Path(plain)
    return file.stem if file.suffix == ".gguf" else file.name or plain


def _sampling(name: str, path: str) -> Sampling:
    try:
        config = GenerationConfig.from_pretrained(path)
    except (OSError, ValueError):  # a GGUF file, or a folder without one
        config = GenerationConfig()
    return default_sampling(config, is_demo=name == "demo")


def _licence(hub: str, path: str) -> str:
    """What its preset, its GGUF file or its README says."""
    if hub in presets.BY_HUB:
        return presets.BY_HUB[hub].licence.lower().replace(" ", "-")
    if hub == "demo":
        return presets.APACHE.lower().replace(" ", "-")
    if is_gguf(path):
        told = gguf.GGUFReader(path).fields.get(gguf.Keys.General.LICENSE)
        return str(told.contents()) if told else ""
    cached = try_to_load_from_cache(hub, "README.md") if _is_hub(hub) else None
    readme = Path(cached) if isinstance(cached, str) else Path(path) / "README.md"
    return _front_matter(readme).get("license", "")


def _front_matter(readme: Path) -> dict[str, str]:
    """Plain `key: value` lines between the two lines of dashes that a model card begins with."""
    try:
        with readme.open(encoding="utf-8") as stream:
            lines = stream.read(README_BYTES).splitlines()
    except (OSError, ValueError):
        return {}
    if lines[:1] != ["---"] or "---" not in lines[1:]:
        return {}
    pairs = (line.partition(":") for line in lines[1 : lines.index("---", 1)])
    return {key.strip(): value.strip().strip("'\"") for key, _, value in pairs if value.strip()}
