"""The shop's mail: written to a log file in the background instead of being sent."""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from pathlib import Path

logger = logging.getLogger("store.mail")


def send_mail(log: Path, to: str, subject: str, text: str) -> None:
    """Append one message to the mail log (a plain function: runs in the thread pool)."""
    stamp = datetime.now(UTC).isoformat(timespec="seconds")
    with log.open("a", encoding="utf-8") as file:
        file.write(f"{stamp}  to {to}: {subject}\n    {text}\n")
    logger.info("mail to %s: %s", to, subject)
