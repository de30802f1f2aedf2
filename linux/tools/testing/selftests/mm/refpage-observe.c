// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of refpage_create(2): what is seen of refpage mappings from the
 * outside.
 *
 * The property: who looks at a refpage mapping through /proc, sysfs or tracefs
 * sees what there would be to see of anonymous memory to which the same was
 * done, except for what the documents tell: the name, the content that is not
 * zeros, PROT_EXEC that is not allowed, and events and counters of its own. So
 * most tests do the same to two mappings, one of them anonymous, and compare
 * what is seen, field by field. What a comment below says to be caught is the
 * mistake in the kernel that makes the test fail.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/mman.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "refpage-system.h"

/* Pages of most mappings, and the order of a folio of that size */
#define PAGES	16L
#define ORDER	4

#define TRACING		"/sys/kernel/tracing/"
#define INSTANCE	TRACING "instances/refpage-test/"
#define PAGE_IDLE	"/sys/kernel/mm/page_idle/bitmap"
#define NODES		"/sys/devices/system/node/"

/* -- Fixture: memory of one kind, beside anonymous memory ----------------- */

static const struct kind kind_zero = {};	/* one byte, and that is 0 */

FIXTURE(observe)
{
};

FIXTURE_VARIANT(observe)
{
	const struct kind *kind;
	const char *name;	/* refpage-kind */
};

FIXTURE_VARIANT_ADD(observe, byte)
{
	.kind = &kind_byte, .name = "byte",
};

FIXTURE_VARIANT_ADD(observe, pattern)
{
	.kind = &kind_word, .name = "pattern",
};

FIXTURE_VARIANT_ADD(observe, page)
{
	.kind = &kind_page, .name = "page",
};

/* Content that is that of anonymous memory, and yet no zero page */
FIXTURE_VARIANT_ADD(observe, zero)
{
	.kind = &kind_zero, .name = "byte",
};

static void trace_remove(void)
{
	rmdir(INSTANCE);
}

/* One page per load fault, as in the control, unless a test asks for more */
FIXTURE_SETUP(observe)
{
	const char *why = prepare(variant->kind);

	if (why)
		SKIP(return, "%s", why);
	trace_remove();
	stay_on_this_cpu();
	if (!set_fault_around(1))
		SKIP(return, "no " FAULT_AROUND);
}

FIXTURE_TEARDOWN(observe)
{
	trace_remove();
	EXPECT_TRUE(finish());
}

static long content_size(const struct kind *kind)
{
	return kind->whole_page ? (long)psize() : 1L << kind->n;
}

static int create(const struct kind *kind)
{
	unsigned int flags = REFPAGE_PATTERN_SIZE(kind->n);
	int fd = refpage_create(content, kind->whole_page ? 0 : flags);

	if (fd < 0)
		die("refpage_create");
	return fd;
}

/* One page of content for all descriptors? */
static bool is_shared(const struct kind *kind)
{
	return kind->byte >= 0;
}

static unsigned char *map_content_at(void *addr, long pages)
{
	void *p = mmap(addr, bytes(pages), RW,
		       MAP_PRIVATE | MAP_REFPAGE | MAP_FIXED, -1,
		       (off_t)(uintptr_t)content);

	if (p == MAP_FAILED)
		die("mmap(MAP_REFPAGE)");
	return p;
}

static __u64 entry_at(const unsigned char *p)
{
	return pagemap_get_entry(pagemap_fd, (char *)p);
}

static unsigned long pfn_at(const unsigned char *p)
{
	return pagemap_get_pfn(pagemap_fd, (char *)p);
}

/* -- What has been done to memory ----------------------------------------- */

static void make_untouched(unsigned char *p, long pages)
{
}

static void make_loaded(unsigned char *p, long pages)
{
	load_pages(p, pages);
}

static void make_stored(unsigned char *p, long pages)
{
	mark(p, pages, 1);
}

static void make_mixed(unsigned char *p, long pages)
{
	mix(p, pages);
}

static void make_read_only(unsigned char *p, long pages)
{
	mix(p, pages);
	if (mprotect(p, bytes(pages), PROT_READ))
		die("mprotect");
}

static void make_inaccessible(unsigned char *p, long pages)
{
	mix(p, pages);
	if (mprotect(p, bytes(pages), PROT_NONE))
		die("mprotect");
}

static void make_dropped(unsigned char *p, long pages)
{
	mark(p, pages, 1);
	advise(p, pages / 2, MADV_DONTNEED);
	load_pages(p, pages / 4);
}

/* Freed, and a part stored to again */
static void make_freed(unsigned char *p, long pages)
{
	mark(p, pages, 1);
	drain_batches();
	advise(p, pages / 2, MADV_FREE);
	mark(p, pages / 4, 1);
	drain_batches();
}

static void make_cold(unsigned char *p, long pages)
{
	mix(p, pages);
	advise(p, pages, MADV_COLD);
}

static void swap_out(unsigned char *p, long pages)
{
	if (!page_out(p, pages))
		die("swap");
}

static void make_swapped(unsigned char *p, long pages)
{
	mark(p, pages, 1);
	swap_out(p, pages);
}

static void make_half_swapped(unsigned char *p, long pages)
{
	mix(p, pages);
	swap_out(p, pages / 2);
}

/* Swapped out, and in by loads and by stores */
static void make_swapped_in(unsigned char *p, long pages)
{
	mark(p, pages, 1);
	swap_out(p, pages);
	load_pages(p, pages / 2);
	mark(p, pages / 4, 1);
}

static void make_guarded(unsigned char *p, long pages)
{
	mix(p, pages);
	if (!guard(p + bytes(1), pages / 2))
		die("MADV_GUARD_INSTALL");
}

static void make_locked(unsigned char *p, long pages)
{
	mix(p, pages);
	if (mlock(p, bytes(pages)))
		die("mlock");
	drain_batches();
}

static void make_locked_on_fault(unsigned char *p, long pages)
{
	mix(p, pages);
	if (mlock2(p, bytes(pages), MLOCK_ONFAULT))
		die("mlock2");
	drain_batches();
}

static void make_populated_for_read(unsigned char *p, long pages)
{
	advise(p, pages, MADV_POPULATE_READ);
}

static void make_populated_for_write(unsigned char *p, long pages)
{
	advise(p, pages, MADV_POPULATE_WRITE);
}

/* Advice that becomes a flag of the mapping */
static void make_advised(unsigned char *p, long pages)
{
	static const int advice[] = {
		MADV_SEQUENTIAL, MADV_RANDOM, MADV_DONTFORK, MADV_DONTDUMP,
		MADV_HUGEPAGE, MADV_NOHUGEPAGE, MADV_MERGEABLE, MADV_WIPEONFORK,
	};

	for (size_t i = 0; i < ARRAY_SIZE(advice); i++)
		advise(p + bytes(i), 1, advice[i]);
	mark(p, pages, 1);
}

/* userfaultfd marks what has not been stored to since; it stays open. */
static void make_watched(unsigned char *p, long pages)
{
	int fd = open_userfaultfd(WATCH_STORES);

	mix(p, pages);
	if (fd < 0 || uffd_register(fd, p, bytes(pages), false, true, false))
		die("userfaultfd");
	write_protect(p, pages);
	mark(p, pages, 3);
	advise(p + bytes(pages / 2), 2, MADV_DONTNEED);
}

/* A folio of all pages */
static void make_folio(unsigned char *p, long pages)
{
	unsigned int order = __builtin_ctzl(pages);

	enable(order);
	advise(p, pages, MADV_HUGEPAGE);
	mark(p, pages, 1);
	if (!is_folio(p, order))
		die("a folio");
}

static void make_folio_dropped(unsigned char *p, long pages)
{
	make_folio(p, pages);
	advise(p + bytes(1), pages / 2, MADV_DONTNEED);
}

static void make_folio_freed(unsigned char *p, long pages)
{
	make_folio(p, pages);
	drain_batches();
	advise(p, pages, MADV_FREE);
	drain_batches();
}

static void make_folio_swapped(unsigned char *p, long pages)
{
	make_folio(p, pages);
	swap_out(p, pages);
}

static void make_folio_read_only(unsigned char *p, long pages)
{
	make_folio(p, pages);
	if (mprotect(p, bytes(pages), PROT_READ))
		die("mprotect");
}

static void make_folio_locked(unsigned char *p, long pages)
{
	make_folio(p, pages);
	if (mlock(p, bytes(pages)))
		die("mlock");
	drain_batches();
}

