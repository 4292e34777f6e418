"""A small rating file of every format that is imported, made up, with what it says.

Each answer is told as (kind, answer, the last message of the prompt, replies).
"""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from typing import Any

from rlhf_chat.importers import Options

SEA, BLUE, DEEP, WIDE = "Tell me about the sea", "It is blue.", "It is deep.", "It is wide."
HELLO, WELL = "Hello", "I am well."

Answer = tuple[str, Any, str, tuple[str, ...]]
DEFAULT = Options()


@dataclass(frozen=True)
class Sample:
    name: str  # of the file
    data: bytes
    says: tuple[Answer, ...]
    options: Options = DEFAULT


def lines(*entries: object) -> bytes:
    return "".join(json.dumps(one, ensure_ascii=False) + "\n" for one in entries).encode()


def listed(*entries: object) -> bytes:
    return json.dumps(entries, ensure_ascii=False, indent=2).encode()


def zipped(**files: object) -> bytes:
    """A .zip of JSON files by name, their dots written as two underscores."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, value in files.items():
            archive.writestr(name.replace("__", "."), json.dumps(value))
    return data.getvalue()


def user(words: object) -> dict[str, Any]:
    return {"role": "user", "content": words}


def assistant(words: object, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": words, **more}


def human(words: str) -> dict[str, str]:
    return {"from": "human", "value": words}


def gpt(words: str) -> dict[str, str]:
    return {"from": "gpt", "value": words}


PREFERS = ("comparison", "a", SEA, (BLUE, DEEP))
LIKES, DISLIKES = ("thumb", 1, SEA, (BLUE,)), ("thumb", -1, SEA, (DEEP,))


def stars(count: int, reply: str = BLUE) -> Answer:
    return ("stars", count, SEA, (reply,))


def ranking(*places: int) -> Answer:
    return ("ranking", places, SEA, (BLUE, DEEP, WIDE))


CALL = {"type": "function", "function": {"name": "look", "arguments": {"at": "sea"}}}
MARKED = f"\n\nHuman: {HELLO}\n\nAssistant: {WELL}\n\nHuman: {SEA}\n\nAssistant:"


def tree_message(text: str, role: str = "assistant", *replies: dict, **more: Any) -> dict:
    return {"message_id": text, "text": text, "role": role, "replies": list(replies), **more}


TREE = {
    "message_tree_id": "t",
    "tree_state": "ready_for_export",
    "prompt": tree_message(
        SEA,
        "prompter",
        tree_message(DEEP, rank=1, emojis={"+1": 1, "-1": 3}),
        tree_message(
            BLUE,
            "assistant",
            tree_message(
                "And?", "prompter", tree_message(WIDE, labels={"quality": {"value": 0.8}})
            ),
            rank=0,
            emojis={"+1": 2, "_skip_reply": 4},
        ),
        tree_message("gone", rank=2, deleted=True),
    ),
}
FLAT: list[dict] = [
    {"message_id": "1", "parent_id": None, "text": SEA, "role": "prompter"},
    {"message_id": "2", "parent_id": "1", "text": BLUE, "role": "assistant", "rank": 0.0},
    {"message_id": "3", "parent_id": "1", "text": DEEP, "role": "assistant", "rank": 1.0}
    | {"emojis": {"name": ["+1", "-1"], "count": [0, 2]}},
]


def gpt_node(id: str, parent: str | None, role: str, *parts: object, **message: Any) -> dict:
    content = {"content_type": "text", "parts": list(parts)}
    told = {"id": id, "author": {"role": role}, "content": content, "recipient": "all"} | message
    return {"id": id, "parent": parent, "message": told}


CHATGPT = {
    "title": "x",
    "conversation_id": "c",
    "current_node": "n6",
    "mapping": {
        "root": {"id": "root", "parent": None, "message": None},
        "n0": gpt_node("n0", "root", "system", ""),
        "n1": gpt_node("n1", "n0", "user", SEA),
        "call": gpt_node("call", "n1", "assistant", "look()", recipient="browser"),
        "n2": gpt_node("n2", "call", "assistant", BLUE),
        "n3": gpt_node("n3", "n1", "assistant", DEEP),
        "n4": gpt_node("n4", "n3", "user", "And?"),
        "n5": gpt_node("n5", "n4", "assistant", WIDE),
        "n6": gpt_node("n6", "n5", "user", "Thanks"),
        "n7": gpt_node("n7", "n4", "assistant", "Big."),
    },
}
GPT_FEEDBACK = {"id": "n2", "conversation_id": "c", "rating": "thumbs_up"} | {
    "content": json.dumps({"tags": ["not-helpful"], "text": "so blue"})
}
GPT_COMPARISON = {
    "input": {"conversation_id": "c"},
    "output": {
        "feedback_step_2": {
            "original_turn": [gpt_node("n2", None, "assistant", BLUE)["message"]],
            "new_turn": [gpt_node("n3", None, "assistant", DEEP)["message"]],
            "completion_comparison_rating": "new",
        }
    },
}


def claude_message(id: str, parent: str, sender: str, text: str, **more: Any) -> dict:
    content = [{"type": "thinking", "thinking": "hm"}, {"type": "text", "text": text}]
    told = {"uuid": id, "parent_message_uuid": parent, "sender": sender, "text": ""}
    return told | {"content": content, **more}


CLAUDE = {
    "uuid": "c",
    "name": "x",
    "chat_messages": [
        claude_message("1", "00000000-0000-4000-8000-000000000000", "human", SEA),
        claude_message("2", "1", "assistant", DEEP, chat_feedback={"type": "downvote"}),
        claude_message("3", "1", "assistant", BLUE, chat_feedback={"type": "upvote"}),
        claude_message("4", "3", "human", "And?"),
        claude_message("5", "4", "assistant", WIDE),
    ],
}

THOUGHT = (
    '<details type="reasoning" done="true" duration="2">\n<summary>Hm</summary>\nhm\n</details>\n'
)
WEBUI = {
    "id": "c",
    "chat": {
        "params": {"system": "be brief"},
        "history": {
            "currentId": "m5",
            "messages": {
                "m1": {"id": "m1", "parentId": None, **user(SEA)},
                "m2": {"id": "m2", "parentId": "m1", **assistant(THOUGHT + BLUE)}
                | {"annotation": {"rating": 1, "details": {"rating": 8}, "reason": "is_clear"}},
                "m3": {"id": "m3", "parentId": "m1", **assistant(DEEP)},
                "m4": {"id": "m4", "parentId": "m2", **user("And?")},
                "m5": {"id": "m5", "parentId": "m4", **assistant(WIDE)},
            },
        },
    },
}


def webui_feedback(user_id: str, message: str, rating: int) -> dict:
    told = {"data": {"rating": rating}, "meta": {"message_id": message}, "user_id": user_id}
    return told | {"snapshot": {"chat": WEBUI}}


HELPSTEER: dict[str, Any] = {
    "prompt": SEA,
    "response": BLUE,
    "helpfulness": 3,
    "correctness": 0,
    "verbosity": 4,
}
COMPLETIONS = [
    {"response": text, "overall_score": score, "annotations": {"honesty": {"Rating": rating}}}
    for text, score, rating in ((BLUE, 8.5, "2"), (DEEP, 6, "5"), (WIDE, 6, "N/A"))
]
SAFE: dict[str, Any] = {"prompt": SEA, "response_0": BLUE, "response_1": DEEP}
SAFE |= {"better_response_id": 0, "safer_response_id": 1}


def duel(winner: str, **more: Any) -> dict:
    told = {"winner": winner, "judge": "arena_user_7", "tstamp": 1_700_000_000.5}
    told["conversation_a"] = [user(SEA), assistant(BLUE)]
    told["conversation_b"] = [user([{"type": "text", "text": SEA}]), assistant(DEEP)]
    return told | more


PRISM = {
    "conversation_id": "c7",
    "user_id": "user7",
    "conversation_history": [
        {"turn": 0, "role": "user", "content": SEA},
        {"turn": 0, "role": "model", "content": BLUE, "score": 90, "if_chosen": True},
        {"turn": 0, "role": "model", "content": DEEP, "score": 12, "if_chosen": False},
        {"turn": 0, "role": "model", "content": WIDE, "score": 12, "if_chosen": False},
        {"turn": 1, "role": "user", "content": "And?"},
        {"turn": 1, "role": "model", "content": DEEP, "score": 3, "if_chosen": False},
        {"turn": 1, "role": "model", "content": WIDE, "score": 77, "if_chosen": True},
    ],
}
FIELDS = {"prompt": SEA, "response-1": BLUE, "response-2": DEEP, "response-3": WIDE}
RANKS = [("response-2", 2), ("response-1", 1), ("response-3", 2)]
ORDER = [{"value": name, "rank": rank} for name, rank in RANKS]

OWN = {
    "kind": "ranking",
    "answer": "ranked",
    "prompt": SEA,
    "reply": BLUE,
    "before": [{"role": "system", "content": "be brief"}],
    "order": [{"place": i, "reply": r} for i, r in enumerate((BLUE, DEEP, WIDE))],
}

SAMPLES: dict[str, Sample] = {
    "own export": Sample("own.jsonl", lines(OWN), (ranking(0, 1, 2),)),
    "TRL pairs, text": Sample(
        "trl.jsonl", lines({"prompt": SEA, "chosen": BLUE, "rejected": DEEP}), (PREFERS,)
    ),
    "TRL pairs, a table": Sample(
        "trl.csv", f'prompt,chosen,rejected\r\n"{SEA}",{BLUE},{DEEP}\r\n'.encode(), (PREFERS,)
    ),
    "TRL pairs, tabs": Sample(
        "trl.tsv", f"prompt\tchosen\trejected\n{SEA}\t{BLUE}\t{DEEP}\n".encode(), (PREFERS,)
    ),
    "TRL pairs, tools": Sample(
        "tools.jsonl",
        lines(
            {
                "prompt": [user(SEA)],
                "chosen": [
                    assistant(None, tool_calls=[CALL]),
                    {"role": "tool", "name": "look", "content": "blue"},
                    assistant("<think>look</think>" + BLUE),
                ],
                "rejected": [assistant([{"type": "text", "text": DEEP}])],
                "tools": [CALL],
            }
        ),
        (PREFERS,),
    ),
    "LLaMA-Factory pairs": Sample(
        "dpo.json",
        listed({"conversations": [human(SEA)], "chosen": gpt(BLUE), "rejected": gpt(DEEP)}),
        (PREFERS,),
    ),
    "LLaMA-Factory pairs, Alpaca": Sample(
        "dpo_alpaca.json",
        listed({"instruction": "Tell me", "input": "about", "chosen": BLUE, "rejected": DEEP}),
        (("comparison", "a", "Tell me\nabout", (BLUE, DEEP)),),
    ),
    "hh-rlhf": Sample(
        "hh.jsonl",
        lines(
            {"chosen": f"{MARKED} {BLUE}", "rejected": f"{MARKED} {DEEP}"},
            {"chosen": f"{MARKED} ", "rejected": f"{MARKED} {DEEP}"},
        ),
        (PREFERS, ("comparison", "a", SEA, ("", DEEP))),
    ),
    "TRL labels": Sample(
        "kto.jsonl",
        lines(
            {"prompt": SEA, "completion": BLUE, "label": True},
            {"prompt": [user(SEA)], "completion": [assistant(DEEP)], "label": 0},
        ),
        (LIKES, DISLIKES),
    ),
    "TRL labels, a table": Sample(
        "kto.csv",
        f'prompt;completion;label\n{SEA};{BLUE};True\n"{SEA}";"{DEEP}";false\n'.encode(),
        (LIKES, DISLIKES),
    ),
    "LLaMA-Factory labels": Sample(
        "kto.json",
        listed(
            {"messages": [user(SEA), assistant(BLUE)], "label": True},
            {"conversations": [human(SEA), gpt(DEEP)], "kto_tag": False},
            {"instruction": SEA, "input": "", "output": DEEP, "kto_tag": False},
        ),
        (LIKES, DISLIKES, DISLIKES),
    ),
    "Alpaca": Sample(
        "alpaca.json", listed({"instruction": SEA, "input": "", "output": BLUE}), (LIKES,)
    ),
    "ShareGPT": Sample(
        "sharegpt.json",
        listed({"id": "1", "conversations": [human(HELLO), gpt(WELL), human(SEA), gpt(BLUE)]}),
        (LIKES,),
    ),
    "Open Assistant trees": Sample(
        "trees.jsonl",
        lines(TREE),
        (PREFERS, DISLIKES, LIKES, ("stars", 4, "And?", (WIDE,))),
    ),
    "Open Assistant messages": Sample("flat.jsonl", lines(*FLAT), (PREFERS, DISLIKES)),
    "ChatGPT": Sample(
        "export.zip",
        zipped(
            conversations__json=[CHATGPT],
            message_feedback__json=[GPT_FEEDBACK],
            model_comparisons__json=[GPT_COMPARISON],
            user__json={"id": "user-1"},
        ),
        (
            LIKES,
            ("comparison", "b", SEA, (BLUE, DEEP)),
            ("comparison", "a", "And?", (WIDE, "Big.")),
        ),
    ),
    "Claude": Sample(
        "claude.zip",
        zipped(conversations__json=[CLAUDE], users__json=[{"uuid": "u"}]),
        (DISLIKES, LIKES, PREFERS),
    ),
    "Open WebUI chats": Sample("chats.json", listed(WEBUI), (LIKES, stars(4), PREFERS)),
    "Open WebUI feedback": Sample(
        "feedback.json",
        listed(webui_feedback("u1", "m2", 1), webui_feedback("u2", "m3", -1)),
        (LIKES, DISLIKES),
    ),
    "SillyTavern": Sample(
        "chat.jsonl",
        lines(
            {"user_name": "Me", "character_name": "Sea"},
            {"name": "Sea", "is_user": False, "mes": "Welcome", "swipes": ["Welcome", "Hi"]},
            {"name": "Me", "is_user": True, "mes": SEA},
            {"is_user": False, "mes": BLUE, "swipes": [DEEP, BLUE], "swipe_id": 1},
            {"name": "Me", "is_user": True, "mes": "And?"},
            {"is_user": False, "mes": WIDE, "swipes": [BLUE, WIDE], "swipe_id": 1},
        ),
        (PREFERS,),
    ),
    "HelpSteer": Sample("helpsteer.jsonl", lines(HELPSTEER), (stars(4),)),
    "HelpSteer, an aspect": Sample(
        "helpsteer.jsonl", lines(HELPSTEER), (stars(1),), Options(aspect="correctness")
    ),
    "HelpSteer 2, several turns": Sample(
        "helpsteer2.jsonl",
        lines(
            HELPSTEER
            | {
                "prompt": f"{HELLO}\n<extra_id_1>Assistant\n{WELL}\n<extra_id_1>User\n{SEA}\n"
                "<extra_id_1>Assistant\n"
            }
        ),
        (stars(4),),
    ),
    "HelpSteer 2, preferences": Sample(
        "preference.jsonl",
        lines({"prompt": SEA, "response_1": BLUE, "response_2": DEEP, "preference_strength": -1}),
        (PREFERS,),
    ),
    "HelpSteer 3": Sample(
        "helpsteer3.jsonl",
        lines(
            {"context": [user(SEA)], "response1": DEEP, "response2": BLUE, "overall_preference": 3},
            {"context": [user(SEA)], "original_response": DEEP, "edited_response": BLUE},
        ),
        (("comparison", "b", SEA, (DEEP, BLUE)), ("correction", 1, SEA, (DEEP, BLUE))),
    ),
    "UltraFeedback": Sample(
        "ultra.jsonl",
        lines({"instruction": SEA, "completions": COMPLETIONS}),
        (ranking(0, 1, 1),),
    ),
    "UltraFeedback, an aspect": Sample(
        "ultra.jsonl",
        lines({"instruction": SEA, "completions": COMPLETIONS}),
        (("comparison", "a", SEA, (DEEP, BLUE)),),
        Options(aspect="honesty"),
    ),
    "UltraFeedback, binarized": Sample(
        "binarized.jsonl",
        lines(
            {
                "prompt": SEA,
                "chosen": [user(SEA), assistant(BLUE)],
                "rejected": [user(SEA), assistant(DEEP)],
                "messages": [user(SEA), assistant(BLUE)],
                "score_chosen": 8.0,
                "score_rejected": 8.0,
            }
        ),
        (("comparison", "tie", SEA, (BLUE, DEEP)),),
    ),
    "SafeRLHF": Sample("safe.jsonl", lines(SAFE), (PREFERS,)),
    "SafeRLHF, an aspect": Sample(
        "safe.jsonl",
        lines(SAFE),
        (("comparison", "b", SEA, (BLUE, DEEP)),),
        Options(aspect="safe"),
    ),
    "Chatbot Arena": Sample(
        "arena.jsonl",
        lines(*map(duel, ("model_a", "model_b", "tie", "tie (bothbad)"))),
        tuple(("comparison", o, SEA, (BLUE, DEEP)) for o in ("a", "b", "tie", "both_bad")),
    ),
    "Chatbot Arena, a table": Sample(
        "train.csv",
        "id,prompt,response_a,response_b,winner_model_a,winner_model_b,winner_tie\n"
        f'1,"[""{SEA}""]","[""{BLUE}""]","[""{DEEP}""]",1,0,0\n'.encode(),
        (PREFERS,),
    ),
    "PRISM": Sample(
        "conversations.jsonl",
        lines(PRISM),
        (ranking(0, 1, 1), ("comparison", "a", "And?", (WIDE, DEEP))),
    ),
    "Argilla 2": Sample(
        "argilla.json",
        listed(
            {
                "fields": FIELDS,
                "responses": {"ranking": [{"value": ORDER, "user_id": "ann"}]},
                "status": "completed",
            }
        ),
        (ranking(0, 1, 1),),
    ),
    "Argilla 1": Sample(
        "argilla.json",
        listed(
            {
                "fields": FIELDS,
                "responses": [
                    {
                        "values": {"ranking": {"value": ORDER}},
                        "user_id": "ann",
                        "status": "submitted",
                    },
                    {"values": {}, "user_id": "bob", "status": "discarded"},
                ],
            }
        ),
        (ranking(0, 1, 1),),
    ),
    "Argilla, columns": Sample(
        "argilla.jsonl",
        lines(
            FIELDS
            | {
                "ranking": [
                    {"user_id": name, "value": {"rank": [1, 2, 2], "value": value}}
                    for name in ("ann", "bob")
                    for value in [["response-1", "response-2", "response-3"]]
                ]
            }
        ),
        (ranking(0, 1, 1), ranking(0, 1, 1)),
    ),
    "scores from 1 to 10": Sample(
        "scores.csv",
        f"prompt,response,score\n{SEA},{BLUE},8\n{SEA},{DEEP},1\n".encode(),
        (stars(4), stars(1, DEEP)),
        Options(scale=10),
    ),
    "scores from 1 to 100": Sample(
        "scores.jsonl",
        lines({"prompt": SEA, "response": BLUE, "rating": 74}),
        (stars(4),),
        Options(scale=100),
    ),
    "stars": Sample("stars.jsonl", lines({"prompt": SEA, "reply": BLUE, "stars": 4}), (stars(4),)),
}
