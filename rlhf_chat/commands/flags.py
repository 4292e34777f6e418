"""Flags that several verbs have, and the types of their values."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

Run = Callable[[argparse.Namespace], int]


def add_model(parser: argparse.ArgumentParser) -> None:
    about = "pocket (default), demo, auto, another preset, a folder, a .gguf file, ollama:NAME"
    parser.add_argument("--model", default="", help=f"{about} or a hub id")


def add_quantization(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--quantization", default="nf4", choices=("nf4", "none"))


def add_data(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--data", type=Path, default=Path("."), help="holds feedback.db, adapters/")


def a_port(text: str) -> int:
    return _between(text, 1, 65535, "a port is a number from 1 to 65535")


def a_count(text: str) -> int:
    return _between(text, 1, sys.maxsize, "it takes a number, 1 or more")


def _between(text: str, least: int, most: int, wanted: str) -> int:
    if not text.strip().isdecimal() or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f"{text!r} cannot be used: {wanted}")
    return int(text)


def add_json(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