static void make_merged(unsigned char *p, long pages)
{
	for (long i = 0; i < pages; i++)
		memset(p + bytes(i), 0x99, psize());
	advise(p, pages, MADV_MERGEABLE);
	if (!ksm_scan())
		die("KSM");
}

/* A page of zeros that KSM has replaced by the zero page */
static void make_merged_zeros(unsigned char *p, long pages)
{
	mark(p, pages, 1);
	memset(p, 0, psize());
	set(KSM "use_zero_pages", "1");
	advise(p, pages, MADV_MERGEABLE);
	if (!ksm_scan())
		die("KSM");
	set(KSM "use_zero_pages", "0");
}

static const struct deed {
	const char *name;
	void (*make)(unsigned char *p, long pages);
	bool huge;		/* to pages of a PMD */
} deeds[] = {
	{ .name = "untouched", .make = make_untouched },
	{ .name = "loaded", .make = make_loaded },
	{ .name = "stored", .make = make_stored },
	{ .name = "mixed", .make = make_mixed },
	{ .name = "read-only", .make = make_read_only },
	{ .name = "inaccessible", .make = make_inaccessible },
	{ .name = "dropped", .make = make_dropped },
	{ .name = "freed", .make = make_freed },
	{ .name = "cold", .make = make_cold },
	{ .name = "swapped", .make = make_swapped },
	{ .name = "half swapped", .make = make_half_swapped },
	{ .name = "swapped in", .make = make_swapped_in },
	{ .name = "guarded", .make = make_guarded },
	{ .name = "locked", .make = make_locked },
	{ .name = "locked on fault", .make = make_locked_on_fault },
	{ .name = "populated for read", .make = make_populated_for_read },
	{ .name = "populated for write", .make = make_populated_for_write },
	{ .name = "advised", .make = make_advised },
	{ .name = "watched", .make = make_watched },
	{ .name = "merged", .make = make_merged },
	{ .name = "merged zeros", .make = make_merged_zeros },
	{ .name = "a folio", .make = make_folio },
	{ .name = "a folio, dropped", .make = make_folio_dropped },
	{ .name = "a folio, freed", .make = make_folio_freed },
	{ .name = "a folio, swapped", .make = make_folio_swapped },
	{ .name = "a folio, read-only", .make = make_folio_read_only },
	{
		.name = "a huge page", .make = make_folio,
		.huge = true,
	},
	{
		.name = "a huge page, dropped", .make = make_folio_dropped,
		.huge = true,
	},
	{
		.name = "a huge page, freed", .make = make_folio_freed,
		.huge = true,
	},
	{
		.name = "a huge page, swapped", .make = make_folio_swapped,
		.huge = true,
	},
	{
		.name = "a huge page, read-only", .make = make_folio_read_only,
		.huge = true,
	},
	{
		.name = "a huge page, locked", .make = make_folio_locked,
		.huge = true,
	},
};

/* A refpage mapping and its control, to which the same has been done */
struct pair {
	const char *name;
	unsigned char *p, *anon;
	long pages;
};

static struct pair make_pair(const struct deed *deed)
{
	struct pair pair = { .name = deed->name };

	pair.pages = deed->huge ? pmd_pages() : PAGES;
	pair.p = memory(pair.pages);
	pair.anon = anon_memory(pair.pages);
	set_defaults();
	deed->make(pair.p, pair.pages);
	deed->make(pair.anon, pair.pages);
	drain_batches();
	return pair;
}

static void unmap_pair(const struct pair *pair)
{
	unmap(pair->p, pair->pages);
	unmap(pair->anon, pair->pages);
}

/* -- Comparing what is seen ----------------------------------------------- */

#define VIEW	65536

/* What is seen of memory in process @pid, as lines of text */
typedef void (*look_fn)(pid_t pid, unsigned char *p, long pages, char *text);

/* The lines may differ in nothing; shows the first that does. */
static bool same_view(const char *name, const char *seen, const char *want)
{
	while (*seen || *want) {
		int len = strcspn(seen, "\n"), want_len = strcspn(want, "\n");

		if (len != want_len || strncmp(seen, want, len)) {
			ksft_print_msg("%s: '%.*s' and not '%.*s'\n", name,
				       len, seen, want_len, want);
			return false;
		}
		seen += len + !!seen[len];
		want += want_len + !!want[want_len];
	}
	return true;
}

static bool same_pair(const struct pair *pair, pid_t pid, look_fn look)
{
	static char seen[VIEW], want[VIEW];

	look(pid, pair->p, pair->pages, seen);
	look(pid, pair->anon, pair->pages, want);
	return *want && same_view(pair->name, seen, want);
}

/* Does what is done to both look the same? */
static bool looks_the_same(const struct deed *deed, look_fn look)
{
	struct pair pair = make_pair(deed);
	bool same = same_pair(&pair, getpid(), look);

	unmap_pair(&pair);
	return same;
}

/* And in a process that has been forked then, and in its parent? */
static bool looks_the_same_forked(const struct deed *deed, look_fn look)
{
	struct pair pair = make_pair(deed);
	int done[2];
	bool same;
	pid_t pid;

	if (pipe(done))
		die("pipe");
	pid = fork_child();
	if (!pid) {
		wait_for(done);
		_exit(0);
	}
	same = same_pair(&pair, getpid(), look);
	same &= same_pair(&pair, pid, look);
	tell(done);
	same &= child_passed(pid);
	close(done[0]);
	close(done[1]);
	unmap_pair(&pair);
	return same;
}

static FILE *open_proc(pid_t pid, const char *file)
{
	char path[64];
	FILE *stream;

	snprintf(path, sizeof(path), "/proc/%d/%s", pid, file);
	stream = fopen(path, "r");
	if (!stream)
		die(path);
	return stream;
}

static bool in_range(unsigned long addr, const unsigned char *p, long pages)
{
	return addr - (unsigned long)p < (unsigned long)bytes(pages);
}

static void remove_text(char *text, const char *what)
{
	char *found = strstr(text, what);

	if (found)
		memmove(found, found + strlen(what),
			strlen(found + strlen(what)) + 1);
}

/* Content is not to be executed: "me" is the only difference. */
static void look_smaps(pid_t pid, unsigned char *p, long pages, char *text)
{
	FILE *stream = open_proc(pid, "smaps");
	unsigned long start, end;
	bool inside = false;
	char line[512];

	*text = 0;
	while (fgets(line, sizeof(line), stream)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2) {
			inside = in_range(start, p, pages);
		} else if (inside) {
			if (!strncmp(line, "VmFlags:", 8))
				remove_text(line, " me");
			strcat(text, line);
		}
	}
	fclose(stream);
}

/*
 * smaps is the same in each field. Catches the reference page in any of them,
 * private pages that count as pages of a file, flags that advice sets on
 * anonymous memory only, and mappings that are not eligible for huge pages.
 */
TEST_F_TIMEOUT(observe, smaps, 120)
{
	for (size_t i = 0; i < ARRAY_SIZE(deeds); i++)
		EXPECT_TRUE(looks_the_same(&deeds[i], look_smaps));
}

/*
 * And while another process shares the pages. Catches shares of a page that are
 * not divided by those who have it, and what a child does not inherit.
 */
TEST_F_TIMEOUT(observe, smaps_forked, 120)
{
	for (size_t i = 0; i < ARRAY_SIZE(deeds); i++)
		EXPECT_TRUE(looks_the_same_forked(&deeds[i], look_smaps));
}

/*
 * The flags of memory that may be dropped, which are more than one. Catches
 * VM_WIPEONFORK, VM_DONTDUMP or VM_NORESERVE left out.
 */
TEST_F(observe, smaps_droppable)
{
	memory_type = MAP_DROPPABLE;
	for (size_t i = 0; i < 4; i++)
		EXPECT_TRUE(looks_the_same(&deeds[i], look_smaps));
}

/* The line is the same but for the address and the name of a file. */
static void look_numa_maps(pid_t pid, unsigned char *p, long pages, char *text)
{
	FILE *stream = open_proc(pid, "numa_maps");
	unsigned long start;
	char line[512];
	int address;

	*text = 0;
	while (fgets(line, sizeof(line), stream)) {
		if (sscanf(line, "%lx%n", &start, &address) != 1 ||
		    !in_range(start, p, pages))
			continue;
		remove_text(line, " file=anon_inode:[refpage]");
		strcat(text, line + address);
	}
	fclose(stream);
}

/*
 * numa_maps is the same. Catches the reference page counted for its node, and
 * pages that are mapped as those of a file.
 */
