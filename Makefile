# Mailweir. `make help` lists what there is.
#
# go.mod names the toolchain; an older Go (1.21 or newer) fetches it.
export GOTOOLCHAIN := auto
SHELL := /bin/sh

# Tests that need namespaces, XDP or nftables need root.
ROOT := $(shell [ "$$(id -u)" = 0 ] || echo sudo env PATH="$$PATH" GOTOOLCHAIN=auto)
PKG ?= ./...

.PHONY: help build generate test race bench run demo image image-test fmt check clean test-kernels

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' Makefile

build: ## bin/weir
	CGO_ENABLED=0 go build -trimpath -o bin/weir ./cmd/appliance

run: ## install what is needed, build, and run it here
	@scripts/deps run
	@$(MAKE) --no-print-directory build
	$(ROOT) bin/weir run

demo: ## a mail and an attack in a small internet of namespaces
	@scripts/deps test
	@go build -o bin/demo ./lab/demo
	@$(ROOT) bin/demo

# Tests that run the program in a lab wait more than they work, so more of them
# run at once than there are processors.
test: ## every test, the privileged ones too; PKG=./smtp/... for some
	@scripts/deps test
	$(ROOT) go test -count=1 -parallel 4 -timeout 30m $(PKG)

# The detector finds what two goroutines of a test binary do to each other. -short
# leaves out what it cannot learn from, and make test runs: the built program in a
# lab (a process of its own, built without the detector), large corpora that one
# goroutine goes through, and the kernel's work where it is the same Go twice.
race: ## the tests under the race detector, but for those that tell it nothing
	$(ROOT) go test -race -short -count=1 -timeout 30m $$(go list $(PKG) | grep -v '/lab/')

test-kernels: ## the packet program on Debian's 6.1 and 6.12, in QEMU; needs a network, takes minutes
	@scripts/deps test
	$(ROOT) scripts/test-kernels

bench: ## the figures; PKG=./firewall/... for some
	@scripts/deps test
	$(ROOT) go test -run '^$$' -bench . -count=1 -timeout 60m $(PKG)

image: ## the appliance: a disk that boots, in dist/ (as root)
	@scripts/deps image
	$(ROOT) image/build

image-test: ## boot that disk in QEMU, through BIOS and UEFI, and try it (as root; FIRMWARE=bios for one of them)
	@scripts/deps test && scripts/deps image
	$(ROOT) image/test $(FIRMWARE)

generate: ## compile the packet program, write the generated chapters of the manual
	go generate ./bpf/... ./cmd/appliance

fmt: ## gofmt
	gofmt -l -w $$(git ls-files '*.go')

check: ## what CI checks besides tests: format, vet, staticcheck, generated code
	@scripts/check

clean: ## remove what was built
	rm -rf bin dist .cache
