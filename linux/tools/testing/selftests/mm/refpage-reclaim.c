// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of refpage_create(2) when memory is short: what reclaim makes of refpage
 * mappings, of what MADV_FREE gave up, and of droppable ones.
 *
 * The property: reclaim treats the private pages of a refpage mapping as those
 * of anonymous memory, and where that has zeros afterwards, there is the
 * content. A page that nobody gave up keeps every byte; of one that may be
 * dropped there are all bytes, or none and the content. The reference page
 * itself stays where it is, and costs nobody anything. So the tests run on
 * anonymous memory as well, which tells whether they are right. Each test is
 * named after what it does. What a comment below says to be caught is the mistake
 * in the kernel that makes the test fail.
 *
 * environment:
 *   REFPAGE_SECONDS  duration of each race test (2)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/elf.h>
#include <linux/mman.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "../../../../mm/gup_test.h"
#include "refpage-system.h"

/* -- What all fixtures share ----------------------------------------------- */

#define PMD	(~0U)	/* as an order */
#define ORDER	4	/* where there is no variant for each order */

static unsigned int folio_order;
static long folio_pages;
static long pages;		/* of the memory that is tested, in folios */

static const char *prepare_order(const struct kind *kind, unsigned int order)
{
	const char *why = order ? prepare(kind) : prepare_small(kind);

	if (why)
		return why;
	folio_order = order == PMD ? pmd_order : order;
	folio_pages = 1L << folio_order;
	pages = folio_pages < 128 ? 256 : 2 * folio_pages;
	if (folio_order && !(orders & 1U << folio_order))
		return "no folios of this order";
	return NULL;
}

static const char *prepare_droppable(const struct kind *kind,
				     unsigned int order)
{
	const char *why = prepare_order(kind, order);
	void *p = mmap(NULL, psize(), RW, MAP_ANONYMOUS | MAP_DROPPABLE, -1, 0);

	if (p == MAP_FAILED)
		return why ?: "no MAP_DROPPABLE";
	memory_type = MAP_DROPPABLE;
	return why;
}

/* Memory in which folios of that order are allocated. */
static unsigned char *empty_at(unsigned char *p, long n)
{
	memory_at(p, n, 0);
	if (folio_order) {
		enable(folio_order);
		advise(p, n, MADV_HUGEPAGE);
	}
	return p;
}

static unsigned char *empty(void)
{
	return empty_at(reserve(pages, 0), pages);
}

static bool has_folios(const unsigned char *p, long n)
{
	for (long i = 0; i < n; i += folio_pages) {
		if (folio_order && !is_folio(p + bytes(i), folio_order))
			return false;
	}
	return true;
}

/* A quarter of the pages is marked. Those of no folio have been loaded. */
static unsigned char *make(struct __test_metadata *_metadata)
{
	unsigned char *p = empty();

	mark(p, pages, 4);
	if (!folio_order)
		load_pages(p, pages);
	EXPECT_TRUE(has_folios(p, pages));
	return p;
}

/* The control: anonymous memory with the same marks */
static unsigned char *make_control(void)
{
	unsigned char *p = anon_memory(pages);

	if (folio_order)
		advise(p, pages, MADV_HUGEPAGE);
	mark(p, pages, 4);
	return p;
}

/* How many pages make() has made private */
static long made(void)
{
	return folio_order ? pages : pages / 4;
}

/*
 * Are the pages of memory that was marked, one in @step, as they were, or the
 * content? Those that are marked, one in @kept, have to be as they were, if that
 * is not 0.
 */
static bool is_kept_or_content(const unsigned char *p, long n, long step,
			       long kept)
{
	for (long i = 0; i < n; i++) {
		bool gone = !memcmp(p + bytes(i), content, psize());

		if (gone && kept && is_marked_page(i, kept)) {
			ksft_print_msg("page %zu is the content\n", i);
			return false;
		}
		if (!gone && !is_marked_part(p, i, i + 1, step))
			return false;
	}
	return true;
}

/* -- Pressure -------------------------------------------------------------- */

enum pressure {
	PAGEOUT,	/* MADV_PAGEOUT */
	RECLAIM,	/* memory.reclaim of the cgroup that the process is in */
	LIMIT,		/* its memory.max is lowered */
};

/* It may fall short, with EAGAIN. */
static void memcg_reclaim(unsigned long size)
{
	char text[24];

	sprintf(text, "%lu", size);
	file_write(MEMCG "memory.reclaim", text);
}

/* Ask for all of it, more than once: what was used lately needs that. */
static void memcg_squeeze(void)
{
	for (int tries = 0; tries < 2; tries++)
		memcg_reclaim(1UL << 30);
}

static void memcg_limit(int fd, long limit)
{
	char text[24];

	sprintf(text, "%ld", limit);
	if (write(fd, text, strlen(text)) < 0)
		die(MEMCG "memory.max");
}

static long memcg_usage(int fd)
{
	char text[24] = "";

	if (pread(fd, text, sizeof(text) - 1, 0) <= 0)
		die(MEMCG "memory.current");
	return atol(text);
}

/*
 * Take so much away, for a moment, in which nothing has to be allocated. What
 * CPUs keep in store goes first, if it is as little as a page that is taken.
 */
static void memcg_shrink(long size)
{
	int current = open(MEMCG "memory.current", O_RDONLY);
	int max = open(MEMCG "memory.max", O_WRONLY);
	long usage;

	memcg_limit(max, memcg_usage(current) - psize());
	usage = memcg_usage(current);
	memcg_limit(max, usage > size ? usage - size : 0);
	if (write(max, "max", 3) != 3)
		die(MEMCG "memory.max");
	close(max);
	close(current);
}

static void press(unsigned char *p, long n, enum pressure how)
{
	long size = bytes(count(p, n, PRIVATE));

	if (how == PAGEOUT)
		advise(p, n, MADV_PAGEOUT);
	if (how == RECLAIM)
		memcg_reclaim(size);
	if (how == LIMIT) {
		drain_batches();
		memcg_shrink(size);
	}
}

static bool press_out(unsigned char *p, long n, enum pressure how)
{
	for (int tries = 0; tries < 100; tries++) {
		press(p, n, how);
		if (!count(p, n, PRIVATE))
			return true;
		/* Another CPU may be about to put them on a list. */
		drain_batches();
	}
	ksft_print_msg("%zu pages are still there\n", count(p, n, PRIVATE));
	return false;
}

/*
 * What the child has now does not count and is not reclaimed, and what it
 * allocates from now on is charged to the cgroup.
 */
static pid_t fork_into_memcg(void)
{
	pid_t pid = fork_child();

	if (!pid) {
		if (mlockall(MCL_CURRENT))
			die("mlockall");
		memcg_join();
	}
	return pid;
}

/* -- What was given up ----------------------------------------------------- */

static struct {
	long swapped;
	long lazyfreed;
} before;

static void remember(void)
{
	before.swapped = vm_counter("pswpout");
	before.lazyfreed = vm_counter("pglazyfreed");
}

/*
 * MADV_FREE, of which reclaim knows when this returns. It passes over pages that
 * another CPU is about to put on a list.
 */
static void lazy_free(unsigned char *p, long n)
{
	drain_batches();
	advise(p, n, MADV_FREE);
	drain_batches();
}

/* Nothing of a mapping is left, and nothing was written to swap for it. */
static void check_gone(struct __test_metadata *_metadata, unsigned char *p,
		       long n)
{
	EXPECT_EQ(0, count(p, n, PRIVATE));
	EXPECT_EQ(0, count(p, n, SWAPPED));
	EXPECT_EQ(0, count(p, n, ZEROS));
	EXPECT_EQ(0, smaps_pages(p, "Rss:"));
	EXPECT_EQ(0, smaps_pages(p, "Swap:"));
	EXPECT_EQ(before.swapped, vm_counter("pswpout"));
	EXPECT_TRUE(is_content(p, n));
	EXPECT_EQ(0, smaps_pages(p, "Rss:"));
}

/* -- Fixture: memory of each kind, folios of each order --------------------- */

FIXTURE(reclaim)
{
};

FIXTURE_VARIANT(reclaim)
{
	const struct kind *kind;
	unsigned int order;
};

FIXTURE_VARIANT_ADD(reclaim, anon_order_0)
{
	.kind = &kind_anon, .order = 0,
};

FIXTURE_VARIANT_ADD(reclaim, anon_order_4)
{
	.kind = &kind_anon, .order = 4,
};

FIXTURE_VARIANT_ADD(reclaim, anon_pmd)
{
	.kind = &kind_anon, .order = PMD,
};

FIXTURE_VARIANT_ADD(reclaim, byte_order_0)
{
	.kind = &kind_byte, .order = 0,
};

FIXTURE_VARIANT_ADD(reclaim, byte_order_4)
{
	.kind = &kind_byte, .order = 4,
};

FIXTURE_VARIANT_ADD(reclaim, byte_pmd)
{
	.kind = &kind_byte, .order = PMD,
};

FIXTURE_VARIANT_ADD(reclaim, page_order_0)
{
	.kind = &kind_page, .order = 0,
};

FIXTURE_VARIANT_ADD(reclaim, page_order_4)
{
	.kind = &kind_page, .order = 4,
};

FIXTURE_VARIANT_ADD(reclaim, page_pmd)
{
	.kind = &kind_page, .order = PMD,
};

