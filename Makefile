# Two commands: `make run` runs the whole benchmark, `make test` every check. Both set themselves up first.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
OUT ?= runs/demo
READY = $(VENV)/.ready

.PHONY: run test site lint export readme bench clean help

run: $(READY)  ## the whole benchmark on the embedded catalogue and stand-ins, to runs/demo/report.html
	$(BIN)/mmpc run --out $(OUT)

test: $(READY)  ## every notebook and every test
	$(BIN)/nbdev-test --n-workers 2
	$(BIN)/pytest -q -n 2 --dist loadfile

site: $(READY)  ## documentation and analysis site, to _docs/index.html
	$(BIN)/python tools/site/build_site.py

lint: $(READY)  ## formatting and lint, changing nothing
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

export: $(READY)  ## notebooks to modules, outputs cleaned; README from the index notebook
	$(BIN)/nbdev-clean
	$(BIN)/nbdev-export
	$(BIN)/python tools/site/readme.py

bench: $(READY)  ## speed against the reference's way and against bare generation
	$(BIN)/python bench/completions.py
	$(BIN)/python bench/readers.py
	OMP_NUM_THREADS=1 $(BIN)/python bench/fill.py
	OMP_NUM_THREADS=1 $(BIN)/python bench/fill.py --whole
	OMP_NUM_THREADS=1 $(BIN)/python bench/scores.py
	$(BIN)/python bench/mixed.py --growth
	OMP_NUM_THREADS=1 $(BIN)/python bench/recommend.py

clean:  ## everything that was made, the virtual environment too
	rm -rf $(VENV) _docs _proc runs

help:  ## this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/'

# The stamp is newer than what it was installed from, so a second call installs nothing.
$(READY): settings.ini setup.py tools/constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --constraint tools/constraints.txt --editable '.[demo,explore,mixed,server,align,dev]'
	touch $(READY)
