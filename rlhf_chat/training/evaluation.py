"""A candidate, measured for the gate: its replies to the probe prompts beside the base's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict

import numpy as np
import torch

from rlhf_chat.feedback.replies import Prompt
from rlhf_chat.inference import forward_pass
from rlhf_chat.inference.generate import Response
from rlhf_chat.inference.model import Model
from rlhf_chat.reward import reward_model, text_features
from rlhf_chat.reward.features import Floats
from rlhf_chat.training.context import RoundContext
from rlhf_chat.training.gate import EvalResult, GenerationStats
from rlhf_chat.training.progress import within

REPLY_BATCH = 64  # replies sampled at once
SAMPLING_SHARE, READING_SHARE = 0.6, 0.8  # of the phase's work that is done after each step


def probe(context: RoundContext) -> tuple[EvalResult, Floats]:
    """Samples the candidate's replies to the probe prompts and compares them with the base's.
    Returns the numbers, and the mean difference of the replies in features (D,)."""
    model, scorer = context.extractor.model, context.scorer
    references = context.base_stats.base_probes

    def advance(share: float) -> None:
        context.report("gate", 0.9 * share, 0, {})

    advance(0.0)
    prompts, responses = _sample(context, within(advance, 0.0, SAMPLING_SHARE))
    prompt_ids, ids = [p.ids for p in prompts], [r.ids for r in responses]
    parts = model.parts(prompt_ids, ids, 2 * model.microbatch_rows)
    ref_logprobs, pooled, lower = forward_pass.reference_pass(model, prompt_ids, ids, parts=parts)
    advance(READING_SHARE)
    kl = _mean_kl(
        forward_pass.policy_pass(model, prompt_ids, ids, parts, lower, context.check), ref_logprobs
    )
    model.release_freed()
    advance(1.0)
    texts = [model.decode(r.ids) for r in responses]
    x = scorer.measure([p.text for p in prompts], texts, pooled.numpy())  # (P * n, D)
    x_base = np.stack([scorer.features(r) for r in references])  # (P, n_ref, D)
    x_candidate = x.reshape(len(references), context.config.probe_samples, -1)
    center = x_base.mean(1, keepdims=True)  # (P, 1, D)
    x_base, x_candidate = scorer.capped(x_base - center), scorer.capped(x_candidate - center)
    gains, win_rate = _bootstrap(context, x_candidate, x_base)
    measured = EvalResult(
        labels=context.fit.labels,
        p_value=context.fit.p_value,
        log_loss=context.fit.log_loss,
        bootstrap_gain=float(gains.mean()),
        bootstrap_gain_low=float(np.quantile(gains, 0.05)),
        win_rate=win_rate,
        kl=kl,
        kl_target=context.target,
        base=_base_stats(context, model),
        candidate=_generation_stats(
            texts,
            [row.numpy() for row in ref_logprobs],
            [r.finished for r in responses],
            context.floor,
        ),
        finite=all(bool(torch.isfinite(p).all()) for p in model.policy_parameters()),
    )
    return measured, x_candidate.mean((0, 1)) - x_base.mean((0, 1))


def metrics(result: EvalResult) -> dict[str, float]:
    """The numbers of an evaluation by name, as they are stored with the round."""
    numbers = {
        "bootstrap_gain": result.bootstrap_gain,
        "bootstrap_gain_low": result.bootstrap_gain_low,
        "bootstrap_win_rate": result.win_rate,
        "probe_kl": result.kl,
        "kl_target": result.kl_target,
    }
    for name, stats in (("base", result.base), ("candidate", result.candidate)):
        numbers |= {f"{name}_{k}": float(v) for k, v in asdict(stats).items() if k != "replies"}
    return numbers


def _sample(
    context: RoundContext, advance: Callable[[float], None]
) -> tuple[list[Prompt], list[Response]]:
    """`probe_samples` replies of the candidate to each probe prompt, one prompt after the other."""
    model, config = context.extractor.model, context.config
    prompts = [p for p in context.base_stats.prompts.probes for _ in range(config.probe_samples)]
    sampling = model.sampling.limited(config.ppo.max_new_tokens)
    responses, view = [], model.inference_policy()
    for start in range(0, len(prompts), REPLY_BATCH):
        context.check()
        batch = [p.ids for p in prompts[start : start + REPLY_BATCH]]
        seed = context.seed + 7 + start
        responses += context.extractor.generator.sample(
            view, batch, sampling, seed=seed, check=context.check
        )
        advance(len(responses) / len(prompts))
    return prompts, responses


def _mean_kl(logprobs: Sequence[torch.Tensor], ref_logprobs: Sequence[torch.Tensor]) -> float:
    """Nats per response, at least 0: so it is, and what samples say below that is their noise."""
    pairs = zip(logprobs, ref_logprobs, strict=True)
    return max(float(np.mean([float(ours.sum() - base.sum()) for ours, base in pairs])), 0.0)


def _bootstrap(context: RoundContext, candidate: Floats, base: Floats) -> tuple[Floats, float]:
    """Reward heads fitted on random halves of the ratings: the gain of the candidate by each (J,),
    log-odds, and their mean win rate. `candidate` (P, n, D), `base` (P, n_ref, D)."""
    rng = np.random.default_rng(context.seed)
    gains, wins = [], []
    for _ in range(context.config.bootstrap_heads):
        half = reward_model.half_of(context.dataset, rng)
        head = reward_model.fit_head(half, context.scorer.feature_map.named, context.config.reward)
        ours, theirs = candidate @ head.weights, base @ head.weights  # (P, n), (P, n_ref)
        gains.append(ours.mean() - theirs.mean())
        difference = ours[:, :, None] - theirs[:, None, :]
        wins.append((difference > 0).mean() + 0.5 * (difference == 0).mean())
    return np.array(gains), float(np.mean(wins))


def _base_stats(context: RoundContext, model: Model) -> GenerationStats:
    references = context.base_stats.base_probes
    return _generation_stats(
        [reply.text for reference in references for reply in reference.replies],
        [row for reference in references for row in reference.logprobs],
        [ended for reference in references for ended in reference.ended(model.end_ids)],
        context.floor,
    )


def _generation_stats(
    texts: Sequence[str], logprobs: Sequence[np.ndarray], finished: Sequence[bool], floor: float
) -> GenerationStats:
    return GenerationStats(
        low_logprob_rate=float(np.mean([row.min() < floor for row in logprobs])),
        degeneration=float(np.mean([text_features.degeneration(t) > 0 for t in texts])),
        unfinished=float(np.mean([not f for f in finished])),
        empty=float(np.mean([not t.strip() for t in texts])),
        distinct=text_features.distinct(texts),
        tokens=float(np.mean([len(row) for row in logprobs])),
        replies=len(texts),
    )
