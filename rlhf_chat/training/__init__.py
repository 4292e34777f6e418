"""How the model learns: a round, from a snapshot of what was said to a candidate and a verdict.

training_round.py is the recipe and worker.py the thread that carries it out beside chat. Left out: what a
person likes (preference), the versions that come of it (shelf).
"""
