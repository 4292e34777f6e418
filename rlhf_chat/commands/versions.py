"""`rlhf-chat versions`: lists the versions and chooses the live one."""

from __future__ import annotations

import argparse
from typing import Any

from rlhf_chat.commands.flags import Run, add_data, add_json
from rlhf_chat.json_output import print_json


def versions(parser: argparse.ArgumentParser) -> Run:
    """list the versions, or make one live"""
    parser.add_argument("--live", metavar="N", default="", help="serve this one: a number or name")
    add_data(parser)
    add_json(parser)

    def run(args: argparse.Namespace) -> int:
        from rlhf_chat.session import open_session

        with open_session(args.data, make=False) as session:
            wanted = int(args.live) if args.live.isascii() and args.live.isdecimal() else args.live
            found = session.versions() if wanted == "" else session.make_live(wanted)
        if args.json:
            print_json(found)
        else:
            for one in found:
                print(_line(one))
        return 0

    return run


def _line(version: dict[str, Any]) -> str:
    mark = "*" if version["live"] else " "
    made = str(version["created_at"])[:16].replace("T", " ")
    return f"{mark} {version['id']:<6} {version['tier']:<12} {made}  {version['name']}".rstrip()
