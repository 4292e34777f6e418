"""The language model: loading, chat template, NF4, LoRA, generation, log-probs, memory.

Start with model.py. This package knows nothing of conversations, ratings or training rounds.
"""
