# The commands a newcomer needs. Each installs what it is missing.

.PHONY: run test bench build clean help

help:
	@echo 'make run    build, start the platform and push examples/hello; Ctrl-C ends it'
	@echo 'make test   everything CI runs'
	@echo 'make bench  the benchmarks, one line of JSON each'
	@echo 'make build  target/release/cupola'
	@echo 'make clean  remove build results and the data of make run'

run: build
	@scripts/run

build:
	@scripts/setup run
	cargo build --release --package platform

test:
	@scripts/setup test
	cargo xtask ci

bench: build
	@scripts/bench

clean:
	cargo clean
	rm -rf data
