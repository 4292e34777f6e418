"""Checks this machine, and predicts whether a model fits on it.

    rlhf-chat doctor --model Qwen/Qwen3-4B-Instruct-2507

Each line says what was checked, its value, the consequence and the advice. Exit code 0: all well;
1: there are warnings; 2: the app would not work. Nothing is repaired. `preflight` is the part that
the app itself runs before it loads a model. Memory is predicted (memory_estimate.py), not measured;
--deep loads the model and tests it.
"""

from __future__ import annotations

import logging
import os
import platform
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import torch
from sqlite_utils.utils import sqlite3

from rlhf_chat.db import Store
from rlhf_chat.db import database_file as store_file
from rlhf_chat.errors import ModelError, StoreError
from rlhf_chat.inference import local_models, memory, nf4, presets, pull
from rlhf_chat.inference.calibration import calibrate
from rlhf_chat.inference.loading import configuration, first_line, refuse_unsuitable, stay_offline
from rlhf_chat.inference.memory_estimate import (
    COMFORTABLE,
    GIB,
    MINIMAL,
    MemoryEstimate,
    Workload,
    predict,
)
from rlhf_chat.inference.model import Model
from rlhf_chat.inference.self_test import self_test
from rlhf_chat.json_output import print_json

OK, WARN, FAIL = 0, 1, 2
MARKS = ("ok", "WARN", "FAIL")
UNPREDICTABLE = (ValueError, RuntimeError, AssertionError)  # shapes; what meta tensors cannot do
TESTED = Path(__file__).with_name("tested_versions.txt")  # direct dependencies, by `make lock`
CUDA_WHEELS = "https://download.pytorch.org/whl/cu130"
LOW_DISK = 2 * GIB
SLOW_SYNC, LYING_SYNC = 0.050, 0.000_05  # seconds that fsync may take and must take


@dataclass(frozen=True)
class Line:
    what: str
    value: str
    level: int = OK
    consequence: str = ""
    advice: str = ""

    def __str__(self) -> str:
        told = f"{MARKS[self.level]:4}  {self.what}: {self.value}"
        for more in (self.consequence, self.advice):
            told += f"\n      {more}" if more else ""
        return told


# ---------------------------------------------------------------------- preflight


@dataclass(frozen=True)
class Preflight:
    """The first of a few ways to run that fits, or the least of them if none does."""

    load: Workload
    need: MemoryEstimate
    free: int
    fits: bool
    sentence: str

    @property
    def tokens_at_once(self) -> int:
        """Tokens whose keys and values fit: the longest conversation's, and as many more as go into
        half of what nothing else needs."""
        spare = max(0, self.free - self.need.total) // 2
        return self.load.context * (self.need.chat + spare) // self.need.chat


def preflight(
    name: str, config: Any, quantization: str, free: int, *, on_cpu: bool = False
) -> Preflight:
    """What this model will take here. Pure but for the configuration that is passed in."""
    reserve = 0 if on_cpu else MINIMAL.reserve
    kind = "memory" if on_cpu else "video memory"
    ways = (Workload(), COMFORTABLE, MINIMAL, replace(MINIMAL, context=2048))
    for way in ways:
        load = replace(way, on_cpu=on_cpu, reserve=reserve)
        need = predict(config, quantization, load)
        if need.total <= free:
            told = f"{name} needs {_gib(need.total)} of {kind} and {_gib(free)} are free"
            told += "." if way == ways[0] else f": {_way(load)}."
            return Preflight(load, need, free, True, told)
    told = f"{name} needs {_gib(need.total)} of {kind} to chat and learn, and {_gib(free)} are free"
    return Preflight(load, need, free, False, f"{told}. {_proposal(need, quantization, free)}")


def _way(load: Workload) -> str:
    told = f"{load.rollouts} replies are practised at once, {load.microbatch} learned from"
    if load.checkpointing:
        told += ", with activations computed twice"
    if load.context < Workload().context:
        told += f", and conversations are read back {load.context} tokens"
    return told


def _proposal(need: MemoryEstimate, quantization: str, free: int) -> str:
    if quantization == "none":
        return "Try it in 4 bits: --quantization nf4."
    for preset in presets.that_fit(free):
        fits = presets.need(preset, "nf4").total
        if fits < need.total:
            return f"{preset.hub} fits ({_gib(fits)}): --model {preset.name}."
    return "The bundled model fits: --model demo."


def config_of(name: str) -> Any:
    """The configuration alone: a preset's is known, for another hub id it is a small download.
    Raises ModelError if it cannot be had."""
    preset = presets.BY_HUB.get(presets.hub_id(name))
    return preset.config() if preset else configuration(name)


