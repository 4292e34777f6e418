"""Journeys in a browser that take a minute or more; shorter ones of the same kind are in
tests/browser.
"""

from __future__ import annotations

import pytest

from tests.browser.test_compare_flow import compare_by_keys_alone

pytestmark = pytest.mark.browser


def test_thirty_comparisons_by_keys_alone(opened, served):
    compare_by_keys_alone(opened(), served, 30, undone_at=10)
