# What people and CI run. `make` alone lists the targets.
.DEFAULT_GOAL := help
.PHONY: help setup engine build demo test bench simulate deep

# The demo leaves its servers running with KEEP=1.
KEEP ?=

# `make simulate` tells so many stories, from this seed on.
SEEDS ?= 2000
FIRST ?= 0
# `make deep` runs these stages only, `make bench` these rows.
ONLY ?=
# How much `make bench` seeds: small, medium or large.
SIZE ?= small

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1\t\2/p' Makefile | expand -t 16

setup: ## install what is missing (Debian-like machines)
	@scripts/setup

engine: setup ## build the Qdrant test server, once
	@scripts/engine

build: setup ## build course-gc
	@cargo build --locked

demo: setup engine ## show it on a seeded campus, in under a minute; KEEP=1 leaves everything running
	@cargo build --locked --workspace --bins
	@"$${CARGO_TARGET_DIR:-target}/debug/demo" $(if $(KEEP),--keep)

test: ## all that CI runs, and how long each stage took
	@scripts/test

bench: setup engine ## measure it beside what else a person would use; SIZE=medium or large, ONLY=redis-sweep,quiet for some rows
	@cargo run --locked --quiet --profile measured --package bench -- --size "$(SIZE)" $(if $(ONLY),--only "$(ONLY)")

simulate: setup ## tell SEEDS stories of the simulation, from FIRST on; the first that breaks the contract is shown
	@SEEDS="$(SEEDS)" FIRST="$(FIRST)" scripts/simulate

deep: setup ## what is too long for CI, run by hand; ONLY="coverage mutation" runs some of it
	@ONLY="$(ONLY)" scripts/deep