TEST_F_TIMEOUT(observe, numa_maps, 120)
{
	for (size_t i = 0; i < ARRAY_SIZE(deeds); i++)
		EXPECT_TRUE(looks_the_same_forked(&deeds[i], look_numa_maps));
}

/*
 * What smaps_rollup says now; it is read without memory being touched for it.
 */
static void read_rollup(char *text)
{
	int fd = open("/proc/self/smaps_rollup", O_RDONLY);
	ssize_t len = read(fd, text, VIEW - 1);

	if (len <= 0)
		die("smaps_rollup");
	text[len] = 0;
	close(fd);
}

static long field_number(const char *text, const char *field)
{
	const char *found = strstr(text, field);

	return found ? strtol(found + strlen(field), NULL, 10) : 0;
}

static const char *const rollup_fields[] = {
	"\nRss:", "\nPss_Anon:", "\nPss_File:", "\nPss_Shmem:", "\nAnonymous:",
	"\nKSM:", "\nLazyFree:", "\nAnonHugePages:", "\nShmemPmdMapped:",
	"\nFilePmdMapped:", "\nSwap:", "\nSwapPss:", "\nLocked:",
};

/* By how much does this change what smaps_rollup says? */
static void look_rollup(const struct deed *deed, unsigned char *p, long pages,
			char *text)
{
	static char before[VIEW], after[VIEW];

	set_defaults();
	read_rollup(before);
	deed->make(p, pages);
	read_rollup(after);
	for (size_t i = 0; i < ARRAY_SIZE(rollup_fields); i++)
		text += sprintf(text, "%s %ld", rollup_fields[i],
				field_number(after, rollup_fields[i]) -
				field_number(before, rollup_fields[i]));
	unmap(p, pages);
}

/*
 * smaps_rollup changes by the same. Catches what the sum of all mappings has
 * and smaps of one has not. Done once before, so that all else has been
 * touched.
 */
TEST_F_TIMEOUT(observe, smaps_rollup, 120)
{
	static char seen[VIEW], want[VIEW];

	for (size_t i = 0; i < ARRAY_SIZE(deeds); i++) {
		long pages = deeds[i].huge ? pmd_pages() : PAGES;

		look_rollup(&deeds[i], memory(pages), pages, seen);
		look_rollup(&deeds[i], memory(pages), pages, seen);
		look_rollup(&deeds[i], anon_memory(pages), pages, want);
		EXPECT_TRUE(same_view(deeds[i].name, seen, want));
	}
}

static const char *const status_fields[] = {
	"VmSize:", "VmLck:", "VmPin:", "VmData:", "VmStk:", "VmExe:", "VmLib:",
	"VmPTE:",
};

/* Columns of statm, in pages */
enum { STATM_SIZE, STATM_RSS, STATM_SHARED, STATM_TEXT, STATM_LIB, STATM_DATA };

static long statm(int column)
{
	FILE *stream = open_proc(getpid(), "statm");
	long number = -1;

	while (column-- >= 0) {
		if (fscanf(stream, "%ld", &number) != 1)
			die("statm");
	}
	fclose(stream);
	return number;
}

/*
 * status and statm count a mapping as they do one of anonymous memory. Catches
 * a mapping that counts as text, library or none of the data. At the same
 * place, so that page tables are the same.
 */
TEST_F(observe, status)
{
	static const char status[] = "/proc/self/status";
	const long many = 2048, n = ARRAY_SIZE(status_fields);
	long seen[2][ARRAY_SIZE(status_fields) + STATM_DATA + 1];
	unsigned char *p = reserve(many, 0);

	for (int i = 0; i < 2; i++) {
		unmap(p, many);
		for (long j = 0; j < n; j++)
			seen[i][j] = -file_number(status, status_fields[j]);
		for (int j = 0; j <= STATM_DATA; j++)
			seen[i][n + j] = -statm(j);
		if (i)
			map_at(p, -1, many, RW, MAP_ANONYMOUS | MAP_FIXED);
		else
			memory_at(p, many, 0);
		if (mlock(p, bytes(2)))
			die("mlock");
		load_pages(p, many);
		for (long j = 0; j < n; j++)
			seen[i][j] += file_number(status, status_fields[j]);
		for (int j = 0; j <= STATM_DATA; j++)
			seen[i][n + j] += statm(j);
	}
	for (long j = 0; j < n; j++) {
		EXPECT_EQ(seen[1][j], seen[0][j]) {
			TH_LOG("%s", status_fields[j]);
		}
	}
	/* Resident pages are counted in batches per processor. */
	for (int j = 0; j <= STATM_DATA; j++) {
		long slack = j == STATM_RSS || j == STATM_SHARED ? 256 : 0;

		EXPECT_GE(seen[1][n + j] + slack, seen[0][n + j]);
		EXPECT_LE(seen[1][n + j] - slack, seen[0][n + j]);
	}
}

/* -- Page table entries --------------------------------------------------- */

static int open_pagemap_of(pid_t pid)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/pagemap", pid);
	fd = open(path, O_RDONLY);
	if (fd < 0)
		die(path);
	return fd;
}

#define PM_PFN	(BIT_ULL(55) - 1)

static void show_pagemap(pid_t pid, unsigned char *p, long pages, char *text,
			 __u64 mask)
{
	int fd = open_pagemap_of(pid);

	for (long i = 0; i < pages; i++) {
		__u64 entry = pagemap_get_entry(fd, (char *)p + bytes(i));

		text += sprintf(text, "page %ld: %#llx\n", i, entry & mask);
	}
	close(fd);
}

static void look_pagemap(pid_t pid, unsigned char *p, long pages, char *text)
{
	show_pagemap(pid, p, pages, text, ~PM_PFN);
}

static void look_pagemap_and_pfn(pid_t pid, unsigned char *p, long pages,
				 char *text)
{
	show_pagemap(pid, p, pages, text, ~0ULL);
}

/*
 * All bits of pagemap are the same, but for the page frame. Catches a reference
 * page that is one of a file, exclusive or swapped, and private pages, guards
 * and swapped pages that are what they would be in a file.
 */
TEST_F_TIMEOUT(observe, pagemap, 120)
{
	for (size_t i = 0; i < ARRAY_SIZE(deeds); i++) {
		EXPECT_TRUE(looks_the_same(&deeds[i], look_pagemap));
		EXPECT_TRUE(looks_the_same_forked(&deeds[i], look_pagemap));
	}
}

static void drop_privileges(void)
{
	if (setresgid(65534, 65534, 65534) || setresuid(65534, 65534, 65534) ||
	    prctl(PR_SET_DUMPABLE, 1))
		die("setresuid");
}

/*
 * Who may not know page frames sees nothing that differs: 0 for each. Catches
 * the page frame of the reference page, which tells who else has one.
 */
TEST_F_TIMEOUT(observe, pagemap_unprivileged, 120)
{
	for (size_t i = 0; i < ARRAY_SIZE(deeds); i++) {
		struct pair pair = make_pair(&deeds[i]);
		pid_t pid = fork();

		if (!pid) {
			drop_privileges();
			open_pagemap();
			for (long i = 0; i < pair.pages; i++)
				EXPECT_EQ(0, entry_at(pair.p + bytes(i)) &
					     PM_PFN);
			EXPECT_TRUE(same_pair(&pair, getpid(),
					      look_pagemap_and_pfn));
			_exit(0);
		}
		EXPECT_TRUE(child_passed(pid));
		unmap_pair(&pair);
	}
}

#define ALL_CATEGORIES	(PAGE_IS_WPALLOWED | PAGE_IS_WRITTEN | PAGE_IS_FILE | \
			 PAGE_IS_PRESENT | PAGE_IS_SWAPPED | \
			 PAGE_IS_PFNZERO | PAGE_IS_HUGE | \
			 PAGE_IS_SOFT_DIRTY | PAGE_IS_GUARD)
#define NOT_MATCHED	(~0ULL)

/* The categories of each page of a range, and which of them are asked for */
struct scan {
	__u64 mask, inverted, anyof, report;
	__u64 categories[512];
};

static void do_scan(int fd, unsigned char *p, long pages, struct scan *scan)
{
	static struct page_region regions[ARRAY_SIZE(scan->categories)];
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + bytes(pages),
		.vec = (uintptr_t)regions,
		.vec_len = ARRAY_SIZE(regions),
		.category_mask = scan->mask,
		.category_inverted = scan->inverted,
		.category_anyof_mask = scan->anyof,
		.return_mask = scan->report,
	};
	int found = ioctl(fd, PAGEMAP_SCAN, &arg);

	if (found < 0)
		die("PAGEMAP_SCAN");
	for (long i = 0; i < pages; i++)
		scan->categories[i] = NOT_MATCHED;
	for (int i = 0; i < found; i++) {
		long page = (regions[i].start - (uintptr_t)p) / psize();
		long end = (regions[i].end - (uintptr_t)p) / psize();

		while (page < end)
			scan->categories[page++] = regions[i].categories;
	}
}

