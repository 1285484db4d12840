"""What the tests of scripts/check_*.py share."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run(script: str, *arguments: Path | str) -> subprocess.CompletedProcess[str]:
    """Run one of scripts/ to its end, whatever its exit code."""
    return subprocess.run(
        [sys.executable, str(ROOT / "scripts" / script), *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
