"""What the app keeps is for its owner alone."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from rlhf_chat.db.private_files import make_private


@pytest.mark.skipif(os.name != "posix", reason="modes of POSIX")
def test_files_that_were_left_open_are_closed_and_links_and_other_files_are_not_touched(
    tmp_path: Path,
) -> None:
    names = ("feedback.db", "feedback.db-wal", "backups/feedback-0001.db", "adapters/v1/a.bin")
    elsewhere = tmp_path / "mine.txt"
    for name in (*names, elsewhere.name):
        file = tmp_path / "data" / name if name in names else elsewhere
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("x")
        file.chmod(0o644)
    data = tmp_path / "data"
    (data / "adapters" / "link").symlink_to(elsewhere)
    (data / "other.txt").write_text("x")
    (data / "other.txt").chmod(0o644)
    make_private(data)
    assert {(data / name).stat().st_mode & 0o777 for name in names} == {0o600}
    for folder in ("backups", "adapters", "adapters/v1"):
        assert (data / folder).stat().st_mode & 0o777 == 0o700
    assert elsewhere.stat().st_mode & 0o777 == (data / "other.txt").stat().st_mode & 0o777 == 0o644
