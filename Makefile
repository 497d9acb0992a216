.PHONY: check test bench docs notebook

check:  ## lint and types
	ruff check
	ruff format --check
	mypy

test:  ## the tests, on the installed package
	pytest

bench:  ## every benchmark: JSON beside it, tables for docs/
	for script in benchmarks/[a-z]*.py; do python $$script; done

docs:  ## regenerate what is generated
	python docs/make_cli.py
	python docs/make_options.py

notebook:  ## run it, and store what it shows (needs the extra `notebook`)
	python docs/make_notebook.py
