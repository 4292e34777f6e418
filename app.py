"""Start here: flags -> objects -> a window on 127.0.0.1.

Opens the database, loads the model, tests the facts that learning rests on, starts the trainer's
thread and then the screens. Every refusal is one sentence on stderr and a non-zero exit code.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rlhf_chat.doctor import Preflight

EXIT_CANNOT_START = 1


def a_port(text: str) -> int:
    return _between(text, 1, 65535, "a port is a number from 1 to 65535")


def a_count(text: str) -> int:
    return _between(text, 1, sys.maxsize, "it takes a number, 1 or more")


def _between(text: str, least: int, most: int, wanted: str) -> int:
    if not text.strip().isdecimal() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used: {wanted}")
    return int(text)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Chat with your own model; your ratings train it.")
    parser.add_argument(
        "--model", default="demo", help="demo, auto, a preset, a folder or a hub id"
    )
    parser.add_argument("--quantization", default="nf4", choices=("nf4", "none"))
    parser.add_argument("--data", type=Path, default=Path("."), help="holds feedback.db, adapters/")
    parser.add_argument("--port", type=a_port, default=7860)
    parser.add_argument("--ratings-per-round", type=a_count, default=12)
    parser.add_argument("--no-train", action="store_true", help="chat and rate, never learn")
    parser.add_argument("--no-browser", action="store_true", help="do not open the browser")
    parser.add_argument("--window", action="store_true", help="an app window, if Chromium is there")
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")

    from rlhf_chat.db import StoreError
    from rlhf_chat.inference.model import ModelError
    from rlhf_chat.ui import PortError

    try:
        return serve(args)
    except (ModelError, StoreError, PortError) as error:
        print(error, file=sys.stderr)
    except OSError as error:
        print(f"The folder {args.data} cannot be used: {error.strerror}.", file=sys.stderr)
    except KeyboardInterrupt:
        return 0
    return EXIT_CANNOT_START


def serve(args: argparse.Namespace) -> int:
    """Builds everything and stays until Ctrl+C. Raises what `main` turns into a sentence."""
    from rlhf_chat.chat.chat import Chat
    from rlhf_chat.chat.compare import Compare
    from rlhf_chat.chat.raters import Raters
    from rlhf_chat.db import Store
    from rlhf_chat.inference.calibration import calibrate
    from rlhf_chat.inference.loading import stay_offline
    from rlhf_chat.inference.model import Model
    from rlhf_chat.inference.self_test import self_test
    from rlhf_chat.training.worker import TrainingWorker
    from rlhf_chat.ui import check_port, launch
    from rlhf_chat.versions.adapter_store import AdapterStore

    check_port(args.port)
    data = args.data.resolve()
    data.mkdir(parents=True, exist_ok=True)
    store = Store(data / "feedback.db")
    worker = None
    try:
        name, plan = choose_model(args)
        print(f"Loading {name} ...", flush=True)
        model = Model.load(name, quantization=args.quantization)
        stay_offline()  # what was to be downloaded is here now
        if plan:
            model.set_limits(plan.load.rollouts, plan.load.context, plan.tokens_at_once)
        self_test(model)
        calibrate(model)
        worker = TrainingWorker(
            store, model, AdapterStore(data / "adapters"), needed=args.ratings_per_round
        )
        worker.start(learn=not args.no_train)
        chat = Chat(store, model, load_view=worker.versions.view, scorer=worker.scorer)
        compare = Compare(chat)
        compare.forget_unanswered()
        launch(
            chat,
            compare,
            Raters(store, worker.scorer),
            worker,
            port=args.port,
            open_browser=not args.no_browser,
            window=args.window,
            data_dir=data,
        )
    finally:
        if worker:
            worker.close()
        store.close()
    return 0


def choose_model(args: argparse.Namespace) -> tuple[str, Preflight | None]:
    """The model's name, and how it will be run. Raises ModelError, with a proposal, if it would not
    fit: before anything is downloaded or loaded."""
    import torch

    from rlhf_chat import doctor
    from rlhf_chat.inference import loading, memory, presets

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if idle := doctor.idle_card():
        print(idle, flush=True)
    if args.model == "auto":
        free = memory.free(device) if device.type == "cuda" else None
        name, why = presets.choose(free, args.quantization)
        print(why, flush=True)
    else:
        name = presets.hub_id(args.model)
    if doctor.is_here(name):
        loading.stay_offline()
    plan = doctor.check_fits(name, args.quantization, device)
    if plan and device.type == "cuda":
        print(plan.sentence, flush=True)
    return name, plan


if __name__ == "__main__":
    sys.exit(main())
