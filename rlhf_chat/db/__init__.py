"""The database: `feedback.db` through sqlite-utils, one writer thread, many readers.

`Store` (store.py) holds one repository for each family of tables. No other package contains SQL.
"""

from rlhf_chat.db.codec import clean_text, content_key
from rlhf_chat.db.private_files import make_private
from rlhf_chat.db.queries import SIMULATED
from rlhf_chat.db.records import (
    MOST_RANKED,
    VOTES,
    AdapterVersion,
    Conversation,
    Edit,
    Event,
    Feedback,
    FeedbackPage,
    ImportBatch,
    ImportedFeedback,
    Message,
    Preference,
    RankedReply,
    Ranking,
    Rating,
    Round,
    Score,
)
from rlhf_chat.db.store import Store
from rlhf_chat.errors import (
    Busy,
    DatabaseDamaged,
    DatabaseTooNew,
    DiskFull,
    NotFound,
    ReadOnly,
    StoreError,
)

__all__ = [
    "MOST_RANKED",
    "SIMULATED",
    "VOTES",
    "AdapterVersion",
    "Busy",
    "Conversation",
    "DatabaseDamaged",
    "DatabaseTooNew",
    "DiskFull",
    "Edit",
    "Event",
    "Feedback",
    "FeedbackPage",
    "ImportBatch",
    "ImportedFeedback",
    "Message",
    "NotFound",
    "Preference",
    "RankedReply",
    "Ranking",
    "Rating",
    "ReadOnly",
    "Round",
    "Score",
    "Store",
    "StoreError",
    "clean_text",
    "content_key",
    "make_private",
]
