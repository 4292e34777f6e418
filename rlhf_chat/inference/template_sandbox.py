"""Tries a chat template in a process of its own, within limits of time, memory and length.

A template is a program that came with a model's files. Jinja's sandbox keeps it from files and from
Python; it does not keep it from looping for hours or from filling the memory, and neither can be
stopped from another thread (`9 ** 9 ** 9` never lets go of the interpreter). Run as a script, this
file is that process: JSON on standard input, exit status 0 if everything was rendered. As a script
it cannot import the package.
"""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from itertools import accumulate
from typing import Any

from jinja2 import nodes
from jinja2.exceptions import TemplateError
from jinja2.ext import Extension, loopcontrols
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

log = logging.getLogger(__name__)

TIME_LIMIT = 4.0  # seconds, of which starting Python takes a few tenths
MEMORY_LIMIT = 1 << 30  # bytes of address space
LENGTH_LIMIT = 1 << 20  # characters that a short conversation may become
READY = "ready"  # written before the first template is looked at
TOO_LONG = 3  # exit status


class TemplateLimitError(Exception):
    """A template goes beyond a limit: `time`, `memory` or `length`."""

    def __init__(self, limit: str) -> None:
        super().__init__(limit)
        self.limit = limit


def check_limits(template: str, renderings: Sequence[Mapping[str, Any]]) -> None:
    """Renders the template once with each set of variables (JSON values). Raises
    TemplateLimitError. Other errors of a template are left to whoever renders it next."""
    _check_limits(json.dumps({"template": template, "renderings": list(renderings)}))


@lru_cache(maxsize=64)
def _check_limits(request: str) -> None:
    command = [sys.executable, "-P", __file__]
    try:
        done = subprocess.run(
            command, input=request.encode(), capture_output=True, timeout=TIME_LIMIT, check=False
        )
    except subprocess.TimeoutExpired as error:
        if READY.encode() in (error.stdout or b""):
            raise TemplateLimitError("time") from error
        log.warning("no process to try the chat template in started within %g s", TIME_LIMIT)
        return
    except OSError:
        log.warning("there is no process to try the chat template in", exc_info=True)
        return
    if done.returncode and READY.encode() in done.stdout:
        raise TemplateLimitError("length" if done.returncode == TOO_LONG else "memory")


class _Generation(Extension):
    """`{% generation %}` marks what a model wrote; here it changes nothing."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _environment() -> ImmutableSandboxedEnvironment:
    """What transformers offers to a template, as far as it matters here."""

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    made = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, loopcontrols]
    )
    made.filters["tojson"] = lambda value, **options: json.dumps(value, default=str)
    made.globals["raise_exception"] = raise_exception
    made.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
    return made


def _limit_memory() -> None:
    try:
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT, MEMORY_LIMIT))
    except (ImportError, ValueError, OSError):  # not on every system
        return


def main() -> int:
    request = json.load(sys.stdin)
    environment = _environment()
    _limit_memory()
    print(READY, flush=True)
    for variables in request["renderings"]:
        try:
            parts = environment.from_string(request["template"]).generate(**variables)
            if any(length > LENGTH_LIMIT for length in accumulate(map(len, parts))):
                return TOO_LONG
        except MemoryError:
            raise
        except Exception:  # what a template may raise: its next reader says which
            continue
    return 0


if __name__ == "__main__":
    sys.exit(main())
