"""What is fixed before a candidate is trained: the settings of a round and its context."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.model import Model
from rlhf_chat.reward import reward_model
from rlhf_chat.reward.features import FeatureExtractor, Reference
from rlhf_chat.reward.likelihood import PreferenceDataset
from rlhf_chat.reward.reward_model import RewardConfig
from rlhf_chat.reward.scorer import BaseStatistics, RewardModel, ScoringConfig
from rlhf_chat.training.demonstrations import Demonstration
from rlhf_chat.training.gate import GateConfig
from rlhf_chat.training.ppo import PPOConfig
from rlhf_chat.training.time_budget import TimeBudget

# report(phase, share of the phase that is done 0..1, step, metrics), for each batch of work
Report = Callable[[str, float, int, Mapping[str, float]], None]
Check = Callable[[], None]  # called between lease slices; whatever it raises ends the round


@dataclass(frozen=True)
class RoundConfig:
    """Settings of one round, kept with it in the database."""

    algorithm: str = "ppo"  # a name in training/algorithm.py
    sampling: Sampling | None = None  # of all its replies; None in rounds of older versions
    minutes: float = 0.0  # the updates end early enough for the verdict to come by then; 0: never
    probe_samples: int = 4
    bootstrap_heads: int = 16  # heads fitted on random halves of the ratings, for the gate
    attempts: int = 4  # at the gate: a candidate too far from the base is shrunk and tried again
    shrink: float = 0.8  # share of its change that a shrunk candidate keeps, at most
    provisional_kl: float = 0.7  # share of the KL target for a provisional version
    kl_at_start: float = 0.6  # share of the KL target that the parent may have used already
    ppo: PPOConfig = field(default_factory=PPOConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    scorer: ScoringConfig = field(default_factory=ScoringConfig)

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class RoundContext:
    """Everything an algorithm, the evaluation and the report work with."""

    dataset: PreferenceDataset
    fit: reward_model.Fit
    scorer: RewardModel
    base_stats: BaseStatistics
    retained: list[Reference]  # replies of the base that training must leave as they are
    target: float  # KL, nats per response
    demonstrations: list[Demonstration]  # from corrected replies
    floor: float  # log-prob below which the base almost never writes a token
    extractor: FeatureExtractor
    config: RoundConfig
    seed: int
    report: Report
    check: Check
    budget: TimeBudget = field(default_factory=lambda: TimeBudget(0.0))


def longest_row(model: Model) -> int:
    """Most tokens of prompt and response in one training row. Feedback in longer conversations
    still counts for the reward, but training on such a row could take all memory."""
    return min(model.context_tokens, model.tokens_per_row * max(2, model.microbatch_rows))