/* All but PAGE_IS_PFNZERO, which would promise zeros */
static void look_scan(pid_t pid, unsigned char *p, long pages, char *text)
{
	struct scan scan = { .report = ALL_CATEGORIES };
	int fd = open_pagemap_of(pid);

	do_scan(fd, p, pages, &scan);
	for (long i = 0; i < pages; i++)
		text += sprintf(text, "page %ld: %#llx\n", i,
				scan.categories[i] & ~(__u64)PAGE_IS_PFNZERO);
	close(fd);
}

/*
 * All categories of PAGEMAP_SCAN are the same but PAGE_IS_PFNZERO. Catches the
 * mistakes that pagemap catches, where they are made for the second time.
 */
TEST_F_TIMEOUT(observe, pagemap_scan, 120)
{
	for (size_t i = 0; i < ARRAY_SIZE(deeds); i++) {
		EXPECT_TRUE(looks_the_same(&deeds[i], look_scan));
		EXPECT_TRUE(looks_the_same_forked(&deeds[i], look_scan));
	}
}

/*
 * Tools that save memory write no page that PAGE_IS_PFNZERO is set for. So it
 * is set for the zero page in anonymous memory, and in refpage mappings where
 * KSM has put it, but never for the reference page, whatever its content.
 */
TEST_F(observe, pagemap_scan_pfnzero)
{
	struct scan scan = { .report = PAGE_IS_PFNZERO };
	unsigned char *p = memory(PAGES), *q = anon_memory(PAGES);

	load_pages(p, PAGES);
	load_pages(q, PAGES);
	do_scan(pagemap_fd, p, PAGES, &scan);
	for (long i = 0; i < PAGES; i++)
		EXPECT_EQ(0, scan.categories[i]);
	do_scan(pagemap_fd, q, PAGES, &scan);
	for (long i = 0; i < PAGES; i++)
		EXPECT_EQ(PAGE_IS_PFNZERO, scan.categories[i]);

	make_merged_zeros(p, PAGES);
	do_scan(pagemap_fd, p, PAGES, &scan);
	for (long i = 0; i < PAGES; i++)
		EXPECT_EQ(i ? 0 : PAGE_IS_PFNZERO, scan.categories[i]);
}

/* What a scan has to report of a page that is in @categories */
static __u64 scanned(const struct scan *scan, __u64 categories)
{
	__u64 flipped = categories ^ scan->inverted;

	if ((flipped & scan->mask) != scan->mask ||
	    (scan->anyof && !(flipped & scan->anyof)))
		return NOT_MATCHED;
	return categories & scan->report;
}

/* With each category required, excluded, or one of two; reported and not */
static bool scans_add_up(unsigned char *p, long pages)
{
	static struct scan all, scan;
	bool right = true;

	all = (struct scan){ .report = ALL_CATEGORIES };
	do_scan(pagemap_fd, p, pages, &all);
	for (int how = 0; how < 9 * 8; how++) {
		__u64 bit = 1 << how / 8;

		scan.mask = how & 1 ? bit : 0;
		scan.anyof = how & 1 ? 0 : bit | PAGE_IS_SWAPPED;
		scan.inverted = how & 2 ? bit : 0;
		scan.report = how & 4 ? bit : ALL_CATEGORIES;
		do_scan(pagemap_fd, p, pages, &scan);
		for (long i = 0; i < pages; i++) {
			__u64 want = scanned(&scan, all.categories[i]);

			if (scan.categories[i] == want)
				continue;
			ksft_print_msg("page %zd, %#llx, mask %#llx, %#llx: %#llx, not %#llx\n",
				       i, all.categories[i], scan.mask,
				       scan.inverted, scan.categories[i], want);
			right = false;
		}
	}
	return right;
}

/*
 * What a scan reports follows from the categories, whatever masks it has.
 * Catches a category that is right only if it is asked for alone, as those are
 * for which there is a short way, and as the look for PAGE_IS_FILE is left out.
 */
TEST_F_TIMEOUT(observe, pagemap_scan_masks, 120)
{
	for (size_t i = 0; i < ARRAY_SIZE(deeds); i++) {
		struct pair pair;

		if (deeds[i].huge)
			continue;
		pair = make_pair(&deeds[i]);
		EXPECT_TRUE(scans_add_up(pair.p, PAGES));
		EXPECT_TRUE(scans_add_up(pair.anon, PAGES));
		unmap_pair(&pair);
	}
}

static void look_mincore(pid_t pid, unsigned char *p, long pages, char *text)
{
	unsigned char vec[512];

	if (mincore(p, bytes(pages), vec))
		die("mincore");
	for (long i = 0; i < pages; i++)
		text += sprintf(text, "page %ld: %d\n", i, vec[i] & 1);
}

/*
 * mincore() finds the same. Catches guards and swapped pages that are looked
 * for in the page cache of the file.
 */
TEST_F_TIMEOUT(observe, mincore_all, 120)
{
	for (size_t i = 0; i < ARRAY_SIZE(deeds); i++)
		EXPECT_TRUE(looks_the_same(&deeds[i], look_mincore));
}

/* The entries of a page in the two mappings, which may differ in PFN only */
static bool same_entries(const struct pair *pair, long page, bool dirty)
{
	__u64 entry = entry_at(pair->p + bytes(page)) & ~PM_PFN;
	__u64 want = entry_at(pair->anon + bytes(page)) & ~PM_PFN;

	if (entry == want && !!(entry & PM_SOFT_DIRTY) == dirty)
		return true;
	ksft_print_msg("page %zd: %#llx and not %#llx, soft-dirty: %d\n", page,
		       entry, want, dirty);
	return false;
}

static struct pair soft_dirty_pair(void)
{
	struct pair pair = {
		.p = memory(PAGES), .anon = anon_memory(PAGES), .pages = PAGES,
	};

	mix(pair.p, PAGES);
	mix(pair.anon, PAGES);
	clear_softdirty();
	return pair;
}

/* The same page of both; a store changes byte 3. */
static void touch_pair(const struct pair *pair, enum touch touch, long page)
{
	unsigned char *at[] = { pair->p, pair->anon };

	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		if (touch == STORE)
			store(at[i] + bytes(page), 3);
		else
			load(at[i] + bytes(page));
	}
}

/*
 * After the bits are cleared, those of pages that are stored to are set, and of
 * no others: loads, forks and swap change none, and mremap() sets all, as in
 * anonymous memory. Catches a reference page that is dirty, a copy of it that
 * is not, and what gets lost on the way to swap and into a child.
 */
TEST_F(observe, soft_dirty)
{
	struct pair pair;
	pid_t pid;

	if (!softdirty_supported())
		SKIP(return, "no soft-dirty bits on this architecture");
	pair = soft_dirty_pair();
	for (long i = 0; i < PAGES; i++)
		EXPECT_TRUE(same_entries(&pair, i, false));
	for (long i = 0; i < PAGES; i++)
		touch_pair(&pair, i < 8 ? LOAD : STORE, i);
	for (long i = 0; i < PAGES; i++)
		EXPECT_TRUE(same_entries(&pair, i, i >= 8));

	pid = fork_child();
	if (!pid) {
		for (long i = 0; i < PAGES; i++)
			EXPECT_TRUE(same_entries(&pair, i, i >= 8));
		touch_pair(&pair, STORE, 3);
		for (long i = 0; i < PAGES; i++)
			EXPECT_TRUE(same_entries(&pair, i, i >= 8 || i == 3));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));

	swap_out(pair.p, PAGES);
	swap_out(pair.anon, PAGES);
	for (long i = 0; i < PAGES; i++)
		EXPECT_TRUE(same_entries(&pair, i, i >= 8));
	for (long i = 0; i < PAGES; i++)
		touch_pair(&pair, LOAD, i);
	for (long i = 0; i < PAGES; i++)
		EXPECT_TRUE(same_entries(&pair, i, i >= 8));
}

