"""Simulated people: one hidden preference a file, `utility(prompt, reply) -> float`.

They are small on purpose and look only at the text. Likes are graded and saturate, as a person's
do: twice as many smileys are not twice as good. The learner sees only noisy votes.
"""
