"""The schema of feedback.db: the tables, as a list of migrations.

A released migration is never edited; a change is a new function at the end. `user_version` in the
file is the number of migrations applied, written in the same transaction as the migration, so a
kill leaves the old schema or the new one.
"""

from collections.abc import Callable

from sqlite_utils import Database, Migrations

from rlhf_chat import faults
from rlhf_chat.db.row_checksums import seal_all

APPLICATION_ID = 0x524C4846  # "RLHF": how we know that a file is ours
migrations = Migrations("rlhf_chat")
_names: list[str] = []


def migration(change: Callable[[Database], None]) -> Callable[[Database], None]:
    """Register `change` as the next schema version."""
    _names.append(change.__name__)
    version = len(_names)

    def apply(db: Database) -> None:
        change(db)
        seal_all(db)  # of the columns as they are now
        faults.point("migrate.changed")
        db.execute(f"PRAGMA user_version = {version}")

    migrations(name=change.__name__)(apply)
    return change


def schema_version() -> int:
    """The newest schema version this code knows."""
    return len(_names)


_M001 = (
    # One row per named sequence. Numbers, not clocks, order everything: clocks jump.
    """CREATE TABLE counters (
        name TEXT PRIMARY KEY,
        value INTEGER NOT NULL CHECK (value >= 0)
    ) STRICT""",
    "INSERT INTO counters VALUES ('feedback', 0), ('conversation', 0), ('version', 0)",
    """CREATE TABLE conversations (
        id TEXT PRIMARY KEY,
        kind TEXT NOT NULL CHECK (kind IN ('chat', 'compare')),
        title TEXT NOT NULL,
        system_prompt TEXT NOT NULL,
        head_id TEXT REFERENCES messages (id) ON DELETE SET NULL,
        last_number INTEGER NOT NULL,
        created_at TEXT NOT NULL,
        updated_at TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX conversations_by_kind ON conversations (kind, last_number)",
    "CREATE INDEX conversations_by_head ON conversations (head_id)",
    """CREATE TABLE messages (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        conversation_id TEXT NOT NULL REFERENCES conversations (id) ON DELETE CASCADE,
        parent_id TEXT REFERENCES messages (id) ON DELETE CASCADE,
        role TEXT NOT NULL CHECK (role IN ('system', 'user', 'assistant')),
        content TEXT NOT NULL,
        prompt_ids BLOB CHECK (length(prompt_ids) % 4 = 0),
        response_ids BLOB CHECK (length(response_ids) % 4 = 0),
        content_key TEXT,
        adapter_version INTEGER CHECK (adapter_version >= 0),
        sampling TEXT CHECK (json_valid(sampling)),
        finish_reason TEXT CHECK (finish_reason IN ('stop', 'length', 'cancelled', 'error')),
        event_id TEXT UNIQUE,
        created_at TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX messages_by_parent ON messages (parent_id)",
    "CREATE INDEX messages_by_conversation ON messages (conversation_id)",
    "CREATE INDEX messages_by_content ON messages (content_key)",
    # Both logs are append-only and share the counter 'feedback', so one watermark covers them.
    """CREATE TABLE ratings (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        message_id TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
        rater TEXT NOT NULL CHECK (rater <> ''),
        value INTEGER NOT NULL CHECK (value IN (-1, 0, 1)),
        reason TEXT NOT NULL,
        comment TEXT NOT NULL,
        event_id TEXT NOT NULL UNIQUE,
        created_at TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX ratings_by_message ON ratings (message_id, rater, number)",
    # pair_key is the same for (a, b) and (b, a): one person has one current vote on a pair.
    """CREATE TABLE preferences (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        message_a TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
        message_b TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
        pair_key TEXT GENERATED ALWAYS AS
            (min(message_a, message_b) || ' ' || max(message_a, message_b)) VIRTUAL,
        rater TEXT NOT NULL CHECK (rater <> ''),
        outcome TEXT NOT NULL CHECK (outcome IN ('a', 'b', 'tie', 'both_bad', 'withdrawn')),
        shown_first TEXT NOT NULL CHECK (shown_first IN ('a', 'b')),
        event_id TEXT NOT NULL UNIQUE,
        created_at TEXT NOT NULL,
        CHECK (message_a <> message_b)
    ) STRICT""",
    "CREATE INDEX preferences_by_pair ON preferences (pair_key, rater, number)",
    "CREATE INDEX preferences_by_a ON preferences (message_a)",
    "CREATE INDEX preferences_by_b ON preferences (message_b)",
    """CREATE TABLE features (
        feature_key TEXT NOT NULL,
        content_key TEXT NOT NULL,
        vector BLOB NOT NULL CHECK (length(vector) % 4 = 0),
        PRIMARY KEY (feature_key, content_key)
    ) STRICT""",
    """CREATE TABLE reference_responses (
        feature_key TEXT NOT NULL,
        prompt_key TEXT NOT NULL,
        prompt_ids BLOB NOT NULL CHECK (length(prompt_ids) % 4 = 0),
        lengths BLOB NOT NULL CHECK (length(lengths) % 4 = 0),
        response_ids BLOB NOT NULL CHECK (length(response_ids) % 4 = 0),
        PRIMARY KEY (feature_key, prompt_key)
    ) STRICT""",
    # AUTOINCREMENT: messages refer to rounds by number, so no number is used twice.
    """CREATE TABLE rounds (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        started_at TEXT NOT NULL,
        ended_at TEXT,
        "trigger" TEXT NOT NULL,
        status TEXT NOT NULL CHECK
            (status IN ('running', 'promoted', 'discarded', 'stopped', 'failed', 'aborted')),
        reason TEXT NOT NULL,
        parent_version INTEGER NOT NULL,
        version INTEGER,
        seed INTEGER NOT NULL,
        watermark INTEGER NOT NULL,
        config TEXT NOT NULL CHECK (json_valid(config)),
        verdict TEXT CHECK (json_valid(verdict)),
        snapshot_hash TEXT NOT NULL,
        CHECK ((status = 'running') = (ended_at IS NULL))
    ) STRICT""",
    """CREATE TABLE metrics (
        number INTEGER PRIMARY KEY,
        round_id INTEGER NOT NULL REFERENCES rounds (id) ON DELETE CASCADE,
        step INTEGER NOT NULL,
        name TEXT NOT NULL,
        value REAL,
        UNIQUE (round_id, step, name)
    ) STRICT""",
    """CREATE TABLE adapter_versions (
        version INTEGER PRIMARY KEY CHECK (version >= 0),
        parent INTEGER REFERENCES adapter_versions (version),
        round_id INTEGER REFERENCES rounds (id),
        tier TEXT NOT NULL,
        folder TEXT NOT NULL,
        manifest_hash TEXT NOT NULL,
        kl REAL,
        note TEXT NOT NULL,
        created_at TEXT NOT NULL
    ) STRICT""",
    """INSERT INTO adapter_versions VALUES
        (0, NULL, NULL, 'base', '', '', 0, 'the model as it came',
         strftime('%Y-%m-%dT%H:%M:%f+00:00', 'now'))""",
    # The live pointer: exactly one row, and it can only name a version that exists.
    """CREATE TABLE live (
        only INTEGER PRIMARY KEY CHECK (only = 1),
        version INTEGER NOT NULL REFERENCES adapter_versions (version)
    ) STRICT""",
    "INSERT INTO live VALUES (1, 0)",
    """CREATE TABLE events (
        id INTEGER PRIMARY KEY,
        kind TEXT NOT NULL,
        ref TEXT NOT NULL,
        data TEXT NOT NULL CHECK (json_valid(data)),
        created_at TEXT NOT NULL
    ) STRICT""",
    """CREATE TABLE settings (
        key TEXT PRIMARY KEY,
        value TEXT NOT NULL CHECK (json_valid(value))
    ) STRICT""",
)


@migration
def m001_first_shape(db: Database) -> None:
    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
    for statement in _M001:
        db.execute(statement)


_M002 = (
    "ALTER TABLE conversations ADD COLUMN sampling TEXT CHECK (json_valid(sampling))",
    "ALTER TABLE conversations ADD COLUMN adapter_version INTEGER CHECK (adapter_version >= 0)",
    "ALTER TABLE adapter_versions ADD COLUMN name TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE adapter_versions ADD COLUMN remark TEXT NOT NULL DEFAULT ''",
)


@migration
def m002_manners_and_names(db: Database) -> None:
    """Settings of a single conversation, and names of versions."""
    for statement in _M002:
        db.execute(statement)


_M003 = (
    # Another set of answers: rebuilt, because a CHECK cannot be widened in place.
    """CREATE TABLE preferences_003 (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        message_a TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
        message_b TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
        pair_key TEXT GENERATED ALWAYS AS
            (min(message_a, message_b) || ' ' || max(message_a, message_b)) VIRTUAL,
        rater TEXT NOT NULL CHECK (rater <> ''),
        outcome TEXT NOT NULL CHECK
            (outcome IN ('a', 'b', 'tie', 'both_bad', 'both_good', 'withdrawn')),
        strength TEXT NOT NULL DEFAULT '' CHECK (strength IN ('', 'slightly', 'much')),
        shown_first TEXT NOT NULL CHECK (shown_first IN ('a', 'b')),
        again INTEGER NOT NULL DEFAULT 0 CHECK (again IN (0, 1)),
        event_id TEXT NOT NULL UNIQUE,
        created_at TEXT NOT NULL,
        CHECK (message_a <> message_b)
    ) STRICT""",
    """INSERT INTO preferences_003
        (number, id, message_a, message_b, rater, outcome, shown_first, event_id, created_at)
        SELECT number, id, message_a, message_b, rater, outcome, shown_first, event_id, created_at
        FROM preferences""",
    "DROP TABLE preferences",
    "ALTER TABLE preferences_003 RENAME TO preferences",
    "CREATE INDEX preferences_by_pair ON preferences (pair_key, rater, number)",
    "CREATE INDEX preferences_by_a ON preferences (message_a)",
    "CREATE INDEX preferences_by_b ON preferences (message_b)",
    """CREATE TABLE scores (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        message_id TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
        rater TEXT NOT NULL CHECK (rater <> ''),
        stars INTEGER NOT NULL CHECK (stars BETWEEN 0 AND 5),
        event_id TEXT NOT NULL UNIQUE,
        created_at TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX scores_by_message ON scores (message_id, rater, number)",
    """CREATE TABLE rankings (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        asked_id TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
        rater TEXT NOT NULL CHECK (rater <> ''),
        places TEXT NOT NULL CHECK (json_valid(places)),
        event_id TEXT NOT NULL UNIQUE,
        created_at TEXT NOT NULL
    ) STRICT""",
    "CREATE INDEX rankings_by_asked ON rankings (asked_id, rater, number)",
    """CREATE TABLE edits (
        number INTEGER PRIMARY KEY,
        id TEXT NOT NULL UNIQUE,
        message_id TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
        edited_id TEXT NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
        rater TEXT NOT NULL CHECK (rater <> ''),
        withdrawn INTEGER NOT NULL CHECK (withdrawn IN (0, 1)),
        event_id TEXT NOT NULL UNIQUE,
        created_at TEXT NOT NULL,
        CHECK (message_id <> edited_id)
    ) STRICT""",
    "CREATE INDEX edits_by_message ON edits (message_id, edited_id, rater, number)",
    "CREATE INDEX edits_by_edited ON edits (edited_id)",
)


@migration
def m003_more_answers(db: Database) -> None:
    """Stars, rankings, edits; "both good", and how much better; pairs asked again as a check."""
    for statement in _M003:
        db.execute(statement)


_M004 = (
    "ALTER TABLE preferences ADD COLUMN comment TEXT NOT NULL DEFAULT ''",
    "ALTER TABLE rankings ADD COLUMN comment TEXT NOT NULL DEFAULT ''",
)


@migration
def m004_words_beside_comparisons(db: Database) -> None:
    """A comment on a comparison."""
    for statement in _M004:
        db.execute(statement)


_M005 = (
    "ALTER TABLE conversations ADD COLUMN origin TEXT NOT NULL DEFAULT ''",
    "CREATE INDEX conversations_by_origin ON conversations (origin) WHERE origin <> ''",
)


@migration
def m005_answers_from_elsewhere(db: Database) -> None:
    """Which conversations were imported, and by which import."""
    for statement in _M005:
        db.execute(statement)


_M006 = (
    # Until now a round of a simulated rater had that rater's name as its trigger.
    "ALTER TABLE rounds ADD COLUMN rater TEXT NOT NULL DEFAULT ''",
    """UPDATE rounds SET rater = "trigger", "trigger" = 'ratings'
        WHERE "trigger" LIKE 'simulated:%'""",
    """UPDATE rounds SET "trigger" = 'retrain_without' WHERE "trigger" = 'rebuild'""",
    # One row for each base model that was ever used. base_hash is '' until a model was loaded.
    """CREATE TABLE live_versions (
        base_hash TEXT NOT NULL PRIMARY KEY,
        version INTEGER NOT NULL REFERENCES adapter_versions (version),
        in_use INTEGER NOT NULL CHECK (in_use IN (0, 1))
    ) STRICT""",
    "CREATE UNIQUE INDEX live_versions_in_use ON live_versions (in_use) WHERE in_use = 1",
    """INSERT INTO live_versions SELECT
        coalesce((SELECT json_extract(value, '$') FROM settings WHERE key = 'base'), ''),
        version, 1 FROM live""",
    """INSERT OR IGNORE INTO live_versions SELECT substr(key, 6), CAST(value AS INTEGER), 0
        FROM settings WHERE key LIKE 'live:%'
        AND CAST(value AS INTEGER) IN (SELECT version FROM adapter_versions)""",
    "DROP TABLE live",
    "DELETE FROM settings WHERE key = 'base' OR key LIKE 'live:%'",
    "UPDATE metrics SET name = 'bootstrap_gain' WHERE name = 'judged_gain'",
    "UPDATE metrics SET name = 'bootstrap_gain_low' WHERE name = 'judged_gain_low'",
    "UPDATE metrics SET name = 'bootstrap_win_rate' WHERE name = 'judged_win_rate'",
    "UPDATE settings SET key = 'quarantined_raters' WHERE key = 'quarantined'",
    "UPDATE settings SET key = 'feature_weights' WHERE key = 'likes'",
    "UPDATE settings SET key = 'simulation' WHERE key = 'watching'",
)


@migration
def m006_round_raters_and_live_versions(db: Database) -> None:
    """Whose ratings a round learned from, one table of live versions, and plain names."""
    for statement in _M006:
        db.execute(statement)


_M007 = (
    # One row for each import of which something is here. counts_from: the value of the counter
    # 'feedback' when the person let it be learned from; NULL while that is not decided.
    """CREATE TABLE imports (
        id TEXT PRIMARY KEY,
        counts_from INTEGER CHECK (counts_from >= 0),
        created_at TEXT NOT NULL
    ) STRICT""",
    """INSERT INTO imports SELECT origin, 0, min(created_at) FROM conversations
        WHERE origin <> '' GROUP BY origin""",
    """ALTER TABLE rounds ADD COLUMN learned_from TEXT NOT NULL DEFAULT '{}'
        CHECK (json_valid(learned_from))""",
)
# (number, rater, message of its conversation) of every answer
_ANSWERS_007 = """SELECT number AS place, rater, message_id AS message FROM ratings
    UNION ALL SELECT number, rater, message_id FROM scores
    UNION ALL SELECT number, rater, message_a FROM preferences
    UNION ALL SELECT number, rater, asked_id FROM rankings
    UNION ALL SELECT number, rater, message_id FROM edits"""


@migration
def m007_what_counts_and_what_was_learned_from(db: Database) -> None:
    """Which imports are learned from (so far, all), and what each promoted round knew: until now,
    everything before its watermark."""
    for statement in _M007:
        db.execute(statement)
    db.execute(
        f"""UPDATE rounds SET learned_from = json_object(
            'imports', (SELECT json_group_array(DISTINCT origin) FROM ({_ANSWERS_007})
                JOIN messages m ON m.id = message JOIN conversations c ON c.id = conversation_id
                WHERE place <= watermark AND origin <> ''),
            'raters', (SELECT json_group_array(DISTINCT a.rater) FROM ({_ANSWERS_007}) a
                WHERE place <= watermark AND a.rater NOT LIKE 'simulated:%'))
        WHERE status = 'promoted' AND rater = ''"""
    )


_M008 = (
    # Trigrams, so that any part of a word is found, in any script. The texts stay in messages.
    """CREATE VIRTUAL TABLE message_texts USING fts5
        (content, content = 'messages', content_rowid = 'number', tokenize = 'trigram')""",
    # Without it the index keeps what was deleted until it happens to be merged.
    "INSERT INTO message_texts (message_texts, rank) VALUES ('secure-delete', 1)",
    "INSERT INTO message_texts (message_texts) VALUES ('rebuild')",
    """CREATE TRIGGER message_texts_added AFTER INSERT ON messages BEGIN
        INSERT INTO message_texts (rowid, content) VALUES (new.number, new.content);
    END""",
    """CREATE TRIGGER message_texts_deleted AFTER DELETE ON messages BEGIN
        INSERT INTO message_texts (message_texts, rowid, content)
        VALUES ('delete', old.number, old.content);
    END""",
    """CREATE TRIGGER message_texts_changed AFTER UPDATE OF content ON messages BEGIN
        INSERT INTO message_texts (message_texts, rowid, content)
        VALUES ('delete', old.number, old.content);
        INSERT INTO message_texts (rowid, content) VALUES (new.number, new.content);
    END""",
)


@migration
def m008_index_of_messages(db: Database) -> None:
    """Search by an index of the messages' texts."""
    for statement in _M008:
        db.execute(statement)


@migration
def m009_proved_is_a_word_of_votes(db: Database) -> None:
    """A version that only the gate called proved has passed its checks."""
    db.execute(
        """UPDATE adapter_versions SET tier = 'passed' WHERE tier = 'proved'
            AND CAST(version AS TEXT) NOT IN (SELECT ref FROM events WHERE kind = 'tier')"""
    )


# Table -> columns that name a row of it (CHECKED in row_checksums.py, as it was then)
_KEYS_010 = {
    "conversations": ("id",),
    "messages": ("number",),
    "ratings": ("number",),
    "preferences": ("number",),
    "scores": ("number",),
    "rankings": ("number",),
    "edits": ("number",),
    "imports": ("id",),
    "rounds": ("id",),
    "adapter_versions": ("version",),
    "live_versions": ("base_hash",),
    "settings": ("key",),
    "counters": ("name",),
    "events": ("id",),
    "features": ("content_key", "feature_key"),
    "reference_responses": ("prompt_key", "feature_key"),
}


@migration
def m010_checksums_of_rows(db: Database) -> None:
    """A checksum for each row, to notice what changed on the disk by itself."""
    db.execute(
        """CREATE TABLE row_checksums (
            table_name TEXT NOT NULL,
            row_key ANY NOT NULL,
            checksum BLOB NOT NULL,
            PRIMARY KEY (table_name, row_key)
        ) STRICT, WITHOUT ROWID"""
    )
    # Rows that were changed and have no checksum yet; empty after each transaction of the writer.
    db.execute(
        """CREATE TABLE unchecked (
            table_name TEXT NOT NULL,
            row_key ANY NOT NULL,
            PRIMARY KEY (table_name, row_key)
        ) STRICT, WITHOUT ROWID"""
    )
    for table, columns in _KEYS_010.items():
        for act, rows in (("INSERT", ("new",)), ("UPDATE", ("old", "new")), ("DELETE", ("old",))):
            keys = (
                " || char(31) || ".join(f"{row}.{column}" for column in columns) for row in rows
            )
            noted = (f"INSERT OR IGNORE INTO unchecked VALUES ('{table}', {key});" for key in keys)
            db.execute(
                f"""CREATE TRIGGER {table}_unchecked_{act.lower()} AFTER {act} ON {table} BEGIN
                    {" ".join(noted)}
                END"""
            )
