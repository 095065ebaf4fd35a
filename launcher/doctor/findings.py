"""What one examination finds: facts, and problems with their fixes."""

from __future__ import annotations

import json
from typing import Any, NamedTuple


class Problem(NamedTuple):
    """Something that keeps hipcomm from working.

    Attributes:
        what: what is wrong, with the value that is.
        fix: what to do about it.
    """

    what: str
    fix: str


class Section(NamedTuple):
    """The findings of one examination.

    Attributes:
        title: what was looked at.
        facts: lines for people.
        problems: none: all is well.
        data: what the facts say, for programs; None: the facts are all there is.
    """

    title: str
    facts: list[str]
    problems: list[Problem]
    data: dict[str, Any] | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the section as JSON types, with names."""
        problems = [problem._asdict() for problem in self.problems]
        return {"title": self.title, "facts": self.facts, "problems": problems, "data": self.data or {}}

    def to_json(self) -> str:
        """Return the section as one line of text."""
        return json.dumps(self)

    @classmethod
    def from_json(cls, line: str) -> Section:
        """Return what :meth:`to_json` wrote. Raises ValueError."""
        title, facts, problems, data = json.loads(line)
        return cls(title, facts, [Problem(*problem) for problem in problems], data)
