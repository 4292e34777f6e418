"""`rlhf-chat token`: the token of the API, alone on a line, for a script to read."""

from __future__ import annotations

import argparse

from rlhf_chat.commands.flags import Run, add_data, add_json
from rlhf_chat.json_output import print_json


def token(parser: argparse.ArgumentParser) -> Run:
    """print the token of the API, made once"""
    add_data(parser)
    add_json(parser)
    parser.add_argument("--new", action="store_true", help="another one; the old one is refused")

    def run(args: argparse.Namespace) -> int:
        from rlhf_chat.api.token import make

        made = make(args.data, new=args.new)
        if args.json:
            print_json({"token": made})
        else:
            print(made)
        return 0

    return run
