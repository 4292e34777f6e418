"""Chats whose messages are a tree: the path to a message, and versions that were left."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
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

    def versions(
        self, current: Node, is_reply: Callable[[Node], bool]
    ) -> Iterator[tuple[Node, list[Node]]]:
        """(reply, other versions of it) where the chat went on from one of several. The version
        shown last is none: it is only the newest. A reply may take several messages, with calls of
        tools between them; its last one stands for it."""
        children: dict[Node, list[Node]] = {}
        for node, above in self.parent.items():
            if above:
                children.setdefault(above, []).append(node)
        path = self.path(current)
        for i, node in enumerate(path):
            others = [o for o in children.get(self.parent[node] or "", []) if o != node]
            if others and (kept := self._last_reply(path[i:], is_reply)) and children.get(kept):
                left = [self._last_reply(self._newest(o, children), is_reply) for o in others]
                yield kept, [one for one in left if one]

    def _newest(self, node: Node, children: dict[Node, list[Node]]) -> Iterator[Node]:
        """From `node` down, always to the newest message."""
        yield node
        for _ in self.parent:
            if not children.get(node):
                return
            yield (node := children[node][-1])

    def _last_reply(self, nodes: Iterable[Node], is_reply: Callable[[Node], bool]) -> Node | None:
        """The last message of the assistant before the user writes."""
        found: Node | None = None
        for node in nodes:
            if is_reply(node):
                found = node
            elif self._is_seen(node):
                break
        return found

    def _is_seen(self, node: Node) -> bool:
        try:
            return bool(self.turn(node))
        except UnreadableError:
            return True


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
    for node, others in tree.versions(current, is_reply):
        if not {node, *others} & set(compared):
            try:
                turns, kept = tree.rated(node)
                versions = [tree.rated(other) for other in others]
                left = [reply for asked, reply in versions if asked == turns]
                yield from selected((*system, *turns), kept, left)
            except UnreadableError as error:
                if error.code != "imports.not_text":  # a choice of images is none of replies
                    yield error
