# SPDX-License-Identifier: GPL-2.0
# shellcheck shell=bash
# Sourced by the scripts here. An architecture is two files, arch/NAME.{config,sh}.

here=$(cd "$(dirname "$0")" && pwd -P)
# shellcheck source=scripts/lib.sh
. "$here/../scripts/lib.sh"

# usage: print the comment block at the top of the calling script.
usage() {
	sed -n '3,/^[^#]/ { s/^# \{0,1\}//p; }' "$0"
}

# Set by --debug, too.
debug=${DEBUG:-}
[ "$debug" != 0 ] || debug=

arches() {
	local f
	for f in "$here"/arch/*.sh; do
		basename "$f" .sh
	done
}

load_arch() {
	[ -f "$here/arch/$1.sh" ] ||
		die "unknown architecture '$1'; there are: $(arches | paste -sd ' ')"
	arch=$1
	# shellcheck source=qemu/arch/arm64.sh
	. "$here/arch/$arch.sh"
	# What scripts/deps has fetched because that of the system is too old
	if [ -x "$build/qemu/usr/bin/$QEMU" ]; then
		QEMU=$build/qemu/usr/bin/$QEMU
		QEMU_ARGS+=(-L "$build/qemu/usr/share/qemu")
	fi
}

need() {
	local tool
	for tool; do
		command -v "$tool" >/dev/null || die "$tool is missing; scripts/deps installs what is needed"
	done
}

passed=0 failed=0 skipped=0

# count COMMAND...: run it and add what its last line says, "N passed, N failed, N skipped", which is
# then in $counts. Without such a line, it has failed.
count() {
	local log p f s
	log=$(mktemp)
	"$@" | tee "$log" || true
	counts=$(tail -n 1 "$log")
	rm -f "$log"
	[[ $counts =~ ^[0-9]+\ passed,\ [0-9]+\ failed,\ [0-9]+\ skipped$ ]] ||
		counts='0 passed, 1 failed, 0 skipped'
	read -r p _ f _ s _ <<<"$counts"
	passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
}
