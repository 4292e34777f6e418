"""`rlhf-chat export`: the ratings as JSON lines on stdout, or a version as files for other
programs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rlhf_chat.commands.flags import Run, add_data, add_json
from rlhf_chat.json_output import print_json

# As in version_export, which loads torch.
FORMS, TYPES, BASES = ("peft", "merged", "gguf"), ("f16", "q8_0", "q4_0"), ("trained", "original")


def export(parser: argparse.ArgumentParser) -> Run:
    """write every rating as JSON lines; with --to, a version for other programs"""
    parser.add_argument("version", nargs="?", default="", help="a number, v3, live or its name")
    parser.add_argument("--to", choices=FORMS, help="PEFT adapter, merged model or GGUF files")
    parser.add_argument("--type", choices=TYPES, default="f16", help="of the GGUF file")
    parser.add_argument("--base", choices=BASES, default="", help="what the adapter is merged into")
    parser.add_argument("--out", type=Path, help="a new folder; default: in exports/ of the data")
    parser.add_argument("--force", action="store_true", help="replace an earlier export there")
    parser.add_argument(
        "--no-measure", action="store_true", help="skip the comparison with what is served"
    )
    parser.add_argument("--model", default="", help="where the base is now, if it was moved")
    parser.add_argument("--pairs", action="store_true", help="ratings: prompt, chosen, rejected")
    add_data(parser)
    add_json(parser)

    def run(args: argparse.Namespace) -> int:
        if args.version and not args.to:
            parser.error("say what for: --to peft, merged or gguf")
        if args.to and args.pairs:
            parser.error("--pairs is for ratings")
        return _version(args) if args.to else _ratings(args)

    return run


def _ratings(args: argparse.Namespace) -> int:
    from rlhf_chat.session import open_session

    with open_session(args.data, make=False) as session:
        rows = session.export(pairs=args.pairs)
    if args.json:  # one list, where lines are not wanted
        print_json(rows)
    else:
        for row in rows:
            print_json(row)
    return 0


def _version(args: argparse.Namespace) -> int:
    from rlhf_chat.session import export_version

    made = export_version(
        args.data,
        args.version or "live",
        to=args.to,
        type=args.type,
        base=args.base,
        out=args.out,
        force=args.force,
        measure=not args.no_measure,
        model=args.model,
        on_progress=Progress(),
    )
    if args.json:
        print_json(made)
        return 0
    print(f"Written: {made['folder']}")
    for name, size in made["files"].items():
        print(f"  {size / 1e6:10.1f} MB  {name}")
    if gap := made["gap"]:
        print(_told(gap))
    return 0


def _told(gap: dict[str, Any]) -> str:
    return (
        f"Against what the app serves: KL {gap['kl']:.4f} nats per token, next token the same "
        f"{gap['same_next']:.1%}, loss on a page {gap['loss_served']:.3f} -> "
        f"{gap['loss_exported']:.3f}."
    )


class Progress:
    """A line on stderr whenever the phase or its quarters change."""

    def __init__(self) -> None:
        self._last = ""

    def __call__(self, phase: str, share: float) -> None:
        line = f"{phase} {int(4 * share) * 25}%"
        if line != self._last:
            print(line, file=sys.stderr, flush=True)
        self._last = line
