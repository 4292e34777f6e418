"""A trained version as files for other programs: a PEFT adapter, a merged model for transformers,
or GGUF files for llama.cpp, Ollama and LM Studio, each with a model card.

`exporter.py` puts a folder together; the other files each make one part of it.
"""
