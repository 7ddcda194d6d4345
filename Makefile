# Two environments: $(SERVING) holds what the service needs and no torch, $(DEV) holds everything.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
SERVING := .venv
DEV := .venv-dev
PIP_INSTALL := -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
TRITON := nvidia-pytriton==0.7.0
IMAGE ?= tests/data/board.png
DRAWN := synth bare dense sound looks synth_val

export HF_HUB_OFFLINE ?= 1

.DEFAULT_GOAL := help
.PHONY: help demo run test coverage check bench chaos soak train evaluate export clean

help: ## list the commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

demo: $(SERVING)/.installed ## find defects in one picture through the whole service (IMAGE=path for another)
	$(SERVING)/bin/python -m gateway.demo --image $(IMAGE)

run: $(SERVING)/.installed ## leave the service up on 127.0.0.1:8080
	$(SERVING)/bin/python -m gateway.up

test: $(DEV)/.installed ## all tests, with the real Triton, in two processes
	$(DEV)/bin/python -m pytest --numprocesses 2 --dist loadfile

coverage: $(DEV)/.installed ## which lines and branches of the gateway its tests reach
	$(DEV)/bin/python -m pytest tests/gateway --cov --cov-report=term:skip-covered

check: $(DEV)/.installed ## format, lint, types, import rules
	$(DEV)/bin/ruff format --check .
	$(DEV)/bin/ruff check .
	$(DEV)/bin/mypy
	$(DEV)/bin/lint-imports

bench: $(DEV)/.installed ## the whole service against its peers, on one core (three quarters of an hour)
	taskset -c 0 $(DEV)/bin/python -m tests.benchmarks.service

chaos: $(DEV)/.installed ## break the service on purpose (an hour)
	$(DEV)/bin/python -m tests.chaos --out docs/benchmarks/chaos.json

soak: $(DEV)/.installed ## thirty minutes at 70 % of capacity
	$(DEV)/bin/python -m tests.chaos.soak --out docs/benchmarks/soak.json

train: $(DEV)/.installed $(DRAWN:%=data/%/annotations.json) ## train the shipped checkpoint again (hours on a CPU)
	$(DEV)/bin/python -m training.train --config training/configs/deeppcb_tiny.yaml
	$(DEV)/bin/python -m training.train --config training/configs/pcb_twelve.yaml
	$(DEV)/bin/python -m training.train --config training/configs/pcb_dense.yaml
	$(DEV)/bin/python -m training.train --config training/configs/pcb_fine.yaml
	$(DEV)/bin/python -m training.train --config training/configs/pcb_settle.yaml --set model.checkpoint=runs/pcb_fine/checkpoint
	$(DEV)/bin/python -m training.train --config training/configs/decoder.yaml --set model.checkpoint=runs/pcb_settle/checkpoint

# Written last: a folder without it is half drawn.
data/synth/annotations.json: | $(DEV)/.installed
	rm -rf $(@D)
	$(DEV)/bin/python -m training.synth --n 2400 --out $(@D) --workers 2

data/bare/annotations.json: | $(DEV)/.installed
	rm -rf $(@D)
	$(DEV)/bin/python -m training.synth --n 1600 --kind bare --out $(@D) --workers 2

data/dense/annotations.json: | $(DEV)/.installed
	rm -rf $(@D)
	$(DEV)/bin/python -m training.synth --n 1800 --seed 2 --defects 12 --out $(@D) --workers 2

data/sound/annotations.json: | $(DEV)/.installed
	rm -rf $(@D)
	$(DEV)/bin/python -m training.synth --n 1200 --seed 5 --defects 0 --out $(@D) --workers 2

data/looks/annotations.json: | $(DEV)/.installed
	rm -rf $(@D)
	$(DEV)/bin/python -m training.synth --n 1500 --seed 6 --defects 12 --blemishes 0.7 --out $(@D) --workers 2

data/synth_val/annotations.json: | $(DEV)/.installed
	rm -rf $(@D)
	$(DEV)/bin/python -m training.synth --n 200 --seed 1 --out $(@D) --workers 2

evaluate: $(DEV)/.installed ## judge the shipped checkpoint on DeepPCB's val.txt
	$(DEV)/bin/python -m training.evaluate --checkpoint training/checkpoints/pcb_twelve --data ../shared/data/deeppcb

export: $(DEV)/.installed ## build the shipped engines from the shipped checkpoint
	$(DEV)/bin/python -m export.build --checkpoint training/checkpoints/pcb_twelve --target openvino --out model_repository

clean: ## remove environments and build results
	rm -rf $(SERVING) $(DEV) build

$(SERVING)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(SERVING)
	$(SERVING)/bin/python $(PIP_INSTALL) --editable '.[gateway,client,serving]'
	$(SERVING)/bin/python $(PIP_INSTALL) --no-deps $(TRITON)
	touch $@

# torch comes first and by itself: a CPU wheel that lies on disk is taken, and nothing asks for a newer one.
$(DEV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(DEV)
	$(DEV)/bin/python $(PIP_INSTALL) torch==2.13.0
	$(DEV)/bin/python $(PIP_INSTALL) --editable '.[gateway,client,serving,training,export,dev]'
	$(DEV)/bin/python $(PIP_INSTALL) --no-deps $(TRITON)
	touch $@
