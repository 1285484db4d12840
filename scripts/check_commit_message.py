"""Check a commit message against the rules of CONTRIBUTING.md.

Git runs this as its commit-msg hook, through pre-commit or `scripts/hooks/commit-msg`; the argument
is the file that holds the message. Print each problem and exit with 1 if there is one.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

SUBJECT_MAX = 72
BODY_MAX = 100

# What `git commit --verbose` appends begins with this line.
SCISSORS = re.compile(r"^# -+ >8 -+$", re.MULTILINE)

# Git writes these subjects itself.
GENERATED = ("Merge ", 'Revert "', "fixup! ", "squash! ", "amend! ")

# Words whose ending is no inflection, although it looks like one.
UNINFLECTED = frozenset(
    ("always", "bring", "embed", "exceed", "feed", "need", "ping", "seed", "speed", "string")
)
INFLECTED = re.compile(r"[a-z]+(?:ed|ing|[^su]s)", re.IGNORECASE)


def problems_of(message: str) -> list[str]:
    """Return what is wrong with a commit message.

    Args:
        message: the text of the file; comments and the diff of `--verbose` are ignored.

    Returns:
        One sentence for each problem.
    """
    text = SCISSORS.split(message)[0]
    lines = [line.rstrip() for line in text.splitlines() if not line.startswith("#")]
    while lines and not lines[0]:
        lines.pop(0)
    while lines and not lines[-1]:
        lines.pop()
    if not lines:
        return []  # Git itself refuses an empty message
    subject, body = lines[0], lines[1:]
    if subject.startswith(GENERATED):
        return []
    found = subject_problems(subject)
    if not body:
        found.append("the body is missing: say why the change is made")
    elif body[0]:
        found.append("the second line must be empty")
    for number, line in enumerate(body, 2):
        # A link or a path can't be broken.
        if len(line) > BODY_MAX and " " in line.strip():
            found.append(f"line {number} has {len(line)} characters, the limit is {BODY_MAX}")
    return found


def subject_problems(subject: str) -> list[str]:
    """Return what is wrong with the first line of a commit message."""
    found = []
    if len(subject) > SUBJECT_MAX:
        found.append(f"the subject has {len(subject)} characters, the limit is {SUBJECT_MAX}")
    if subject.endswith("."):
        found.append("the subject must not end with a period")
    first = subject.split()[0]
    if first.isalpha() and first[0].islower():
        found.append(f"the subject must begin with a capital letter, not with {first!r}")
    if INFLECTED.fullmatch(first) and first.lower() not in UNINFLECTED:
        found.append(f"the subject must begin with a verb in the imperative, not with {first!r}")
    return found


def main() -> int:
    """Check the message file that is named on the command line."""
    message = Path(sys.argv[1]).read_text(encoding="utf-8")
    problems = problems_of(message)
    for problem in problems:
        print(f"commit message: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
