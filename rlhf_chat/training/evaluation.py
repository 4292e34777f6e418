"""A candidate, measured before the gate: its answers to the probe prompts beside the base's.

Left out: what the numbers must be (gate.py), what they are told as (card.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import torch

from rlhf_chat.feedback.replies import Prompt
from rlhf_chat.inference.generate import Response
from rlhf_chat.inference.memory import in_parts, parts_within
from rlhf_chat.inference.model import ForwardOutput, Model
from rlhf_chat.reward import reward_model, text_features
from rlhf_chat.reward.features import Floats
from rlhf_chat.training.context import Check, RoundContext
from rlhf_chat.training.gate import EvalResult, GenerationStats

TOGETHER = 64  # replies written at once


def probe(context: RoundContext) -> tuple[EvalResult, Floats]:
    """Lets the candidate answer the probe prompts and measures it against the base's replies. Also
    how its replies differ from them, in features (D,)."""
    model, scorer, base = context.extractor.model, context.scorer, context.base_stats.base_probes
    asked, responses = _answers(context)
    prompt_ids, ids = [p.ids for p in asked], [r.ids for r in responses]
    ref_logprobs, pooled = model.reference_pass(prompt_ids, ids)
    logprobs = policy_logprobs(model, prompt_ids, ids, context.check)
    kl = float(
        np.mean([float(a.sum() - b.sum()) for a, b in zip(logprobs, ref_logprobs, strict=True)])
    )
    texts = [model.decode(r.ids) for r in responses]
    x = scorer.measure([p.text for p in asked], texts, pooled.numpy())  # (P * n, D)
    x_base = np.stack([scorer.features(r) for r in base])  # (P, n_ref, D)
    x_candidate = x.reshape(len(base), context.config.probe_samples, -1)
    zero = x_base.mean(1, keepdims=True)  # (P, 1, D)
    x_base, x_candidate = (
        reward_model.bounded(x_base - zero),
        reward_model.bounded(x_candidate - zero),
    )
    gains, win_rate = _judged(context, x_candidate, x_base)
    direction = x_candidate.mean((0, 1)) - x_base.mean((0, 1))
    measured = EvalResult(
        labels=context.fit.labels,
        p_value=context.fit.p_value,
        log_loss=context.fit.log_loss,
        bootstrap_gain=float(gains.mean()),
        bootstrap_gain_low=float(np.quantile(gains, 0.05)),
        win_rate=win_rate,
        kl=kl,
        kl_target=context.target,
        base=_speech(
            [r.text for reference in base for r in reference.replies],
            [row for reference in base for row in reference.logprobs],
            [e for reference in base for e in reference.ended(model.end_ids)],
            context.floor,
        ),
        candidate=_speech(
            texts,
            [row.numpy() for row in ref_logprobs],
            [r.finished for r in responses],
            context.floor,
        ),
        finite=all(bool(torch.isfinite(p).all()) for p in model.policy_parameters()),
    )
    return measured, direction


def _answers(context: RoundContext) -> tuple[list[Prompt], list[Response]]:
    """The candidate's replies to the probe prompts, `probe_samples` to each one after the other."""
    model, config = context.extractor.model, context.config
    asked = [p for p in context.base_stats.probes for _ in range(config.probe_samples)]
    sampling = model.sampling.limited(config.ppo.max_new_tokens)
    responses, speaker = [], model.inference_policy()
    for start in range(0, len(asked), TOGETHER):
        context.check()
        part = [p.ids for p in asked[start : start + TOGETHER]]
        seed = context.seed + 7 + start
        responses += context.extractor.generator.sample(
            speaker, part, sampling, seed=seed, check=context.check
        )
    return asked, responses


def policy_logprobs(
    model: Model,
    prompt_ids: Sequence[Sequence[int]],
    ids: Sequence[Sequence[int]],
    check: Check,
) -> list[torch.Tensor]:
    """Per-token log-probs of responses under the policy, one (len,) tensor each."""
    rows: list[torch.Tensor] = []

    def work(part: list[int]) -> ForwardOutput:
        check()
        with model.lease.slice(), torch.no_grad():
            return model.forward(
                model.policy, [prompt_ids[i] for i in part], [ids[i] for i in part]
            )

    lengths = [len(p) + len(r) for p, r in zip(prompt_ids, ids, strict=True)]
    parts = parts_within(lengths, 2 * model.rows_per_slice, model.tokens_per_row)
    for _, out in in_parts(parts, work, model.reduce_batch):
        rows += [out.logprobs[i, out.mask[i] > 0].cpu() for i in range(len(out.mask))]
    return rows


def _judged(context: RoundContext, candidate: Floats, base: Floats) -> tuple[Floats, float]:
    """Judges fitted on random halves of the ratings: gain of each (J,), and their mean win rate."""
    rng = np.random.default_rng(context.seed)
    gains, wins = [], []
    for _ in range(context.config.bootstrap_heads):
        half = reward_model.half_of(context.told, rng)
        head = reward_model.fit_head(half, context.scorer.feature_map.named, context.config.reward)
        ours, theirs = candidate @ head.weights, base @ head.weights  # (P, n), (P, n_ref)
        gains.append(ours.mean() - theirs.mean())
        difference = ours[:, :, None] - theirs[:, None, :]
        wins.append((difference > 0).mean() + 0.5 * (difference == 0).mean())
    return np.array(gains), float(np.mean(wins))


def _speech(
    texts: Sequence[str], logprobs: Sequence[np.ndarray], finished: Sequence[bool], floor: float
) -> GenerationStats:
    return GenerationStats(
        low_logprob_rate=float(np.mean([row.min() < floor for row in logprobs])),
        degeneration=float(np.mean([text_features.degeneration(t) > 0 for t in texts])),
        unfinished=float(np.mean([not f for f in finished])),
        empty=float(np.mean([not t.strip() for t in texts])),
        distinct=text_features.distinct(texts),
        tokens=float(np.mean([len(row) for row in logprobs])),
    )


def as_numbers(m: EvalResult) -> dict[str, float]:
    numbers = {
        "bootstrap_gain": m.bootstrap_gain,
        "bootstrap_gain_low": m.bootstrap_gain_low,
        "bootstrap_win_rate": m.win_rate,
        "probe_kl": m.kl,
        "kl_target": m.kl_target,
    }
    for who, speech in (("base", m.base), ("candidate", m.candidate)):
        numbers |= {f"{who}_{k}": float(v) for k, v in asdict(speech).items()}
    return numbers