FIXTURE_SETUP(reclaim)
{
	const char *why = prepare_order(variant->kind, variant->order);

	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN(reclaim)
{
	EXPECT_TRUE(finish());
}

/* -- MADV_FREE: what becomes of the pages ----------------------------------- */

/*
 * Pages are given up, and have the old bytes as long as nobody takes them.
 * Catches an advice that is refused, does nothing, or drops pages at once, and
 * stores that do not take it back.
 */
TEST_F(reclaim, madv_free)
{
	unsigned char *p = make(_metadata);

	for (int i = 0; i < 2; i++) {
		lazy_free(p, pages);
		EXPECT_EQ(made(), smaps_pages(p, "LazyFree:"));
		EXPECT_EQ(made(), smaps_pages(p, "Rss:"));
		EXPECT_TRUE(is_marked(p, pages, 4));
		mark(p, pages, 4);
		EXPECT_GE(made() - pages / 4, smaps_pages(p, "LazyFree:"));
		EXPECT_EQ(made(), smaps_pages(p, "Anonymous:"));
		EXPECT_TRUE(is_marked(p, pages, 4));
	}
}

static void check_reclaimed(struct __test_metadata *_metadata,
			    enum pressure how)
{
	unsigned char *p = make(_metadata);
	const long fresh = pages - made();

	lazy_free(p, pages);
	EXPECT_TRUE(is_marked(p, pages, 4));
	remember();
	EXPECT_TRUE(press_out(p, pages, how));
	EXPECT_LE(before.lazyfreed + made(), vm_counter("pglazyfreed"));
	EXPECT_EQ(fresh, count(p, pages, FRESH));
	check_gone(_metadata, p, pages);
}

/*
 * Reclaimed, they are the content. Catches zeros, pages that are swapped out
 * although nobody wants them back, and counters that go wrong.
 */
TEST_F(reclaim, madv_free_pageout)
{
	check_reclaimed(_metadata, PAGEOUT);
}

static void check_in_memcg(struct __test_metadata *_metadata,
			   void (*check)(struct __test_metadata *_metadata,
					 enum pressure how),
			   enum pressure how)
{
	const char *why = memcg_create();
	pid_t pid;

	if (why)
		SKIP(return, "%s", why);
	if (no_swap())
		SKIP(return, "no swap space");
	pid = fork_into_memcg();
	if (!pid) {
		check(_metadata, how);
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_EQ(0, memcg_number("memory.events", "oom_kill "));
}

/* The same for the memory of a cgroup that is reclaimed, and for its limit. */
TEST_F_TIMEOUT(reclaim, madv_free_memory_reclaim, 60)
{
	check_in_memcg(_metadata, check_reclaimed, RECLAIM);
}

TEST_F_TIMEOUT(reclaim, madv_free_memory_max, 60)
{
	check_in_memcg(_metadata, check_reclaimed, LIMIT);
}

/*
 * A store after that makes a page of the content, in folios of the same order.
 * Catches pages of zeros, and entries that forbid folios.
 */
TEST_F(reclaim, madv_free_and_store)
{
	unsigned char *p = make(_metadata), *q = make_control();

	for (int i = 0; i < 2; i++) {
		lazy_free(q, pages);
		lazy_free(p, pages);
		ASSERT_TRUE(press_out(q, pages, PAGEOUT));
		ASSERT_TRUE(press_out(p, pages, PAGEOUT));
		mark(q, pages, 8);
		mark(p, pages, 8);
		/* A huge page finds a page table in its way. */
		if (folio_order != pmd_order)
			EXPECT_TRUE(has_folios(p, pages));
		EXPECT_EQ(count(q, pages, PRIVATE), count(p, pages, PRIVATE));
		EXPECT_TRUE(is_marked(p, pages, 8));
	}
	lazy_free(p, pages);
	ASSERT_TRUE(press_out(p, pages, PAGEOUT));
	load_pages(p, pages);
	mark(p, pages, 4);
	EXPECT_TRUE(is_marked(p, pages, 4));
}

static void check_rewritten(struct __test_metadata *_metadata,
			    enum pressure how)
{
	unsigned char *p = make(_metadata);

	lazy_free(p, pages);
	EXPECT_TRUE(is_marked(p, pages, 4));
	mark(p, pages, 8);
	for (int i = 0; i < 3; i++) {
		press(p, pages, how);
		EXPECT_TRUE(is_kept_or_content(p, pages, 4, 8));
	}
	/* They are worth being swapped out again. */
	EXPECT_TRUE(press_out(p, pages, how));
	if (!folio_order)
		EXPECT_EQ(pages / 8, count(p, pages, SWAPPED));
	EXPECT_LE(pages / 8, count(p, pages, SWAPPED));
	EXPECT_TRUE(is_kept_or_content(p, pages, 4, 8));
}

/*
 * Pages that are stored to after MADV_FREE stay, through the same pressure, and
 * have what they had. Catches a dirty bit that is not looked at, or looked at
 * too early, and a folio of which one page tells for all.
 */
TEST_F(reclaim, madv_free_rewritten_pageout)
{
	if (no_swap())
		SKIP(return, "no swap space");
	check_rewritten(_metadata, PAGEOUT);
}

TEST_F_TIMEOUT(reclaim, madv_free_rewritten_memory_reclaim, 60)
{
	check_in_memcg(_metadata, check_rewritten, RECLAIM);
}

TEST_F_TIMEOUT(reclaim, madv_free_rewritten_memory_max, 60)
{
	check_in_memcg(_metadata, check_rewritten, LIMIT);
}

/*
 * A part of each folio is given up, and stored to here and there. Catches pages
 * that are given up with the rest of their folio, and a split that loses some.
 */
TEST_F(reclaim, madv_free_part)
{
	const long n = folio_pages < 16 ? 16 : folio_pages;
	unsigned char *p = make(_metadata);

	if (no_swap())
		SKIP(return, "no swap space");
	for (long i = 0; i < pages; i += n)
		lazy_free(p + bytes(i + n / 4), n / 2);
	EXPECT_TRUE(is_marked(p, pages, 4));
	for (long i = 0; i < pages; i += n)
		mark_part(p, i + n / 4, i + n * 3 / 4, 8);
	ASSERT_TRUE(press_out(p, pages, PAGEOUT));
	for (long i = 0; i < pages; i += n) {
		EXPECT_TRUE(is_marked_part(p, i, i + n / 4, 4));
		EXPECT_TRUE(is_marked_part(p, i + n / 4, i + n * 3 / 4, 8));
		EXPECT_TRUE(is_marked_part(p, i + n * 3 / 4, i + n, 4));
	}
}

/* -- MADV_FREE of pages in each state --------------------------------------- */

static long swap_used(void)
{
	return (file_number("/proc/meminfo", "SwapTotal:") -
		file_number("/proc/meminfo", "SwapFree:")) * 1024 / psize();
}

/*
 * What is swapped out is the content at once, and its space in swap is free.
 * Catches entries that stay, or come back, and space that is lost.
 */
TEST_F(reclaim, madv_free_swapped)
{
	/* CPUs have some in store. */
	const long slack = 256 * sysconf(_SC_NPROCESSORS_ONLN);
	long used = swap_used();
	unsigned char *p = empty();

	if (no_swap())
		SKIP(return, "no swap space");
	for (long done = 0; done < 2 * slack; done += pages) {
		mark(p, pages, 1);
		ASSERT_TRUE(press_out(p, pages, PAGEOUT));
		EXPECT_EQ(pages, smaps_pages(p, "Swap:"));
		lazy_free(p, pages);
		remember();
		check_gone(_metadata, p, pages);
	}
	EXPECT_GE(used + slack, swap_used());
	mark(p, pages, 4);
	EXPECT_TRUE(is_marked(p, pages, 4));
}

/* A part of it, some of which was read ahead. Catches the rest being freed. */
TEST_F(reclaim, madv_free_swapped_part)
{
	unsigned char *p = make(_metadata);
	const long half = pages / 2;

	if (no_swap())
		SKIP(return, "no swap space");
	ASSERT_TRUE(press_out(p, pages, PAGEOUT));
	advise(p + bytes(half), half / 2, MADV_WILLNEED);
	lazy_free(p + bytes(3), half);
	EXPECT_TRUE(is_content(p + bytes(3), half));
	EXPECT_TRUE(is_marked_part(p, 0, 3, 4));
	EXPECT_TRUE(is_marked_part(p, 3 + half, pages, 4));
	ASSERT_TRUE(press_out(p, pages, PAGEOUT));
	EXPECT_TRUE(is_content(p + bytes(3), half));
	EXPECT_TRUE(is_marked_part(p, 0, 3, 4));
	EXPECT_TRUE(is_marked_part(p, 3 + half, pages, 4));
}

/*
 * What was swapped out and in is as good as what never was. Catches a page that
 * finds its old bytes in swap.
 */
TEST_F(reclaim, madv_free_swapped_in)
{
	unsigned char *p = make(_metadata);

	if (no_swap())
		SKIP(return, "no swap space");
	ASSERT_TRUE(press_out(p, pages, PAGEOUT));
	EXPECT_TRUE(is_marked(p, pages, 4));
	lazy_free(p, pages);
	EXPECT_TRUE(is_marked(p, pages, 4));
	remember();
	EXPECT_TRUE(press_out(p, pages, PAGEOUT));
	check_gone(_metadata, p, pages);
}

/*
 * Pages that were only loaded are nothing to give up. Catches the reference page
 * being taken for a page of the process.
 */
TEST_F(reclaim, madv_free_loaded)
{
	unsigned char *p = empty();
	long fresh;

	load_pages(p, pages);
	fresh = count(p, pages, FRESH);
	EXPECT_EQ(pages, fresh);
	remember();
	lazy_free(p, pages);
	EXPECT_EQ(0, smaps_pages(p, "LazyFree:"));
	advise(p, pages, MADV_PAGEOUT);
	EXPECT_EQ(fresh, count(p, pages, FRESH));
	check_gone(_metadata, p, pages);
	mark(p, pages, 4);
	EXPECT_TRUE(is_marked(p, pages, 4));
}

/* Guards stay. Catches a guard that is given up as if it were in swap. */
TEST_F(reclaim, madv_free_guards)
{
	unsigned char *p = make(_metadata);
	const long at = folio_pages / 2 + 4;

	if (!guard(map_anon(1, RW), 1))
		SKIP(return, "no MADV_GUARD_INSTALL");
	ASSERT_TRUE(guard(p + bytes(at), 3));
	lazy_free(p, pages);
	EXPECT_TRUE(is_marked_part(p, 0, at, 4));
	EXPECT_TRUE(is_marked_part(p, at + 3, pages, 4));
	ASSERT_TRUE(press_out(p, pages, PAGEOUT));
	EXPECT_EQ(SIGSEGV, signal_of(p + bytes(at), LOAD));
	EXPECT_EQ(SIGSEGV, signal_of(p + bytes(at + 2), STORE));
	EXPECT_TRUE(is_content(p, at));
	EXPECT_TRUE(is_content(p + bytes(at + 3), pages - at - 3));
	advise(p, pages, MADV_GUARD_REMOVE);
	EXPECT_TRUE(is_content(p, pages));
}

/*
 * Memory that may not be stored to, or not touched at all, is reclaimed all the
 * same. Catches an advice that asks for more than anonymous memory does.
 */
TEST_F(reclaim, madv_free_protected)
{
	static const int protections[] = { PROT_READ, PROT_NONE };

	for (size_t i = 0; i < ARRAY_SIZE(protections); i++) {
		unsigned char *p = make(_metadata);

		ASSERT_EQ(0, mprotect(p, bytes(pages), protections[i]));
		lazy_free(p, pages);
		EXPECT_EQ(made(), smaps_pages(p, "LazyFree:"));
		remember();
		ASSERT_TRUE(press_out(p, pages, PAGEOUT));
		EXPECT_EQ(SIGSEGV, signal_of(p, STORE));
		ASSERT_EQ(0, mprotect(p, bytes(pages), PROT_READ));
		check_gone(_metadata, p, pages);
		ASSERT_EQ(0, mprotect(p, bytes(pages), RW));
		mark(p, pages, 4);
		EXPECT_TRUE(is_marked(p, pages, 4));
	}
}

/* Locked memory is not given up. Catches the missing error. */
TEST_F(reclaim, madv_free_locked)
{
	unsigned char *p = make(_metadata);

	ASSERT_EQ(0, mlock(p, bytes(pages)));
	EXPECT_EQ(-1, madvise(p, bytes(pages), MADV_FREE));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, madvise(p, bytes(pages), MADV_PAGEOUT));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_TRUE(is_marked(p, pages, 4));
	EXPECT_EQ(0, smaps_pages(p, "LazyFree:"));
	ASSERT_EQ(0, munlock(p, bytes(pages)));
	lazy_free(p, pages);
	EXPECT_TRUE(is_marked(p, pages, 4));
	EXPECT_TRUE(press_out(p, pages, PAGEOUT));
	EXPECT_TRUE(is_content(p, pages));
}

/* Try hard to reclaim what cannot be. */
static void press_in_vain(unsigned char *p, long n)
{
	for (int tries = 0; tries < 4; tries++)
		advise(p, n, MADV_PAGEOUT);
}

/*
 * A page in a pipe is used by somebody, and stays. Catches references that are
 * not counted: the pipe would have another page than the mapping, or a free one.
 */
TEST_F(reclaim, madv_free_in_pipe)
{
	unsigned char *p = make(_metadata), *buf = map_anon(4, RW);
	struct iovec iov = { p, bytes(4) };
	int pipes[2];

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(bytes(4), vmsplice(pipes[1], &iov, 1, 0));
	lazy_free(p, pages);
	press_in_vain(p, pages);
	EXPECT_TRUE(is_marked_part(p, 0, 4, 4));
	EXPECT_TRUE(is_kept_or_content(p, pages, 4, 0));
	for (long done = 0; done < bytes(4);) {
		ssize_t len = read(pipes[0], buf + done, bytes(4) - done);

		ASSERT_LT(0, len);
		done += len;
	}
	EXPECT_TRUE(is_marked(buf, 4, 4));
	lazy_free(p, pages);
	EXPECT_TRUE(press_out(p, pages, PAGEOUT));
	EXPECT_TRUE(is_content(p, pages));
}

/*
 * The same for a pin, through which a device might write; and what is stored
 * afterwards is seen by both. Catches a page that is replaced.
 */
TEST_F(reclaim, madv_free_pinned)
{
	const int gup = open(DEBUGFS "gup_test", O_RDWR);
	unsigned char *p = make(_metadata), *buf = map_anon(16, RW);
	const __u64 dest = (unsigned long)buf;
	struct pin_longterm_test pin = {
		.addr = (unsigned long)p, .size = bytes(16),
		.flags = PIN_LONGTERM_TEST_FLAG_USE_WRITE,
	};

	if (gup < 0)
		SKIP(return, "no " DEBUGFS "gup_test");
	ASSERT_EQ(0, ioctl(gup, PIN_LONGTERM_TEST_START, &pin));
	lazy_free(p, pages);
	press_in_vain(p, pages);
	EXPECT_TRUE(is_marked_part(p, 0, 16, 4));
	EXPECT_TRUE(is_kept_or_content(p, pages, 4, 0));
	mark(p, 16, 1);
	ASSERT_EQ(0, ioctl(gup, PIN_LONGTERM_TEST_READ, &dest));
	EXPECT_TRUE(is_marked(buf, 16, 1));
	ASSERT_EQ(0, ioctl(gup, PIN_LONGTERM_TEST_STOP));
	EXPECT_TRUE(is_marked(p, 16, 1));
	lazy_free(p, pages);
	press_in_vain(p, pages);
	EXPECT_TRUE(is_content(p, 16));
}

/* MADV_DONTNEED does not wait. Catches old bytes after it, in either order. */
TEST_F(reclaim, madv_free_and_dontneed)
{
	unsigned char *p = make(_metadata);

	remember();
	lazy_free(p, pages);
	advise(p, pages, MADV_DONTNEED);
	check_gone(_metadata, p, pages);
	mark(p, pages, 4);
	advise(p, pages, MADV_DONTNEED);
	lazy_free(p, pages);
	check_gone(_metadata, p, pages);
	mark(p, pages, 4);
	EXPECT_TRUE(is_marked(p, pages, 4));
}

static ssize_t advise_process(pid_t pid, unsigned char *p, int advice)
{
	int fd = syscall(__NR_pidfd_open, pid, 0);
	struct iovec iov = { p, bytes(pages) };
	ssize_t ret;

	if (fd < 0)
		die("pidfd_open");
	ret = syscall(__NR_process_madvise, fd, &iov, 1, advice, 0);
	close(fd);
	return ret;
}

/*
 * Who watches for writes is told of what was given up and taken, since the bytes
 * are others now. Catches a marker that is left behind, as in a file, where the
 * same bytes are found again.
 */
TEST_F(reclaim, madv_free_watched)
{
	unsigned char *p = make(_metadata);
	int fd = open_userfaultfd(WATCH_STORES);

	if (fd < 0)
		SKIP(return, "no userfaultfd, or no asynchronous mode");
	ASSERT_EQ(0, uffd_register(fd, p, bytes(pages), false, true, false));
	write_protect(p, pages);
	for (long i = 0; i < pages; i++)
		ASSERT_FALSE(scan_written(pagemap_fd, p + bytes(i), 0));

	lazy_free(p, pages);
	EXPECT_TRUE(press_out(p, pages, PAGEOUT));
	for (long i = 0; i < pages; i++) {
		bool gone = folio_order || is_marked_page(i, 4);

		ASSERT_EQ(gone, scan_written(pagemap_fd, p + bytes(i), 0));
	}
	EXPECT_TRUE(is_content(p, pages));
}

/*
 * A process may give up its own memory that way, and nobody else's. Catches a
 * mapping that is advised differently.
 */
TEST_F(reclaim, madv_free_process_madvise)
{
	unsigned char *p = make(_metadata), *q = make_control();
	int child[2];
	pid_t pid;

	if (advise_process(getpid(), q, MADV_FREE) != bytes(pages))
		SKIP(return, "no MADV_FREE by process_madvise()");
	drain_batches();
	EXPECT_EQ(bytes(pages), advise_process(getpid(), p, MADV_FREE));
	drain_batches();
	EXPECT_EQ(made(), smaps_pages(p, "LazyFree:"));
	remember();
	ASSERT_TRUE(press_out(p, pages, PAGEOUT));
	check_gone(_metadata, p, pages);

	mark(p, pages, 4);
	ASSERT_EQ(0, pipe(child));
	pid = fork_child();
	if (!pid) {
		wait_for(child);
		EXPECT_TRUE(is_marked(p, pages, 4));
		_exit(0);
	}
	EXPECT_EQ(-1, advise_process(pid, p, MADV_FREE));
	EXPECT_EQ(EINVAL, errno);
	tell(child);
	EXPECT_TRUE(child_passed(pid));
}

/* Nobody wants it. Folios that are shared may stay. */
static bool is_given_up(const unsigned char *p)
{
	return folio_order ? is_kept_or_content(p, pages, 4, 0) :
			     is_content(p, pages);
}

/* In a child that shares with its parent. */
static void share_and_free(struct __test_metadata *_metadata, unsigned char *p,
			   const int *parent, const int *child)
{
	/* The parent gave it up, and this process did not. */
	wait_for(child);
	EXPECT_TRUE(is_marked(p, pages, 4));
	lazy_free(p, pages);
	EXPECT_TRUE(is_marked(p, pages, 4));
	tell(parent);
	wait_for(child);
	EXPECT_TRUE(is_given_up(p));
	memset(p, 0x11, bytes(pages));
	tell(parent);
	wait_for(child);
	EXPECT_TRUE(is_byte(p, 0x11, bytes(pages)));
	advise(p, pages, MADV_DONTNEED);
	EXPECT_TRUE(is_content(p, pages));
}

static void check_shared(struct __test_metadata *_metadata, enum pressure how)
{
	unsigned char *p = make(_metadata);
	int parent[2], child[2];
	pid_t pid;

	ASSERT_EQ(0, pipe(parent));
	ASSERT_EQ(0, pipe(child));
	pid = fork_child();
	if (!pid) {
		share_and_free(_metadata, p, parent, child);
		_exit(0);
	}
	lazy_free(p, pages);
	EXPECT_TRUE(is_marked(p, pages, 4));
	press(p, pages, how);
	memcg_squeeze();
	EXPECT_TRUE(is_kept_or_content(p, pages, 4, 0));
	tell(child);
	wait_for(parent);
	/* Now both gave it up. */
	memcg_squeeze();
	EXPECT_TRUE(is_given_up(p));
	tell(child);
	wait_for(parent);
	EXPECT_TRUE(is_given_up(p));
	memset(p, 0x22, bytes(pages));
	memcg_squeeze();
	tell(child);
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_byte(p, 0x22, bytes(pages)));
}

