"""The command line: `rlhf-chat [VERB] [FLAGS]`. Without a verb the app is served.

To add a verb, write one function that takes a parser, adds the verb's flags and returns what runs
it, and name it in VERBS; the first line of its docstring is its help text. What a verb needs is
imported when it runs: `--help` and `--version` load neither torch nor Gradio.

Exit codes: 0 done, 1 could not be done (the reason is one line on stderr), 2 wrong usage, 130
interrupted. `doctor` has its own, see doctor.py. With `--json`, which every verb has, stdout holds
JSON alone (json_output.py), and what went wrong is an object with `error`.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from rlhf_chat import __version__
from rlhf_chat.commands.chat import chat
from rlhf_chat.commands.export import export
from rlhf_chat.commands.flags import (
    Run,
    a_count,
    a_port,
    add_data,
    add_json,
    add_model,
    add_quantization,
)
from rlhf_chat.commands.rate import rate
from rlhf_chat.commands.token import token
from rlhf_chat.commands.train import train
from rlhf_chat.commands.versions import versions
from rlhf_chat.errors import AppError, failure
from rlhf_chat.json_output import json_alone, print_error, print_json

if TYPE_CHECKING:
    from rlhf_chat.ui import Entry
    from rlhf_chat.ui.restart import NextStart

EXIT_FAILED, EXIT_INTERRUPTED = 1, 130
DEFAULT_VERB = "serve"
GLOBAL_FLAGS = ("-h", "--help", "--version")
LOGS = ("tensorboard", "trackio")
NO_TOKEN = (
    "no token in the address: every account and every program of this machine can then read your "
    "conversations, rate in your name and delete"
)


def serve(parser: argparse.ArgumentParser) -> Run:
    """start the app on 127.0.0.1 (default)"""
    add_model(parser)
    add_quantization(parser)
    add_data(parser)
    parser.add_argument("--port", type=a_port, default=7860)
    parser.add_argument("--ratings-per-round", type=a_count, default=12)
    parser.add_argument(
        "--round-minutes",
        type=a_count,
        default=10,
        help="about how long a round of learning may take with a real model",
    )
    parser.add_argument("--no-train", action="store_true", help="chat and rate, never learn")
    parser.add_argument("--api", action="store_true", help="answer other programs below /v1")
    parser.add_argument(
        "--log-to", choices=LOGS, default="", help="also write the measures of each round for it"
    )
    parser.add_argument("--no-browser", action="store_true", help="do not open the browser")
    parser.add_argument("--window", action="store_true", help="an app window, if Chromium is there")
    parser.add_argument("--no-token", action="store_true", help=NO_TOKEN)
    add_json(parser)

    def run(args: argparse.Namespace) -> int:
        from rlhf_chat.ui import running_app
        from rlhf_chat.ui.restart import NextStart, taken_over

        if entry := running_app.find(args.data):
            return open_running(entry, args)
        token, fallback = taken_over()
        try:
            args.next_start = start(args, token, returns=fallback is not None)
        except Exception as error:
            # Two starts at the same moment: the other one has the port or the folder.
            code = error.code if isinstance(error, AppError) else "unexpected"
            taken = code in ("port.in_use", "db.already_open")
            if taken and (entry := running_app.find(args.data, wait=1.0)):
                return open_running(entry, args)
            if fallback is None:
                raise
            args.next_start = NextStart(fallback, token)
            return _failed(args, str(failure(error) or f"{type(error).__name__}: {error}"), code)
        return 0

    return run


@contextmanager
def ends_in_order() -> Iterator[Callable[[], None]]:
    """Ctrl+C, a polite kill or the end of the terminal closes what is open while the app still
    loads. Once it runs it hears them itself (ui/app.py). The result ends it, too, where a signal
    came and some library's import went on all the same."""
    came: list[int] = []

    def check() -> None:
        if came:
            raise KeyboardInterrupt

    def end(number: int, _: object) -> None:
        came.append(number)
        raise KeyboardInterrupt

    ends = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        ends.append(signal.SIGHUP)
    before = [signal.signal(number, end) for number in ends]
    try:
        yield check
    except Exception:
        if came:  # libraries turn an interrupt of their import into an error of theirs
            raise KeyboardInterrupt from None
        raise
    finally:
        for number, handler in zip(ends, before, strict=True):
            signal.signal(number, handler)


