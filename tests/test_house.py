"""The house rules, as far as a machine can check them: arrows point one way, one room speaks SQL,
the README's file map is the directory."""

from __future__ import annotations

import ast
import re
import subprocess
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "rlhf_chat"

# room -> rooms it may import. What is not listed here imports nothing of ours.
ARROWS = {
    "recording": {"room", "trees"},
    "step": {"recording", "room"},
    "decode": {"lease", "recording", "step"},
    "trees": {"nf4"},
    "loading": {"dialect", "nf4"},
    "model": {
        "decode",
        "footprint",
        "head",
        "lease",
        "loading",
        "memory",
        "norms",
        "recording",
        "step",
        "trees",
    },
    "probe": {"footprint", "lease", "memory", "model"},
    "selftest": {"head", "model", "probe", "trees"},
    "footprint": {"head", "nf4", "trees"},
    "presets": {"footprint"},
    "doctor": {
        "footprint",
        "loading",
        "memory",
        "model",
        "nf4",
        "presets",
        "probe",
        "selftest",
        "store",
    },
    "prompts": {"demo"},
    "reward": {"likelihood"},
    "gauge": {"decode", "model", "reward", "store", "style"},
    "said": {"gauge", "store"},
    "evidence": {"gauge", "likelihood", "reward", "said", "style"},
    "dissent": {"likelihood", "reward"},
    "taste": {"dissent", "evidence", "gauge", "likelihood", "prompts", "reward", "said", "style"},
    "learner": {"decode", "memory", "model", "ppo"},
    "plan": {
        "evidence",
        "footprint",
        "gate",
        "gauge",
        "learner",
        "likelihood",
        "model",
        "ppo",
        "reward",
        "said",
        "taste",
    },
    "practice": {"decode", "gauge", "learner", "model", "plan", "ppo"},
    "evaluation": {"decode", "gate", "gauge", "memory", "model", "plan", "reward", "style"},
    "card": {"decode", "evidence", "gauge", "plan", "reward", "said", "style"},
    "round": {
        "card",
        "evaluation",
        "evidence",
        "gate",
        "gauge",
        "plan",
        "ppo",
        "practice",
        "reward",
        "said",
        "taste",
    },
    "trainer": {
        "adapters",
        "gauge",
        "leaderboard",
        "likes",
        "model",
        "plan",
        "refusal",
        "reward",
        "round",
        "said",
        "store",
        "taste",
        "versions",
    },
    "likes": {"reward", "store", "style"},
    "versions": {"adapters", "leaderboard", "model", "refusal", "store"},
    "turns": {"model"},
    "export": {"store", "turns"},
    "elsewhere": {"refusal", "store"},
    "arrivals": {"elsewhere", "model", "raters", "refusal", "store", "turns"},
    "refusal": {"store"},
    "manner": {"decode", "refusal", "store"},
    "ratings": {"export", "refusal", "store"},
    "chat": {
        "arrivals",
        "decode",
        "gauge",
        "manner",
        "model",
        "ratings",
        "refusal",
        "said",
        "store",
        "taste",
        "turns",
    },
    "compare": {
        "chat",
        "decode",
        "gauge",
        "leaderboard",
        "model",
        "pairs",
        "prompts",
        "refusal",
        "store",
        "taste",
    },
    "store": {"store"},
    "leaderboard": {"standings", "store"},
    "raters": {"agreement", "store", "taste"},
    "watch": {"compare", "refusal", "store", "style", "trainer"},
    "web": {
        "chat",
        "compare",
        "export",
        "manner",
        "ratings",
        "leaderboard",
        "raters",
        "refusal",
        "trainer",
        "watch",
        "web",
    },
    "demo": {"demo", "nf4"},
}


