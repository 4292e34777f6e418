"""`rlhf-chat export`: the ratings as JSON lines on stdout."""

from __future__ import annotations

import argparse

from rlhf_chat.commands.flags import Run, add_data, add_json, print_json


def export(parser: argparse.ArgumentParser) -> Run:
    """write every rating as JSON lines, or preference pairs for TRL"""
    parser.add_argument("--pairs", action="store_true", help="prompt, chosen, rejected")
    add_data(parser)
    add_json(parser)

    def run(args: argparse.Namespace) -> int:
        from rlhf_chat.session import open_session

        with open_session(args.data, make=False) as session:
            rows = session.export(pairs=args.pairs)
        if args.json:  # one list, where lines are not wanted
            print_json(rows)
        else:
            for row in rows:
                print_json(row)
        return 0

    return run
