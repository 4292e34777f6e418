"""Rules for the code, as far as a machine can check them: directions of imports, sizes, names, SQL
in one package only, and documents that agree with the directory."""

from __future__ import annotations

import ast
import io
import re
import subprocess
import tokenize
import tomllib
from collections.abc import Iterable
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "rlhf_chat"
MODULES = [file for file in PACKAGE.rglob("*.py") if file.name != "__init__.py"]

# package -> packages it may import from, beside itself; a file beside the folders counts as one
ARROWS = {
    "locale": set(),
    "errors": {"locale"},
    "faults": set(),
    "json_output": {"errors"},
    "inference": {"errors"},
    "db": {"faults", "errors"},
    "demo_model": {"inference"},
    "feedback": {"db", "errors"},
    "importers": {"db", "errors", "feedback", "inference"},
    "reward": {"db", "demo_model", "errors", "feedback", "inference"},
    "versions": {"faults", "db", "errors", "inference"},
    "training": {"faults", "db", "errors", "feedback", "inference", "reward", "versions"},
    "version_export": {"db", "errors", "inference", "versions"},
    "chat": {"db", "errors", "feedback", "importers", "inference", "reward", "versions"},
    "simulation": {"chat", "db", "errors", "reward", "training"},
    "doctor": {"db", "errors", "inference", "json_output"},
    "api": {"chat", "db", "errors", "inference", "training", "versions"},
    "ui": {
        "chat",
        "errors",
        "feedback",
        "locale",
        "model_list",
        "simulation",
        "training",
        "version_export",
        "versions",
    },
    "serve": {"api", "chat", "db", "doctor", "inference", "training", "ui", "versions"},
    "import_file": {"chat", "db", "errors", "importers", "inference", "json_output", "serve"},
    "model_list": {"inference", "json_output"},
    "session": {"api", "chat", "db", "errors", "serve", "training", "version_export", "versions"},
    "commands": {"api", "json_output", "session"},
    "cli": {
        "commands",
        "doctor",
        "errors",
        "import_file",
        "importers",
        "inference",
        "json_output",
        "model_list",
        "serve",
        "ui",
    },
    "__init__": {"session"},
    "__main__": {"cli"},
}

# Maths and text: what goes in and comes out are numbers, tensors and strings.
PURE = (
    "feedback/agreement.py",
    "feedback/evidence.py",
    "inference/fused_rmsnorm.py",
    "inference/memory.py",
    "reward/active_sampling.py",
    "reward/likelihood.py",
    "reward/text_features.py",
    "training/gate.py",
    "training/ppo.py",
    "training/progress.py",
    "training/rloo.py",
    "versions/standings.py",
)


def imports(file: Path, root: Path = ROOT) -> set[str]:
    """What a file imports of ours, as paths below the package without their endings; function-level
    and relative imports included."""
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
                found.add(_module(parts[1:], root))
    return found


def _module(parts: list[str], root: Path) -> str:
    """The file or the folder that a dotted name is in: what follows it is a name inside."""
    place = root / "rlhf_chat"
    for i, part in enumerate(parts):
        if not (place / part).is_dir():
            return "/".join(parts[: i + (place / f"{part}.py").exists()])
        place /= part
    return "/".join(parts)


def package_of(file: Path) -> str:
    return file.relative_to(PACKAGE).parts[0].removesuffix(".py")


def test_imports_point_one_way() -> None:
    for file in PACKAGE.rglob("*.py"):
        here = package_of(file)
        beyond = {name.split("/")[0] for name in imports(file)} - ARROWS.get(here, set()) - {here}
        assert not beyond - {"__init__", ""}, (
            f"{file.relative_to(ROOT)} may not import from {sorted(beyond)}"
        )


def test_the_architecture_document_shows_these_imports() -> None:
    text = (ROOT / "ARCHITECTURE.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| ([\w, -]+) \|", text, re.M)
    assert {name: set(re.findall(r"\w+", to)) for name, to in rows} == ARROWS


