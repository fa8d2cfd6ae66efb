# All targets are complete on a machine that has Python 3.11, 3.12 or 3.13 and nothing else.
# A name may be there and no Python behind it, so each is asked; the first that answers is taken.
PYTHON ?= $(shell for one in python3.11 python3.12 python3.13; do \
	$$one --version >/dev/null 2>&1 && echo $$one && break; done)
BIN := .venv/bin
INSTALLED := .venv/.installed
BROWSER := .venv/.browser
DEMO := outputs/compose/lora_composer/scene1

.PHONY: demo test test-browser test-versions benchmark ablations parts hard overlap refresh

demo: $(INSTALLED)
	$(BIN)/toolkit train concept=dog,cat
	$(BIN)/toolkit compose layout=scene1
	@echo "The picture:       $(CURDIR)/$(DEMO)/0.png"
	@echo "What it looked at: $(CURDIR)/$(DEMO)/0_attention.png"

FOREGROUND := dog,cat,fox,robot,mage,unicorn,frog,penguin
PARTS := self_attention queries closed_boxes subject_bias update_in_regions update_limit statistics pace guidance_share
comma := ,
empty :=
space := $(empty) $(empty)
listed = $(subst $(space),$(comma),$(strip $(1)))
ABLATIONS := lora_composer,no_enhancement,no_fill,no_gaussian,no_region_mask,no_region_loss,no_reinitialisation,injection_only

# They go on where they were stopped: what is trained or composed already is kept.

# Every system that runs on the embedded base: the presets, plain rivals, and the published ones.
SYSTEMS := balanced,fast,lora_composer,regional_tokens,regional_prompt,merge,mix_of_show,cones2,lora_switch,lora_composite,prompt_only
benchmark: $(INSTALLED)
	$(BIN)/toolkit train concept=$(FOREGROUND)
	$(BIN)/toolkit train recipe=cones2 concept=$(FOREGROUND)
	$(BIN)/toolkit evaluate methods=$(SYSTEMS) judge=mini,imagenet,clean

ablations: $(INSTALLED)
	$(BIN)/toolkit train concept=$(FOREGROUND)
	$(BIN)/toolkit evaluate methods=$(ABLATIONS) judge=mini,imagenet

# Each part of balanced left out, and each alone on top of the published method.
parts: $(INSTALLED)
	$(BIN)/toolkit train concept=$(FOREGROUND)
	$(BIN)/toolkit evaluate methods=balanced,fast,$(call listed,$(PARTS:%=without_%)) judge=mini,imagenet,clean
	$(BIN)/toolkit evaluate methods=lora_composer,$(call listed,$(PARTS:%=with_%) with_word_bias) judge=mini,imagenet,clean

# Two concepts of one class word, and LoRAs of a rank and length that are too much.
hard: $(INSTALLED)
	$(BIN)/toolkit train concept=dog,dog_twin
	$(BIN)/toolkit train concept=dog_strong,cat_strong training.rank=32 training.steps=600
	$(BIN)/toolkit evaluate layout=twins1,twins2,strong1,strong2 methods=balanced,fast,lora_composer,regional_tokens judge=mini,imagenet,clean

# Regions that overlap, touch or stand apart; outlines in place of boxes, and isolation that ends.
OVERLAP := hug,in_front,wide_gap,brown_dogs,other_ground
overlap: $(INSTALLED)
	$(BIN)/toolkit train concept=dog,cat,dog_twin
	$(BIN)/toolkit evaluate layout=$(OVERLAP) methods=lora_composer,with_mask_refinement,with_isolation_until judge=mini seeds=4
	$(BIN)/python scripts/borders.py outputs $(OVERLAP) 4 lora_composer with_mask_refinement with_isolation_until

# All that depends on the embedded base, once it is published anew; tables are copied by hand.
refresh: benchmark ablations parts hard
	$(BIN)/toolkit compose layout=scene1
	$(BIN)/toolkit evaluate layout=scene1 methods=prompt_only,merge,regional_tokens,lora_composer,balanced seeds=8 judge=mini,imagenet
	$(BIN)/python scripts/docs_pictures.py

# One thread for each test process: two processes with all threads each wait for one another.
test: export OMP_NUM_THREADS = 1
test: export MKL_NUM_THREADS = 1
test: $(INSTALLED)
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/python -m pytest -n 2

# The lowest and the newest versions that pyproject.toml allows, on each Python that is here.
test-versions:
	scripts/test_versions.sh

# The page of `toolkit ui` in Chromium, which the system installs: apt-get install chromium
test-browser: export OMP_NUM_THREADS = 1
test-browser: $(BROWSER)
	@command -v chromium || command -v chromium-browser || \
	  { echo "make test-browser needs Chromium: apt-get install chromium" >&2; exit 1; }
	$(BIN)/python -m pytest tests/browser

$(BROWSER): $(INSTALLED)
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev,browser]'
	touch $@

# torch by itself first: it is the large one, and fails alone if there is no build for the machine.
$(INSTALLED): pyproject.toml constraints.txt
	@test -x $(BIN)/python || test -n "$(PYTHON)" || \
		{ echo "no Python 3.11, 3.12 or 3.13 found: say PYTHON=/path/to/python" >&2; exit 2; }
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -c constraints.txt torch==2.13.0
	$(BIN)/python -m pip install -c constraints.txt -e '.[dev]'
	touch $@