def start(args: argparse.Namespace, token: str = "", *, returns: bool = False) -> NextStart | None:
    """Serves until the end; what to start then, if that was asked for. `token`: of the app that was
    here before, whose page is still open. `returns`: it comes back if this start fails."""
    from rlhf_chat.ui import Entry, LoadingPage, running_app
    from rlhf_chat.ui.restart import NextStart

    entry = Entry(args.port, required=not args.no_token, token=token)
    with ends_in_order() as check, LoadingPage(args.port, entry) as page:
        args.data.mkdir(parents=True, exist_ok=True)
        if args.no_token:
            logging.getLogger(__name__).warning("--no-token: %s", NO_TOKEN)
        with running_app.told(args.data, entry):
            print(f"Starting at {entry.address()}", flush=True)
            _state(args, "starting", entry.address())
            page.returns = returns
            if not token:
                page.show_in_browser(browser=not args.no_browser, window_profile=profile(args))
            from rlhf_chat.serve import serve  # takes seconds, so the page comes first

            check()

            def ready(url: str) -> None:
                check()
                _state(args, "ready", url)

            wanted = serve(
                model_name=args.model,
                quantization=args.quantization,
                data=args.data,
                port=args.port,
                ratings_per_round=args.ratings_per_round,
                round_minutes=args.round_minutes,
                train=not args.no_train,
                page=page,
                api=args.api,
                log_to=args.log_to,
                on_ready=ready,
            )
    return NextStart(wanted, entry.token, fallback=args.model) if wanted else None


def _state(args: argparse.Namespace, state: str, url: str) -> None:
    """A line for programs: where the app is, and its API."""
    if args.json:
        api = f"http://127.0.0.1:{args.port}/v1" if args.api and state == "ready" else None
        print_json({"state": state, "url": url, "api": api})


def open_running(entry: Entry, args: argparse.Namespace) -> int:
    """Shows the app that runs on this data folder already. Raises AppError if nothing may be shown:
    the folder cannot be served twice."""
    from rlhf_chat.ui import window

    print(f"Already running at {entry.address()}", flush=True)
    if args.no_browser and not args.window:
        raise AppError("db.already_open", path=args.data / "feedback.db")
    _state(args, "running", entry.address())
    url = entry.ticket_address()
    window.show(url, browser=not args.no_browser, window_profile=profile(args))
    return 0


def profile(args: argparse.Namespace) -> Path | None:
    """Of the app window, if one is asked for."""
    return args.data / "window" if args.window else None


def doctor(parser: argparse.ArgumentParser) -> Run:
    """check this machine, and say whether a model fits on it"""
    add_model(parser)
    add_quantization(parser)
    add_data(parser)
    add_json(parser)
    parser.add_argument("--deep", action="store_true", help="load and test the model, too")

    def run(args: argparse.Namespace) -> int:
        from rlhf_chat.doctor import report

        return report(args.model, args.quantization, args.data, deep=args.deep, as_json=args.json)

    return run


def models(parser: argparse.ArgumentParser) -> Run:
    """list the presets, and the models that are on this machine"""
    add_json(parser)

    def run(args: argparse.Namespace) -> int:
        from rlhf_chat.model_list import report

        return report(as_json=args.json)

    return run


def pull(parser: argparse.ArgumentParser) -> Run:
    """fetch the model of a preset"""
    parser.add_argument("name", help="a preset, for example pocket")
    add_json(parser)

    def run(args: argparse.Namespace) -> int:
        from rlhf_chat.inference.pull import pull

        pull(args.name, lambda sentence: print(sentence, flush=True))
        if args.json:
            print_json({"name": args.name, "here": True})
        return 0

    return run


def convert(parser: argparse.ArgumentParser) -> Run:
    """read the weights of a pickled model alone, and write them as safetensors"""
    parser.add_argument("folder", type=Path, help="holds pytorch_model.bin")
    parser.add_argument("target", type=Path, help="a folder that does not exist yet")
    add_json(parser)

    def run(args: argparse.Namespace) -> int:
        from rlhf_chat.inference.convert import convert

        convert(args.folder, args.target)
        print(f"Written: {args.target}. Start with --model {args.target}")
        if args.json:
            print_json({"folder": args.target})
        return 0

    return run