def test_files_that_the_guide_names_exist() -> None:
    """Links, pictures, and paths in code style; the log and the changelog tell of the past."""
    for page in [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), ROOT / "tests" / "README.md"]:
        if page.name in ("LOG.md", "CHANGELOG.md"):
            continue
        text = page.read_text()
        for link in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text):
            assert (page.parent / link).exists(), f"{page.name}: {link}"
        for name in re.findall(r"`([\w/]+\.py)`", text):
            places = (ROOT, PACKAGE, page.parent, ROOT / "tests" / "slow")
            assert any((place / name).exists() for place in places), f"{page.name}: {name}"


def test_tests_that_a_document_names_exist() -> None:
    for page in (ROOT / "docs").glob("*.md"):
        for file, name in re.findall(r"`([\w/]+\.py)::(\w+)`", page.read_text()):
            assert f"def {name}(" in (ROOT / "tests" / file).read_text(), f"{page.name}: {name}"


def test_imports_have_no_cycle() -> None:
    """Between packages, and between all files, including imports inside functions."""
    files = {file.relative_to(PACKAGE).with_suffix("").as_posix(): file for file in MODULES}
    files |= {f.parent.relative_to(PACKAGE).as_posix(): f for f in PACKAGE.rglob("*/__init__.py")}
    for arrows in (ARROWS, {name: imports(file) & files.keys() for name, file in files.items()}):
        left = {one: to - {one} for one, to in arrows.items()}
        while ends := {one for one, to in left.items() if not to & left.keys()}:
            left = {one: to for one, to in left.items() if one not in ends}
        assert not left, f"in a cycle: {sorted(left)}"


def test_maths_imports_no_other_module_of_the_project() -> None:
    for name in PURE:
        assert not imports(PACKAGE / name), name


def test_imports_are_found_however_they_are_written(tmp_path: Path) -> None:
    ui, engine = tmp_path / "rlhf_chat" / "ui", tmp_path / "rlhf_chat" / "inference"
    ui.mkdir(parents=True)
    engine.mkdir()
    for name in ("model", "decode_batch"):
        (engine / f"{name}.py").touch()
    file = ui / "screen.py"
    file.write_text(
        "from ..inference.model import Model\n"
        "from ..inference import decode_batch\nfrom .. import db\n"
        "def late():\n    import rlhf_chat.doctor\n    from . import words\n"
    )
    for name in ("ui/words", "db", "doctor"):
        (tmp_path / "rlhf_chat" / f"{name}.py").touch()
    assert imports(file, tmp_path) == {
        "inference/model",
        "inference/decode_batch",
        "db",
        "doctor",
        "ui/words",
    }


def test_only_one_package_contains_sql() -> None:
    """And through one SQLite library: two in one process destroy each other's locks."""
    for file in PACKAGE.rglob("*.py"):
        code = file.read_text()
        assert not re.search(r"^\s*(import|from) sqlite3", code, re.M), file.name
        if package_of(file) not in ("db", "demo_model"):  # demo declines SQL questions
            assert not re.search(r"\b(SELECT|INSERT INTO|UPDATE \w+ SET)\b", code), file.name


CODE = [ROOT / "app.py"]
CODE += [
    f for folder in ("rlhf_chat", "bench", "docs", "tests") for f in (ROOT / folder).rglob("*.py")
]
LONGEST = 60  # lines of a function


def test_no_function_is_longer_than_a_screen() -> None:
    for file in CODE:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno:
                lines = node.end_lineno - node.lineno + 1
                assert lines <= LONGEST, f"{node.name} in {file.relative_to(ROOT)}: {lines} lines"


# What somebody would have to be told before they could look for it.
RIDDLES = re.compile(
    "said|elsewhere|arrivals|manner|gauge|taste|dialect|trees|room|shelf|talk|likes|card|practice|"
    "refusal|archive|ledger|pane|presence|ahead|clocks|quick|words|people"
)