def is_here(name: str) -> bool:
    """Whether nothing has to be downloaded before it can be loaded."""
    hub = presets.hub_id(name)
    if preset := presets.BY_HUB.get(hub):
        return pull.is_here(preset.name)
    local = name == "demo" or name.startswith(local_models.OLLAMA) or Path(name).exists()
    return local or presets.is_here(hub)


def default_model() -> str:
    """What is loaded where no model is named: pocket if it is here, else the bundled one."""
    return presets.POCKET.name if pull.is_here(presets.POCKET.name) else "demo"


def check_fits(name: str, quantization: str, device: torch.device) -> Preflight | None:
    """The preflight on this machine. None if nothing can be said; ModelError if it does not fit."""
    try:
        config = config_of(name)
        refuse_unsuitable(name, config)
    except ModelError:
        return None  # loading will say what is wrong
    try:
        told = preflight(
            name, config, quantization, memory.free(device), on_cpu=device.type == "cpu"
        )
    except UNPREDICTABLE as error:
        logging.getLogger(__name__).info("no prediction for %s: %s", name, error)
        return None
    if not told.fits:
        raise ModelError("model.does_not_fit", details=told.sentence)
    return told


def _gib(size: int) -> str:
    return f"{size / GIB:.1f} GiB"


# ---------------------------------------------------------------------- the examination


def examine(name: str, quantization: str, data: Path, deep: bool) -> Iterator[Line]:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    yield Line("python", f"{platform.python_version()} on {platform.system()}")
    yield from packages(TESTED)
    yield sqlite(sqlite3.sqlite_version_info)
    yield from disk(data)
    yield card(device)
    yield four_bits(lambda: nf4.matmul_error(device))
    yield from fit(name, quantization, device)
    if deep:
        yield database(data)
        yield whole_model(name, quantization)


def packages(tested: Path) -> Iterator[Line]:
    """Installed versions beside those that were tested together."""
    if not tested.is_file():
        return
    pinned = dict(line.split("==") for line in tested.read_text().split() if line.count("==") == 1)
    differ, missing = [], []
    for package, version in pinned.items():
        try:
            found = metadata.version(package)
        except metadata.PackageNotFoundError:
            missing.append(package)
            continue
        if found.split("+")[0] != version:
            differ.append(f"{package} {found} instead of {version}")
    advice = f'Install what was tested: pip install -r "{tested}"'
    if missing:
        yield Line("packages", f"missing: {', '.join(missing)}", FAIL, "The app stops.", advice)
    if differ:
        yield Line("packages", "; ".join(differ), WARN, "Not tested together.", advice)
    if not missing and not differ:
        yield Line("packages", f"{len(pinned)}, all in the tested versions")


def sqlite(version: tuple[int, ...]) -> Line:
    told = ".".join(map(str, version))
    if store_file.wal_is_safe(version):
        return Line("sqlite", told)
    return Line(
        "sqlite",
        told,
        WARN,
        "This build can lose committed rows in a rare moment of its WAL.",
        "pip install pysqlite3==0.6.1 brings a safe one.",
    )


def disk(data: Path) -> Iterator[Line]:
    folder = next(p for p in (data, *data.parents) if p.is_dir())
    free = shutil.disk_usage(folder).free
    if free < LOW_DISK:
        yield Line(
            "disk",
            f"{_gib(free)} free",
            WARN,
            "Versions and backups need room.",
            "Make room.",
        )
    else:
        yield Line("disk", f"{_gib(free)} free")
    try:
        seconds = sync_seconds(folder)
    except OSError as error:
        yield Line("folder", f"{folder}: {error.strerror}", FAIL, "Nothing can be saved.", "--data")
        return
    told = f"{1000 * seconds:.2f} ms"
    if seconds > SLOW_SYNC:
        yield Line("fsync", told, WARN, "Every saved rating waits for it.", "Use a local disk.")
    elif seconds < LYING_SYNC:
        lies = "So fast that the disk may only claim to have written; power loss may lose ratings."
        yield Line("fsync", told, WARN, lies, "Nothing, on a virtual machine you trust.")
    else:
        yield Line("fsync", told)


