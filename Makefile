# wood_nb: `make demo`, `make test`, `make lab` need Python 3.11 or newer, make, and nothing else.

VENV   ?= .venv
PYTHON ?=
ARGS   ?=

PY    := $(VENV)/bin/python
STAMP := $(VENV)/.installed
DOCS  := $(VENV)/.docs

.DEFAULT_GOAL := help
.PHONY: help demo test gpu-check lab venv readme book lessons docs clean FORCE

# The stamp names the checkout it was made in: a moved or copied folder, or a Python that has gone, is noticed.
ifneq ($(shell $(PY) -c 0 2>/dev/null && cat $(STAMP) 2>/dev/null),$(CURDIR))
$(STAMP): FORCE
endif

help:
	@echo 'wood_nb: weakly supervised segmentation with out-of-distribution data'
	@echo
	@echo '  make demo    the whole pipeline on drawn scenes: CAM against W-OoD, with a report to look at (6 to 12 minutes)'
	@echo '  make lab     opens the notebooks in JupyterLab'
	@echo '  make test    checks everything: notebooks, library, README (18 to 25 minutes on 2 cores)'
	@echo
	@echo '  make gpu-check  every training on a GPU in fp32, bf16 and fp16 against the CPU, with speeds (under 8 minutes, no data)'
	@echo '  make venv    only installs (the others do so by themselves)'
	@echo '  make lessons makes the outputs of the lessons again where their code, or the code they use, changed'
	@echo '  make book    writes the links between the lessons and the table of contents; says which links lead nowhere'
	@echo '  make readme  renders README.md from nbs/index.ipynb'
	@echo '  make docs    builds the lessons as a website into _docs (a few small packages more, once)'
	@echo '  make clean   removes what builds and tests leave behind; keeps $(VENV) and runs'
	@echo
	@echo 'The first of them installs into $(VENV) (2 to 5 minutes, 6 GB; afterwards it is there). Times are for 2 cores.'
	@echo 'Options: PYTHON=/path/to/python3.12   VENV=folder   ARGS="options of the command", as in make demo ARGS="--seed 1"'

venv: $(STAMP)
	@echo 'wood_nb is installed in $(VENV).'

$(STAMP): settings.ini setup.py
	@PYTHON='$(PYTHON)' sh .ci/venv.sh '$(VENV)' dev,lab

demo: $(STAMP)
	@echo 'Demo: draws the scenes, then classifier, mining, clusters, W-OoD, maps, seeds, report. 6 to 12 minutes on 2 cores;'
	@echo 'stages that are done already are skipped, so an interrupted demo goes on where it was.'
	@'$(VENV)/bin/wood' demo $(ARGS)

test: $(STAMP)
	@'$(PY)' .ci/check.py $(ARGS)

gpu-check: $(STAMP)
	@'$(PY)' tests/gpu_check.py $(ARGS)

lab: $(STAMP)
	@echo 'JupyterLab on nbs/index.ipynb: your browser opens, or copy the address below into it. Ctrl-C twice stops it.'
	@echo 'Notebooks are cleaned as you save them (no execution counts, no stray metadata), so that changes stay readable.'
	@JUPYTER_CONFIG_PATH="$(CURDIR)/.ci/jupyter$${JUPYTER_CONFIG_PATH:+:$$JUPYTER_CONFIG_PATH}" '$(PY)' -m jupyterlab \
	  --ServerApp.root_dir='$(CURDIR)' --LabApp.default_url=/lab/tree/nbs/index.ipynb \
	  $$(test "$$(id -u)" != 0 || echo --allow-root) $(ARGS)

readme: $(STAMP)
	@'$(PY)' .ci/readme.py

book: $(STAMP)
	@'$(PY)' .ci/book.py --write

lessons: $(STAMP)
	@'$(PY)' .ci/lessons.py $(ARGS)

docs: $(DOCS)
	@'$(PY)' .ci/docs.py

$(DOCS): $(STAMP)
	@PYTHON='$(PYTHON)' sh .ci/venv.sh '$(VENV)' docs && touch '$(DOCS)'

clean:
	@rm -rf build dist *.egg-info _proc _docs .pytest_cache
	@find . -path './$(VENV)' -prune -o -path ./.git -prune -o \
	  '(' -name __pycache__ -o -name .ipynb_checkpoints ')' -type d -print | while read -r o; do rm -rf "$$o"; done
	@echo 'Clean. Kept: $(VENV) and runs (delete the folders if you want them gone).'
