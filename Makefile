# Both targets are complete on a machine that has Python 3.11 and nothing else.
PYTHON ?= python3.11
BIN := .venv/bin
INSTALLED := .venv/.installed
DEMO := outputs/compose/lora_composer/scene1

.PHONY: demo test benchmark ablations

demo: $(INSTALLED)
	$(BIN)/toolkit train concept=dog,cat
	$(BIN)/toolkit compose layout=scene1
	@echo "The picture:       $(CURDIR)/$(DEMO)/0.png"
	@echo "What it looked at: $(CURDIR)/$(DEMO)/0_attention.png"

FOREGROUND := dog,cat,fox,robot,mage,unicorn,frog,penguin
ABLATIONS := lora_composer,no_enhancement,no_fill,no_gaussian,no_region_mask,no_region_loss,no_reinitialisation,injection_only

# Both go on where they were stopped: what is trained or composed already is kept.
benchmark: $(INSTALLED)
	$(BIN)/toolkit train concept=$(FOREGROUND)
	$(BIN)/toolkit evaluate judge=mini,imagenet

ablations: $(INSTALLED)
	$(BIN)/toolkit train concept=$(FOREGROUND)
	$(BIN)/toolkit evaluate methods=$(ABLATIONS) judge=mini,imagenet

# One thread for each test process: two processes with all threads each wait for one another.
test: export OMP_NUM_THREADS = 1
test: export MKL_NUM_THREADS = 1
test: $(INSTALLED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

# torch by itself first: it is the large one, and fails alone if there is no build for the machine.
$(INSTALLED): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	touch $@