/* The same for a mapping that moves, and for one that grows. */
TEST_F(observe, soft_dirty_mremap)
{
	struct pair pair;

	if (!softdirty_supported())
		SKIP(return, "no soft-dirty bits on this architecture");
	pair = soft_dirty_pair();
	pair.p = mremap(pair.p, bytes(PAGES), bytes(PAGES),
			MREMAP_MAYMOVE | MREMAP_FIXED, reserve(PAGES, 0));
	pair.anon = mremap(pair.anon, bytes(PAGES), bytes(PAGES),
			   MREMAP_MAYMOVE | MREMAP_FIXED, reserve(PAGES, 0));
	ASSERT_NE(MAP_FAILED, (void *)pair.p);
	ASSERT_NE(MAP_FAILED, (void *)pair.anon);
	for (long i = 0; i < PAGES; i++)
		EXPECT_EQ(entry_at(pair.anon + bytes(i)) & ~PM_PFN,
			  entry_at(pair.p + bytes(i)) & ~PM_PFN);
	EXPECT_TRUE(is_mixed_part(pair.p, 0, PAGES));
}

/* -- Page frames ---------------------------------------------------------- */

static __u64 read_u64(const char *path, unsigned long index)
{
	int fd = open(path, O_RDONLY);
	__u64 value;

	if (fd < 0 ||
	    pread(fd, &value, sizeof(value), index * sizeof(value)) !=
	    sizeof(value))
		die(path);
	close(fd);
	return value;
}

/*
 * The reference page has no mapcount, however often it is mapped, and is on no
 * list. Private pages are pages of anonymous memory. Catches a reference page
 * that is mapped by a normal entry, and one that reclaim can find.
 */
TEST_F(observe, kpageflags)
{
	const __u64 never = BIT_ULL(KPF_LRU) | BIT_ULL(KPF_ANON) |
		BIT_ULL(KPF_MMAP) | BIT_ULL(KPF_SWAPBACKED) |
		BIT_ULL(KPF_SWAPCACHE) | BIT_ULL(KPF_ACTIVE) |
		BIT_ULL(KPF_DIRTY) | BIT_ULL(KPF_UNEVICTABLE) |
		BIT_ULL(KPF_HWPOISON) |
		BIT_ULL(KPF_KSM) | BIT_ULL(KPF_IDLE) | BIT_ULL(KPF_THP) |
		BIT_ULL(KPF_HUGE) | BIT_ULL(KPF_COMPOUND_HEAD) |
		BIT_ULL(KPF_COMPOUND_TAIL) | BIT_ULL(KPF_BUDDY) |
		BIT_ULL(KPF_SLAB) | BIT_ULL(KPF_PGTABLE) |
		BIT_ULL(KPF_ZERO_PAGE) | BIT_ULL(KPF_NOPAGE);
	const __u64 lists = BIT_ULL(KPF_LRU) | BIT_ULL(KPF_ANON) |
		BIT_ULL(KPF_MMAP) | BIT_ULL(KPF_SWAPBACKED);
	unsigned char *p = memory(PAGES), *q = anon_memory(PAGES);
	unsigned char *locked = memory(1);
	unsigned long pfn, zero_pfn;
	pid_t pid;

	mix(p, PAGES);
	mix(q, PAGES);
	ASSERT_EQ(0, mprotect(locked, psize(), PROT_READ));
	ASSERT_EQ(0, mlock(locked, psize()));
	ASSERT_EQ(reference_pfn, pfn_at(locked));
	drain_batches();
	pid = fork();
	if (!pid) {
		EXPECT_EQ(0, page_flags(reference_pfn) & never);
		EXPECT_EQ(0, read_u64("/proc/kpagecount", reference_pfn));
		EXPECT_EQ(2, read_u64("/proc/kpagecount",
				      pfn_at(p + bytes(2))));
		EXPECT_EQ(2, read_u64("/proc/kpagecount",
				      pfn_at(q + bytes(2))));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_EQ(0, page_flags(reference_pfn) & never);
	EXPECT_EQ(0, read_u64("/proc/kpagecount", reference_pfn));
	zero_pfn = pfn_at(q + bytes(1));
	EXPECT_NE(zero_pfn, reference_pfn);
	EXPECT_TRUE(page_flags(zero_pfn) & BIT_ULL(KPF_ZERO_PAGE));

	pfn = pfn_at(p + bytes(2));
	EXPECT_EQ(lists, page_flags(pfn) & lists);
	EXPECT_EQ(page_flags(pfn_at(q + bytes(2))), page_flags(pfn));
	EXPECT_EQ(1, read_u64("/proc/kpagecount", pfn));
}

/*
 * Private pages belong to the memory cgroup of the process, and the reference
 * page to that of the creator, or to nobody if it is shared. Catches a page
 * that the first who asked for it has to pay for all others.
 */
TEST_F(observe, kpagecgroup)
{
	static const char file[] = "/proc/kpagecgroup";
	const char *why = memcg_create();
	struct stat stat_memcg;
	pid_t pid;

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, stat(MEMCG, &stat_memcg));
	pid = fork_child();
	if (!pid) {
		unsigned char *p, *q = anon_memory(1);

		memcg_join();
		unmap(witness, 1);
		close(memory_fd);
		memory_fd = create(variant->kind);
		p = memory(2);
		load(p);
		store(p + bytes(1), 0);
		store(q, 0);
		EXPECT_EQ(stat_memcg.st_ino, read_u64(file, pfn_at(q)));
		EXPECT_EQ(stat_memcg.st_ino,
			  read_u64(file, pfn_at(p + bytes(1))));
		EXPECT_EQ(is_shared(variant->kind) ? 0 : stat_memcg.st_ino,
			  read_u64(file, pfn_at(p)));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
}

static void set_idle(unsigned long pfn)
{
	__u64 word = BIT_ULL(pfn % 64);
	int fd = open(PAGE_IDLE, O_WRONLY);

	if (pwrite(fd, &word, sizeof(word), pfn / 64 * sizeof(word)) !=
	    sizeof(word))
		die(PAGE_IDLE);
	close(fd);
}

static bool is_idle(unsigned long pfn)
{
	return read_u64(PAGE_IDLE, pfn / 64) >> pfn % 64 & 1;
}

/*
 * Private pages that are not used stay idle; the reference page is never.
 * Catches a walk from the reference page to its mappings, and a private page
 * that is not found in its mapping.
 */
TEST_F(observe, idle_pages)
{
	unsigned char *at[] = { memory(3), anon_memory(3) };

	if (access(PAGE_IDLE, W_OK))
		SKIP(return, "no " PAGE_IDLE);
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		store(at[i], 0);
		store(at[i] + bytes(1), 0);
		load(at[i] + bytes(2));
	}
	drain_batches();
	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		for (long j = 0; j < 3; j++) {
			set_idle(pfn_at(at[i] + bytes(j)));
			EXPECT_EQ(j < 2, is_idle(pfn_at(at[i] + bytes(j))));
		}
		/* The TLB knows nothing of this before it is flushed. */
		ASSERT_EQ(0, mprotect(at[i], bytes(3), PROT_READ));
		ASSERT_EQ(0, mprotect(at[i], bytes(3), RW));
		for (long j = 0; j < 3; j += 2)
			load(at[i] + bytes(j));
		for (long j = 0; j < 3; j++)
			EXPECT_EQ(j == 1, is_idle(pfn_at(at[i] + bytes(j))));
	}
	EXPECT_TRUE(same(at[0], altered(0, 1), psize()));
	EXPECT_TRUE(same(at[0] + bytes(1), altered(0, 1), psize()));
	EXPECT_TRUE(is_content(at[0] + bytes(2), 1));
}

/* -- The descriptor, and the mapping as such ------------------------------ */

/*
 * fdinfo is what every file has, then the content, and nothing else. Catches a
 * line that is missing, empty or added.
 */
TEST_F(observe, fdinfo_text)
{
	char path[64], text[VIEW] = "", want[512], mnt_id[64];
	struct stat st;
	ssize_t len;
	int fd, n;

	ASSERT_EQ(0, fstat(memory_fd, &st));
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", memory_fd);
	ASSERT_TRUE(file_text(path, "mnt_id:", mnt_id));
	EXPECT_LT(0, atoi(mnt_id));
	EXPECT_NE(0, st.st_ino);
	n = sprintf(want,
		    "pos:\t0\nflags:\t0%o\nmnt_id:\t%s\nino:\t%lu\nrefpage-kind:\t%s\nrefpage-size:\t%ld\n",
		    O_RDONLY | O_CLOEXEC, mnt_id, (unsigned long)st.st_ino,
		    variant->name, content_size(variant->kind));
	if (is_shared(variant->kind))
		sprintf(want + n, "refpage-byte:\t0x%02x\n",
			variant->kind->byte);

	fd = open(path, O_RDONLY);
	len = read(fd, text, sizeof(text) - 1);
	ASSERT_LT(0, len);
	EXPECT_TRUE(same_view("fdinfo", text, want));
	close(fd);
}

