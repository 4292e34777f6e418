"""How the model learns: a round turns a feedback snapshot into a candidate adapter and a verdict.

training_round.py is the recipe; worker.py is the thread that runs it beside chat.
"""
