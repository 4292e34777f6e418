"""The room that speaks SQL: `feedback.db` through sqlite-utils, one writer thread, many readers.

store.py puts the parts together: talk, feedback, history and cache stand on archive.py, the open
file. Left out: any opinion about what the rows mean.
"""

from rlhf_chat.store.errors import (
    Busy,
    DatabaseDamaged,
    DatabaseTooNew,
    DiskFull,
    NotFound,
    ReadOnly,
    StoreError,
)
from rlhf_chat.store.ledger import SIMULATED
from rlhf_chat.store.rows import clean_text, content_key
from rlhf_chat.store.schema import (
    MOST_RANKED,
    VOTES,
    AdapterVersion,
    Arrival,
    Conversation,
    Edit,
    Event,
    Feedback,
    Message,
    Origin,
    Placed,
    Preference,
    Ranking,
    Rating,
    Round,
    Score,
)
from rlhf_chat.store.store import Store

__all__ = [
    "MOST_RANKED",
    "SIMULATED",
    "VOTES",
    "AdapterVersion",
    "Arrival",
    "Busy",
    "Conversation",
    "DatabaseDamaged",
    "DatabaseTooNew",
    "DiskFull",
    "Edit",
    "Event",
    "Feedback",
    "Message",
    "NotFound",
    "Origin",
    "Placed",
    "Preference",
    "Ranking",
    "Rating",
    "ReadOnly",
    "Round",
    "Score",
    "Store",
    "StoreError",
    "clean_text",
    "content_key",
]
