# `make test` on a fresh machine sets up .venv and runs the suite; nothing else has to be installed first but Python.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
OLD_TRITON := .triton-3.6
# older diffusers beside the one in .venv, each with the libraries of its time
OLD_DIFFUSERS := .diffusers-0.31 .diffusers-0.35
PINS_0.31 := diffusers==0.31.0 transformers==4.46.3 tokenizers==0.20.3 huggingface-hub==0.26.5 peft==0.13.2 accelerate==1.1.1
PINS_0.35 := diffusers==0.35.2 transformers==4.57.3 tokenizers==0.22.1 huggingface-hub==0.36.0 peft==0.17.1 accelerate==1.10.1
# those that try-on projects pin: OOTDiffusion and IDM-VTON
PROJECT_DIFFUSERS := .diffusers-0.24 .diffusers-0.25
PINS_0.24 := diffusers==0.24.0 transformers==4.46.3 tokenizers==0.20.3 huggingface-hub==0.25.2 peft==0.13.2 accelerate==1.1.1
PINS_0.25 := diffusers==0.25.1 transformers==4.46.3 tokenizers==0.20.3 huggingface-hub==0.25.2 peft==0.13.2 accelerate==1.1.1
PROJECTS := tests/families/test_projects.py tests/families/test_families.py tests/attach/test_refused.py
# other tracers of attention, each without its dependencies: they run with the libraries in .venv
PEERS := .peer-daam .peer-attention-map-diffusers
PIN_daam := daam==0.2.0
PIN_attention-map-diffusers := attention-map-diffusers==1.0.0
ATTACHED := tests/families/test_families.py tests/families/test_projects.py tests/attach/test_words_traced.py tests/attach/test_references.py tests/attach/test_trace.py \
  tests/attach/test_refused.py tests/attach/test_trace_door.py tests/attach/test_compiled.py tests/maps/test_prompt.py \
  tests/models/test_small.py tests/models/test_small_train.py tests/models/test_small_parts.py tests/models/test_stableviton.py tests/models/test_stableviton_convert.py \
  tests/evaluation/test_built_in.py tests/attach/test_explain.py tests/families/test_census.py
N ?= 1000
KILLS ?= 100
OUT ?= gpu-rows
COMMIT ?= $(shell git rev-parse HEAD 2>/dev/null)
GPU_PYTHON ?= python3
# a worker a core, each file's tests in one of them; threads that wait must not spin, as the workers share the cores
WORKERS := -n auto --dist loadfile
PARALLEL := OMP_WAIT_POLICY=PASSIVE

.PHONY: help setup docs test test-cpus test-versions test-oldest test-projects check format fuzz soak codegen bench bench-full bench-peers bench-studies gate demo gpu-first gpu-second gpu-third gpu-pack gpu-land clean

help:
	@echo "make test      set up .venv and run the suite"
	@echo "make test-cpus the numerical part of it as other processors run it: instruction sets, threads"
	@echo "make test-versions  the tracer's tests with diffusers 0.31, 0.35 and the newest"
	@echo "make test-projects  the families' tests with diffusers 0.24 and 0.25, which try-on projects pin"
	@echo "make check     lint, format and types"
	@echo "make docs      the documentation as a site: site/index.html; a broken link or a missing reference is an error"
	@echo "make soak      kill an evaluation KILLS=$(KILLS) times at random moments, and end it"
	@echo "make fuzz      draw N=$(N) random calls a backend and compare each with float64"
	@echo "make codegen   compile every kernel for sm_80, sm_90, sm_100 and gfx942 and print what came out"
	@echo "make bench     operator, layers, whole runs, evaluation, growth: against their baselines, on this machine; under 15 minutes"
	@echo "make bench-full     the same with every case and more rounds"
	@echo "make bench-peers  DAAM and attention-map-diffusers beside i2am, on this machine"
	@echo "make bench-studies  a study of words by DAAM's own loop and by ours, on this machine"
	@echo "make gate      compare counts of operations and instructions with the recorded ones"
	@echo "make gpu-pack  everything a machine with a GPU is asked to do: gpu-first, gpu-second, gpu-third (5, 7, 5 minutes), into OUT=$(OUT)"
	@echo "make gpu-land  put the rows in OUT where the report finds them, and write its tables"
	@echo "make demo      paint a batch with the embedded model, traced, and write a page about it: demo/index.html"

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

# the oldest Triton the kernels are compiled with, beside the one in .venv
$(OLD_TRITON): | $(READY)
	$(BIN)/python -m pip install --quiet --no-deps --target $(OLD_TRITON) triton==3.6.0

test: $(READY) $(OLD_TRITON)
	$(PARALLEL) $(BIN)/python -m pytest $(WORKERS)

test-cpus: $(READY)
	$(BIN)/python tests/helpers/cpus.py

.diffusers-%: | $(READY)
	$(BIN)/python -m pip install --quiet --no-deps --target $@ $(PINS_$*)

test-oldest: $(READY) .diffusers-0.31
	$(PARALLEL) PYTHONPATH=.diffusers-0.31 $(BIN)/python -m pytest $(WORKERS) $(ATTACHED)

