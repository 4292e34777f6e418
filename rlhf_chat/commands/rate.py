"""`rlhf-chat rate`: rates a reply from the terminal."""

from __future__ import annotations

import argparse

from rlhf_chat.commands.flags import Run, add_data, add_json
from rlhf_chat.json_output import print_json

LAST, THUMBS = "last", ("up", "down")


def rate(parser: argparse.ArgumentParser) -> Run:
    """rate the last reply, or one by its id: rate last up"""
    parser.add_argument("reply", nargs="?", choices=(LAST, *THUMBS), metavar="last")
    parser.add_argument("thumb", nargs="?", choices=THUMBS, metavar="up|down")
    parser.add_argument("--stars", type=int, choices=range(1, 6), help="1 to 5 instead of a thumb")
    parser.add_argument("--id", default="", help="the id of a reply, instead of `last`")
    parser.add_argument("--note", default="", help="why, kept beside the thumb")
    add_data(parser)
    add_json(parser)

    def run(args: argparse.Namespace) -> int:
        thumb = args.reply if args.reply in THUMBS and not args.thumb else args.thumb or ""
        if bool(thumb) == bool(args.stars):
            parser.error("give a thumb, up or down, or --stars")
        if not args.id and args.reply != LAST:
            parser.error("say which reply: last, or --id ID")
        from rlhf_chat.session import open_session

        reply = args.id or LAST
        with open_session(args.data, make=False) as session:
            made = session.rate(reply, thumb, stars=args.stars, note=args.note)
        if args.json:
            print_json({"id": made, "reply": reply, "thumb": thumb, "stars": args.stars})
        else:
            print("Saved.")
        return 0

    return run
