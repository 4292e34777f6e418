"""What a person likes: from what was said of replies to a score for any reply, with its doubt.

likelihood.py says what each kind of answer means, reward_model.py fits it, scorer.py is the whole,
ready to judge. Left out: changing the model by it (training).
"""
