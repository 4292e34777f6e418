"""The bundled demo model: its facts, its corpus, its grammar, its build script and its weights.

`corpus` writes conversations, `grammar` judges replies without any model, `build` trains the model
from a seed, `check` measures it. The app loads the model like any other.
"""

from __future__ import annotations

from pathlib import Path

WEIGHTS = Path(__file__).parent / "weights"
