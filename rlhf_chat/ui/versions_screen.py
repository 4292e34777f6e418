"""The VersionRegistry screen: a timeline from the base to what is live, and what blind votes say of each.

Name, notes, chat with any version, duel, make live, roll back, delete. Leaves out how versions are
made, stored and judged.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import gradio as gr

from rlhf_chat.chat.chat import Chat
from rlhf_chat.simulation.simulator import spoken
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.charts import number
from rlhf_chat.ui.chat_screen import ChatScreen
from rlhf_chat.ui.compare_screen import CompareScreen
from rlhf_chat.ui.components import (
    capital,
    js_component,
    outcome_message,
    plural,
    status_line,
    status_message,
    version_label,
    when,
)
from rlhf_chat.ui.handlers import EACH, QUICK, quick, sentence
from rlhf_chat.versions.leaderboard import Standing

TIERS = {
    "base": "The model as it came",
    "provisional": "Provisional: likely better, on trial",
    "proved": "Proved: your ratings are clear",
}
INTRO = (
    "Each round that passes the gate adds a version. Blind votes on Compare say which is better; "
    "any of them can be made live again."
)
NO_VOTES = "no blind votes against base yet"

Update = dict[Any, Any]


class VersionsScreen:
    def __init__(self, chat: Chat, worker: TrainingWorker) -> None:
        self.chat, self.worker = chat, worker

    # ---- acts ----------------------------------------------------------------------------------

    async def act(self, request: gr.Request, event: gr.EventData) -> Update:
        """A button of one version."""
        try:
            version = int(getattr(event, "version", ""))
        except (TypeError, ValueError):
            return {self.note: status_message("Choose one of the versions shown.", "bad")}
        do = str(getattr(event, "do", "live"))
        if do == "chat":
            return await self._chat_with(version, request)
        if do == "duel":
            return await self.comparing.begin_duel(version)
        acts: dict[str, Callable[[], str]] = {
            "live": lambda: self.worker.versions.make_live(version),
            "delete": lambda: self._delete(version),
            "describe": lambda: self.worker.versions.describe(
                version, str(getattr(event, "given", "")), str(getattr(event, "remark", ""))
            ),
        }
        if do not in acts:
            return {self.note: status_message("Choose one of the actions shown.", "bad")}
        return await self._do(acts[do])

    async def roll_back(self) -> Update:
        return await self._do(self.worker.versions.roll_back)

    async def refresh(self) -> Update:
        return await quick(self.panel)

    def _delete(self, version: int) -> str:
        told = self.worker.delete(version)
        if version not in [v.version for v in self.worker.versions.all()]:
            self.chat.forget_view(version)
        return told

    async def _chat_with(self, version: int, request: gr.Request) -> Update:
        def begin() -> str:
            made = self.chat.new_conversation()
            self.chat.settings.set(made, replace(self.chat.settings.get(made), version=version))
            return made

        try:
            return await self.chatting.open(await quick(begin), request)
        except Exception as error:
            return {self.note: status_message(sentence(error), "bad")}

    async def _do(self, act: Callable[[], str]) -> Update:
        try:
            word = outcome_message(capital(await quick(act)))
        except Exception as error:
            word = status_message(sentence(error), "bad")
        return {self.note: word, **await quick(self.panel)}

    # ---- what is shown -------------------------------------------------------------------------

    def panel(self) -> Update:
        try:
            ranked = self.worker.leaderboard.standings()
            live = self.worker.status().live_version
            newest_first = sorted(ranked, key=lambda s: -s.version.version)
            return {
                self.timeline: {
                    "advice": self.worker.leaderboard.advice(),
                    "versions": [_card(s) for s in newest_first],
                    "ranking": [_rank(s) for s in ranked]
                    if any(s.overall.votes for s in ranked)
                    else [],
                },
                self.back_button: gr.update(value="Roll back", interactive=live != 0),
            }
        except Exception as error:
            return {self.note: status_message(sentence(error), "bad")}

    # ---- layout --------------------------------------------------------------------------------

    def lay_out(self) -> None:
        with gr.Row(elem_id="versions-head"):
            gr.HTML(INTRO, elem_classes="quiet", apply_default_css=False)
            self.back_button = gr.Button(
                "Roll back", scale=0, min_width=110, elem_id="roll-back", interactive=False
            )
        self.note = status_line("versions-note")
        self.timeline = js_component(
            "versions",
            {"advice": "", "versions": [], "ranking": []},
            elem_id="versions",
        )

    # ---- wiring --------------------------------------------------------------------------------

    def wire(self, demo: gr.Blocks, chatting: ChatScreen, comparing: CompareScreen) -> None:
        self.chatting, self.comparing = chatting, comparing
        self.page = [self.note, self.timeline, self.back_button]
        everywhere = list(dict.fromkeys([*self.page, *chatting.page, *comparing.page]))
        self.back_button.click(self.roll_back, None, self.page, **QUICK)
        self.timeline.select(self.act, None, everywhere, **EACH)
        demo.load(self.refresh, None, self.page, **QUICK)


# ---- small parts -------------------------------------------------------------------------------


def _card(s: Standing) -> dict[str, Any]:
    v, record = s.version, s.record
    origin = [when(v.created_at)]
    if v.version:
        origin = [f"from {version_label(v.parent)}", *origin]
    if v.kl is not None and v.version:
        origin.append(f"KL {number(v.kl)} nats")
    if record.votes:
        rate = f"{record.win_rate:.0%} over base ({s.low:.0%} to {s.high:.0%}), "
        rate += plural(record.votes, "blind vote")
    else:
        rate = NO_VOTES
    return {
        "version": v.version,
        "label": version_label(v.version),
        "name": version_label(v.version),
        "given": v.name,
        "remark": v.remark,
        "live": s.live,
        "tier": "worse" if s.worse else "proved" if s.proved else v.tier,
        "standing": _standing(s),
        "made_for": spoken(s.made_for),
        "origin": " · ".join(part for part in origin if part),
        "note": v.note if v.version else "",
        "votes": record.votes,
        "rate": record.win_rate,
        "low": s.low,
        "high": s.high,
        "told": rate,
        "spoken": f"Win rate of {version_label(v.version)}: {rate}",
    }


def _standing(s: Standing) -> str:
    if s.worse:
        return "Blind votes speak against it"
    if s.proved:
        return "Proved by your blind votes"
    return TIERS.get(s.version.tier, s.version.tier)


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