def sync_seconds(folder: Path, times: int = 20) -> float:
    """The median time that a small write takes until the disk has it."""
    taken = []
    with tempfile.TemporaryFile(dir=folder) as file:
        for _ in range(times):
            file.write(b"x" * 512)
            file.flush()
            started = time.perf_counter()
            os.fsync(file.fileno())
            taken.append(time.perf_counter() - started)
    return sorted(taken)[times // 2]


def idle_card() -> str:
    """What to do where an NVIDIA card is there and torch cannot use it; empty where that is not so.
    What pip finds for Windows by itself is torch without CUDA."""
    if torch.cuda.is_available() or not shutil.which("nvidia-smi"):
        return ""
    if torch.version.cuda:
        return "There is an NVIDIA card, but torch cannot use it: update its driver."
    version = torch.__version__.split("+")[0]
    return (
        "There is an NVIDIA card, but this torch was built without CUDA. One with it: "
        f"pip install --force-reinstall torch=={version} --index-url {CUDA_WHEELS}"
    )


def card(device: torch.device) -> Line:
    if device.type != "cuda":
        return Line(
            "graphics card",
            f"none that torch {torch.__version__} can use",
            WARN,
            "The bundled model and pocket run well; larger models are slow.",
            idle_card() or "With an NVIDIA card, install its driver and the CUDA build of torch.",
        )
    free, whole = torch.cuda.mem_get_info(device)
    about = torch.cuda.get_device_properties(device)
    told = f"{about.name}, capability {about.major}.{about.minor}, CUDA {torch.version.cuda}, "
    told += f"{_gib(free)} of {_gib(whole)} free"
    if whole - free > GIB:
        return Line("graphics card", told, WARN, "Other programs use it.", "Close them for more.")
    return Line("graphics card", told)


def four_bits(error_of: Callable[[], float]) -> Line:
    """A real 4-bit product: that bitsandbytes can be imported proves nothing."""
    advice = "Start with --quantization none, or reinstall bitsandbytes for this torch."
    try:
        error = error_of()
    except Exception as problem:
        why = str(problem).splitlines()[0][:120] if str(problem) else type(problem).__name__
        return Line("4-bit product", why, FAIL, "4-bit models do not run here.", advice)
    if error < 0.01:
        return Line("4-bit product", f"right to {error:.1e}")
    return Line("4-bit product", f"off by {error:.1e}", FAIL, "Replies would be noise.", advice)


def fit(name: str, quantization: str, device: torch.device) -> Iterator[Line]:
    try:
        config = config_of(name)
        refuse_unsuitable(name, config)
    except ModelError as error:
        yield Line("model", str(error), FAIL, "The app stops.", "--model demo")
        return
    advice = "" if is_here(name) else "It is downloaded."
    yield Line("model", f"{name} ({config.model_type})", advice=advice)
    on_cpu = device.type == "cpu"
    try:
        told = preflight(name, config, quantization, memory.free(device), on_cpu=on_cpu)
    except UNPREDICTABLE as error:
        why = f"nothing can be said before it is loaded: {first_line(error)}"
        yield Line("fits", why, WARN, "It may not be a model that can chat.", "Try it with --deep.")
        return
    for part, size in told.need.as_dict().items():
        yield Line(f"memory, {part}", f"{size / GIB:.2f} GiB predicted")
    yield Line("fits", told.sentence, OK if told.fits else FAIL)


def database(data: Path) -> Line:
    path = data / "feedback.db"
    if not path.is_file():
        return Line("database", "none yet")
    try:
        store = Store(path)
    except StoreError as error:
        return Line("database", str(error), FAIL, "Nothing new can be saved.")
    try:
        return Line("database", f"sound, {store.counts()}")
    finally:
        store.close()


def whole_model(name: str, quantization: str) -> Line:
    try:
        model = Model.load(presets.hub_id(name), quantization=quantization)
        self_test(model)
        calibrate(model)
    except ModelError as error:
        return Line("self-test", str(error), FAIL, "It cannot chat and learn here.")
    except torch.OutOfMemoryError:
        return Line("self-test", "out of memory", FAIL, "It does not fit.", "A smaller model.")
    rows, twice = model.microbatch_rows, ", activations twice" if model.checkpointing else ""
    return Line("self-test", f"passed; learns from {rows} replies at a time{twice}")


def report(
    name: str, quantization: str, data: Path, *, deep: bool = False, as_json: bool = False
) -> int:
    """Prints the examination, line by line or as JSON, and returns the exit code."""
    name = name or default_model()
    if is_here(name):
        stay_offline()
    worst, lines = OK, []
    for line in examine(name, quantization, data.resolve(), deep):
        worst = max(worst, line.level)
        lines.append(asdict(line) | {"level": MARKS[line.level].lower()})
        if not as_json:
            print(line, flush=True)
    if as_json:
        print_json({"exit": worst, "lines": lines})
    return worst
