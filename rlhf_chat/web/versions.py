"""The Versions screen: every adapter that was promoted, and the way back.

Leaves out how versions are made or stored.
"""

from __future__ import annotations

from typing import Any

import gradio as gr

from rlhf_chat.trainer import Trainer
from rlhf_chat.web.charts import number
from rlhf_chat.web.quick import QUICK, quick, sentence
from rlhf_chat.web.words import capital, said, saying, script, version_label, when

TIERS = {
    "base": "The model as it came",
    "provisional": "Provisional: likely better, on trial",
    "proved": "Proved: your ratings are clear",
}
INTRO = "Each round that passes the gate adds a version. Any of them can be made live again."

Update = dict[Any, Any]


class VersionsScreen:
    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self._wins: dict[int, str] = {}  # by round; measured once, at the gate

    # ---- acts ----------------------------------------------------------------------------------

    async def make_live(self, event: gr.EventData) -> Update:
        try:
            version = int(getattr(event, "version", ""))
        except ValueError:
            return {self.note: said("Choose one of the versions shown.", "bad")}
        return await self._do(lambda: self.trainer.make_live(version))

    async def roll_back(self) -> Update:
        return await self._do(self.trainer.roll_back)

    async def refresh(self) -> Update:
        return await quick(self.panel)

    async def _do(self, act: Any) -> Update:
        try:
            word = said(capital(await quick(act) or "Done."), "good")
        except Exception as error:
            word = said(sentence(error), "bad")
        return {self.note: word, **await quick(self.panel)}

    def panel(self) -> Update:
        try:
            live = self.trainer.status().live_version
            rows = [
                {
                    "version": v.version,
                    "name": version_label(v.version),
                    "live": v.version == live,
                    "made": when(v.created_at),
                    "parent": version_label(v.parent) if v.version else "",
                    "tier": v.tier,
                    "standing": TIERS.get(v.tier, v.tier),
                    "kl": number(v.kl) if v.kl is not None else "",
                    "win": self._win(v.round_id),
                    "note": v.note or "",
                }
                for v in sorted(self.trainer.versions(), key=lambda v: -v.version)
            ]
            return {
                self.table: rows,
                self.back_button: gr.update(value="Roll back", interactive=live != 0),
            }
        except Exception as error:
            return {self.note: said(sentence(error), "bad")}

    def _win(self, round_id: int | None) -> str:
        """On which share of probe prompts held-out judges preferred this version to the base."""
        if round_id is None:
            return ""
        if round_id not in self._wins:
            points = self.trainer.metrics(round_id).get("judged_win_rate") or []
            self._wins[round_id] = f"{points[-1][1]:.0%}" if points else ""
        return self._wins[round_id]

    # ---- layout --------------------------------------------------------------------------------

    def lay_out(self) -> None:
        with gr.Row(elem_id="versions-head"):
            gr.HTML(INTRO, elem_classes="quiet", apply_default_css=False)
            self.back_button = gr.Button(
                "Roll back", scale=0, min_width=110, elem_id="roll-back", interactive=False
            )
        self.note = saying("versions-note")
        self.table = gr.HTML(
            [],
            apply_default_css=False,
            html_template="<div></div>",
            js_on_load=script("versions"),
            elem_id="versions",
        )

    # ---- wiring --------------------------------------------------------------------------------

    def wire(self, demo: gr.Blocks) -> None:
        self.page = [self.note, self.table, self.back_button]
        self.back_button.click(self.roll_back, None, self.page, **QUICK)
        self.table.select(self.make_live, None, self.page, **QUICK)
        demo.load(self.refresh, None, self.page, **QUICK)
