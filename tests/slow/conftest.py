"""The slow tests share the browser of the others."""

from tests.browser.conftest import browser, opened, real_app, served  # noqa: F401
