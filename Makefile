# Everything a fresh machine needs: `make demo`, `make test`. STACK=classic takes OpenMMLab's own last releases on torch 2.1.
STACK ?= current
VENV ?= .venv$(if $(filter classic,$(STACK)),-classic)
PYTHON ?= python3
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed-$(STACK)
# two OpenMP threads on networks this small cost more than they bring
export OMP_NUM_THREADS ?= 1
DEMO_DIR ?= work_dirs/demo_digits

.PHONY: help demo test lint install clean
help:
	@echo 'make demo     install into $(VENV), then run the whole method on digits'
	@echo 'make test     install into $(VENV), then lint and run the tests'
	@echo 'make clean    remove the demo run (the environment stays)'

install: $(INSTALLED)

# uv installs the stack in a third of the time that pip takes
$(INSTALLED): requirements/*.txt setup.py
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --python $(BIN)/python -e '.[$(STACK),tests]'
	touch $@

# a second `make demo` goes on with an unfinished demo, and only prints the table of a finished one
demo: $(INSTALLED)
	$(BIN)/python tools/train.py configs/ckd/demo_digits.py --work-dir $(DEMO_DIR) --resume

lint: $(INSTALLED)
	$(BIN)/ruff check .

test: lint
	$(BIN)/python -m pytest

clean:
	rm -rf $(DEMO_DIR)
