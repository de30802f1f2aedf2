# SPDX-License-Identifier: GPL-2.0
# Sourced by the scripts here and in the sibling directories; POSIX sh.
# shellcheck shell=sh

# The repository: every script lies one level below it. Tests point REFPAGE_TOP at a scratch copy.
top=${REFPAGE_TOP:-$(cd "$(dirname "$0")/.." && pwd -P)}
build=$top/build
# shellcheck disable=SC2034 # for the sourcing scripts
linux=$build/linux

# --- messages ---------------------------------------------------------------------------------

step_start=

say() {
	elapsed
	printf '%s\n' "$*"
}

note() {
	elapsed >&2
	printf 'note: %s\n' "$*" >&2
}

die() {
	elapsed >&2
	printf '%s: %s\n' "${0##*/}" "$*" >&2
	exit 1
}

# step N M TEXT: "[2/5] TEXT ..."; the next message, step or elapsed adds "9 s".
step() {
	elapsed
	printf '[%s/%s] %s ...' "$1" "$2" "$3"
	step_start=$(date +%s)
}

elapsed() {
	[ -n "$step_start" ] || return 0
	printf ' %s s\n' $(($(date +%s) - step_start))
	step_start=
}

# --- build/linux ------------------------------------------------------------------------------
#
# Branch "stack" is what everybody builds. What the scripts remember lies beside it in .git:
#   refs/tags/base            the base commit of the stack, without parent
#   refs/refpage/base/KEY     every base imported so far, by the key of its source
#   refs/refpage/generated    the stack as scripts/tree last made it
#   refpage/inputs            what it was made from: a hash of patches/ and linux/
#   refpage/inexact           patches that applied with an offset or fuzz
#   refpage/source            where the base came from: "package", or KSRC

# Commits must come out the same for everybody, whatever git is told elsewhere, and also when
# make runs inside a hook, which exports GIT_DIR.
isolate_git() {
	# shellcheck disable=SC2046 # a list of variable names
	unset $(git rev-parse --local-env-vars)
	export GIT_CONFIG_GLOBAL=/dev/null GIT_CONFIG_NOSYSTEM=1 LC_ALL=C TZ=UTC
}

k() {
	git -C "$linux" "$@"
}

# One run at a time; scripts that call each other pass the lock on.
lock_linux() {
	[ -z "${REFPAGE_LOCKED:-}" ] || return 0
	mkdir -p "$build"
	exec 9>"$build/linux.lock"
	if ! flock -n 9; then
		say "waiting for another run that uses build/linux"
		flock 9
	fi
	export REFPAGE_LOCKED=1
}

# Hash of what the stack is generated from, in directory $1; file modes count.
inputs_hash() (
	cd "$1" || exit 1
	{
		cat patches/series 2>/dev/null || :
		# "|| :" for a directory that does not exist; it holds no input.
		{
			find patches linux ! -name '*.txt' ! -type d -printf '%M %p\n' -type f \
				-exec sha256sum {} + 2>/dev/null || :
		} | sort
	} | sha256sum | cut -d ' ' -f 1
)

inputs_changed() {
	[ "$(inputs_hash "$top")" != "$(cat "$linux/.git/refpage/inputs" 2>/dev/null)" ]
}

# Does build/linux hold work that was not generated: commits, edits, new files, or a rebase or
# bisection under way?
is_edited() {
	[ "$(k symbolic-ref -q --short HEAD)" != stack ] ||
		[ "$(k rev-parse HEAD)" != "$(k rev-parse refs/refpage/generated)" ] ||
		[ -n "$(k status --porcelain)" ]
}

describe_commit() {
	k log -1 --format=%s "$1"
}