/* The mapping at @p, in /proc/PID/maps */
struct mapping {
	unsigned long start, end, offset, inode;
	unsigned int major, minor;
	char perms[8], name[64];
};

static struct mapping mapping_at(const void *p)
{
	FILE *stream = open_proc(getpid(), "maps");
	struct mapping found;
	char line[512];

	while (fgets(line, sizeof(line), stream)) {
		found.name[0] = 0;
		if (sscanf(line, "%lx-%lx %7s %lx %x:%x %lu %63s",
			   &found.start, &found.end, found.perms,
			   &found.offset, &found.major, &found.minor,
			   &found.inode, found.name) >= 7 &&
		    found.start <= (unsigned long)p &&
		    (unsigned long)p < found.end) {
			fclose(stream);
			return found;
		}
	}
	die("no such mapping");
	return found;
}

static const char mapping_name[] = "anon_inode:[refpage]";

/*
 * All that is said of a mapping at @p, of a file that stat() saw if there is
 * @st
 */
static void check_mapping(struct __test_metadata *_metadata, unsigned char *p,
			  long pages, const char *perms, const struct stat *st)
{
	struct mapping found = mapping_at(p);
	char name[64] = "", path[96], target[64] = "";
	struct procmap_query query = {
		.size = sizeof(query),
		.query_addr = (uintptr_t)p,
		.vma_name_addr = (uintptr_t)name,
		.vma_name_size = sizeof(name),
	};
	int fd = open("/proc/self/maps", O_RDONLY);

	EXPECT_EQ((unsigned long)p, found.start);
	EXPECT_EQ((unsigned long)p + bytes(pages), found.end);
	EXPECT_EQ((unsigned long)p, found.offset);
	EXPECT_STREQ(perms, found.perms);
	EXPECT_STREQ(mapping_name, found.name);
	EXPECT_NE(0, found.inode);
	if (st) {
		EXPECT_EQ(st->st_ino, found.inode);
		EXPECT_EQ(major(st->st_dev), found.major);
		EXPECT_EQ(minor(st->st_dev), found.minor);
	}

	ASSERT_EQ(0, ioctl(fd, PROCMAP_QUERY, &query));
	close(fd);
	EXPECT_EQ((unsigned long)p, query.vma_start);
	EXPECT_EQ((unsigned long)p, query.vma_offset);
	EXPECT_EQ(found.inode, query.inode);
	EXPECT_EQ(psize(), query.vma_page_size);
	EXPECT_EQ(perms[1] == 'w', !!(query.vma_flags &
				      PROCMAP_QUERY_VMA_WRITABLE));
	EXPECT_EQ(0, query.vma_flags & (PROCMAP_QUERY_VMA_SHARED |
					PROCMAP_QUERY_VMA_EXECUTABLE));
	EXPECT_STREQ(mapping_name, name);

	snprintf(path, sizeof(path), "/proc/self/map_files/%lx-%lx",
		 found.start, found.end);
	EXPECT_LT(0, readlink(path, target, sizeof(target) - 1));
	EXPECT_STREQ(mapping_name, target);
	EXPECT_GT(0, open(path, O_RDONLY));
}

/*
 * A mapping of a descriptor has a name, the inode of the descriptor, and the
 * address for an offset, whatever mmap() was given; also when it is in parts.
 * Catches an offset with which neighbours do not merge, and a file that can be
 * opened by way of the mapping.
 */
TEST_F(observe, maps)
{
	unsigned char *p = memory(PAGES), *q = reserve(PAGES, 0);
	struct stat st;

	ASSERT_EQ(0, fstat(memory_fd, &st));
	check_mapping(_metadata, p, PAGES, "rw-p", &st);
	ASSERT_EQ(0, mprotect(p + bytes(4), bytes(2), PROT_READ));
	check_mapping(_metadata, p, 4, "rw-p", &st);
	check_mapping(_metadata, p + bytes(4), 2, "r--p", &st);
	check_mapping(_metadata, p + bytes(6), PAGES - 6, "rw-p", &st);
	ASSERT_EQ(0, mprotect(p + bytes(4), bytes(2), PROT_NONE));
	check_mapping(_metadata, p + bytes(4), 2, "---p", &st);
	ASSERT_EQ(0, mprotect(p + bytes(4), bytes(2), RW));
	check_mapping(_metadata, p, PAGES, "rw-p", &st);

	ASSERT_EQ(q, mmap(q, bytes(PAGES), RW, MAP_PRIVATE | MAP_FIXED,
			  memory_fd, bytes(1021)));
	check_mapping(_metadata, q, PAGES, "rw-p", &st);
	ASSERT_EQ(q, mremap(p, bytes(PAGES), bytes(PAGES),
			    MREMAP_MAYMOVE | MREMAP_FIXED, q));
	check_mapping(_metadata, q, PAGES, "rw-p", &st);
}

/*
 * The same for MAP_REFPAGE, of which each has a file of its own that is in no
 * descriptor. Catches a descriptor left behind.
 */
TEST_F(observe, maps_in_one_call)
{
	unsigned char *p = reserve(2 * PAGES, 0);
	int next = dup(0);

	close(next);
	map_content_at(p, PAGES);
	map_content_at(p + bytes(PAGES), PAGES);
	EXPECT_EQ(next, dup(0));
	check_mapping(_metadata, p, PAGES, "rw-p", NULL);
	check_mapping(_metadata, p + bytes(PAGES), PAGES, "rw-p", NULL);
	EXPECT_NE(mapping_at(p).inode, mapping_at(p + bytes(PAGES)).inode);
	EXPECT_TRUE(is_content(p, 2 * PAGES));
}

/* -- /proc/vmstat --------------------------------------------------------- */

static bool no_counters(void)
{
	return vm_counter("refpage_load") < 0;
}

/* What the counters of events have counted since the last call */
struct events {
	long loads, fills;
};

static struct events new_events(void)
{
	static struct events last;
	struct events now = {
		.loads = vm_counter("refpage_load"),
		.fills = vm_counter("refpage_fill"),
	}, new = {
		.loads = now.loads - last.loads,
		.fills = now.fills - last.fills,
	};

	last = now;
	return new;
}

#define EXPECT_EVENTS(want_loads, want_fills) do {			\
	struct events new = new_events();				\
									\
	EXPECT_EQ(want_loads, new.loads);				\
	EXPECT_EQ(want_fills, new.fills);				\
} while (0)

/*
 * refpage_load counts faults, not the pages that each of them maps. Catches
 * one that is counted per page, and faults of anonymous memory that are
 * counted.
 */