def import_(parser: argparse.ArgumentParser) -> Run:
    """read ratings of other tools from a file, and store them"""
    parser.add_argument("file", type=Path, help="JSON, JSON lines, CSV, TSV, .gz, .zip or a folder")
    parser.add_argument(
        "--as", dest="rater", metavar="NAME", default="", help="the rater, where none is named"
    )
    parser.add_argument("--aspect", default="", help="which of several scores, such as helpfulness")
    parser.add_argument("--scale", type=a_count, default=0, help="the best score: 5, 10 or 100")
    parser.add_argument("--dry-run", action="store_true", help="read the file, store nothing")
    add_json(parser)
    add_model(parser)
    add_quantization(parser)
    add_data(parser)

    def run(args: argparse.Namespace) -> int:
        from rlhf_chat import import_file
        from rlhf_chat.importers import Options

        return import_file.run(
            args.file,
            args.data,
            options=Options(args.aspect, args.scale),
            rater=args.rater,
            model_name=args.model,
            quantization=args.quantization,
            dry_run=args.dry_run,
            as_json=args.json,
        )

    return run


VERBS = {
    "serve": serve,
    "chat": chat,
    "rate": rate,
    "train": train,
    "versions": versions,
    "export": export,
    "token": token,
    "import": import_,
    "doctor": doctor,
    "models": models,
    "pull": pull,
    "convert": convert,
}


# ---------------------------------------------------------------------- from arguments to an exit


class JsonParser(argparse.ArgumentParser):
    """Says what is wrong with the usage as JSON, too."""

    def error(self, message: str) -> NoReturn:
        print_error(message, "usage")
        super().error(message)


def parse(argv: list[str] | None = None) -> argparse.Namespace:
    """The arguments; `run` among them is what the verb does. Exits with 2 on wrong usage."""
    argv = sys.argv[1:] if argv is None else argv
    kind = JsonParser if "--json" in argv else argparse.ArgumentParser
    parser = kind(
        prog="rlhf-chat",
        description="Chat with your own model; your ratings train it.",
        epilog=f"Without a verb: {DEFAULT_VERB}. Flags of a verb: rlhf-chat VERB --help",
    )
    parser.add_argument("--version", action="version", version=f"rlhf-chat {__version__}")
    verbs = parser.add_subparsers(dest="verb", metavar="VERB", required=True, parser_class=kind)
    for name, add_verb in VERBS.items():
        about = (add_verb.__doc__ or "").split("\n")[0]
        verb = verbs.add_parser(name, help=about, description=about.capitalize() + ".")
        verb.set_defaults(run=add_verb(verb))
    if not argv or (argv[0].startswith("-") and argv[0] not in GLOBAL_FLAGS):
        argv = [DEFAULT_VERB, *argv]
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    args = parse(argv)
    prepare_process()
    with json_alone(args.json):
        code = _ended(args)
    if next_start := getattr(args, "next_start", None):
        next_start.replace_process()
    return code


def _ended(args: argparse.Namespace) -> int:
    """The exit code; what went wrong has been said."""
    try:
        result: int = args.run(args)
        return result
    except AppError as error:
        return _failed(args, str(error), error.code)
    except BrokenPipeError:  # who reads has seen enough, such as `head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # what is left in the buffer
        return EXIT_FAILED
    except OSError as error:
        folder = getattr(args, "data", None) or error.filename or "it needs"
        told = f"The folder {folder} cannot be used: {error.strerror}."
        return _failed(args, told, "folder")
    except KeyboardInterrupt:
        if args.verb == DEFAULT_VERB:
            return 0
        return _failed(args, "Interrupted.", "interrupted", EXIT_INTERRUPTED)
    except Exception as error:
        if args.json:  # its traceback follows on stderr
            known = failure(error)
            print_error(str(known or f"{type(error).__name__}: {error}"), "unexpected")
        raise


def _failed(args: argparse.Namespace, told: str, code: str, exit: int = EXIT_FAILED) -> int:
    print(told, file=sys.stderr)
    if args.json:
        print_error(told, code)
    return exit


def prepare_process() -> None:
    """Logging, and the switches that other libraries read from the environment at import."""
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
