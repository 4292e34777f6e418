"""The reward: from feedback on replies to a score for any reply, with its uncertainty.

likelihood.py has the likelihood of each kind of feedback, reward_model.py the fit, and scorer.py
scores fresh replies. Training the policy by it: rlhf_chat/training.
"""
