"""The reward: from feedback on replies to a score for any reply, with its uncertainty.

likelihood.py says what each kind of feedback means, reward_model.py fits it, and scorer.py scores
fresh replies. Training the policy by it: rlhf_chat/training.
"""
