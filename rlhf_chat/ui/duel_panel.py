"""A duel on Compare: two chosen versions, and how their blind votes stand."""

from __future__ import annotations

from typing import Any

import gradio as gr

from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui.components import status_line, status_message, version_choices
from rlhf_chat.ui.language import label, text

Update = dict[Any, Any]


class Duel:
    def __init__(self, worker: TrainingWorker) -> None:
        self.worker = worker

    # ---- what is shown -------------------------------------------------------------------------

    def menus(self, dueling: bool, one: str, other: str) -> Update:
        """The two menus with every version there is; what was chosen stays if it can."""
        choices = version_choices(self.worker.versions.all())
        values = [value for _, value in choices]
        if dueling and len(values) < 2:
            return {
                **self.menus(False, one, other),
                self.dueling: False,
                self.standing: status_message(text("duel.alone")),
            }
        one = one if one in values else values[0]
        if other not in values or other == one:
            other = next((v for v in reversed(values) if v != one), one)
        return {
            self.one: gr.update(choices=choices, value=one, visible=dueling),
            self.other: gr.update(choices=choices, value=other, visible=dueling),
            **self.stand(between(dueling, one, other)),
        }

    def begun(self, version: int) -> Update:
        """This version against what is live, or, if it is live, against its parent."""
        live = self.worker.status().live_version
        known = {v.version: v for v in self.worker.versions.all()}
        other = live if live != version else (known[version].parent or 0 if version else 0)
        if other == version:
            other = max(known)
        return {self.dueling: True, **self.menus(True, str(version), str(other))}

    def stand(self, versions: tuple[int, int] | None) -> Update:
        return {self.standing: status_message(self._standing(versions))}

    def _standing(self, versions: tuple[int, int] | None) -> str:
        if versions is None:
            return ""
        record, low, high = self.worker.leaderboard.duel(*versions)
        one, other = versions
        if not record.votes:
            return text("duel.no_votes", one=one, other=other)
        return text(
            "duel.standing",
            one=one,
            other=other,
            wins=record.wins,
            ties=record.ties,
            count=record.votes,
            rate=record.win_rate,
            low=low,
            high=high,
        )

    # ---- layout --------------------------------------------------------------------------------

    def lay_out(self) -> None:
        self.dueling = gr.Checkbox(
            False, label=label("duel"), container=False, elem_id="dueling", scale=0, min_width=70
        )
        self.one = _menu("one_version", "duel-one")
        self.other = _menu("other_version", "duel-other")
        self.standing = status_line("duel-standing")
        self.boxes: list[Any] = [self.dueling, self.one, self.other]
        self.page: list[Any] = [*self.boxes, self.standing]


# ---- small parts -------------------------------------------------------------------------------


def between(dueling: bool, one: str, other: str) -> tuple[int, int] | None:
    """The two versions of a duel; None where there is none."""
    return (int(one), int(other)) if dueling and one and other and one != other else None


def _menu(name: str, elem_id: str) -> gr.Dropdown:
    return gr.Dropdown(
        [(label("base"), "0")],
        value="0",
        label=label(name),
        show_label=False,
        container=False,
        visible=False,
        elem_id=elem_id,
        scale=0,
        min_width=130,
    )