/*
 * Of pages that two processes have, each may give up its own. Catches pages
 * that one loses because the other does not want them, and bytes of the other.
 */
TEST_F_TIMEOUT(reclaim, madv_free_shared, 60)
{
	check_in_memcg(_metadata, check_shared, RECLAIM);
}

/* -- Cold and hot pages ------------------------------------------------------ */

static void check_cold(struct __test_metadata *_metadata, enum pressure how)
{
	unsigned char *p = make(_metadata);

	advise(p, pages, MADV_COLD);
	EXPECT_EQ(made(), count(p, pages, PRIVATE));
	EXPECT_EQ(pages - made(), count(p, pages, FRESH));
	remember();
	ASSERT_TRUE(press_out(p, pages, how));
	EXPECT_EQ(made(), count(p, pages, SWAPPED));
	EXPECT_EQ(made(), smaps_pages(p, "Swap:"));
	EXPECT_EQ(pages - made(), count(p, pages, FRESH));
	EXPECT_LE(before.swapped + made(), vm_counter("pswpout"));
	EXPECT_TRUE(is_marked(p, pages, 4));
}

/*
 * Pages that are not needed for now are the first to be swapped out, with all
 * that they have. Catches an advice that is taken for one about a file, and
 * pages that are dropped.
 */
TEST_F_TIMEOUT(reclaim, madv_cold, 60)
{
	check_in_memcg(_metadata, check_cold, RECLAIM);
}

