"""`rlhf-chat chat`: one reply to a prompt, or a conversation line by line, in the terminal."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rlhf_chat.commands.flags import (
    Run,
    a_count,
    add_data,
    add_json,
    add_model,
    add_quantization,
)
from rlhf_chat.json_output import print_json

if TYPE_CHECKING:
    from rlhf_chat.session import Session

PROMPT = "> "


def chat(parser: argparse.ArgumentParser) -> Run:
    """chat in the terminal; with a prompt, or one on stdin, one reply"""
    parser.add_argument("prompt", nargs="?", default="")
    parser.add_argument(
        "--version", default="live", help="the one that answers: live, base, v3, ..."
    )
    parser.add_argument("--system", default="", help="the system prompt")
    parser.add_argument("--temperature", type=float)
    parser.add_argument("--seed", type=int)
    parser.add_argument("--max-tokens", type=a_count)
    parser.add_argument("--no-keep", action="store_true", help="store nothing")
    add_model(parser)
    add_quantization(parser)
    add_data(parser)
    add_json(parser)

    def run(args: argparse.Namespace) -> int:
        from rlhf_chat.session import open_session

        single = args.prompt or not sys.stdin.isatty()
        prompts = iter([args.prompt or sys.stdin.read()]) if single else _typed()
        with open_session(args.data, args.model, args.quantization) as session:
            _talk(session, prompts, args)
        return 0

    return run


def _typed() -> Iterator[str]:
    """Lines, until the end of the input."""
    while True:
        try:
            line = input(PROMPT)
        except EOFError:
            print()
            return
        if line.strip():
            yield line


def _talk(session: Session, prompts: Iterator[str], args: argparse.Namespace) -> None:
    turns: list[dict[str, str]] = []
    if args.system:
        turns.append({"role": "system", "content": args.system})
    for prompt in prompts:
        turns.append({"role": "user", "content": prompt})
        reply = session.reply(
            turns,
            version=args.version,
            on_text=None if args.json else _write,
            **_options(args),
        )
        turns.append({"role": "assistant", "content": reply.text})
        if args.json:
            print_json(asdict(reply))
        else:
            print(flush=True)


def _options(args: argparse.Namespace) -> dict[str, Any]:
    return {
        "temperature": args.temperature,
        "seed": args.seed,
        "max_tokens": args.max_tokens,
        "store": not args.no_keep,
    }


def _write(text: str) -> None:
    print(text, end="", flush=True)