def test_names_are_ones_that_a_newcomer_would_look_for() -> None:
    for place in PACKAGE.rglob("*"):
        if "__pycache__" not in place.parts:
            assert not RIDDLES.fullmatch(place.stem), (
                f"{place.relative_to(ROOT)} needs a plain name"
            )
    for file in CODE:
        for token in tokenize.generate_tokens(io.StringIO(file.read_text()).readline):
            spelled = token.type == tokenize.NAME and token.string == "said"
            assert not spelled, f"`said` in {file.relative_to(ROOT)}, line {token.start[0]}"


def test_every_file_opens_by_saying_what_it_is() -> None:
    for file in [*PACKAGE.rglob("*.py"), *(ROOT / "bench").glob("*.py"), ROOT / "app.py"]:
        tree = ast.parse(file.read_text())
        assert not tree.body or ast.get_docstring(tree), f"{file.name} has no docstring"


def test_what_is_imported_is_a_dependency() -> None:
    """A package that is only installed because of another one may disappear with it."""
    belongs = packages_distributions()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    dev = names(project["dependencies"]) | names(extras["dev"])
    run = names(project["dependencies"]) | names(extras["tensorboard"]) | names(extras["trackio"])
    for allowed, folders in ((run, ("rlhf_chat", "app.py")), (dev, ("tests", "docs", "bench"))):
        for name in {n for folder in folders for n in imported(ROOT / folder)} & set(belongs):
            assert allowed & names(belongs[name]), name


def test_the_pinned_requirements_agree() -> None:
    """`make lock` wrote them all from the same ranges."""
    files = ("requirements.txt", "requirements-dev.txt", "requirements.lock")
    exact, dev, hashed = (pins(ROOT / file) for file in files)
    tested = pins(PACKAGE / "tested_versions.txt")
    assert tested <= exact <= dev and exact <= hashed
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert names(tested) == names(project["dependencies"])
    assert names(project["optional-dependencies"]["dev"]) <= names(dev)


def pins(file: Path) -> set[str]:
    """Each pin as `name==version`, once, whatever else the line says."""
    return set(re.findall(r"^[\w.-]+==[\w.+]+", file.read_text(), re.M))


def names(requirements: Iterable[str]) -> set[str]:
    """Normalised names of distributions, without versions."""
    return {re.split(r"[^\w.-]", r)[0].lower().replace("_", "-") for r in requirements}


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
        assert not large or name == "rlhf_chat/demo_model/weights/model.safetensors", name


def test_the_readme_map_is_the_directory() -> None:
    """Packages and what lies beside them; a package's docstring says what is inside."""
    readme = (ROOT / "README.md").read_text()
    block = readme.split("## File map", 1)[1].split("```")[1]
    named = {line.split()[0] for line in block.splitlines() if line.strip()}
    folders = [p for p in PACKAGE.iterdir() if (p / "__init__.py").exists()]
    there = {f"rlhf_chat/{p.name}/" for p in folders} | {"bench/", "tests/", "docs/", "app.py"}
    there |= {f"rlhf_chat/{p.name}" for p in MODULES if p.parent == PACKAGE}
    missing = there - named - {"rlhf_chat/__main__.py"}
    assert not missing, f"not in the README's file map: {sorted(missing)}"
    for name in named:
        made_on_first_run = name in ("feedback.db", "adapters/")
        assert made_on_first_run or (ROOT / name).exists(), f"{name} is in the map only"


def test_nothing_pickled_is_loaded_and_no_remote_code_is_trusted() -> None:
    for file in PACKAGE.rglob("*.py"):
        code = file.read_text()
        assert "torch.load(" not in code and not re.search(r"\bpickle\b", code), file.name
        assert "trust_remote_code=True" not in code, file.name