test-versions: test-oldest $(OLD_DIFFUSERS)
	PYTHONPATH=.diffusers-0.35 $(BIN)/python -m pytest $(ATTACHED)
	$(BIN)/python -m pytest $(ATTACHED)

test-projects: $(READY) $(PROJECT_DIFFUSERS)
	$(PARALLEL) PYTHONPATH=.diffusers-0.24 $(BIN)/python -m pytest $(WORKERS) $(PROJECTS)
	$(PARALLEL) PYTHONPATH=.diffusers-0.25 $(BIN)/python -m pytest $(WORKERS) $(PROJECTS)

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

docs: $(READY)
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fuzz: $(READY)
	N=$(N) $(BIN)/python -m pytest tests/kernels/test_fuzz.py

soak: $(READY)
	KILLS=$(KILLS) $(BIN)/python -m pytest tests/evaluation/test_processes.py -k killed

codegen: $(READY) $(OLD_TRITON)
	$(BIN)/python -m benchmarks.operator.codegen --out benchmarks/results/codegen.jsonl
	PYTHONPATH=$(OLD_TRITON) $(BIN)/python -m benchmarks.operator.codegen

# under a quarter of an hour on two cores; bench-full has every case, more rounds and takes three times as long
bench: $(READY)
	$(BIN)/python -m benchmarks.operator.one_call --repeats 5
	$(BIN)/python -m benchmarks.operator.layer_set --repeats 3 --families stableviton sdxl_ip_257 sdxl_ip_16
	$(BIN)/python -m benchmarks.pipeline.traced --only small
	$(BIN)/python -m benchmarks.pipeline.traced --only sd15 --cases one_token clip_257 both_77 --steps 1 --pairs 4
	$(BIN)/python -m benchmarks.pipeline.try_on --only small-world
	$(BIN)/python -m benchmarks.pipeline.field_cost --repeats 5
	$(BIN)/python -m benchmarks.evaluation.throughput --steps 5 --rounds 1 --batches 1 8 32
	$(BIN)/python -m benchmarks.operator.growth --repeats 3
	$(BIN)/python -m benchmarks.pipeline.breakdown --sections small
	$(BIN)/python -m benchmarks.report.tables
	$(BIN)/python -m benchmarks.report.page

bench-full: $(READY)
	$(BIN)/python -m benchmarks.operator.one_call
	$(BIN)/python -m benchmarks.operator.layer_set
	$(BIN)/python -m benchmarks.pipeline.traced
	$(BIN)/python -m benchmarks.pipeline.try_on
	$(BIN)/python -m benchmarks.pipeline.field_cost --full
	$(BIN)/python -m benchmarks.pipeline.family_cost
	$(BIN)/python -m benchmarks.pipeline.weigh_cost --full
	$(BIN)/python -m benchmarks.operator.gradients --full
	$(BIN)/python -m benchmarks.evaluation.throughput --steps 5 --rounds 2
	$(BIN)/python -m benchmarks.evaluation.release_hook
	$(BIN)/python -m benchmarks.operator.growth
	$(BIN)/python -m benchmarks.pipeline.breakdown
	$(BIN)/python -m benchmarks.report.tables
	$(BIN)/python -m benchmarks.report.page

.peer-%: | $(READY)
	$(BIN)/python -m pip install --quiet --no-deps --target $@ $(PIN_$*)

bench-peers: $(READY) $(PEERS)
	PYTHONPATH=.peer-daam $(BIN)/python -m benchmarks.peers.tracers daam
	PYTHONPATH=.peer-attention-map-diffusers $(BIN)/python -m benchmarks.peers.tracers attention-map-diffusers
	$(BIN)/python -m benchmarks.report.tables
	$(BIN)/python -m benchmarks.report.page

bench-studies: $(READY) .peer-daam
	PYTHONPATH=.peer-daam $(BIN)/python -m benchmarks.peers.studies
	$(BIN)/python -m benchmarks.report.tables
	$(BIN)/python -m benchmarks.report.page

gate: $(READY)
	$(BIN)/python -m benchmarks.operator.gate

# with the machine's own Python, which has torch and triton; a red row does not keep the next call from its work
gpu-first gpu-second gpu-third:
	$(GPU_PYTHON) -m benchmarks.gpu $(@:gpu-%=%) --out $(OUT) $(if $(COMMIT),--commit $(COMMIT))

gpu-pack:
	red=0; for call in first second third; do $(MAKE) gpu-$$call || red=1; done; $(GPU_PYTHON) -m benchmarks.gpu land $(OUT) && exit $$red

gpu-land: $(READY)
	$(BIN)/python -m benchmarks.gpu land $(OUT)

demo: $(READY)
	$(BIN)/python -m i2am demo --out demo

clean:
	rm -rf $(VENV) $(OLD_TRITON) $(OLD_DIFFUSERS) $(PROJECT_DIFFUSERS) $(PEERS) demo site .pytest_cache .mypy_cache .ruff_cache .hypothesis .benchmarks
