"""A version -> a folder for other programs. The order of a merged form: the base is loaded, the
files are written aside, read back and measured, the card is written, and the folder moves in place.

It reads the database and the adapter, and writes nothing in them, so it works beside a running app.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gguf import GGUFWriter

from rlhf_chat.db import Store
from rlhf_chat.errors import ExportError, ModelError, memory_is_short
from rlhf_chat.inference import memory
from rlhf_chat.inference.gguf import is_gguf
from rlhf_chat.inference.model import Model
from rlhf_chat.inference.model_cache import source_note
from rlhf_chat.inference.pull import POCKET_WHEEL
from rlhf_chat.version_export import (
    gguf_architecture,
    gguf_file,
    gguf_tokenizer,
    merge_gap,
    model_card,
    peft_folder,
    staging,
    transformers_folder,
)
from rlhf_chat.version_export.facts import Facts, base_of, facts_of
from rlhf_chat.version_export.gguf_file import About
from rlhf_chat.version_export.merge_gap import Gap, Served, Turn, no_turn
from rlhf_chat.version_export.merged_weights import BASES, ORIGINAL, TRAINED, MergedWeights, merged
from rlhf_chat.version_export.model_card import Contents
from rlhf_chat.version_export.modelfile import modelfile
from rlhf_chat.version_export.source import Source, check_base, find, load_base
from rlhf_chat.versions.adapter_store import AdapterStore

PEFT, MERGED, GGUF = "peft", "merged", "gguf"
FORMS = (PEFT, MERGED, GGUF)
TYPES = tuple(gguf_file.TYPES)
PUBLISHER = "rlhf-chat"  # LM Studio keeps models as publisher/model/file.gguf
SMALL = 1_000_000_000  # weights; more are read back in bfloat16 to be measured
SPARE_MEMORY = 1 << 30  # bytes that measuring leaves free
CPU = torch.device("cpu")

OnProgress = Callable[[str, float], None]  # is told the phase and the share of it that is done


@dataclass(frozen=True)
class Request:
    version: str = "live"  # its number, "v3", "live" or its name
    form: str = MERGED
    kind: str = "f16"  # of a GGUF file
    base: str = ""  # trained or original; "" is the default of the form
    out: Path | None = None  # default: a folder in exports/ of the data folder
    force: bool = False  # replaces an earlier export
    measure: bool = True
    model: str = ""  # where the base is now, if it was moved

    def check(self) -> None:
        """Raises ExportError."""
        for given, known in ((self.form, FORMS), (self.kind, TYPES), (self.base, ("", *BASES))):
            if given not in known:
                choices = ", ".join(filter(None, known))
                raise ExportError("export.choices", given=given, choices=choices)


@dataclass(frozen=True)
class Exported:
    folder: Path
    about: dict[str, Any]  # see model_card.as_json
    gap: Gap | None

    def as_dict(self) -> dict[str, Any]:
        files = [path for path in sorted(self.folder.rglob("*")) if path.is_file()]
        sizes = {str(file.relative_to(self.folder)): file.stat().st_size for file in files}
        return {"folder": str(self.folder), **self.about, "files": sizes}


def default_base(request: Request) -> str:
    """Which weights the adapter is merged into. What was rated, and passed the gate, is the base in
    4 bits, so that is what a faithful form takes; but 4 bits of other places on top of those cost
    more than they keep (docs/export.md has the figures)."""
    four_bits = request.form == GGUF and request.kind == "q4_0"
    return request.base or (ORIGINAL if four_bits else TRAINED)


def export(data: Path, request: Request, on_progress: OnProgress = lambda p, s: None) -> Exported:
    """From a data folder, beside the app that may be open on it. Raises AppError."""
    request.check()
    store = Store(data / "feedback.db", read_only=True)
    try:
        return Exporter(store, AdapterStore(data / "adapters"), data, on_progress).run(request)
    except Exception as error:
        if memory_is_short(error):
            raise ModelError("common.out_of_memory") from error
        raise
    finally:
        store.close()


class Exporter:
    """`model`: the base in memory, if it is there; else it is loaded. `turn` is entered around each
    stretch of computing."""

    def __init__(
        self,
        store: Store,
        adapters: AdapterStore,
        data: Path,
        on_progress: OnProgress = lambda phase, share: None,
        *,
        model: Model | None = None,
        turn: Turn = no_turn,
    ) -> None:
        self._store, self._adapters, self._data = store, adapters, data
        self._tell, self._turn, self._model = on_progress, turn, model

    def run(self, request: Request) -> Exported:
        request.check()
        self._tell("reading", 0.0)
        source = find(self._store, self._adapters, request.version)
        facts = facts_of(self._store, source, base_of(request.model or source.base_name))
        out = request.out or self._data / "exports" / default_name(facts, request)
        out = out.expanduser().absolute()
        staging.check_free(out, force=request.force)
        make = self._peft if request.form == PEFT else self._merged
        with staging.staged(out, force=request.force) as stage:
            contents, gap = make(stage, source, facts, request)
            card = model_card.model_card(facts, contents, gap)
            (stage / "README.md").write_text(card, encoding="utf-8")
            about = dict(model_card.as_json(facts, contents, gap))
            staging.write_note(stage, about)
        return Exported(out, about, gap)

    def _peft(
        self, stage: Path, source: Source, facts: Facts, request: Request
    ) -> tuple[Contents, None]:
        self._tell("writing", 0.0)
        peft_folder.write(stage, source, facts.base.hub or facts.base.path)
        return Contents(PEFT, "", ""), None

    def _merged(
        self, stage: Path, source: Source, facts: Facts, request: Request
    ) -> tuple[Contents, Gap | None]:
        model = self._base(source, request)
        if request.form == GGUF:
            gguf_architecture.architecture(model.config)
        self._tell("merging", 0.0)
        base, weights = self._weights(source, model, request)
        staging.check_space(stage, int(weights.count() * BYTES[request.form, request.kind]))
        contents = Contents(request.form, "", base)
        if request.form == GGUF:
            contents = self._write_gguf(stage, source, facts, model, weights, request, contents)
        else:
            tell = partial(self._tell, "writing")
            transformers_folder.write(stage, weights, model.tokenizer, tell, self._turn)
        return contents, self._gap(stage, source, model, weights, contents, request)

    def _base(self, source: Source, request: Request) -> Model:
        if self._model is None:
            return load_base(source, request.model)
        check_base(source, self._model)
        return self._model

    def _weights(self, source: Source, model: Model, request: Request) -> tuple[str, MergedWeights]:
        base = default_base(request)
        try:
            return base, merged(source, model, base)
        except ModelError as error:
            if request.base or error.code != "model.no_original":
                raise
            return TRAINED, merged(source, model, TRAINED)

    def _write_gguf(
        self,
        stage: Path,
        source: Source,
        facts: Facts,
        model: Model,
        weights: MergedWeights,
        request: Request,
        contents: Contents,
    ) -> Contents:
        name = f"{facts.base.slug}-v{facts.number}"
        file = f"{PUBLISHER}/{name}-GGUF/{name}-{request.kind}.gguf"
        contents = replace(contents, kind=request.kind, model=file, adapter=f"{name}-lora-f16.gguf")
        about = About(
            model_card.title(facts),
            facts.base.licence,
            f"Version {facts.number} of {facts.base.name}, trained with RLHF Chat.",
            facts.sampling,
        )
        (stage / file).parent.mkdir(parents=True)
        with self._turn():
            gguf_file.write_adapter(stage / contents.adapter, weights.config, source, about)
        gguf_file.write_model(
            stage / file,
            weights,
            request.kind,
            about,
            lambda writer: _add_tokenizer(writer, model, weights, facts.base.path),
            partial(self._tell, "writing"),
            self._turn,
        )
        text = modelfile(model, file, contents.adapter, facts.sampling, facts.base.licence)
        (stage / "Modelfile").write_text(text, encoding="utf-8")
        return contents

    def _gap(
        self,
        stage: Path,
        source: Source,
        model: Model,
        weights: MergedWeights,
        contents: Contents,
        request: Request,
    ) -> Gap | None:
        small = weights.count() < SMALL
        dtype = torch.float32 if small else torch.bfloat16
        fits = memory.free(CPU) > weights.count() * dtype.itemsize + SPARE_MEMORY
        if not (request.measure and fits):
            return None
        tell = partial(self._tell, "measuring")
        tell(0.0)
        served = Served(model, source, self._turn)
        if request.form == GGUF:
            made = gguf_file.read(stage / contents.model, weights.config, dtype)
        else:
            made = transformers_folder.read(stage, dtype)
        return merge_gap.measure(served, made, model.end_ids, self._turn, tell)


BYTES = {(MERGED, kind): 2.0 for kind in TYPES} | {  # for each weight
    (GGUF, "f16"): 2.0,
    (GGUF, "q8_0"): 34 / 32,
    (GGUF, "q4_0"): 34 / 32,  # at most: the embeddings take 8 bits
}


def _add_tokenizer(writer: GGUFWriter, model: Model, weights: MergedWeights, path: str) -> None:
    if is_gguf(path):
        gguf_tokenizer.copy(writer, Path(path))
        return
    size = weights.config.vocab_size
    pre = known_pre_tokenizer(Path(path))
    gguf_tokenizer.build(writer, model.tokenizer, model.chat_template, size, pre)


def known_pre_tokenizer(folder: Path) -> str:
    """Of a folder that the app converted from a GGUF file; "" if it is not known."""
    note = source_note(folder)
    if note.get("sha256") == POCKET_WHEEL.member_sha256:
        return gguf_tokenizer.SMOLLM
    return str(note.get("pre", ""))


def default_name(facts: Facts, request: Request) -> str:
    kind = f"-{request.kind}" if request.form == GGUF else ""
    base = f"-{request.base}" if request.base else ""
    return f"{facts.base.slug}-v{facts.number}-{request.form}{kind}{base}"
