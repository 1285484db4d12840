"""What parameters and results give on the installed FastAPI: by its own code, and by our plans.

Unlike the other tests here these hold for each release of FastAPI that is compiled
(scripts/test_fastapi_versions.py runs them on some).
"""

# ruff: noqa: E402 (without FastAPI the module is skipped)
import random
from typing import Any

import pytest
import test_params_parity
import test_responses_parity
from parity import Ask, differences, quiet

fastapi = pytest.importorskip("fastapi")

from turboapi._fastapi_bridge import _bridge


def pair(build: Any) -> tuple[Any, Any, Any]:
    """FastAPI's application, one whose path operations are compiled, and the table of those."""
    with quiet():
        try:
            theirs, ours = build(), build()
        except Exception as error:
            pytest.skip(f"this FastAPI refuses it: {error}")
        bridge = _bridge.Bridge.of(ours)
        assert bridge._why_not is None
        bridge.install()
        return theirs, ours, bridge.table()


@pytest.mark.parametrize("signature", test_params_parity.SIGNATURES)
def test_parameters(signature: str) -> None:
    theirs, ours, table = pair(lambda: test_params_parity.build(fastapi, signature))
    asks = test_params_parity.asks(random.Random(signature))
    assert differences((theirs, ours), asks) == []
    reasons = {reason for _, reason in table.left}
    assert not reasons or all("which FastAPI" in each for each in reasons)


@pytest.mark.parametrize("options", test_responses_parity.OPTIONS, ids=str)
@pytest.mark.parametrize("model", test_responses_parity.MODELS, ids=str)
def test_results(model: Any, options: dict[str, Any]) -> None:
    theirs, ours, table = pair(lambda: test_responses_parity.build(fastapi, model, options))
    assert table.left == []
    chosen = random.Random(f"{model}{options}").sample(range(len(test_responses_parity.VALUES)), 20)
    asks = [Ask(path=f"/{index}") for index in chosen]
    assert differences((theirs, ours), asks) == []
