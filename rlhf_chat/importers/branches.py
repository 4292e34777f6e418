"""Chats whose messages are a tree: the path to a message, and versions that were left."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

from rlhf_chat.importers.messages import Turns, selected, split_reply
from rlhf_chat.importers.problems import Outcome, UnreadableError

Node = str


@dataclass(frozen=True)
class Tree:
    """`turn`: what a person sees of one message, nothing for calls of tools and the like."""

    parent: dict[Node, Node | None]
    turn: Callable[[Node], Turns]

    def path(self, node: Node) -> list[Node]:
        """From the root to `node`. Raises UnreadableError where it is missing or in a circle."""
        if node not in self.parent:
            raise UnreadableError("imports.message_missing")
        found: list[Node] = []
        at: Node | None = node
        while at and at in self.parent:
            if len(found) > len(self.parent):
                raise UnreadableError("imports.wrong_shape")
            found.append(at)
            at = self.parent[at]
        return found[::-1]

    def rated(self, node: Node) -> tuple[Turns, str]:
        """What was asked, and the reply up to this message."""
        turns = tuple(turn for one in self.path(node) for turn in self.turn(one))
        return split_reply(turns)

    def selections(
        self, current: Node, is_reply: Callable[[Node], bool]
    ) -> Iterator[tuple[Node, list[Node]]]:
        """(reply, other versions of it) where the chat went on from one of several. The version
        shown last is none: it is only the newest."""
        children: dict[Node, list[Node]] = {}
        for node, above in self.parent.items():
            if above:
                children.setdefault(above, []).append(node)
        for node in self.path(current):
            others = [o for o in children.get(self.parent[node] or "", []) if o != node]
            others = [other for other in others if is_reply(other)]
            if others and is_reply(node) and children.get(node):
                yield node, others


def selections(
    tree: Tree,
    current: Node,
    is_reply: Callable[[Node], bool],
    system: Turns = (),
    compared: Collection[Node] = (),
) -> Iterator[Outcome]:
    """A weak preference for each reply from which the chat went on, over its other versions that
    answer the same; not where one was `compared` in words."""
    if current not in tree.parent:
        return
    for node, others in tree.selections(current, is_reply):
        if not {node, *others} & set(compared):
            try:
                turns, kept = tree.rated(node)
                versions = [tree.rated(other) for other in others]
                left = [reply for asked, reply in versions if asked == turns]
                yield from selected((*system, *turns), kept, left)
            except UnreadableError as error:
                if error.code != "imports.not_text":  # a choice of images is none of replies
                    yield error
