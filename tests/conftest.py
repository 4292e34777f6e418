"""Fixtures that every folder shares: tiny models, an empty database, and where files are kept.

A test process uses one thread for arithmetic, because `make test` starts one process per core.
Temporary files are kept in memory where there is room, because the database waits for the disk at
every commit. What is killed on purpose takes `disk_path`, a folder on a real disk.
"""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

DISK = os.environ.setdefault("TEST_DISK", tempfile.gettempdir())
MEMORY = Path("/dev/shm")
MEMORY_NEEDED = 2 << 30  # bytes; a container often has 64 MiB there, which is too little


def _keep_files_in_memory() -> None:
    """Also those of child processes and of Chromium; a `TMPDIR` of one's own is respected, which
    the processes of pytest-xdist have from the first one. pytest keeps what failed, the rest goes.
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK):
        return
    if shutil.disk_usage(MEMORY).free >= MEMORY_NEEDED:
        folder = tempfile.mkdtemp(prefix="rlhf-chat-tests-", dir=MEMORY)
        os.chmod(folder, 0o755)  # some tests open files as another user
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        os.environ["TMPDIR"] = tempfile.tempdir = folder
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


# Before anything heavy is imported: some libraries read these once.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
_keep_files_in_memory()

import gc
import logging
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest
import torch

from rlhf_chat.db import Store
from rlhf_chat.db.database_file import connect
from rlhf_chat.db.row_checksums import is_whole
from rlhf_chat.inference.generate import Sampling
from rlhf_chat.inference.model import Model
from tests.families import make_family
from tests.tiny_models import make_toy

# ruff: noqa: E402 -- the environment comes first

torch.set_num_threads(1)
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def pytest_collection_finish() -> None:
    """Every round ends with a `gc.collect()`, which takes 0.2 s with all that was imported here."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def toy_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_toy(tmp_path_factory.mktemp("toy"))


@pytest.fixture(scope="session")
def _toy(toy_folder: Path) -> Model:
    return Model.load(str(toy_folder), quantization="none")


@pytest.fixture(scope="session")
def _toy_nf4(toy_folder: Path) -> Model:
    return Model.load(str(toy_folder), quantization="nf4")


@pytest.fixture
def toy(_toy: Model) -> Model:
    """The unquantised toy, with a fresh adapter and the base being served."""
    return _fresh(_toy)


@pytest.fixture
def toy_nf4(_toy_nf4: Model) -> Model:
    return _fresh(_toy_nf4)


def _fresh(model: Model) -> Model:
    """As just loaded: the tests of a session share it, and some leave gradients behind, or a reply
    that was not read to its end: training would wait 5 s for it before each of its steps."""
    if model.lease.chat_is_waiting:
        gc.collect()
    model.set_policy(model.base_state())
    for param in model.policy_parameters():
        param.grad = None
    model.serve(model.reference)
    model.sampling = Sampling()
    # a test of memory that was short leaves small batches: slow ones for all that follow
    model.microbatch_rows, model.rows_per_batch, model.checkpointing = 8, 64, False
    return model


@pytest.fixture(scope="session")
def family_folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """family_folder(name) -> the folder of that tiny model, made once. Not to be written into."""
    made: dict[str, Path] = {}

    def one(name: str) -> Path:
        if name not in made:
            made[name] = make_family(name, tmp_path_factory.mktemp("family"))
        return made[name]

    return one


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    opened = Store(tmp_path / "feedback.db")
    yield opened
    opened.close()
    if opened.path.exists():  # whatever was written has its checksum
        with closing(connect(opened.path, "ro")) as db:
            assert is_whole(db)


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """An empty folder on a real disk, as the app has it."""
    with tempfile.TemporaryDirectory(dir=DISK) as folder:
        yield Path(folder)


@pytest.fixture
def mounted(tmp_path):
    """A file system of its own, which a test may make read-only as a whole."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", str(folder)]
    made = shutil.which("mount") and subprocess.run(mount, capture_output=True, text=True)
    if not made or made.returncode:
        why = made.stderr.strip() if made else "there is no mount"
        pytest.skip(f"a file system can only be mounted by root where that is allowed: {why}")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=True)
