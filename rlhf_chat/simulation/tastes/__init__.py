"""Hidden utilities of simulated raters, one per file: `utility(prompt, reply) -> float`.

They are small on purpose and look only at the text. They are graded and saturate, as a person's
preferences do: twice as many smileys are not twice as good. The learner sees only noisy votes.
"""
