# Every target sets up .venv first when there is none, or when pyproject.toml or constraints.txt changed.
PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
PACKAGES := $(patsubst %/py.typed,quorumlog.%,$(wildcard */py.typed))

.DEFAULT_GOAL := help
.PHONY: help demo test verify fix proto bench chaos sim clients streams compose-test clean

help: ## say what can be made
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1	\2/p' Makefile | expand -t 20

demo: $(INSTALLED) ## three nodes, a stream of orders, kill -9 in the middle, nothing lost; EVENTS=path.csv.gz streams a file
	$(BIN)/quorumlog demo $(if $(EVENTS),--events "$(EVENTS)")

test: $(INSTALLED) ## run the tests; ARGS="-k name" chooses
	$(BIN)/python -m pytest $(ARGS)

verify: $(INSTALLED) ## judge style, types, import floors and generated code; writes nothing
	$(BIN)/ruff check --no-cache .
	$(BIN)/ruff format --check --no-cache .
	$(BIN)/mypy --cache-dir=/dev/null $(addprefix -p ,$(PACKAGES))
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -B -m pytest -q -p no:cacheprovider tests/packaging/test_generated.py

fix: $(INSTALLED) ## tidy what can be tidied mechanically
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

proto: $(INSTALLED) ## generate proto/*_pb2.py and .pyi from proto/*.proto
	$(BIN)/python -m grpc_tools.protoc -Iquorumlog/proto=proto --python_out=.typing --pyi_out=.typing proto/*.proto

bench: $(INSTALLED) ## measure; PEER=kafka beside Apache Kafka, YARDSTICK=path, ARGS="--only throughput,latency"
	$(BIN)/python -m tests.bench $(ARGS)

chaos: $(INSTALLED) ## a cluster under drawn faults, its promises checked; MINUTES=5 SEED=7 TARGET=compose
	$(BIN)/python -m tests.chaos $(if $(MINUTES),--minutes $(MINUTES)) $(if $(SEED),--seed $(SEED)) $(if $(TARGET),--target $(TARGET)) $(ARGS)

sim: $(INSTALLED) ## whole clusters on virtual time, faults drawn from SEEDS=5000 seeds (or A..B); ARGS="--workload groups"
	$(BIN)/python -m tests.sim --seeds $(if $(findstring ..,$(SEEDS)),$(SEEDS),1..$(or $(SEEDS),500)) $(ARGS)

clients: $(INSTALLED) ## what other programs that speak Kafka can do here; ONLY=java,kcat chooses, ARGS=--write writes docs/compatibility.md
	$(BIN)/python -m tests.clients $(if $(ONLY),--only $(ONLY)) $(ARGS)

streams: $(INSTALLED) ## Kafka Streams and Quix Streams count and join while nodes are killed; ARGS="--minutes 5 --rows 100000 --seed 7"
	$(BIN)/python -m tests.streams $(ARGS)

compose-test: $(INSTALLED) ## build the image, run three containers, kill the leader's, lose nothing
	$(BIN)/python -m tests.compose $(ARGS)

clean: ## remove what make made, .venv included
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .demo .bench .run
	find . -name __pycache__ -not -path './.typing/*' -prune -exec rm -rf {} +

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' \
		|| { echo "make: $(PYTHON) must be Python 3.11, 3.12 or 3.13; name another with make PYTHON=/path/to/python3.11" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
		|| { echo "make: $(PYTHON) cannot make virtual environments; on Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --use-pep517 -c constraints.txt -e '.[test,dev]'
	@touch $@