def imports(file: Path, root: Path = ROOT) -> set[str]:
    """Rooms of ours that a file imports, function-level and relative imports included."""
    found = set()
    package = file.relative_to(root).with_suffix("").parts[:-1]
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else ()
            module = ".".join([*above, *([node.module] if node.module else [])])
            names = [f"{module}.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [a.name for a in node.names]
        for name in names:
            parts = name.split(".")
            if parts[0] == "rlhf_chat" and len(parts) > 1:
                found.add(parts[1])
    return found


def room(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_arrows_point_one_way() -> None:
    for file in PACKAGE.rglob("*.py"):
        beyond = imports(file) - ARROWS.get(room(file), set()) - {"__init__"}
        assert not beyond, f"{file.relative_to(ROOT)} reaches into {sorted(beyond)}"


def test_the_arrows_have_no_cycle() -> None:
    left = {room: to - {room} for room, to in ARROWS.items()}
    while ends := {room for room, to in left.items() if not to & left.keys()}:
        left = {room: to for room, to in left.items() if room not in ends}
    assert not left, f"round and round: {sorted(left)}"


def test_a_relative_import_is_an_import(tmp_path: Path) -> None:
    file = tmp_path / "rlhf_chat" / "web" / "screen.py"
    file.parent.mkdir(parents=True)
    file.write_text("from ..model import Model\nfrom .. import store\nfrom . import words\n")
    assert imports(file, tmp_path) == {"model", "store", "web"}


def test_one_room_speaks_sql() -> None:
    """And through one SQLite library: two in one process destroy each other's locks."""
    for file in PACKAGE.rglob("*.py"):
        code = file.read_text()
        assert not re.search(r"^\s*(import|from) sqlite3", code, re.M), file.name
        if room(file) not in ("store", "demo"):  # demo declines SQL questions
            assert not re.search(r"\b(SELECT|INSERT INTO|UPDATE \w+ SET)\b", code), file.name


def test_every_file_opens_by_saying_what_it_is() -> None:
    for file in [*PACKAGE.rglob("*.py"), *(ROOT / "bench").glob("*.py"), ROOT / "app.py"]:
        tree = ast.parse(file.read_text())
        assert not tree.body or ast.get_docstring(tree), f"{file.name} has no docstring"


def test_what_is_imported_is_pinned() -> None:
    """A package that comes along with another one may leave with it."""
    belongs = packages_distributions()
    pins = {"dev": pinned("requirements-dev.txt"), "run": pinned("requirements.txt")}
    for needs, folders in (("run", ("rlhf_chat", "app.py")), ("dev", ("tests", "docs", "bench"))):
        allowed = pins["run"] | (pins["dev"] if needs == "dev" else set())
        for name in {n for folder in folders for n in imported(ROOT / folder)} & set(belongs):
            assert allowed & {d.lower().replace("_", "-") for d in belongs[name]}, name


def pinned(file: str) -> set[str]:
    lines = (ROOT / file).read_text().splitlines()
    return {line.split("==")[0].lower().replace("_", "-") for line in lines if "==" in line}


def imported(place: Path) -> set[str]:
    """The first part of every module that is imported."""
    found = set()
    for file in [place] if place.is_file() else place.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Import):
                found |= {a.name.split(".")[0] for a in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found


def test_nothing_large_or_pickled_is_kept() -> None:
    """What an experiment leaves behind stays out; the bundled model is the one large file."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    for name in filter(None, listed.stdout.decode().split("\0")):
        file = ROOT / name
        assert file.suffix not in (".pkl", ".pickle", ".npy", ".pt", ".pth", ".db"), name
        large = file.exists() and file.stat().st_size > 1_000_000
        assert not large or name == "rlhf_chat/demo/weights/model.safetensors", name


def test_the_readme_map_is_the_directory() -> None:
    readme = (ROOT / "README.md").read_text()
    block = readme.split("## File map", 1)[1].split("```")[1]
    named = {line.split()[0] for line in block.splitlines() if line.strip()}
    there = {f"rlhf_chat/{p.name}" for p in PACKAGE.glob("*.py") if p.name != "__init__.py"}
    there |= {
        "rlhf_chat/web/",
        "rlhf_chat/demo/",
        "rlhf_chat/store/",
        "bench/",
        "tests/",
        "docs/",
        "app.py",
    }
    missing = there - named
    assert not missing, f"not in the README's file map: {sorted(missing)}"
    for name in named:
        made_on_first_run = name in ("feedback.db", "adapters/")
        assert made_on_first_run or (ROOT / name).exists(), f"{name} is in the map only"


def test_nothing_pickled_is_loaded_and_no_remote_code_is_trusted() -> None:
    for file in PACKAGE.rglob("*.py"):
        code = file.read_text()
        assert "torch.load(" not in code and "pickle" not in code, file.name
        assert "trust_remote_code=True" not in code, file.name
