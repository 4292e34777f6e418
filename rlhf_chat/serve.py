"""Starts the app: opens the database, loads the model, tests the facts that training rests on,
starts the training worker and then the screens."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import torch
from huggingface_hub import is_offline_mode

from rlhf_chat import doctor
from rlhf_chat.api import running
from rlhf_chat.api.server import ApiServer
from rlhf_chat.chat.chat import Chat
from rlhf_chat.chat.compare import Compare
from rlhf_chat.chat.raters import Raters
from rlhf_chat.db import Store, make_private
from rlhf_chat.inference import loading, memory, presets, pull
from rlhf_chat.inference.calibration import calibrate
from rlhf_chat.inference.model import Model, ModelError
from rlhf_chat.inference.self_test import self_test
from rlhf_chat.training.event_log import event_log
from rlhf_chat.training.worker import TrainingWorker
from rlhf_chat.ui import LoadingPage, launch, running_app
from rlhf_chat.ui.restart import POSSIBLE, Restart
from rlhf_chat.versions.adapter_store import AdapterStore


def serve(
    *,
    model_name: str,
    quantization: str,
    data: Path,
    port: int,
    ratings_per_round: int,
    round_minutes: float,
    train: bool,
    page: LoadingPage,
    api: bool = False,
    log_to: str = "",
    on_ready: Callable[[str], None] = lambda url: None,
) -> str:
    """Builds everything and stays until Ctrl+C, or until another model is asked for, whose name is
    then the result. `page` is on the port until the app is. Raises PortError, StoreError,
    ModelError or OSError if the app cannot start; each message is a sentence. `api`: answer below
    /v1. `log_to`: of event_log.KINDS. `on_ready` gets the address."""
    data = data.resolve()
    make_private(data)
    log = event_log(log_to, data) if log_to else None
    store = Store(data / "feedback.db", scratch=True)
    worker = served = None
    restart = Restart() if POSSIBLE else None
    try:
        running_app.tell(data, page.entry)  # again, as the folder is now surely ours
        running.remove(data)  # left by a killed app: the port in it may be another program's now
        model = load_model(model_name, quantization, page.step)
        os.umask(0o077)  # not before: a downloaded model may be for every account
        page.step("versions")
        adapters = AdapterStore(data / "adapters")
        worker = TrainingWorker(
            store,
            model,
            adapters,
            needed=ratings_per_round,
            round_minutes=round_minutes,
            open_log=log,
        )
        worker.start(learn=train)
        chat, compare = _conversations(store, model, worker)
        served = ApiServer(chat, worker, data, port) if api else None
        page.step("opening")
        launch(
            *(chat, compare, Raters(store, worker.scorer), worker),
            port=port,
            entry=page.entry,
            data_dir=data,
            free_port=page.close,
            api=served and served.app,
            on_ready=on_ready,
            restart=restart,
        )
        return restart.model if restart else ""
    finally:
        if served:
            served.close()
        if worker:
            worker.close()
        store.close()


def _conversations(store: Store, model: Model, worker: TrainingWorker) -> tuple[Chat, Compare]:
    """Chat and Compare, with what the last start left undone finished."""
    chat = Chat(store, model, load_view=worker.versions.view, scorer=worker.scorer)
    chat.deletion.finish()
    compare = Compare(chat)
    compare.forget_unanswered()
    return chat, compare


def load_model(model_name: str, quantization: str, report: loading.Report) -> Model:
    """The model, tested and calibrated; no request leaves the machine afterwards. `report` is told
    each step (loading.py), then `self_test` and `speed`."""
    name, plan = choose_model(model_name, quantization, report)
    print(f"Loading {name} ...", flush=True)
    model = Model.load(name, quantization=quantization, report=report)
    loading.stay_offline()  # what had to be downloaded is here now
    if plan:
        model.set_limits(plan.load.rollouts, plan.load.context, plan.tokens_at_once)
    report("self_test")
    self_test(model)
    report("speed")
    calibrate(model)
    model.release_freed()
    return model


def choose_model(
    model_name: str, quantization: str, report: loading.Report = loading.no_report
) -> tuple[str, doctor.Preflight | None]:
    """The model's hub id or folder, and how it will be run. Raises ModelError, with a proposal, if
    it does not fit: before anything is downloaded or loaded."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if idle := doctor.idle_card():
        print(idle, flush=True)
    model_name = model_name or _pocket_or_demo(report)
    if model_name == "auto":
        free = memory.free(device) if device.type == "cuda" else None
        name, why = presets.choose(free, quantization)
        print(why, flush=True)
    else:
        name = presets.hub_id(model_name)
    if doctor.is_here(name):
        loading.stay_offline()
    plan = doctor.check_fits(name, quantization, device)
    if plan and device.type == "cuda":
        print(plan.sentence, flush=True)
    return name, plan


def _pocket_or_demo(report: loading.Report) -> str:
    """The pocket model, fetched once if it is not here; the bundled one where it cannot be had."""
    if not pull.is_here(presets.POCKET.name) and not is_offline_mode():
        print("The pocket model is not on this machine yet. It is fetched once.", flush=True)
        report("fetching")
        try:
            pull.pull(presets.POCKET.name, lambda sentence: print(sentence, flush=True))
        except ModelError as error:
            print(error, flush=True)
    name = doctor.default_model()
    if name == "demo":
        print("Starting with the bundled demo model.", flush=True)
    return name
