"""Exports that a running app makes: one at a time, on a thread of its own, between replies."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from rlhf_chat.errors import AppError, Notice, Refused, failure
from rlhf_chat.version_export.exporter import Exported, Exporter, OnProgress, Request
from rlhf_chat.versions.registry import VersionRegistry

log = logging.getLogger(__name__)

Run = Callable[[Request, OnProgress], Exported]
PHASES = {
    "reading": "export.phase_reading",
    "merging": "export.phase_merging",
    "writing": "export.phase_writing",
    "measuring": "export.phase_measuring",
}


class BackgroundExport:
    """What it is doing, or how the last export ended, is in `told`."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self.told: Notice | None = None

    @property
    def running(self) -> bool:
        return self._thread is not None and self._thread.is_alive()

    def begin(self, request: Request) -> Notice:
        """Begins one; refused while another runs."""
        with self._lock:
            if self.running:
                return Refused("export.already_running")
            self.told = Notice("export.begins", {"version": int(request.version)})
            self._thread = threading.Thread(
                target=self._work, args=[request], name="export", daemon=True
            )
            self._thread.start()
        return self.told

    def wait(self, seconds: float | None = None) -> None:
        """Until it has ended, or for so long."""
        if self._thread:
            self._thread.join(seconds)

    def _work(self, request: Request) -> None:
        version = int(request.version)

        def tell(phase: str, share: float) -> None:
            step = Notice(PHASES[phase])
            self.told = Notice("export.runs", {"version": version, "step": step, "share": share})

        try:
            made = self._run(request, tell)
            self.told = Notice("export.done", {"version": version, "folder": str(made.folder)})
        except AppError as error:
            self.told = Refused(error.code, error.params)
        except Exception as error:
            log.exception("the export failed")
            told = failure(error) or Notice("common.unexpected", {"error": type(error).__name__})
            self.told = Refused(told.code, told.params)


def of_app(versions: VersionRegistry) -> Run:
    """With the model of the app, whose lease lets replies go first."""

    def run(request: Request, tell: OnProgress) -> Exported:
        store, model = versions.store, versions.model
        data, turn = store.path.parent, model.lease.slice
        return Exporter(store, versions.adapter_store, data, tell, model=model, turn=turn).run(
            request
        )

    return run
