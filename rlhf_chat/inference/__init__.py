"""The instrument: one language model in four bits, three views of it, whatever the machine.

From what fits to how a token is drawn: loading, views, log-probs, pooled features, decoding, and
who may compute. Begin with model.py. Left out: what is said with it, and what anybody thinks of it.
"""
