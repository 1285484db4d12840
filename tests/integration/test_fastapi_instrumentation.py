"""Unchanged FastAPI applications with Sentry, Logfire, Datadog and OpenTelemetry.

Their path operations run natively, and what is reported is what is reported under uvicorn.
"""

# ruff: noqa: E402 (without FastAPI the module is skipped)
import json
import re
from pathlib import Path

import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")

from test_fastapi_tutorial import FORM, JSON, PARTS, ask, part, served

PACKAGES = {
    "sentry": "sentry_sdk",
    "sentry-streaming": "sentry_sdk.traces",
    "logfire": "logfire",
    "datadog": "ddtrace",
    "opentelemetry": "opentelemetry.instrumentation.fastapi",
}
ASKS = [
    ("GET", "/x/3", {}, None),
    ("GET", "/x/3?q=a", {"cookie": "a=1"}, None),
    ("GET", "/x/3?q=too-long", {}, None),
    ("GET", "/x/no", {}, None),
    ("POST", "/x/3", {}, None),
    ("GET", "/sync/3", {}, None),
    ("POST", "/items", JSON, b'{"name": "a"}'),
    ("POST", "/items", JSON, b'{"price": 1}'),
    ("POST", "/items", JSON, b"["),
    ("POST", "/items", {"content-type": "text/plain"}, b"text"),
    ("POST", "/items", {}, None),
    ("POST", "/raw", JSON, b'{"a": 1}'),
    ("POST", "/raw", {"content-type": "application/octet-stream"}, b"x" * 100_000),
    ("POST", "/form", FORM, b"a=1&b=2"),
    ("POST", "/form", PARTS, part("a", b"1") + part("f", b"file", "f.txt") + b"--X--\r\n"),
    ("GET", "/fails", {}, None),
    ("GET", "/fails-sync", {}, None),
    ("GET", "/missing", {}, None),
    ("GET", "/broken", {}, None),
    ("GET", "/own", {}, None),
    ("GET", "/text", {}, None),
    ("GET", "/logs", {}, None),
    ("POST", "/later", {}, None),
    ("GET", "/v1/users/rick", {}, None),
    ("GET", "/below/inner/3", {}, None),
    ("GET", "/nowhere", {}, None),
    ("GET", "/openapi.json", {}, None),
]


def sentry(report):
    """What an event of Sentry says, without times, identities and the server's own frames."""
    if "type" not in report and "attributes" in report:  # a span that was sent by itself
        kept = {
            key: value
            for key, value in report["attributes"].items()
            if not re.search(r"thread|address|port|peer|segment.id|process", key)
        }
        return report["name"], report.get("status"), kept
    request = dict(report.get("request", {}))
    request.pop("env", None)
    request["url"] = re.sub(r"^http://[^/]*", "", request.get("url", ""))
    trace = dict(report["contexts"]["trace"])
    return {
        **{key: report.get(key) for key in ("type", "transaction", "transaction_info", "level")},
        "request": request,
        "tags": report.get("tags"),
        "log": report.get("logentry"),
        "trace": {key: trace.get(key) for key in ("op", "status", "origin")},
        "status": trace.get("data", {}).get("http.response.status_code"),
        "exceptions": [
            {
                "type": each["type"],
                "value": each["value"],
                "mechanism": each.get("mechanism"),
                "frames": [
                    frame["function"]
                    for frame in each["stacktrace"]["frames"]
                    if frame["filename"] == "instrumented_app.py"
                ],
            }
            for each in report.get("exception", {}).get("values", ())
        ],
        "spans": [
            [span.get("op"), span.get("description"), span.get("status")]
            for span in report.get("spans", ())
            # Middleware is called through functions of the server's.
            if not str(span.get("op")).endswith((".receive", ".send"))
        ],
    }


def opentelemetry(report):
    """The same of a span."""
    kept = {
        key: value
        for key, value in report["attributes"].items()
        if not re.search(
            r"timestamp|port|thread|lineno|filepath|duration|peer|pending|fingerprint", key
        )
        # The function that calls Logfire's is not FastAPI's.
        and value not in ("get_request_handler.<locals>.app", "_Stepwise.__call__")
    }
    return {**report, "attributes": kept}


PLAIN = {
    "sentry": sentry,
    "sentry-streaming": sentry,
    "logfire": opentelemetry,
    "opentelemetry": opentelemetry,
    "datadog": lambda report: report,
}


def in_order(name, reports):
    # Into how many pieces a body falls is the network's affair.
    return sorted(
        json.dumps(PLAIN[name](each), sort_keys=True)
        for each in reports
        if not each.get("name", "").endswith("http receive")
    )


def without_spans(reports):
    return sorted(json.dumps({**json.loads(each), "spans": []}, sort_keys=True) for each in reports)


def reported(command, folder, given):
    """The answers of a server, what was reported meanwhile, and its log."""
    folder.mkdir()
    file, log = folder / "reports.json", folder / "log"
    environment = {
        "INSTRUMENTED_REPORTS": str(file),
        "DD_INSTRUMENTATION_TELEMETRY_ENABLED": "false",
        "DD_REMOTE_CONFIGURATION_ENABLED": "false",
        **given,
    }
    with served(command, log, environment, "instrumented_app:app") as port:
        answers = [ask(port, *each) for each in ASKS]
        assert ask(port, "GET", "/reports", {}, None)[0] == 200
    text = file.read_text().replace(f":{port}", "")
    return answers, [json.loads(line) for line in text.splitlines()], log.read_text()


@pytest.mark.parametrize(
    ("name", "style"), [*((name, "url") for name in PACKAGES), ("sentry", "endpoint")]
)
def test_reports_are_as_under_uvicorn(name, style, tmp_path: Path):
    pytest.importorskip(PACKAGES[name])
    given = {"INSTRUMENTED_WITH": name, "INSTRUMENTED_STYLE": style}
    for attempt in range(3):
        got, reports, log = reported(["turboapi", "run"], tmp_path / f"turboapi{attempt}", given)
        expected, others, _ = reported(["uvicorn"], tmp_path / f"uvicorn{attempt}", given)
        for request, ours, theirs in zip(ASKS, got, expected, strict=True):
            assert ours == theirs, request
        # What is done after a response is reported when the next request has begun, or is done.
        plain, expected_reports = in_order(name, reports), in_order(name, others)
        if plain == expected_reports:
            break
        # On a busy machine, Sentry leaves out the spans of a request now and then, under either.
        assert without_spans(plain) == without_spans(expected_reports)
    assert plain == expected_reports
    assert len(plain) >= len(ASKS)
    native, total = map(int, re.search(r"(\d+) of (\d+) path operations", log).groups())
    assert native == total, log
