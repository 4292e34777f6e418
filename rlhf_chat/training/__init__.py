"""How the model learns: a round, from a snapshot of what was said to a candidate and a verdict.

round.py is the recipe and trainer.py the thread that carries it out beside chat. Left out: what a
person likes (preference), the versions that come of it (shelf).
"""
