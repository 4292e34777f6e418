"""What is settled before a candidate begins to practise: the settings of a round, and its plan.

Left out: carrying it out (training_round.py, ppo_loop.py, evaluation.py).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field

from rlhf_chat.inference.memory_estimate import Workload
from rlhf_chat.inference.model import Model
from rlhf_chat.reward import reward_model
from rlhf_chat.reward.features import FeatureExtractor
from rlhf_chat.reward.likelihood import PreferenceDataset
from rlhf_chat.reward.reward_model import RewardConfig
from rlhf_chat.reward.scorer import BaseStatistics, RewardModel, ScoringConfig
from rlhf_chat.training.demonstrations import Demonstration
from rlhf_chat.training.gate import GateConfig
from rlhf_chat.training.ppo import PPOConfig

# report(phase, done 0..1 of the round, step, numbers)
Report = Callable[[str, float, int, Mapping[str, float]], None]
Check = Callable[[], None]  # called between slices; whatever it raises ends the round


@dataclass(frozen=True)
class RoundConfig:
    """Settings of one round, kept with it in the database."""

    algorithm: str = "ppo"  # a name in training/algorithm.py
    probe_samples: int = 4
    bootstrap_heads: int = 16  # heads fitted on random halves of the ratings, for the gate
    attempts: int = 4  # at the gate: a candidate that went too far is shrunk and tried again
    shrink: float = 0.8  # of its change that it keeps, at most
    provisional_kl: float = 0.7  # share of the KL target that a mere hint may spend
    kl_at_start: float = 0.6  # share of the KL target that a candidate may begin with
    ppo: PPOConfig = field(default_factory=PPOConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    reward: RewardConfig = field(default_factory=RewardConfig)
    scorer: ScoringConfig = field(default_factory=ScoringConfig)

    @classmethod
    def of(cls, model: Model) -> RoundConfig:
        """The settings for a model. Real ones talk at greater length than the bundled one."""
        if model.is_demo:
            return cls()
        tokens = min(Workload().response, model.context_tokens // 4)
        return cls(ppo=PPOConfig(max_new_tokens=tokens))

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass(frozen=True)
class RoundContext:
    """All that is settled before the candidate begins to practise."""

    told: PreferenceDataset
    fit: reward_model.Fit
    scorer: RewardModel
    base_stats: BaseStatistics
    target: float  # KL, nats per response
    demonstrations: list[Demonstration]  # replies as people would have had them
    floor: float  # log-prob below which a token is strange to the base
    extractor: FeatureExtractor
    config: RoundConfig
    seed: int
    report: Report
    check: Check


def longest_row(model: Model) -> int:
    """Tokens of prompt and response that a round may practise on: what was said in a longer
    conversation teaches the taste, but one training row of it could take all memory."""
    return min(model.context_tokens, model.tokens_per_row * max(2, model.rows_per_slice))