static long whole_swapouts(void)
{
	if (access(order_path(folio_order, "stats/swpout"), R_OK))
		return 0;
	return order_counter(folio_order, "swpout");
}

/* How many folios were swapped out as one? */
static long page_out_folios(struct __test_metadata *_metadata,
			    unsigned char *p)
{
	long folios = whole_swapouts();

	ASSERT_TRUE(press_out(p, pages, PAGEOUT));
	return whole_swapouts() - folios;
}

/*
 * Folios go to swap, and come back, as those of anonymous memory do: in one
 * piece or not. Catches mappings for which they are always split, or never, and
 * folios that come back with something else.
 */
TEST_F(reclaim, pageout)
{
	unsigned char *p = make(_metadata), *q = make_control();
	long folios;

	if (no_swap())
		SKIP(return, "no swap space");
	folios = page_out_folios(_metadata, q);
	EXPECT_EQ(folios, page_out_folios(_metadata, p));
	EXPECT_EQ(made(), count(p, pages, SWAPPED));
	EXPECT_EQ(made(), smaps_pages(p, "Swap:"));
	EXPECT_EQ(pages - made(), count(p, pages, FRESH));

	for (long i = 2; i < pages; i += 32) {
		load(q + bytes(i));
		load(p + bytes(i));
	}
	EXPECT_EQ(count(q, pages, PRIVATE), count(p, pages, PRIVATE));
	EXPECT_TRUE(is_marked(p, pages, 4));
	mark(p, pages, 2);
	EXPECT_TRUE(is_marked(p, pages, 2));
}

/* Of pages @p, how many are in memory, if only in the swap cache? */
static long count_in_core(unsigned char *p)
{
	unsigned char *vec = malloc(pages);
	long found = 0;

	if (!vec || mincore(p, bytes(pages), vec))
		die("mincore");
	for (long i = 0; i < pages; i++)
		found += vec[i] & 1;
	free(vec);
	return found;
}

/*
 * Private pages are read ahead from swap, and found there by the loads. Catches
 * an advice that goes to the file, which has nothing to read.
 */
TEST_F(reclaim, madv_willneed)
{
	unsigned char *p = make(_metadata), *q = make_control();
	const long fresh = pages - made();
	long read;

	if (no_swap())
		SKIP(return, "no swap space");
	ASSERT_TRUE(press_out(q, pages, PAGEOUT));
	ASSERT_TRUE(press_out(p, pages, PAGEOUT));
	EXPECT_EQ(fresh, count_in_core(p));
	advise(q, pages, MADV_WILLNEED);
	read = vm_counter("pswpin");
	advise(p, pages, MADV_WILLNEED);
	EXPECT_EQ(pages, count_in_core(p));
	EXPECT_EQ(made(), count_in_core(q));
	EXPECT_EQ(count(q, pages, SWAPPED), count(p, pages, SWAPPED));
	EXPECT_EQ(count(q, pages, PRIVATE), count(p, pages, PRIVATE));
	EXPECT_EQ(fresh, count(p, pages, FRESH));
	EXPECT_LE(read + made(), vm_counter("pswpin"));

	read = vm_counter("pswpin");
	EXPECT_TRUE(is_marked(p, pages, 4));
	EXPECT_EQ(read, vm_counter("pswpin"));
	EXPECT_EQ(made(), count(p, pages, PRIVATE));
}

/* -- The reference page ------------------------------------------------------ */

static void check_reference_page(struct __test_metadata *_metadata,
				 enum pressure how)
{
	unsigned char *p = mix(empty(), pages), *q;
	const long fresh = count(p, pages, FRESH);
	const long private = count(p, pages, PRIVATE);

	for (int i = 0; i < 2; i++) {
		ASSERT_TRUE(press_out(p, pages, how));
		memcg_squeeze();
		EXPECT_EQ(fresh, count(p, pages, FRESH));
		EXPECT_EQ(private, count(p, pages, SWAPPED));
	}
	EXPECT_TRUE(is_mixed_part(p, 0, pages));

	/* Whoever maps it now maps the same page. */
	q = memory(1);
	load(q);
	EXPECT_EQ(1, count(q, 1, FRESH));
	EXPECT_EQ(1, count(witness ?: q, 1, FRESH));
	EXPECT_TRUE(is_content(q, 1));
}

/*
 * What is private goes to swap, and the reference page stays: in each mapping,
 * and where it is. Catches pressure that takes it for memory of somebody.
 */
TEST_F_TIMEOUT(reclaim, reference_page, 60)
{
	check_in_memcg(_metadata, check_reference_page, RECLAIM);
}

TEST_F_TIMEOUT(reclaim, reference_page_memory_max, 60)
{
	check_in_memcg(_metadata, check_reference_page, LIMIT);
}

/* -- Fixture: memory of each kind, in a memory cgroup ----------------------- */

FIXTURE(memcg)
{
};

FIXTURE_VARIANT(memcg)
{
	const struct kind *kind;
};

FIXTURE_VARIANT_ADD(memcg, anon)
{
	.kind = &kind_anon,
};

FIXTURE_VARIANT_ADD(memcg, byte)
{
	.kind = &kind_byte,
};

FIXTURE_VARIANT_ADD(memcg, page)
{
	.kind = &kind_page,
};

