"""The Versions screen: a timeline from the base to the newest version, and their blind votes.

Name, notes, chat with any version, duel, make live, roll back, export, delete.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gradio as gr

from rlhf_chat.chat.chat import Chat
from rlhf_chat.errors import Notice, Refused
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.charts import number
from rlhf_chat.ui.chat_screen import ChatScreen
from rlhf_chat.ui.compare_screen import CompareScreen
from rlhf_chat.ui.components import (
    error_message,
    js_component,
    outcome_message,
    rater_name,
    status_line,
    status_message,
    version_label,
    when,
)
from rlhf_chat.ui.handlers import EACH, QUICK, quick
from rlhf_chat.ui.language import label, message, text
from rlhf_chat.ui.vote_panel import AFTERWARDS
from rlhf_chat.version_export.background import BackgroundExport, of_app
from rlhf_chat.version_export.exporter import Request
from rlhf_chat.versions.leaderboard import Standing

TIERS = {
    "base": "versions.tier_base",
    "provisional": "versions.tier_provisional",
    "passed": "versions.tier_passed",
    "proved": "versions.tier_passed",  # its votes were taken back
}

EXPORTS = ("peft", "merged", "gguf-f16", "gguf-q8_0", "gguf-q4_0")  # as the page names them

Update = dict[Any, Any]


class VersionsScreen:
    def __init__(self, chat: Chat, worker: TrainingWorker) -> None:
        self.chat, self.worker = chat, worker
        self.exports = BackgroundExport(of_app(worker.versions))

    # ---- acts ----------------------------------------------------------------------------------

    async def act(self, request: gr.Request, event: gr.EventData) -> Update:
        """A button of one version."""
        try:
            version = int(getattr(event, "version", ""))
        except (TypeError, ValueError):
            return {self.note: status_message(text("common.choose_shown"), "bad")}
        do = str(getattr(event, "do", "live"))
        if do == "chat":
            return await self._chat_with(version, request)
        if do == "duel":
            return await self.comparing.begin_duel(version)
        acts: dict[str, Callable[[], Notice]] = {
            "live": lambda: self.worker.versions.make_live(version),
            "delete": lambda: self._delete(version),
            "export": lambda: self._export(version, str(getattr(event, "given", ""))),
            "describe": lambda: self.worker.versions.describe(
                version, str(getattr(event, "given", "")), str(getattr(event, "remark", ""))
            ),
        }
        if do not in acts:
            return {self.note: status_message(text("common.choose_shown"), "bad")}
        return await self._do(acts[do])

    async def roll_back(self) -> Update:
        return await self._do(self.worker.versions.roll_back)

    async def refresh(self) -> Update:
        return await quick(self.panel)

    def _export(self, version: int, form: str) -> Notice:
        """Begins one into the data folder. An earlier one of the same kind is replaced."""
        if form not in EXPORTS:
            return Refused("common.choose_shown")
        form, _, kind = form.partition("-")
        return self.exports.begin(
            Request(version=str(version), form=form, kind=kind or "f16", force=True)
        )

    def _delete(self, version: int) -> Notice:
        told = self.worker.delete(version)
        if version not in [v.version for v in self.worker.versions.all()]:
            self.chat.forget_view(version)
        return told

    async def _chat_with(self, version: int, request: gr.Request) -> Update:
        def begin() -> str:
            made = self.chat.conversations.new()
            settings = replace(self.chat.settings.get(made), version=version)
            try:
                self.chat.settings.set(made, settings)
            except Exception:  # a version that cannot be used leaves no empty chat behind
                self.chat.conversations.delete(made)
                raise
            return made

        try:
            return await self.chatting.open(await quick(begin), request)
        except Exception as error:
            return {self.note: error_message(error)}

    async def _do(self, act: Callable[[], Notice]) -> Update:
        try:
            word = outcome_message(await quick(act), during=self.worker.status())
        except Exception as error:
            word = error_message(error)
        return {self.note: word, **await quick(self.panel)}

    # ---- what is shown -------------------------------------------------------------------------

    def panel(self) -> Update:
        try:
            ranked = self.worker.leaderboard.standings()
            live = self.worker.status().live_version
            newest_first = sorted(ranked, key=lambda s: -s.version.version)
            return {
                self.timeline: {
                    "advice": self._advice(),
                    "versions": [_card(s) for s in newest_first],
                    "ranking": [_rank(s) for s in ranked]
                    if any(s.overall.votes for s in ranked)
                    else [],
                },
                self.exporting: outcome_message(self.exports.told, "quiet"),
                self.back_button: gr.update(value=text("label.roll_back"), interactive=live != 0),
            }
        except Exception as error:
            return {self.note: error_message(error)}

    def _advice(self) -> str:
        """Why another version should be live, by blind votes or by what it learned from."""
        lapsed = self.worker.lapsed()
        return message(self.worker.leaderboard.advice() or (lapsed.notice if lapsed else None))

    # ---- layout --------------------------------------------------------------------------------

    def lay_out(self) -> None:
        with gr.Row(elem_id="versions-head"):
            gr.HTML(label("versions_intro"), elem_classes="quiet", apply_default_css=False)
            self.back_button = gr.Button(
                label("roll_back"), scale=0, min_width=110, elem_id="roll-back", interactive=False
            )
        self.note = status_line("versions-note")
        self.exporting = status_line("versions-export")
        self.timeline = js_component(
            "versions",
            {"advice": "", "versions": [], "ranking": []},
            elem_id="versions",
        )

    # ---- wiring --------------------------------------------------------------------------------

    def wire(self, demo: gr.Blocks, chatting: ChatScreen, comparing: CompareScreen) -> None:
        self.chatting, self.comparing = chatting, comparing
        self.page = [self.note, self.exporting, self.timeline, self.back_button]
        everywhere = list(dict.fromkeys([*self.page, *chatting.page, *comparing.page]))
        self.back_button.click(self.roll_back, None, self.page, **QUICK)
        self.timeline.select(self.act, None, everywhere, **EACH).then(**AFTERWARDS)
        demo.load(self.refresh, None, self.page, **QUICK)


# ---- small parts -------------------------------------------------------------------------------


def _card(s: Standing) -> dict[str, Any]:
    v, record = s.version, s.record
    origin = [when(v.created_at)]
    if v.version:
        origin = [text("versions.from", parent=v.parent), *origin]
    if v.kl is not None and v.version:
        origin.append(text("versions.kl", kl=number(v.kl)))
    if record.votes:
        rate = text(
            "versions.rate", rate=record.win_rate, low=s.low, high=s.high, count=record.votes
        )
    else:
        rate = text("versions.no_votes")
    return {
        "version": v.version,
        "label": version_label(v.version),
        "name": version_label(v.version),
        "given": v.name,
        "remark": v.remark,
        "live": s.live,
        "tier": "worse" if s.worse else "proved" if s.proved else v.tier,
        "standing": _standing(s),
        "made_for": rater_name(s.made_for),
        "origin": " · ".join(part for part in origin if part),
        "note": message(v.note) if v.version else "",
        "votes": record.votes,
        "rate": record.win_rate,
        "low": s.low,
        "high": s.high,
        "told": rate,
        "rate_label": text("versions.rate_of", version=v.version, rate=rate),
    }


def _standing(s: Standing) -> str:
    if s.worse:
        return text("versions.tier_worse")
    if s.proved:
        return text("versions.tier_proved")
    return text(TIERS[s.version.tier]) if s.version.tier in TIERS else s.version.tier


def _rank(s: Standing) -> dict[str, Any]:
    return {
        "label": version_label(s.version.version)
        + (f" · {s.version.name}" if s.version.name else ""),
        "live": s.live,
        "won": s.overall.wins,
        "tied": s.overall.ties,
        "lost": s.overall.losses,
        "expected": f"{s.expected:.0%}" if s.version.version else "",
    }
