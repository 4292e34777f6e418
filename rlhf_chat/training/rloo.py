"""RLOO in formulas: the other responses to the same prompt are the baseline, and the base's.

REINFORCE leave-one-out needs no critic: the advantage of a response is its return minus the mean
return of the other responses to that prompt, the same number for each of its tokens. As in the
paper the return is the score of the whole response with the KL penalty in it, here the sum of the
per-token rewards of `ppo.compute_rewards`. That the base's replies count as well
(`base_replies`) is not in the paper.

Sources: Kool et al. 2019 (leave-one-out baseline); Ahmadian et al. 2024, "Back to Basics"
(REINFORCE for RLHF, KL in the score); TRL's RLOOTrainer.
"""

from __future__ import annotations

import torch


def leave_one_out_advantages(
    returns: torch.Tensor, groups: torch.Tensor, base_replies: float = 0.0
) -> torch.Tensor:
    """Return of each response minus the mean of the others in its group: (N,), (N,) -> (N,).

    `groups` (int64) names the prompt of each response. Where returns are relative to those of the
    base's own replies to the prompt, these say as well what to expect there: they count as
    `base_replies` more responses whose return is the mean of all other groups. Sums to zero over
    all groups of one size, without `base_replies` within each. Raises ValueError where a group has
    a single response, which nothing could be compared with.
    """
    _, member, counts = torch.unique(groups, return_inverse=True, return_counts=True)
    if int(counts.min()) < 2:
        raise ValueError("RLOO needs at least two responses to each prompt")
    sums = torch.zeros(len(counts), dtype=returns.dtype).index_add_(0, member, returns)
    others = (sums[member] - returns) / (counts[member] - 1)
    if len(counts) > 1 and base_replies:
        elsewhere = (returns.sum() - sums) / (len(returns) - counts)
        share = base_replies / (counts[member] - 1 + base_replies)
        others = others + share * (elsewhere[member] - others)
    result: torch.Tensor = returns - others
    return result


def scale(x: torch.Tensor, mask: torch.Tensor, floor: float) -> torch.Tensor:
    """x / max(rms, floor) over masked entries; 0 elsewhere.

    Without a mean to subtract: leave-one-out advantages are centred already.
    """
    mean_square = (x**2 * mask).sum() / mask.sum().clamp(min=1)
    return x / mean_square.sqrt().clamp(min=floor) * mask