FIXTURE_SETUP(memcg)
{
	const char *why = prepare_order(variant->kind, ORDER);

	if (!why)
		why = memcg_create();
	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN(memcg)
{
	EXPECT_TRUE(finish());
}

/* In pages, and up to date: who reads cpu.stat has all statistics flushed. */
static long memcg_stat(const char *field)
{
	memcg_number("cpu.stat", "usage_usec ");
	return memcg_number("memory.stat", field) / psize();
}

static long memcg_pages(void)
{
	return memcg_number("memory.current", "") / psize();
}

/* More than CPUs keep in store, and than page tables take. */
#define MANY	2048L

/*
 * A load is charged to nobody, and a store to who stores. Catches the reference
 * page being charged once more for each mapping, and pages that are charged to
 * the one who made the descriptor, or to none.
 */
TEST_F(memcg, charged)
{
	pid_t pid = fork_into_memcg();
	unsigned char *p;
	long now;

	if (!pid) {
		p = empty_at(reserve(MANY, 0), MANY);
		load_pages(p, MANY);
		EXPECT_EQ(0, memcg_stat("anon "));
		EXPECT_EQ(0, memcg_stat("file "));
		now = memcg_pages();
		EXPECT_GT(MANY / 8, now);
		mark(p, MANY, 1);
		EXPECT_EQ(MANY, count(p, MANY, PRIVATE));
		EXPECT_EQ(MANY, memcg_stat("anon "));
		EXPECT_LE(now + MANY * 7 / 8, memcg_pages());
		EXPECT_GE(now + MANY * 9 / 8, memcg_pages());
		advise(p, MANY, MADV_DONTNEED);
		EXPECT_EQ(0, memcg_stat("anon "));
		EXPECT_TRUE(is_content(p, MANY));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_EQ(0, memcg_stat("anon "));
}

/*
 * A child that is in another memory cgroup is charged for what it stores, not
 * for what its parent did. Catches a page that is charged to the wrong one.
 */
TEST_F(memcg, charged_child)
{
	unsigned char *p = empty_at(reserve(MANY, 0), MANY);
	pid_t pid;

	mark_part(p, 0, MANY / 2, 4);
	pid = fork_child();
	if (!pid) {
		memcg_join();
		load_pages(p, MANY);
		EXPECT_GT(32, memcg_stat("anon "));
		mark(p, MANY, 1);
		EXPECT_LE(MANY, memcg_stat("anon "));
		EXPECT_GT(MANY + 32, memcg_stat("anon "));
		EXPECT_TRUE(is_marked(p, MANY, 1));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_EQ(0, memcg_stat("anon "));
	EXPECT_TRUE(is_marked_part(p, 0, MANY / 2, 4));
	EXPECT_TRUE(is_content(p + bytes(MANY / 2), MANY / 2));
}

/*
 * Who makes a descriptor is charged for it, and for its page if that is not
 * shared with others. Catches a page that nobody is charged for: it could be had
 * as often as one likes.
 */
TEST_F(memcg, charged_descriptors)
{
	unsigned int flags = variant->kind->whole_page ? 0 :
						REFPAGE_PATTERN_SIZE(0);
	const long many = 512;
	pid_t pid;

	if (anon())
		return;
	pid = fork_into_memcg();
	if (!pid) {
		long grown = -memcg_stat("kernel ");

		for (long i = 0; i < many; i++)
			EXPECT_LE(0, refpage_create(content, flags));
		grown += memcg_stat("kernel ");
		EXPECT_LE(variant->kind->whole_page ? many : 1, grown);
		EXPECT_GT(variant->kind->whole_page ? 2 * many : many / 2,
			  grown);
		EXPECT_EQ(0, memcg_stat("file "));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	/* Some of it is freed a little later. */
	for (int tries = 0; tries < 500; tries++) {
		if (memcg_stat("kernel ") < many / 4)
			break;
		usleep(10000);
	}
	EXPECT_GT(many / 4, memcg_stat("kernel "));
}

/* -- What does not fit -------------------------------------------------------- */

#define FIT	512L	/* pages that may be in memory */

static void fill(unsigned char *p, bool populate)
{
	if (populate)
		advise(p, MANY, MADV_POPULATE_WRITE);
	mark(p, MANY, 1);
}

static pid_t fork_and_fill(struct __test_metadata *_metadata, bool populate)
{
	pid_t pid = fork_into_memcg();
	unsigned char *p;

	if (!pid) {
		p = empty_at(reserve(MANY, 0), MANY);
		fill(p, populate);
		EXPECT_TRUE(is_marked(p, MANY, 1));
		_exit(0);
	}
	return pid;
}

/*
 * What does not fit goes to swap, stored to or populated, and nothing is lost.
 * Catches pages that are not filled when they had to wait for memory.
 */
TEST_F_TIMEOUT(memcg, memory_max, 120)
{
	if (no_swap())
		SKIP(return, "no swap space");
	set_number(MEMCG "memory.max", bytes(FIT));
	for (int populate = 0; populate <= 1; populate++) {
		long swapped = vm_counter("pswpout");

		EXPECT_TRUE(child_passed(fork_and_fill(_metadata, populate)));
		EXPECT_LE(swapped + MANY - FIT, vm_counter("pswpout"));
		EXPECT_LT(0, memcg_number("memory.events", "max "));
		EXPECT_EQ(0, memcg_number("memory.events", "oom_kill "));
	}
}

/* A reaper may hold on to memory for a moment. */
static bool memcg_is_empty(void)
{
	for (int tries = 0; tries < 500; tries++) {
		if (!memcg_stat("anon ") && memcg_pages() < FIT / 4)
			return true;
		usleep(10000);
	}
	ksft_print_msg("anon %zu, current %zu pages\n", memcg_stat("anon "),
		       memcg_pages());
	return false;
}

/*
 * Without swap, the process is killed, and its memory is free again. Catches
 * folios that leak on the way out of a fault, and charges that stay.
 */
TEST_F_TIMEOUT(memcg, memory_max_without_swap, 120)
{
	set(MEMCG "memory.swap.max", "0");
	set_number(MEMCG "memory.max", bytes(FIT));
	for (int populate = 0; populate <= 1; populate++) {
		int status = wait_status(fork_and_fill(_metadata, populate));

		EXPECT_TRUE(WIFSIGNALED(status));
		EXPECT_EQ(SIGKILL, WTERMSIG(status));
		EXPECT_EQ(1 + populate,
			  memcg_number("memory.events", "oom_kill "));
		EXPECT_TRUE(memcg_is_empty());
	}
}

/*
 * Reclaim takes what is private and leaves alone what is not. Catches either
 * being done to the other, page by page.
 */
TEST_F_TIMEOUT(memcg, memory_reclaim, 60)
{
	pid_t pid;

	if (no_swap())
		SKIP(return, "no swap space");
	pid = fork_into_memcg();
	if (!pid) {
		unsigned char *p = mix(memory(MANY), MANY);
		const long fresh = count(p, MANY, FRESH);

		EXPECT_EQ(MANY / 2, count(p, MANY, PRIVATE));
		for (int i = 0; i < 2; i++) {
			EXPECT_TRUE(press_out(p, MANY, RECLAIM));
			EXPECT_EQ(0, memcg_stat("anon "));
			EXPECT_EQ(fresh, count(p, MANY, FRESH));
			EXPECT_EQ(MANY / 2, count(p, MANY, SWAPPED));
			EXPECT_TRUE(is_mixed_part(p, 0, MANY / 4 * i));
		}
		EXPECT_TRUE(is_mixed_part(p, 0, MANY));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
}

/* -- Fixture: droppable memory of each kind, folios of each order ----------- */

FIXTURE(droppable)
{
};

FIXTURE_VARIANT(droppable)
{
	const struct kind *kind;
	unsigned int order;
};

FIXTURE_VARIANT_ADD(droppable, anon_order_0)
{
	.kind = &kind_anon, .order = 0,
};

FIXTURE_VARIANT_ADD(droppable, anon_order_4)
{
	.kind = &kind_anon, .order = 4,
};

FIXTURE_VARIANT_ADD(droppable, anon_pmd)
{
	.kind = &kind_anon, .order = PMD,
};

FIXTURE_VARIANT_ADD(droppable, byte_order_0)
{
	.kind = &kind_byte, .order = 0,
};

FIXTURE_VARIANT_ADD(droppable, byte_order_4)
{
	.kind = &kind_byte, .order = 4,
};

FIXTURE_VARIANT_ADD(droppable, byte_pmd)
{
	.kind = &kind_byte, .order = PMD,
};

FIXTURE_VARIANT_ADD(droppable, page_order_0)
{
	.kind = &kind_page, .order = 0,
};

FIXTURE_VARIANT_ADD(droppable, page_order_4)
{
	.kind = &kind_page, .order = 4,
};

FIXTURE_VARIANT_ADD(droppable, page_pmd)
{
	.kind = &kind_page, .order = PMD,
};

FIXTURE_SETUP(droppable)
{
	const char *why = prepare_droppable(variant->kind, variant->order);

	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN(droppable)
{
	EXPECT_TRUE(finish());
}

static void check_dropped(struct __test_metadata *_metadata,
			  enum pressure how)
{
	unsigned char *p = make(_metadata);
	const long fresh = pages - made();

	EXPECT_TRUE(is_marked(p, pages, 4));
	EXPECT_EQ(made(), smaps_pages(p, "Rss:"));
	for (int i = 0; i < 2; i++) {
		remember();
		EXPECT_TRUE(press_out(p, pages, how));
		if (!i)
			EXPECT_EQ(fresh, count(p, pages, FRESH));
		check_gone(_metadata, p, pages);
		mark(p, pages, 4);
		EXPECT_TRUE(is_marked(p, pages, 4));
	}
}

/*
 * Pages are dropped although they are dirty, and are the content. Catches pages
 * that are swapped out, or kept, or zeros after that.
 */
TEST_F(droppable, pageout)
{
	check_dropped(_metadata, PAGEOUT);
}

/* The same for the memory of a cgroup that is reclaimed, and for its limit. */
TEST_F_TIMEOUT(droppable, memory_reclaim, 60)
{
	check_in_memcg(_metadata, check_dropped, RECLAIM);
}

TEST_F_TIMEOUT(droppable, memory_max, 60)
{
	check_in_memcg(_metadata, check_dropped, LIMIT);
}

static void check_half_dropped(struct __test_metadata *_metadata,
			       enum pressure how)
{
	unsigned char *p = make(_metadata);
	unsigned char *kept = reserve(pages, 0);

	mark(p, pages, 1);
	memory_type = MAP_PRIVATE;
	memory_at(kept, pages, 0);
	memory_type = MAP_DROPPABLE;
	mark(kept, pages, 1);
	remember();
	/* It may be something else that is taken first. */
	for (int tries = 0; tries < 20; tries++) {
		if (count(p, pages, PRIVATE) < pages)
			break;
		press(p, pages / 2, how);
	}
	EXPECT_GT(pages, count(p, pages, PRIVATE));
	EXPECT_EQ(0, count(p, pages, SWAPPED));
	EXPECT_EQ(0, smaps_pages(p, "Swap:"));
	EXPECT_TRUE(is_kept_or_content(p, pages, 1, 0));
	EXPECT_TRUE(is_marked(kept, pages, 1));
}

/*
 * What is dropped is all of a page, and what is not dropped is as it was; memory
 * beside it that is not droppable keeps everything. Catches a page that is
 * dropped and then stored to, and one flag for both.
 */
TEST_F_TIMEOUT(droppable, half_memory_reclaim, 60)
{
	check_in_memcg(_metadata, check_half_dropped, RECLAIM);
}

TEST_F_TIMEOUT(droppable, half_memory_max, 60)
{
	check_in_memcg(_metadata, check_half_dropped, LIMIT);
}

/*
 * A process fills more than its memory cgroup may have, without swap, and lives.
 * Catches pages that are charged and then not dropped, and OOM errors that are
 * passed on.
 */
TEST_F_TIMEOUT(droppable, fill, 120)
{
	const char *why = memcg_create();
	unsigned char *p;
	pid_t pid;

	if (why)
		SKIP(return, "%s", why);
	set(MEMCG "memory.swap.max", "0");
	set_number(MEMCG "memory.max", bytes(2 * FIT));
	pid = fork_into_memcg();
	if (!pid) {
		p = empty_at(reserve(MANY, 0), MANY);
		for (int populate = 0; populate <= 1; populate++) {
			fill(p, populate);
			EXPECT_GE(2 * FIT, count(p, MANY, PRIVATE));
			EXPECT_TRUE(is_kept_or_content(p, MANY, 1, 0));
		}
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_EQ(0, memcg_number("memory.events", "oom_kill "));
	EXPECT_LT(0, memcg_number("memory.events", "max "));
}

/*
 * A part of each folio is reclaimed, the rest is not touched. Catches a folio
 * that goes because one page of it does.
 */
TEST_F(droppable, pageout_part)
{
	unsigned char *p = make(_metadata);
	const long n = folio_pages < 16 ? 16 : folio_pages;

	remember();
	for (long i = 0; i < pages; i += n)
		EXPECT_TRUE(press_out(p + bytes(i + n / 4), n / 2, PAGEOUT));
	EXPECT_EQ(before.swapped, vm_counter("pswpout"));
	for (long i = 0; i < pages; i += n) {
		EXPECT_TRUE(is_marked_part(p, i, i + n / 4, 4));
		EXPECT_TRUE(is_content(p + bytes(i + n / 4), n / 2));
		EXPECT_TRUE(is_marked_part(p, i + n * 3 / 4, i + n, 4));
	}
	EXPECT_EQ(0, smaps_pages(p, "Swap:"));
}

/* Advice to give pages up changes nothing about it. Catches pages that stay. */
TEST_F(droppable, madv_free)
{
	unsigned char *p = make(_metadata);

	lazy_free(p, pages);
	EXPECT_TRUE(is_marked(p, pages, 4));
	mark(p, pages, 8);
	EXPECT_TRUE(is_marked(p, pages, 4));
	remember();
	EXPECT_TRUE(press_out(p, pages, PAGEOUT));
	check_gone(_metadata, p, pages);
	mark(p, pages, 4);
	advise(p, pages, MADV_DONTNEED);
	check_gone(_metadata, p, pages);
}

/* So does other advice, and a protection. */
TEST_F(droppable, protected)
{
	unsigned char *p = make(_metadata);

	advise(p, pages, MADV_COLD);
	advise(p, pages, MADV_WILLNEED);
	ASSERT_EQ(0, mprotect(p, bytes(pages), PROT_READ));
	EXPECT_TRUE(is_marked(p, pages, 4));
	EXPECT_EQ(SIGSEGV, signal_of(p, STORE));
	remember();
	EXPECT_TRUE(press_out(p, pages, PAGEOUT));
	check_gone(_metadata, p, pages);
	advise(p, pages, MADV_WILLNEED);
	ASSERT_EQ(0, mprotect(p, bytes(pages), RW));
	EXPECT_TRUE(is_content(p, pages));
}

/*
 * A page that is pinned is not dropped before it is unpinned. Catches a device
 * that is left with another page than the process has.
 */
TEST_F(droppable, pinned)
{
	const int gup = open(DEBUGFS "gup_test", O_RDWR);
	unsigned char *p = make(_metadata), *buf = map_anon(16, RW);
	const __u64 dest = (unsigned long)buf;
	struct pin_longterm_test pin = {
		.addr = (unsigned long)p, .size = bytes(16),
		.flags = PIN_LONGTERM_TEST_FLAG_USE_WRITE,
	};

	if (gup < 0)
		SKIP(return, "no " DEBUGFS "gup_test");
	ASSERT_EQ(0, ioctl(gup, PIN_LONGTERM_TEST_START, &pin));
	press_in_vain(p, pages);
	EXPECT_TRUE(is_marked_part(p, 0, 16, 4));
	EXPECT_TRUE(is_kept_or_content(p, pages, 4, 0));
	mark(p, 16, 1);
	ASSERT_EQ(0, ioctl(gup, PIN_LONGTERM_TEST_READ, &dest));
	EXPECT_TRUE(is_marked(buf, 16, 1));
	ASSERT_EQ(0, ioctl(gup, PIN_LONGTERM_TEST_STOP));
	remember();
	EXPECT_TRUE(press_out(p, pages, PAGEOUT));
	check_gone(_metadata, p, pages);
}

/*
 * A child finds the content, and none of what its parent has, which keeps it;
 * its own is its own. Catches memory that is copied on fork, and pages that the
 * parent loses with it.
 */
TEST_F(droppable, fork)
{
	unsigned char *p = make(_metadata);
	pid_t pid = fork_child();

	if (!pid) {
		EXPECT_EQ(pages, count(p, pages, NONE));
		EXPECT_TRUE(is_content(p, pages));
		memset(p, 0x11, bytes(pages));
		pid = fork_child();
		if (!pid) {
			EXPECT_TRUE(is_content(p, pages));
			mark(p, pages, 4);
			EXPECT_TRUE(is_marked(p, pages, 4));
			_exit(0);
		}
		EXPECT_TRUE(child_passed(pid));
		EXPECT_TRUE(is_byte(p, 0x11, bytes(pages)));
		remember();
		EXPECT_TRUE(press_out(p, pages, PAGEOUT));
		check_gone(_metadata, p, pages);
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_marked(p, pages, 4));
	EXPECT_EQ(made(), count(p, pages, PRIVATE));
}

/*
 * Loads cost nothing there, either, and pressure does not concern what they
 * left. Catches a reference page that is dropped.
 */
TEST_F(droppable, loaded)
{
	unsigned char *p = empty();
	long fresh;

	load_pages(p, pages);
	fresh = count(p, pages, FRESH);
	EXPECT_EQ(pages, fresh);
	remember();
	advise(p, pages, MADV_PAGEOUT);
	EXPECT_EQ(fresh, count(p, pages, FRESH));
	check_gone(_metadata, p, pages);
	mark(p, pages, 4);
	EXPECT_TRUE(is_marked(p, pages, 4));
}

/* Memory is populated as other memory is, and dropped the same. */
TEST_F(droppable, populate)
{
	unsigned char *p = empty(), *q;

	advise(p, pages, MADV_POPULATE_WRITE);
	EXPECT_EQ(pages, count(p, pages, PRIVATE));
	EXPECT_TRUE(has_folios(p, pages));
	EXPECT_TRUE(is_content(p, pages));
	remember();
	EXPECT_TRUE(press_out(p, pages, PAGEOUT));
	check_gone(_metadata, p, pages);

	q = memory_at(reserve(pages, 0), pages, MAP_POPULATE);
	EXPECT_EQ(pages, count(q, pages, PRIVATE));
	EXPECT_TRUE(is_content(q, pages));
}

/*
 * The memory moves, and is still droppable. Catches a flag, or content, that
 * does not move with it.
 */
TEST_F(droppable, mremap)
{
	unsigned char *p = make(_metadata), *q = reserve(2 * pages, 3);

	ASSERT_EQ(q, mremap(p, bytes(pages), bytes(2 * pages),
			    MREMAP_MAYMOVE | MREMAP_FIXED, q));
	EXPECT_TRUE(is_marked(q, pages, 4));
	EXPECT_TRUE(is_content(q + bytes(pages), pages));
	mark(q, 2 * pages, 4);
	remember();
	EXPECT_TRUE(press_out(q, 2 * pages, PAGEOUT));
	check_gone(_metadata, q, 2 * pages);
}

/* -- Fixture: droppable mappings of each kind -------------------------------- */

FIXTURE(droppable_mapping)
{
};

FIXTURE_VARIANT(droppable_mapping)
{
	const struct kind *kind;
};

FIXTURE_VARIANT_ADD(droppable_mapping, anon)
{
	.kind = &kind_anon,
};

FIXTURE_VARIANT_ADD(droppable_mapping, byte)
{
	.kind = &kind_byte,
};

FIXTURE_VARIANT_ADD(droppable_mapping, page)
{
	.kind = &kind_page,
};

FIXTURE_SETUP(droppable_mapping)
{
	const char *why = prepare_droppable(variant->kind, 0);

	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN(droppable_mapping)
{
	EXPECT_TRUE(finish());
}

/*
 * The mapping is what it is for anonymous memory: droppable, wiped on fork, not
 * dumped, not accounted. Catches a flag that is not set.
 */
TEST_F(droppable_mapping, flags)
{
	static const char *const set[] = { "dp", "wf", "dd", "nr" };
	static const char *const clear[] = { "ac", "lo", "sh", "gd", "mg" };
	unsigned char *p = memory(4);

	for (int stored = 0; stored <= 1; stored++) {
		for (size_t i = 0; i < ARRAY_SIZE(set); i++)
			EXPECT_TRUE(has_vm_flag(p, set[i]));
		for (size_t i = 0; i < ARRAY_SIZE(clear); i++)
			EXPECT_FALSE(has_vm_flag(p, clear[i]));
		mark(p, 4, 1);
	}
	memory_type = MAP_PRIVATE;
	EXPECT_FALSE(has_vm_flag(memory(4), "dp"));
}

/* The errno of such a mmap(); 0 for success */
static int mmap_errno(int flags, int fd)
{
	void *p = mmap(NULL, bytes(4), RW, flags, fd, 0);

	if (p == MAP_FAILED)
		return errno;
	unmap(p, 4);
	return 0;
}

/*
 * Memory cannot be droppable and something that forbids it. Catches flags that
 * are ignored.
 */
TEST_F(droppable_mapping, mmap_flags)
{
	const int flags = MAP_DROPPABLE | (anon() ? MAP_ANONYMOUS : 0);

	EXPECT_EQ(0, mmap_errno(flags, memory_fd));
	EXPECT_EQ(0, mmap_errno(flags | MAP_NORESERVE, memory_fd));
	EXPECT_EQ(EINVAL, mmap_errno(flags | MAP_LOCKED, memory_fd));
	EXPECT_EQ(EINVAL, mmap_errno(flags | MAP_GROWSDOWN, memory_fd));
	EXPECT_NE(0, mmap_errno(flags | MAP_HUGETLB, memory_fd));
}

/* Of other files, nothing can be dropped. Catches data that is lost. */
TEST_F(droppable_mapping, other_files)
{
	char path[] = "/tmp/refpage.XXXXXX";
	int memfd = memfd_create("refpage", 0), file = mkstemp(path);

	ASSERT_LE(0, memfd);
	ASSERT_LE(0, file);
	unlink(path);
	ASSERT_EQ(0, ftruncate(memfd, bytes(4)));
	ASSERT_EQ(0, ftruncate(file, bytes(4)));
	EXPECT_EQ(EINVAL, mmap_errno(MAP_DROPPABLE, memfd));
	EXPECT_EQ(EINVAL, mmap_errno(MAP_DROPPABLE, file));
	EXPECT_EQ(EINVAL, mmap_errno(MAP_DROPPABLE,
				     open("/dev/zero", O_RDWR)));
	EXPECT_EQ(EBADF, mmap_errno(MAP_DROPPABLE, -1));
}

struct advice {
	int advice;
	int err;
};

/*
 * What would take back that it can be dropped is refused, all else is not.
 * Catches a mapping that is copied or dumped in the end.
 */
TEST_F(droppable_mapping, madvise)
{
	static const struct advice advice[] = {
		{ MADV_KEEPONFORK, EINVAL }, { MADV_DODUMP, EINVAL },
		{ MADV_WIPEONFORK, 0 }, { MADV_DONTDUMP, 0 },
		{ MADV_NORMAL, 0 }, { MADV_SEQUENTIAL, 0 }, { MADV_RANDOM, 0 },
		{ MADV_DONTFORK, 0 }, { MADV_DOFORK, 0 },
		{ MADV_HUGEPAGE, 0 }, { MADV_NOHUGEPAGE, 0 },
		{ MADV_COLD, 0 }, { MADV_WILLNEED, 0 },
		{ MADV_POPULATE_READ, 0 }, { MADV_POPULATE_WRITE, 0 },
		{ MADV_FREE, 0 }, { MADV_DONTNEED, 0 }, { MADV_PAGEOUT, 0 },
	};
	unsigned char *p = memory(4);

	for (size_t i = 0; i < ARRAY_SIZE(advice); i++) {
		int err = madvise(p, bytes(4), advice[i].advice) ? errno : 0;

		EXPECT_EQ(advice[i].err, err) {
			TH_LOG("advice %d", advice[i].advice);
		}
		EXPECT_TRUE(has_vm_flag(p, "dp"));
		EXPECT_TRUE(has_vm_flag(p, "wf"));
		EXPECT_TRUE(has_vm_flag(p, "dd"));
		EXPECT_TRUE(is_content(p, 4));
	}
}

/*
 * It cannot be locked: those who ask for all, or for all to come, are given it
 * unlocked. Catches memory that is locked, and can never be dropped.
 */
TEST_F(droppable_mapping, mlock)
{
	unsigned char *p = memory(16), *q;

	EXPECT_EQ(0, mlock(p, bytes(16)));
	ASSERT_EQ(0, mlockall(MCL_CURRENT | MCL_FUTURE));
	q = memory(16);
	mark(p, 16, 4);
	mark(q, 16, 4);
	EXPECT_FALSE(has_vm_flag(p, "lo"));
	EXPECT_FALSE(has_vm_flag(q, "lo"));
	EXPECT_EQ(0, smaps_pages(p, "Locked:"));
	EXPECT_EQ(0, smaps_pages(q, "Locked:"));
	ASSERT_EQ(0, munlockall());
	remember();
	EXPECT_TRUE(press_out(p, 16, PAGEOUT));
	EXPECT_TRUE(press_out(q, 16, PAGEOUT));
	check_gone(_metadata, p, 16);
	check_gone(_metadata, q, 16);
}

/*
 * Neighbours become one mapping; a neighbour that is not droppable does not
 * become one with them. Catches memory that becomes droppable, or a mapping for
 * each block.
 */
TEST_F(droppable_mapping, merge)
{
	unsigned char *p = reserve(16, 0);

	memory_at(p, 4, 0);
	memory_at(p + bytes(8), 4, 0);
	EXPECT_EQ(1, count_vmas(p, 4, NULL));
	memory_at(p + bytes(4), 4, 0);
	EXPECT_EQ(1, count_vmas(p, 12, NULL));
	mark(p, 12, 1);
	memory_type = MAP_PRIVATE;
	memory_at(p + bytes(12), 4, 0);
	EXPECT_EQ(2, count_vmas(p, 16, NULL));
	EXPECT_FALSE(has_vm_flag(p + bytes(12), "dp"));
	mark(p, 16, 1);
	EXPECT_TRUE(press_out(p, 12, PAGEOUT));
	EXPECT_TRUE(is_content(p, 12));
	EXPECT_TRUE(is_marked_part(p, 12, 16, 1));
}

/*
 * KSM has nothing to do with it: what is merged is not dropped. Catches a
 * mapping that is given to KSM for its vm_ops.
 */
TEST_F(droppable_mapping, ksm)
{
	unsigned char *p = memory(16), *control = map_anon(16, RW);

	if (access("/proc/self/ksm_merging_pages", R_OK))
		SKIP(return, "no KSM");
	memset(p, 0x99, bytes(16));
	memset(control, 0x99, bytes(16));
	madvise(p, bytes(16), MADV_MERGEABLE);
	EXPECT_FALSE(has_vm_flag(p, "mg"));
	prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0);
	EXPECT_FALSE(has_vm_flag(p, "mg"));
	EXPECT_FALSE(has_vm_flag(memory(4), "mg"));
	prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0);
	advise(control, 16, MADV_MERGEABLE);
	if (!ksm_scan())
		SKIP(return, "no KSM");
	EXPECT_EQ(pagemap_get_pfn(pagemap_fd, (char *)control),
		  pagemap_get_pfn(pagemap_fd, (char *)control + psize()));
	EXPECT_NE(pagemap_get_pfn(pagemap_fd, (char *)p),
		  pagemap_get_pfn(pagemap_fd, (char *)p + psize()));
	EXPECT_EQ(16, file_number("/proc/self/ksm_merging_pages", ""));
	EXPECT_TRUE(is_byte(p, 0x99, bytes(16)));
}

/*
 * userfaultfd keeps out, in each of its modes: what is dropped is missing again
 * without anybody who could tell. Catches a mode that was forgotten.
 */
TEST_F(droppable_mapping, userfaultfd)
{
	static const __u64 features[] = {
		0, WATCH_STORES,
	};
	unsigned char *p = memory(4), *control = map_anon(4, RW);

	for (size_t i = 0; i < ARRAY_SIZE(features); i++) {
		int fd = open_userfaultfd(features[i]);

		if (fd < 0)
			SKIP(return, "no userfaultfd, or no asynchronous mode");
		EXPECT_EQ(-EINVAL, uffd_register(fd, p, bytes(4), true, false,
						 false));
		EXPECT_EQ(-EINVAL, uffd_register(fd, p, bytes(4), false, true,
						 false));
		EXPECT_EQ(-EINVAL, uffd_register(fd, p, bytes(4), true, true,
						 false));
		EXPECT_EQ(-EINVAL, uffd_register(fd, p, bytes(4), false, false,
						 true));
		EXPECT_EQ(0, uffd_register(fd, control, bytes(4), !i, i,
					   false));
		close(fd);
	}
	mark(p, 4, 1);
	EXPECT_TRUE(is_marked(p, 4, 1));
}

/* Has a core the memory at @p? */
static bool is_dumped(unsigned char *core, const void *p)
{
	struct elf64_hdr *header = (void *)core;
	struct elf64_phdr *segment = (void *)(core + header->e_phoff);
	unsigned long at = (unsigned long)p;

	for (int i = 0; i < header->e_phnum; i++, segment++) {
		if (segment->p_type == PT_LOAD && segment->p_vaddr <= at &&
		    at < segment->p_vaddr + segment->p_filesz)
			return true;
	}
	return false;
}

/*
 * A core has none of it. Catches secrets on disk, and content that is written in
 * their place.
 */
TEST_F(droppable_mapping, core_dump)
{
	unsigned char *p = memory(4), *untouched = memory(4), *core, *other;

	if (access(CORE_PATTERN, W_OK))
		SKIP(return, "no core dumps");
	mark(p, 4, 1);
	memory_type = MAP_PRIVATE;
	other = memory(4);
	mark(other, 4, 1);
	core = dump_core();
	ASSERT_NE(NULL, core);
	EXPECT_TRUE(is_dumped(core, other));
	for (long i = 0; i < 4; i++) {
		EXPECT_FALSE(is_dumped(core, p + bytes(i)));
		EXPECT_FALSE(is_dumped(core, untouched + bytes(i)));
	}
}

static long committed(void)
{
	return file_number("/proc/meminfo", "Committed_AS:") * 1024 / psize();
}

/*
 * What can be dropped is not reserved. Catches memory that counts towards the
 * commit limit.
 */
TEST_F(droppable_mapping, overcommit)
{
	const long many = (256UL << 20) / psize();
	long now = committed();

	memory(many);
	EXPECT_GT(now + many / 2, committed());
	memory_type = MAP_PRIVATE;
	memory(many);
	EXPECT_LE(now + many, committed());
}

/* -- Races -------------------------------------------------------------------- */

#define RACERS	2
#define WORDS	8L	/* that are stored to, at the beginning of a page */

/*
 * What a thread knows of a word: what it has stored there, and whether that can
 * be gone. It is 0 for the content.
 */
struct word {
	unsigned long stored;
	bool sure;
};

/* Each thread has its own pages, half of them. */
static struct {
	unsigned char *p;
	long pages;
	bool stop;
	long rounds;
	long gone;
	long wrong;
	unsigned long seen, wanted;
} race;

struct racer {
	pthread_t thread;
	unsigned long state;
	long first, pages;
	struct word *words;
};

static unsigned long *race_word(long page, long i)
{
	return (unsigned long *)(race.p + bytes(page)) + i;
}

static void race_check(unsigned long seen, unsigned long wanted)
{
	if (seen == wanted)
		return;
	race.seen = seen;
	race.wanted = wanted;
	__atomic_fetch_add(&race.wrong, 1, __ATOMIC_RELAXED);
}

/* If what was stored is gone, it stays gone. */
static void check_word(struct racer *racer, long page, long i)
{
	struct word *word = &racer->words[page * WORDS + i];
	unsigned long born = ((unsigned long *)content)[i], seen;

	seen = __atomic_load_n(race_word(racer->first + page, i),
			       __ATOMIC_RELAXED);
	if (!word->sure && word->stored && seen == born) {
		word->stored = 0;
		__atomic_fetch_add(&race.gone, 1, __ATOMIC_RELAXED);
	}
	race_check(seen, born ^ word->stored);
}

/* Words of a page that nobody stores to. */
static void check_untouched(unsigned long random)
{
	long i = WORDS + (random >> 20) % (psize() / sizeof(long) - WORDS);

	race_check(__atomic_load_n(race_word(random % race.pages, i),
				   __ATOMIC_RELAXED),
		   ((unsigned long *)content)[i]);
}

/* A store takes the page back from MADV_FREE, with what is left of it. */
static void store_word(struct racer *racer, long page, long i,
		       unsigned long value)
{
	struct word *words = &racer->words[page * WORDS];

	words[i].stored = value;
	__atomic_store_n(race_word(racer->first + page, i),
			 ((unsigned long *)content)[i] ^ value,
			 __ATOMIC_RELAXED);
	if (memory_type == MAP_DROPPABLE)
		return;
	words[i].sure = true;
	for (i = 0; i < WORDS; i++) {
		check_word(racer, page, i);
		words[i].sure = true;
	}
}

/* A page, some, or all */
static void race_range(unsigned long random, long *first, long *n)
{
	long all = *n;

	*n = random & 1 ? 1 : random & 2 ? 19 : all;
	*first += (random >> 8) % (all - *n + 1);
}

static void free_words(struct racer *racer, unsigned long random)
{
	long first = 0, n = racer->pages;

	if (memory_type == MAP_DROPPABLE)
		return;
	race_range(random, &first, &n);
	for (long i = first * WORDS; i < (first + n) * WORDS; i++)
		racer->words[i].sure = false;
	advise(race.p + bytes(racer->first + first), n, MADV_FREE);
}

static void *race_run(void *arg)
{
	struct racer *racer = arg;

	while (!__atomic_load_n(&race.stop, __ATOMIC_RELAXED)) {
		unsigned long random = next_random(&racer->state);
		long page = random % racer->pages, i = (random >> 20) % WORDS;

		check_untouched(next_random(&racer->state));
		check_word(racer, page, i);
		if (random >> 40 & 1)
			store_word(racer, page, i, random | 1);
		if (!(random >> 41 & 255))
			free_words(racer, next_random(&racer->state));
		__atomic_fetch_add(&race.rounds, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static void start_racers(struct __test_metadata *_metadata,
			 struct racer *racers)
{
	const long n = race.pages / RACERS;

	for (long i = 0; i < RACERS; i++) {
		racers[i] = (struct racer) {
			.state = i + 1, .first = i * n, .pages = n,
			.words = calloc(n * WORDS, sizeof(struct word)),
		};
		/* At first, all words are the content. */
		ASSERT_NE(NULL, racers[i].words);
		ASSERT_EQ(0, pthread_create(&racers[i].thread, NULL, race_run,
					    &racers[i]));
	}
}

static bool race_is_young(void)
{
	return __atomic_load_n(&race.gone, __ATOMIC_RELAXED) < 100;
}

/* The middle one of three huge pages has words of both threads. */
static void run_race(struct __test_metadata *_metadata)
{
	time_t end = time(NULL) + environment("REFPAGE_SECONDS", 2);
	struct racer racers[RACERS];
	unsigned long state = 7;

	enable(ORDER);
	enable(pmd_order);
	race.pages = 3 * pmd_pages();
	race.p = memory(race.pages);
	/* Small ones, up to the middle of a folio, then large ones */
	advise(race.p + bytes(72), race.pages - 72, MADV_HUGEPAGE);
	start_racers(_metadata, racers);
	/* On a busy machine it takes longer until anything happens. */
	while (time(NULL) < end || (race_is_young() && time(NULL) < end + 60)) {
		long first = 0, n = race.pages;

		race_range(next_random(&state), &first, &n);
		madvise(race.p + bytes(first), bytes(n), MADV_PAGEOUT);
	}
	__atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
	for (long i = 0; i < RACERS; i++) {
		ASSERT_EQ(0, pthread_join(racers[i].thread, NULL));
		free(racers[i].words);
	}
	EXPECT_FALSE(race_is_young());
	EXPECT_EQ(0, race.wrong) {
		TH_LOG("of %ld; the last was %#lx and not %#lx", race.rounds,
		       race.seen, race.wanted);
	}
}

/*
 * Threads store, give up and look, while another one reclaims: what is not given
 * up is there, and of what is, all or nothing. Catches a page that is dropped
 * with a store in it, dirty bits that a processor has not told yet, and old bytes
 * that come back.
 */
TEST_F_TIMEOUT(memcg, race_madv_free, 120)
{
	if (no_swap())
		SKIP(return, "no swap space");
	run_race(_metadata);
}

/* The same with memory that can be dropped at any time. */
TEST_F_TIMEOUT(droppable_mapping, race, 120)
{
	run_race(_metadata);
}

TEST_HARNESS_MAIN
