# SPDX-License-Identifier: GPL-2.0
# Only dispatches; each script says at its head what it does.

# ARCH: arm64 or x86_64; "make test" without it does both
export ARCH KSRC DEBUG V PREFIX SIGNOFF PATCH FORCE ACCEL ICOUNT ROUNDS

.PHONY: help deps tree refresh series check-series kernel run bench test check selftest-harness mutants vary regress clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

deps: ## install what is missing, from Debian
	@scripts/deps

tree: deps ## build/linux: the base kernel and the stack, as a git tree [KSRC=DIR|TARBALL|package]
	@scripts/tree

refresh: deps ## the commits and edits of build/linux, back to patches/ and linux/ [PATCH=NNNN]
	@scripts/refresh

series: deps ## complete mails in build/series/ [SIGNOFF='Name <mail>'] [V=2] [PREFIX='RFC PATCH']
	@scripts/series

check-series: deps ## git am on a pristine base, the same tree, checkpatch
	@scripts/check-series

kernel: deps ## build a kernel [ARCH=arm64|x86_64] [DEBUG=1]
	@qemu/kernel $(ARCH)

run: deps ## boot it and measure [ROUNDS=n] [ICOUNT=1] [ACCEL=kvm]
	@bench/run $(ARCH)

bench: deps ## all of memory with content, and plots, into bench/results [ROUNDS=n] [ICOUNT=1] [ACCEL=kvm]
	@bench/run content $(ARCH) --results bench/results --plot --check

test: deps ## boot it and run the selftests [DEBUG=1]
	@qemu/test $(ARCH)

check: deps ## the scripts, the mails, the documents, the harness
	@scripts/check

selftest-harness: deps ## does the test harness notice failures?
	@qemu/selftest $(ARCH)

mutants: deps ## do the tests notice broken kernels?
	@qemu/mutate $(ARCH)

vary: deps ## do the selftests pass on other configurations and processors?
	@qemu/vary

regress: deps ## do the selftests of the kernel do the same on base and series?
	@qemu/regress $(ARCH)

clean: ## remove build/, unless build/linux holds work that is nowhere else
	@scripts/tree --clean
