"""What a target can compile, as a plain text file, and where a program asks for more.

A rule is a line; what follows its "#" is told to whoever meets it:

    allow add multiply convolution
    deny gather              # addresses from data; ...
    deny reduce>4096         # more than 4096 elements made one
    limit 720896 reduce      # bytes of operands and results
"""

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from posejax.data.errors import DataError
from posejax.data.files import read_text
from posejax.deploy.operators import Operator

_EXPECTED = "lines: allow OPERATOR..., deny OPERATOR[>COUNT]... or limit BYTES [OPERATOR...]"


@dataclass(frozen=True)
class Rule:
    """A line of the file; see the module."""

    kind: Literal["allow", "deny", "limit"]
    patterns: tuple[str, ...]
    bound: int = 0
    reason: str = ""

    def meets(self, operator: Operator) -> bool:
        found = any(fnmatch.fnmatchcase(operator.name, p) for p in self.patterns)
        if self.kind == "limit":
            return found and operator.bytes > self.bound
        return found and (self.kind == "allow" or operator.reduced > self.bound)


@dataclass(frozen=True)
class Finding:
    """Operators that the target does not compile, for one reason and from one place.

    Attributes:
      operator: the largest of them.
      count: how many there are.
      why: what is wrong.
      reason: of the rule, with what avoids it.
    """

    operator: Operator
    count: int
    why: str
    reason: str

    def __str__(self) -> str:
        op = self.operator
        times = f" x {self.count}" if self.count > 1 else ""
        place = " at ".join(part for part in (op.scope, op.source) if part)
        text = f"{op.name}{times} [{op.result}]: {self.why}\n    from {place or 'an unknown place'}"
        return f"{text}\n    {self.reason}" if self.reason else text


@dataclass(frozen=True)
class Rules:
    """All rules of a target."""

    name: str
    rules: tuple[Rule, ...]

    def check(self, operators: Iterable[Operator]) -> list[Finding]:
        """One finding per rule, operator and line of the sources; the largest first."""
        groups: dict[tuple, list[tuple[Operator, str, str]]] = {}
        for operator in operators:
            for rule, why, reason in self._problems(operator):
                key = (operator.name, operator.source, rule)
                groups.setdefault(key, []).append((operator, why, reason))
        found = []
        for members in groups.values():
            worst, why, reason = max(members, key=lambda member: member[0].bytes)
            found.append(Finding(worst, len(members), why, reason))
        return sorted(found, key=lambda f: -f.operator.bytes)

    def _problems(self, operator: Operator) -> Sequence[tuple[Rule | None, str, str]]:
        """Rules that are broken, None for the list of what is allowed; why, and the reason."""
        met = [rule for rule in dict.fromkeys(self.rules) if rule.meets(operator)]
        found: list[tuple[Rule | None, str, str]] = []
        for rule in met:
            if rule.kind == "deny":
                count = f": {operator.reduced} elements made one" if rule.bound else ""
                found.append((rule, f"denied{count}", rule.reason))
            if rule.kind == "limit":
                why = f"too large: {operator.bytes:,} bytes in and out, at most {rule.bound:,}"
                found.append((rule, why, rule.reason))
        if not any(rule.kind in ("allow", "deny") for rule in met):
            found.append((None, f"not in the list {self.name}", ""))
        return found


def rules_file(name: str | Path) -> Path:
    """The file of rules that a path or the name of a shipped one ("npu") stands for."""
    shipped = Path(__file__).parent / f"{name}.txt"
    return shipped if shipped.is_file() and not Path(name).is_file() else Path(name)


def read_rules(name: str | Path) -> Rules:
    """Rules of a file, or shipped ones by their name.

    Raises:
      DataError: no such file, or a line that is no rule.
    """
    path, rules = rules_file(name), []
    for number, line in enumerate(read_text(path, _EXPECTED).splitlines(), 1):
        text, _, reason = line.partition("#")
        words = text.split()
        if not words:
            continue
        kind, *patterns = words
        bound = 0
        if kind == "limit" and patterns and patterns[0].isdecimal():
            bound, patterns = int(patterns[0]), patterns[1:] or ["*"]
        elif kind == "deny" and len(patterns) == 1 and patterns[0].count(">") == 1:
            pattern, _, count = patterns[0].partition(">")
            patterns, bound = [pattern], int(count) if count.isdecimal() else -1
        if (
            kind not in ("allow", "deny", "limit")
            or not patterns
            or ">" in "".join(patterns)
            or bound < 0
        ):
            raise DataError(path, f"line {number}", repr(line[:80]), _EXPECTED)
        if kind == "limit" and not bound:
            raise DataError(path, f"line {number}", repr(line[:80]), _EXPECTED)
        rules.append(Rule(kind, tuple(patterns), bound, reason.strip()))
    return Rules(path.stem, tuple(rules))