TEST_F(observe, vmstat_load)
{
	unsigned char *p = memory(64), *q = anon_memory(64), byte;
	struct iovec local = { &byte, 1 }, remote = { p + bytes(40), 1 };

	if (no_counters())
		SKIP(return, "the kernel does not count faults of refpages");
	new_events();
	load_pages(p, 64);
	EXPECT_EVENTS(64, 0);
	load_pages(p, 64);
	EXPECT_EVENTS(0, 0);
	advise(p, 64, MADV_DONTNEED);
	set_fault_around(16);
	load_pages(p, 64);
	EXPECT_EVENTS(4, 0);
	ASSERT_EQ(0, mprotect(p, bytes(64), PROT_READ));
	advise(p, 64, MADV_DONTNEED);
	advise(p, 64, MADV_POPULATE_READ);
	EXPECT_EVENTS(4, 0);
	advise(p, 64, MADV_DONTNEED);
	ASSERT_EQ(1, process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	EXPECT_EVENTS(1, 0);
	load_pages(q, 64);
	mark(q, 64, 1);
	EXPECT_EVENTS(0, 0);
}

/*
 * refpage_fill counts base pages that are filled by a fault: after a load or
 * not, of any order. A page that was private is not: after fork(), from swap,
 * of KSM. Catches folios that count as one, and a counter in wp_page_copy().
 */
TEST_F_TIMEOUT(observe, vmstat_fill, 60)
{
	unsigned char *p = memory(64), byte = 1;
	struct iovec local = { &byte, 1 }, remote = { p + bytes(40), 1 };
	pid_t pid;

	if (no_counters())
		SKIP(return, "the kernel does not count faults of refpages");
	new_events();
	store(p, 0);
	EXPECT_EVENTS(0, 1);
	store(p, 1);
	EXPECT_EVENTS(0, 0);
	load(p + bytes(1));
	store(p + bytes(1), 0);
	EXPECT_EVENTS(1, 1);
	ASSERT_EQ(1, process_vm_writev(getpid(), &local, 1, &remote, 1, 0));
	EXPECT_EVENTS(0, 1);
	advise(p + bytes(8), 16, MADV_POPULATE_WRITE);
	EXPECT_EVENTS(0, 16);

	pid = fork_child();
	if (!pid) {
		store(p, 2);
		EXPECT_EVENTS(0, 0);
		/* But this was not private. */
		store(p + bytes(50), 2);
		EXPECT_EVENTS(0, 1);
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	new_events();
	store(p, 3);
	swap_out(p, 24);
	mark(p, 2, 1);
	EXPECT_EVENTS(0, 0);
	advise(p, 1, MADV_DONTNEED);
	store(p, 0);
	EXPECT_EVENTS(0, 1);

	for (unsigned int order = 4; order <= pmd_order;
	     order += pmd_order - 4) {
		enable(order);
		p = huge_memory(1L << order);
		new_events();
		store(p + bytes(2), mixed_offset(2));
		ASSERT_TRUE(is_folio(p, order));
		EXPECT_EVENTS(0, 1L << order);
		mark(p, 1L << order, 1);
		EXPECT_EVENTS(0, 0);
		set_order(order, "never");
	}
}

/* khugepaged and MADV_COLLAPSE are no faults; nor is what KSM unmerges. */
TEST_F_TIMEOUT(observe, vmstat_fill_without_fault, 60)
{
	unsigned char *p = memory(pmd_pages());

	if (no_counters())
		SKIP(return, "the kernel does not count faults of refpages");
	mark(p, pmd_pages(), 16);
	new_events();
	ASSERT_EQ(0, collapse(p, pmd_pages()));
	ASSERT_TRUE(is_folio(p, pmd_order));
	EXPECT_EVENTS(0, 0);

	p = memory(PAGES);
	make_merged(p, PAGES);
	new_events();
	memset(p, 0x98, bytes(2));
	EXPECT_EVENTS(0, 0);
	advise(p, PAGES, MADV_UNMERGEABLE);
	EXPECT_EVENTS(0, 0);
	make_merged_zeros(p, PAGES);
	new_events();
	store(p, 0);
	EXPECT_EVENTS(0, 0);
}

/* Gauges are exact after that. */
static long gauge(const char *name)
{
	if (!file_write("/proc/sys/vm/stat_refresh", "1"))
		die("stat_refresh");
	return vm_counter(name);
}

/* What the nodes say, in all */
static long gauge_of_nodes(const char *name)
{
	char path[64], field[64];
	long sum = 0, number;

	snprintf(field, sizeof(field), "%s ", name);
	for (int node = 0; ; node++) {
		snprintf(path, sizeof(path), NODES "node%d/vmstat", node);
		if (access(path, F_OK))
			return sum;
		number = file_number(path, field);
		if (number < 0)
			die(path);
		sum += number;
	}
}

/*
 * A byte of which there is no descriptor as yet, or other content of that kind
 */
static void make_new_content(void)
{
	content[0] ^= 0x33;
	for (long i = 1; i < psize(); i++)
		content[i] ^= 0x33;
}

/*
 * There is a reference page per descriptor of a page, and one for all those of
 * a byte, as long as there is a descriptor or a mapping. Catches one that is
 * counted per descriptor, for the wrong content, or never taken off.
 */
TEST_F(observe, vmstat_gauges)
{
	const long many = 40, shared = is_shared(variant->kind);
	long before[2], pages = shared ? 1 : many;
	unsigned char *p;
	int fd[40];
	pid_t pid;

	if (no_counters())
		SKIP(return, "the kernel does not count refpages");
	before[0] = gauge("nr_refpage");
	before[1] = gauge("nr_refpage_shared");
	EXPECT_LE(1, before[0]);
	EXPECT_LE(before[1], before[0]);

	/* Of what this process has already, there are no more if shared. */
	fd[0] = create(variant->kind);
	EXPECT_EQ(before[0] + !shared, gauge("nr_refpage"));
	close(fd[0]);
	EXPECT_EQ(before[0], gauge("nr_refpage"));

	make_new_content();
	for (long i = 0; i < many; i++)
		fd[i] = create(variant->kind);
	EXPECT_EQ(before[0] + pages, gauge("nr_refpage"));
	EXPECT_EQ(before[1] + shared, gauge("nr_refpage_shared"));
	EXPECT_EQ(gauge("nr_refpage"), gauge_of_nodes("nr_refpage"));
	EXPECT_EQ(gauge("nr_refpage_shared"),
		  gauge_of_nodes("nr_refpage_shared"));

	/* Of these, it is a mapping that stays, in another process. */
	p = map(fd[0], PAGES, RW);
	mix(p, PAGES);
	for (long i = 0; i < many; i++)
		close(fd[i]);
	pid = fork_child();
	if (!pid) {
		EXPECT_EQ(before[0] + 1, gauge("nr_refpage"));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_EQ(before[0] + 1, gauge("nr_refpage"));
	EXPECT_EQ(before[1] + shared, gauge("nr_refpage_shared"));
	unmap(p, PAGES);
	EXPECT_EQ(before[0], gauge("nr_refpage"));
	EXPECT_EQ(before[1], gauge("nr_refpage_shared"));
	EXPECT_EQ(before[0], gauge_of_nodes("nr_refpage"));

	/* MAP_REFPAGE makes them as well, of a page, which may be shared. */
	p = reserve(PAGES, 0);
	map_content_at(p, PAGES);
	EXPECT_EQ(before[0] + 1, gauge("nr_refpage"));
	EXPECT_EQ(before[1] + shared, gauge("nr_refpage_shared"));
	unmap(p, PAGES);
	EXPECT_EQ(before[0], gauge("nr_refpage"));
	EXPECT_EQ(before[1], gauge("nr_refpage_shared"));
	make_new_content();
}

/* -- Trace events --------------------------------------------------------- */

static void set_event(const char *event, const char *value)
{
	char path[128];

	snprintf(path, sizeof(path), INSTANCE "events/%s/enable", event);
	if (!file_write(path, value))
		die(path);
}

/* A buffer of our own, for events of this process only; returns why not. */
static const char *trace_create(void)
{
	char pid[24];

	if (access(TRACING "instances", F_OK) &&
	    mount("tracefs", TRACING, "tracefs", 0, NULL))
		return "no tracefs";
	if (access(TRACING "events/refpage", F_OK))
		return "no trace events of refpages";
	if (mkdir(INSTANCE, 0700))
		die(INSTANCE);
	sprintf(pid, "%d", getpid());
	if (!file_write(INSTANCE "set_event_pid", pid))
		die(INSTANCE "set_event_pid");
	return NULL;
}

/* All that has been traced; comments begin with #. */
static const char *trace_text(void)
{
	static char text[4 << 20];
	int fd = open(INSTANCE "trace", O_RDONLY);
	size_t len = 0;
	ssize_t got;

	do {
		got = read(fd, text + len, sizeof(text) - 1 - len);
		len += got;
	} while (got > 0);
	if (got < 0 || len == sizeof(text) - 1)
		die(INSTANCE "trace");
	text[len] = 0;
	close(fd);
	return text;
}

/* How many times is this there? */
static long trace_count(const char *what)
{
	const char *text = trace_text();
	long found = 0;

	while ((text = strstr(text, what))) {
		text += strlen(what);
		found++;
	}
	return found;
}

static void trace_clear(void)
{
	close(open(INSTANCE "trace", O_WRONLY | O_TRUNC));
}

static unsigned long pfn_of(int fd)
{
	unsigned char *p = map(fd, 1, PROT_READ);
	unsigned long pfn;

	load(p);
	pfn = pfn_at(p);
	unmap(p, 1);
	return pfn;
}

/*
 * refpage_create tells what each new descriptor is, and nothing of a call that
 * fails. Catches what fdinfo says otherwise, and a page that was exchanged for
 * the shared one later.
 */
TEST_F(observe, trace_create)
{
	const char *why = trace_create();
	unsigned int byte = is_shared(variant->kind) ? variant->kind->byte : 0;
	char want[256];
	int fd;

	if (why)
		SKIP(return, "%s", why);
	set_event("refpage", "1");
	fd = create(variant->kind);
	EXPECT_EQ(-1, refpage_create(content + 1, 0));
	EXPECT_EQ(-1, refpage_create(NULL, 0));
	EXPECT_EQ(1, trace_count("refpage_create:"));
	snprintf(want, sizeof(want),
		 "refpage_create: pfn=0x%lx kind=%s size=%ld byte=0x%02x tag=0x0\n",
		 pfn_of(fd), variant->name, content_size(variant->kind), byte);
	EXPECT_EQ(1, trace_count(want)) {
		TH_LOG("%s%s", want, trace_text());
	}
	if (is_shared(variant->kind))
		EXPECT_EQ(reference_pfn, pfn_of(fd));
}

/* The same for MAP_REFPAGE, of which the content is a whole page. */
TEST_F(observe, trace_create_in_one_call)
{
	const char *why = trace_create();
	bool shared = is_shared(variant->kind);
	unsigned char *p = reserve(PAGES, 0);
	char want[256];

	if (why)
		SKIP(return, "%s", why);
	set_event("refpage", "1");
	map_content_at(p, PAGES);
	load(p);
	EXPECT_EQ(1, trace_count("refpage_create:"));
	snprintf(want, sizeof(want),
		 "refpage_create: pfn=0x%lx kind=%s size=%u byte=0x%02x tag=0x0\n",
		 pfn_at(p), shared ? "byte" : "page", psize(),
		 shared ? variant->kind->byte : 0);
	EXPECT_EQ(1, trace_count(want)) {
		TH_LOG("%s%s", want, trace_text());
	}
}

/*
 * refpage_load tells the page that was loaded from, not those around it, which
 * raise no event. Catches an event per page, and the address of the window.
 */
TEST_F(observe, trace_load)
{
	const char *why = trace_create();
	unsigned char *p = memory(64), *q = anon_memory(64);
	char want[256];

	if (why)
		SKIP(return, "%s", why);
	set_fault_around(16);
	set_event("refpage", "1");
	load(p + bytes(5) + 123);
	load_pages(p, 16);
	load(p + bytes(40) + psize() - 1);
	store(q, 0);
	load(q + bytes(1));
	EXPECT_EQ(2, trace_count("refpage_load:"));
	EXPECT_EQ(2, trace_count("refpage_"));
	snprintf(want, sizeof(want), "refpage_load: addr=0x%lx pfn=0x%lx\n",
		 (unsigned long)p + bytes(5), reference_pfn);
	EXPECT_EQ(1, trace_count(want));
	snprintf(want, sizeof(want), "refpage_load: addr=0x%lx pfn=0x%lx\n",
		 (unsigned long)p + bytes(40), reference_pfn);
	EXPECT_EQ(1, trace_count(want)) {
		TH_LOG("%s%s", want, trace_text());
	}
}

/*
 * refpage_fill tells where a folio begins and how large it is. Catches the
 * address of the store in its place, an event for each page of it, and none
 * for a huge page, which is made elsewhere.
 */
TEST_F_TIMEOUT(observe, trace_fill, 60)
{
	const char *why = trace_create();
	unsigned int order[] = { 0, 4, pmd_order };
	char want[256];

	if (why)
		SKIP(return, "%s", why);
	set_event("refpage", "1");
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		long pages = 1L << order[i];
		unsigned char *p = memory(pages);

		if (order[i]) {
			enable(order[i]);
			advise(p, pages, MADV_HUGEPAGE);
		}
		trace_clear();
		store(p + bytes(pages / 2) + 77, 0);
		ASSERT_TRUE(is_folio(p, order[i]));
		for (long j = 0; j < pages; j++)
			store(p + bytes(j), 99);
		EXPECT_EQ(1, trace_count("refpage_"));
		snprintf(want, sizeof(want),
			 "refpage_fill: addr=0x%lx pfn=0x%lx order=%u kind=%s\n",
			 (unsigned long)p, pfn_at(p), order[i], variant->name);
		EXPECT_EQ(1, trace_count(want)) {
			TH_LOG("%s%s", want, trace_text());
		}
		if (order[i])
			set_order(order[i], "never");
	}
}

static void do_everything(const struct kind *kind)
{
	unsigned char *p = memory(3);

	close(create(kind));
	load(p);
	store(p, 0);
	store(p + bytes(1), 0);
	unmap(p, 3);
}

/*
 * Events are traced when they are enabled, each by itself, and only then.
 * Catches an event that is always there.
 */
TEST_F(observe, trace_enable)
{
	static const char *const events[] = {
		"refpage/refpage_create", "refpage/refpage_load",
		"refpage/refpage_fill",
	};
	const char *why = trace_create();

	if (why)
		SKIP(return, "%s", why);
	do_everything(variant->kind);
	EXPECT_EQ(0, trace_count("refpage_"));
	for (size_t i = 0; i < ARRAY_SIZE(events); i++) {
		set_event(events[i], "1");
		do_everything(variant->kind);
		set_event(events[i], "0");
		/* Two pages are filled. */
		EXPECT_EQ(1 + i / 2, trace_count("refpage_"));
		EXPECT_EQ(1 + i / 2,
			  trace_count(strchr(events[i], '/') + 1));
		trace_clear();
	}
	do_everything(variant->kind);
	EXPECT_EQ(0, trace_count("refpage_"));
}

/*
 * The format is what programs such as trace-cmd read. Catches a field that has
 * another name or type than the text says.
 */
TEST_F(observe, trace_format)
{
	static const struct {
		const char *event, *text[6];
	} formats[] = {
		{ "refpage_create", { "unsigned long pfn;", "char[] kind;",
		  "unsigned int size;", "unsigned int byte;",
		  "unsigned int tag;",
		  "\"pfn=0x%lx kind=%s size=%u byte=0x%02x tag=0x%x\"" } },
		{ "refpage_load", { "unsigned long addr;",
		  "unsigned long pfn;", "\"addr=0x%lx pfn=0x%lx\"" } },
		{ "refpage_fill", { "unsigned long addr;",
		  "unsigned long pfn;", "unsigned int order;", "char[] kind;",
		  "\"addr=0x%lx pfn=0x%lx order=%u kind=%s\"" } },
	};
	char path[128], text[4096];
	ssize_t len;
	int fd;

	if (access(TRACING "events/refpage", F_OK))
		SKIP(return, "no trace events of refpages");
	for (size_t i = 0; i < ARRAY_SIZE(formats); i++) {
		snprintf(path, sizeof(path), TRACING "events/refpage/%s/format",
			 formats[i].event);
		fd = open(path, O_RDONLY);
		len = read(fd, text, sizeof(text) - 1);
		ASSERT_LT(0, len);
		close(fd);
		text[len] = 0;
		for (size_t j = 0; j < ARRAY_SIZE(formats[i].text); j++) {
			const char *want = formats[i].text[j];

			EXPECT_TRUE(!want || strstr(text, want)) {
				TH_LOG("%s: %s", formats[i].event, want);
			}
		}
	}
}

/*
 * What the page allocator was asked when it gave this page last: the
 * migratetype. -1: it was not traced.
 */
static int migratetype_of(unsigned long pfn)
{
	const char *text = trace_text();
	char want[64];
	int found = -1;

	snprintf(want, sizeof(want), " pfn=0x%lx order=0 migratetype=", pfn);
	while ((text = strstr(text, want))) {
		text += strlen(want);
		found = atoi(text);
	}
	return found;
}

/* Was this page part of a block that was taken away from movable pages? */
static bool fragments(unsigned long pfn)
{
	static const char event[] = "mm_page_alloc_extfrag:";
	const char *text = trace_text();
	unsigned long first;
	long order;

	while ((text = strstr(text, event))) {
		text += strlen(event);
		first = strtoul(strstr(text, "pfn=") + 4, NULL, 16);
		order = field_number(text, "fallback_order=");
		if (pfn - first < 1UL << order &&
		    order < field_number(text, "pageblock_order="))
			return true;
	}
	return false;
}

/*
 * The reference page is asked for as what it is, unmovable, so that it lies
 * among others of that kind. Catches one that is in the way of compaction, huge
 * pages and memory hot-remove for as long as there is a descriptor.
 */
TEST_F(observe, trace_allocation)
{
	const char *why = trace_create();
	int fd[32];

	if (why)
		SKIP(return, "%s", why);
	set_event("kmem/mm_page_alloc", "1");
	set_event("kmem/mm_page_alloc_extfrag", "1");
	make_new_content();
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++)
		fd[i] = create(variant->kind);
	set_event("kmem", "0");
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++) {
		unsigned long pfn = pfn_of(fd[i]);

		EXPECT_EQ(0, migratetype_of(pfn));
		EXPECT_FALSE(fragments(pfn));
	}
	make_new_content();
}

TEST_HARNESS_MAIN
