# Every target sets up what it needs (scripts/setup.sh), on a bare Debian 12 or 13 too.

VENV ?= .venv
PY := $(VENV)/bin/python
ARGS ?=
# Tests wait more than they compute: three processes keep two CPUs busy.
JOBS ?= 3

.DEFAULT_GOAL := help

help: ## this list
	@grep -E '^[a-z0-9-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

run: ## set up all and serve the example shop on http://127.0.0.1:8000
	@scripts/setup.sh run
	$(VENV)/bin/turboapi run examples.store.app:app --app-dir . --host 127.0.0.1 $(ARGS)

test: ## set up all; C tests, Python tests, conformance ratchet
	@scripts/setup.sh test
	scripts/test_c.sh
	@$(PY) -c 'import turboapi._core' # built once if its sources changed, not by each process
	$(PY) -m pytest --numprocesses $(JOBS) --dist loadfile $(ARGS)
	$(PY) tests/conformance/ratchet.py

lint: ## formats, lint, layering, sizes and types
	@scripts/setup.sh test
	scripts/lint.sh

conformance: ## FastAPI's own tests against turboapi (ARGS: files, --json F ...)
	@scripts/setup.sh test
	$(PY) tests/conformance/run.py --package turboapi --part dev $(ARGS)

conformance-native: ## the same with every request over a socket, as a ratchet (passing-native.txt)
	@scripts/setup.sh test
	$(PY) tests/conformance/ratchet.py --door native

conformance-h2: ## the same over HTTP/2 (passing-h2.txt)
	@scripts/setup.sh test
	$(PY) tests/conformance/ratchet.py --door h2

h2spec: ## HTTP/2's conformance, in the clear and over TLS (builds h2spec with Go)
	@scripts/setup.sh test
	$(PY) scripts/h2spec.py || [ $$? = 77 ]

starlette: ## Starlette's own tests against turboapi (ARGS: --door plans, files ...)
	@scripts/setup.sh test
	$(PY) tests/conformance/starlette.py $(ARGS)

asyncio: ## CPython's own test_asyncio on TurboAPI's event loop and on the standard one
	@scripts/setup.sh test
	$(PY) tests/conformance/asyncio_suite.py $(ARGS)

loop-suites: ## the suites of anyio, asyncpg, httpx and redis-py on TurboAPI's event loop and on asyncio's
	@scripts/setup.sh suites
	$(PY) tests/conformance/loop_suites.py $(ARGS)

new-pythons: ## the event loop on Python 3.14 and 3.15, in a root file system of Debian sid
	scripts/test_new_pythons.sh $(ARGS)

fastapi: ## the tests that ask FastAPI itself: unchanged applications, parity of the surface
	@scripts/setup.sh test
	scripts/test_fastapi.sh $(ARGS)

bench-protocols: ## TLS, HTTP/2 and compressed responses against other servers (ARGS: --quick ...)
	@scripts/setup.sh test
	$(PY) benchmarks/protocols.py $(ARGS)

fastapi-versions: ## unchanged applications on many releases of FastAPI (ARGS: names of releases, --quick)
	@scripts/setup.sh test
	$(PY) scripts/test_fastapi_versions.py $(ARGS)

bench: ## the servers side by side: a table and a plot in benchmarks/results
	@scripts/setup.sh bench
	$(PY) benchmarks/run.py $(ARGS)

bench-ordinary: ## three ordinary applications: instructions, and how many their libraries take
	@scripts/setup.sh bench
	$(PY) benchmarks/ordinary.py $(ARGS)

bench-growth: ## how the cost of a request grows with routes, connections, fields, bodies, dependencies
	@scripts/setup.sh bench
	$(PY) benchmarks/growth.py $(ARGS)

bench-real: ## applications with PostgreSQL, Redis, httpx and a chat: cost and latency (ARGS: --quick ...)
	@scripts/setup.sh bench-real
	$(PY) benchmarks/realistic.py $(ARGS)

docs: ## build the documentation site in build/site; warnings are errors
	@scripts/setup.sh docs
	$(PY) -m mkdocs build --strict --quiet $(ARGS)
	@echo "build/site/index.html"

docs-serve: ## the site on http://127.0.0.1:8001, rebuilt at every change
	@scripts/setup.sh docs
	$(PY) -m mkdocs serve --dev-addr 127.0.0.1:8001

wheel: ## the sdist, and a wheel for this Python that needs no compiler and no library of the system, in dist
	scripts/build_wheel.sh

try-wheel: ## install that wheel on a bare Debian (debootstrap; ARGS: trixie) and ask it over TLS, HTTP/1.1 and HTTP/2
	scripts/try_wheel.sh $(ARGS)

asan: ## C tests and Python tests under AddressSanitizer and UBSan
	@scripts/setup.sh test
	scripts/sanitize.sh address

tsan: ## C tests under ThreadSanitizer
	@scripts/setup.sh test
	scripts/sanitize.sh thread

tsan-python: ## Python tests with threads under ThreadSanitizer (builds a 3.13t for it, cached; ARGS: files of tests)
	@scripts/setup.sh test
	scripts/tsan_python.sh $(ARGS)

fuzz: ## each libFuzzer target for FUZZ_SECONDS (default 60)
	@scripts/setup.sh fuzz
	scripts/fuzz.sh

soak: ## 300,000 requests of each kind: does the server's memory stay flat? (ARGS: --kinds ...)
	@scripts/setup.sh test
	$(PY) scripts/soak.py $(ARGS)

endurance: ## 2 minutes of full load over TLS while certificates, workers and the program change (ARGS: --minutes 20)
	@scripts/setup.sh test
	$(PY) scripts/endurance.py $(ARGS)

floods: ## what a well-behaved client notices of floods and slow clients (ARGS: --kinds ...)
	@scripts/setup.sh test
	$(PY) scripts/floods.py $(ARGS)

nightly: ## what takes too long for every change: fuzzing, memory under load, busy processors
	scripts/nightly.sh

free-threaded: ## build CPython 3.13t (about 3 minutes, cached) and run the tests on it
	scripts/test_free_threaded.sh

clean: ## remove what was built
	rm -rf build build-* $(VENV) .venv-fastapi .cache

# Every target with a description; none of them is a file.
.PHONY: $(shell sed -n 's/^\([a-z0-9-]*\):.*\#\#.*/\1/p' Makefile)
