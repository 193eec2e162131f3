# The two commands of the README are `make demo` and `make test`; each does all of its own set-up.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test check fix conformance bench bench-receive bench-deliver bench-vision bench-objects bench-route bench-crossval peers clean

demo: $(STAMP) peers
	$(BIN)/fewshot-node demo $(ARGS)

test: $(STAMP) peers
	$(BIN)/python -m pytest --cov --cov-report=term $(ARGS)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Writes the conformance statement into the README again, from the tables of the code.
conformance: $(STAMP)
	$(BIN)/fewshot-node conformance --into README.md

# Every benchmark, and the receiver's alone; ARGS names the parts to run: make bench-receive ARGS="speed memory".
bench: bench-receive bench-deliver bench-vision bench-objects bench-route

bench-receive: $(STAMP) peers
	$(BIN)/python -m tests.benchmarks.receive $(ARGS)

# The fault matrix of deliveries; ARGS is how many series go through each fault.
bench-deliver: $(STAMP) peers
	$(BIN)/python -m tests.benchmarks.deliver $(ARGS)

# The vision half's, with the packaged models; wants the machine to itself.
bench-vision: $(STAMP)
	$(BIN)/python -m tests.benchmarks.vision $(ARGS)

# A Segmentation of 600 slices and 10 segments, against plain highdicom.
bench-objects: $(STAMP)
	$(BIN)/python -m tests.benchmarks.objects

# Routing time of a series where a site has a thousand tasks.
bench-route: $(STAMP)
	$(BIN)/python -m tests.benchmarks.route

# What crossval foretells against the score on other patients: ARGS="ADAPTER DRAWS [SUITE ...]"; wants ../shared/data/suites.
bench-crossval: $(STAMP)
	$(BIN)/python -m tests.benchmarks.crossval $(ARGS)

# A real Orthanc, dcmtk and dicom3tools where root can install them; says what is missing otherwise.
peers:
	@sh deploy/install-peers.sh

$(STAMP): pyproject.toml constraints.txt deploy/make-venv.sh
	@sh deploy/make-venv.sh $(PYTHON) $(VENV)
	@touch $(STAMP)

clean:
	rm -rf $(VENV) .demo .coverage* .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
