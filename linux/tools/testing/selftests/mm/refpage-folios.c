// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of refpage_create(2) with large folios, and of what a fault costs.
 *
 * The property: a refpage mapping is to its content what anonymous memory is to
 * zeros. Stores allocate folios of the same orders under the same settings, all
 * pages of which hold the content; whatever splits, collapses, moves, swaps or
 * reclaims these folios keeps every byte; and a load allocates nothing. So the
 * tests run on anonymous memory as well, which tells whether they are right.
 * Each test does one thing that could break the property, and is named after
 * it. What a comment below says to be caught is the mistake in the kernel that
 * makes the test fail.
 *
 * environment:
 *   REFPAGE_SECONDS  duration of each race test (2)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <linux/kernel-page-flags.h>
#include <linux/mempolicy.h>
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

/* -- Fixture: memory of each kind, folios of one order --------------------- */

static unsigned int folio_order;
static long folio_pages;

FIXTURE(folio)
{
};

FIXTURE_VARIANT(folio)
{
	const struct kind *kind;
	unsigned int order;	/* 0: that of a PMD */
};

FIXTURE_VARIANT_ADD(folio, anon_order_2)
{
	.kind = &kind_anon, .order = 2,
};

FIXTURE_VARIANT_ADD(folio, anon_order_4)
{
	.kind = &kind_anon, .order = 4,
};

FIXTURE_VARIANT_ADD(folio, anon_pmd)
{
	.kind = &kind_anon,
};

FIXTURE_VARIANT_ADD(folio, byte_order_2)
{
	.kind = &kind_byte, .order = 2,
};

FIXTURE_VARIANT_ADD(folio, byte_order_4)
{
	.kind = &kind_byte, .order = 4,
};

FIXTURE_VARIANT_ADD(folio, byte_pmd)
{
	.kind = &kind_byte,
};

FIXTURE_VARIANT_ADD(folio, page_order_2)
{
	.kind = &kind_page, .order = 2,
};

FIXTURE_VARIANT_ADD(folio, page_order_4)
{
	.kind = &kind_page, .order = 4,
};

FIXTURE_VARIANT_ADD(folio, page_pmd)
{
	.kind = &kind_page,
};

FIXTURE_SETUP(folio)
{
	const char *why = prepare(variant->kind);

	if (why)
		SKIP(return, "%s", why);
	folio_order = variant->order ?: pmd_order;
	folio_pages = 1L << folio_order;
	if (!(orders & 1U << folio_order))
		SKIP(return, "no folios of order %u", folio_order);
}

FIXTURE_TEARDOWN(folio)
{
	EXPECT_TRUE(finish());
}

/* Memory of one folio, in which a quarter of the pages are marked. */
static unsigned char *make_folio_at(struct __test_metadata *_metadata,
				    unsigned char *p)
{
	enable(folio_order);
	memory_at(p, folio_pages, 0);
	advise(p, folio_pages, MADV_HUGEPAGE);
	store(p + bytes(2), mixed_offset(2));
	ASSERT_TRUE(is_folio(p, folio_order));
	mark(p, folio_pages, 4);
	return p;
}

static unsigned char *make_folio(struct __test_metadata *_metadata)
{
	return make_folio_at(_metadata, reserve(folio_pages, 0));
}

static bool is_as_made(const unsigned char *p)
{
	return is_marked(p, folio_pages, 4);
}

static long quarter(void)
{
	return folio_pages / 4;
}

/* All but the second quarter, which something was done to. */
static bool is_rest_as_made(const unsigned char *p)
{
	return is_marked_part(p, 0, quarter(), 4) &&
	       is_marked_part(p, 2 * quarter(), folio_pages, 4);
}

/* -- Allocation ----------------------------------------------------------- */

static void check_store(struct __test_metadata *_metadata, unsigned int order,
			long page)
{
	long n = 1L << order, pmd = order == pmd_order ? n : 0;
	long before = order_counter(order, "anon_fault_alloc");
	long huge_before = vm_counter("thp_fault_alloc");
	unsigned char *p = huge_memory(3 * n);
	unsigned char *folio = p + bytes(n);

	store(folio + bytes(page), 100);
	EXPECT_TRUE(is_folio(folio, order));
	EXPECT_EQ(n, smaps_pages(p, "Rss:"));
	EXPECT_EQ(n, smaps_pages(p, "Anonymous:"));
	EXPECT_EQ(pmd, smaps_pages(p, "AnonHugePages:"));
	EXPECT_EQ(0, smaps_pages(p, "FilePmdMapped:"));
	EXPECT_EQ(before + 1, order_counter(order, "anon_fault_alloc"));
	EXPECT_EQ(huge_before + !!pmd, vm_counter("thp_fault_alloc"));
	EXPECT_EQ(n, count(p, n, NONE));
	EXPECT_EQ(n, count(p + bytes(2 * n), n, NONE));

	EXPECT_TRUE(is_content(folio, page));
	EXPECT_TRUE(same(folio + bytes(page), altered(100, 1), psize()));
	EXPECT_TRUE(is_content(folio + bytes(page + 1), n - page - 1));
	EXPECT_TRUE(is_content(p, n));
	EXPECT_TRUE(is_content(p + bytes(2 * n), n));
	unmap(p, 3 * n);
}

/*
 * A store is given a folio of the order that is enabled, filled with the
 * content. Catches mappings that are too special for large folios, folios of
 * which only the page stored to, or the first, is filled, and folios that are
 * mapped, counted or accounted as something else.
 */
TEST_F(folio, store)
{
	const long n = folio_pages, pages[] = { 0, n / 2, n / 2 + 1, n - 1 };

	enable(folio_order);
	for (size_t i = 0; i < ARRAY_SIZE(pages); i++)
		check_store(_metadata, folio_order, pages[i]);
}

/*
 * A page that was only loaded is no private page: a folio takes the place of
 * what loads have left there. Only a page table stays, so that there is no huge
 * page. Catches small pages wherever something was looked at before, as in
 * anonymous memory, and a folio over pages that are private.
 */
TEST_F(folio, store_after_loads)
{
	const bool large = folio_order < pmd_order && !anon();
	unsigned char *p;

	enable(folio_order);
	for (int loads = 1; loads <= 3; loads++) {
		p = huge_memory(folio_pages);
		for (long i = 0; i < folio_pages; i += loads)
			load(p + bytes(i));
		store(p + bytes(2), mixed_offset(2));
		if (!anon())
			EXPECT_EQ(large ? folio_pages : 1,
				  count(p, folio_pages, PRIVATE));
		if (large)
			EXPECT_TRUE(is_folio(p, folio_order));
		EXPECT_TRUE(is_marked(p, folio_pages, folio_pages));
		mark(p, folio_pages, 4);
		EXPECT_TRUE(is_as_made(p));
	}

	/* The zero page is not such a page, where zeros are not the content. */
	p = huge_memory(folio_pages);
	set_order(folio_order, "never");
	memset(p, 0, psize());
	if (!ksm_zero_page(p, folio_pages))
		SKIP(return, "no KSM");
	enable(folio_order);
	store(p + bytes(2), mixed_offset(2));
	EXPECT_TRUE(is_byte(p, 0, psize()));
	EXPECT_TRUE(is_marked_part(p, 1, folio_pages, folio_pages));
}

static struct {
	unsigned char *p;
	bool loaded, stored;
	long unseen;
} watch;

static void stay_on_cpu(int cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(cpu, &cpus);
	/* There may be but one. */
	sched_setaffinity(0, sizeof(cpus), &cpus);
}

static void *watch_run(void *arg)
{
	stay_on_cpu(1);
	load_pages(watch.p, folio_pages);
	__atomic_store_n(&watch.loaded, true, __ATOMIC_SEQ_CST);
	/* Do not enter the kernel, which might flush the TLB. */
	while (!__atomic_load_n(&watch.stored, __ATOMIC_SEQ_CST))
		;
	for (long i = 0; i < folio_pages; i++)
		watch.unseen += load(watch.p + bytes(i)) == content[0];
	return arg;
}

/*
 * A thread on another processor, which had loaded the pages, sees stores to
 * each of them. Catches a TLB that is flushed for the page stored to first, and
 * not for the rest of the folio.
 */
TEST_F_TIMEOUT(folio, store_after_loads_of_thread, 120)
{
	/* Each store to a page of its own interrupts the thread. */
	int rounds = folio_order == pmd_order ? 2 : 20;
	pthread_t thread;

	enable(folio_order);
	for (int i = 0; i < rounds; i++) {
		memset(&watch, 0, sizeof(watch));
		watch.p = huge_memory(folio_pages);
		stay_on_cpu(0);
		ASSERT_EQ(0, pthread_create(&thread, NULL, watch_run, NULL));
		while (!__atomic_load_n(&watch.loaded, __ATOMIC_SEQ_CST))
			sched_yield();
		store_pages(watch.p, folio_pages);
		__atomic_store_n(&watch.stored, true, __ATOMIC_SEQ_CST);
		ASSERT_EQ(0, pthread_join(thread, NULL));
		EXPECT_EQ(0, watch.unseen);
		unmap(watch.p, folio_pages);
	}
}

/*
 * Memory that held something else is filled again, by whoever is in charge of
 * that. Catches an allocation that leaves it to the other, with or without
 * init_on_alloc.
 */
TEST_F(folio, store_to_recycled_memory)
{
	unsigned char *p = make_folio(_metadata);

	for (int i = 0; i < 8; i++) {
		memset(p, 0x11 + i, bytes(folio_pages));
		advise(p, folio_pages, MADV_DONTNEED);
		store(p + bytes(2), mixed_offset(2));
		EXPECT_TRUE(is_folio(p, folio_order));
		EXPECT_TRUE(is_marked(p, folio_pages, folio_pages));
	}
}

/*
 * What is allocated is freed. Catches a reference of the folio, or of a page
 * in it, that nobody drops.
 */
TEST_F(folio, freed)
{
	long before = order_counter(folio_order, "nr_anon");
	unsigned char *p = make_folio(_metadata);

	EXPECT_EQ(before + 1, order_counter(folio_order, "nr_anon"));
	unmap(p, folio_pages);
	EXPECT_EQ(before, order_counter(folio_order, "nr_anon"));
}

/* What is done to a folio; then there is none where it was. */
static void use_folio(struct __test_metadata *_metadata, unsigned char *p,
		      int how)
{
	pid_t pid;

	make_folio_at(_metadata, p);
	pid = fork_child();
	if (!pid) {
		store(p, 0);
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	if (how == 1)
		advise(p, quarter(), MADV_DONTNEED);
	if (how == 2)
		store(p, 0);
	if (how == 3)
		ASSERT_EQ(0, mprotect(p, bytes(quarter()), PROT_READ));
	map_at(p, -1, folio_pages, PROT_NONE, MAP_FIXED | MAP_ANONYMOUS);
}

/*
 * Page tables that are put aside for a PMD are taken back with it. Catches
 * those of PMDs that were split, copied or zapped which are left over, or taken
 * twice.
 */
TEST_F(folio, page_tables)
{
	const char *status = "/proc/self/status";
	unsigned char *p = reserve(folio_pages, 0);
	long before;

	for (int i = 0; i < 4; i++)
		use_folio(_metadata, p, i);
	before = file_number(status, "VmPTE:");
	for (int i = 0; i < 16; i++)
		use_folio(_metadata, p, i % 4);
	EXPECT_EQ(before, file_number(status, "VmPTE:"));
}

/*
 * The folio is charged to the memory cgroup. Catches a charge of one page, and
 * none.
 */
TEST_F_TIMEOUT(folio, charged, 120)
{
	const long many = 16 * pmd_pages(), slack = 4 * pmd_pages();
	const char *why = memcg_create();
	pid_t pid;

	if (why)
		SKIP(return, "%s", why);
	enable(folio_order);
	pid = fork_child();
	if (!pid) {
		unsigned char *p = huge_memory(many);
		long before;

		memcg_join();
		before = memcg_number("memory.current", "");
		for (long i = 0; i < many; i += folio_pages)
			store(p + bytes(i), 0);
		EXPECT_EQ(many, count(p, many, PRIVATE));
		EXPECT_LE(before + bytes(many - slack),
			  memcg_number("memory.current", ""));
		EXPECT_GE(before + bytes(many + slack),
			  memcg_number("memory.current", ""));
		unmap(p, many);
		EXPECT_GE(before + bytes(slack),
			  memcg_number("memory.current", ""));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
}

/*
 * The folio comes from the node that the policy of the mapping says. Catches
 * one that is looked up as that of a file.
 */
TEST_F(folio, numa_policy)
{
	unsigned long nodes;

	if (one_node())
		SKIP(return, "one memory node");
	enable(folio_order);
	for (int node = 0; node <= 1; node++) {
		unsigned char *p = huge_memory(folio_pages);

		nodes = 1UL << node;
		ASSERT_EQ(0, syscall(__NR_mbind, p, bytes(folio_pages),
				     MPOL_BIND, &nodes, 8 * sizeof(nodes), 0));
		store(p + bytes(2), mixed_offset(2));
		EXPECT_TRUE(is_folio(p, folio_order));
		EXPECT_EQ(folio_pages, count_on_node(p, folio_pages, node));
		EXPECT_TRUE(is_marked(p, folio_pages, folio_pages));
	}
}

/*
 * Populating for writing makes folios, for reading none. Catches a populate
 * that goes page by page, and one that takes a folio for a load.
 */
TEST_F(folio, madvise_populate)
{
	const long n = 4 * folio_pages;
	unsigned char *p, *q;

	enable(folio_order);
	p = huge_memory(n);
	ASSERT_EQ(0, madvise(p, bytes(n), MADV_POPULATE_WRITE));
	for (long i = 0; i < n; i += folio_pages)
		EXPECT_TRUE(is_folio(p + bytes(i), folio_order));
	EXPECT_TRUE(is_content(p, n));

	q = huge_memory(n);
	ASSERT_EQ(0, madvise(q, bytes(n), MADV_POPULATE_READ));
	EXPECT_EQ(0, smaps_pages(q, "Rss:"));
	EXPECT_EQ(n, count(q, n, FRESH));
	mark(q, n, 4);
	EXPECT_TRUE(is_marked(q, n, 4));
}

/* The same for MAP_POPULATE, where there is no time for advice. */
TEST_F(folio, map_populate)
{
	const long n = 2 * folio_pages;
	unsigned char *p;

	set_order(folio_order, "always");
	p = memory_at(reserve(n, 0), n, MAP_POPULATE);
	set_order(folio_order, "never");
	for (long i = 0; i < n; i += folio_pages)
		EXPECT_TRUE(is_folio(p + bytes(i), folio_order));
	EXPECT_TRUE(is_content(p, n));
}

/*
 * Memory that is locked on fault has its folio locked. Catches a lock that
 * counts one page, and the reference page being locked.
 */
TEST_F(folio, mlock_onfault)
{
	const long pages = folio_pages + pmd_pages();
	unsigned char *p;

	enable(folio_order);
	ASSERT_EQ(0, mlockall(MCL_FUTURE | MCL_ONFAULT));
	/* The load, and what is around it, is not where the folio will be. */
	p = huge_memory(pages);
	load(p + bytes(pages - 1));
	store(p + bytes(2), mixed_offset(2));
	EXPECT_TRUE(is_folio(p, folio_order));
	EXPECT_EQ(folio_pages, smaps_pages(p, "Locked:"));
	EXPECT_TRUE(is_marked(p, pages, pages));
	ASSERT_EQ(0, munlockall());
	EXPECT_EQ(0, smaps_pages(p, "Locked:"));
	EXPECT_TRUE(is_marked(p, pages, pages));
}

static ssize_t process_vm(unsigned char *p, void *buf, size_t len, bool set)
{
	struct iovec local = { buf, len }, remote = { p, len };

	if (set)
		return process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
}

/*
 * What the kernel stores for others makes folios as well, and what it loads
 * does not. Catches pins of untouched memory that fail, or that are of a page
 * which is not filled.
 */
TEST_F(folio, process_vm)
{
	unsigned char *buf = map_anon(folio_pages, RW), *p, *q;
	const long at = folio_pages / 2;

	enable(folio_order);
	p = huge_memory(folio_pages);
	ASSERT_EQ(bytes(folio_pages),
		  process_vm(p, buf, bytes(folio_pages), false));
	EXPECT_TRUE(is_content(buf, folio_pages));
	EXPECT_EQ(0, smaps_pages(p, "Rss:"));

	q = huge_memory(folio_pages);
	memcpy(buf, altered(100, 300) + 100, 300);
	ASSERT_EQ(300, process_vm(q + bytes(at) + 100, buf, 300, true));
	EXPECT_TRUE(is_folio(q, folio_order));
	EXPECT_TRUE(is_content(q, at));
	EXPECT_TRUE(same(q + bytes(at), altered(100, 300), psize()));
	EXPECT_TRUE(is_content(q + bytes(at + 1), folio_pages - at - 1));
	ASSERT_EQ(bytes(folio_pages),
		  process_vm(q, buf, bytes(folio_pages), false));
	EXPECT_EQ(0, memcmp(buf, q, bytes(folio_pages)));
}

/* The same through /proc/PID/mem. */
TEST_F(folio, proc_mem)
{
	int fd = open("/proc/self/mem", O_RDWR);
	const long at = folio_pages - 1;
	unsigned char *p;

	ASSERT_LE(0, fd);
	enable(folio_order);
	p = huge_memory(folio_pages);
	ASSERT_EQ(300, pwrite(fd, altered(100, 300) + 100, 300,
			      (off_t)(uintptr_t)p + bytes(at) + 100));
	EXPECT_TRUE(is_folio(p, folio_order));
	EXPECT_TRUE(is_content(p, at));
	EXPECT_TRUE(same(p + bytes(at), altered(100, 300), psize()));
}

/*
 * A folio is pinned as it is, before anything was stored there, too. Catches a
 * pin of something else, from which the next store parts the mapping, and a
 * pinned folio that is split.
 */
TEST_F(folio, pin_longterm)
{
	int gup = open(DEBUGFS "gup_test", O_RDWR);
	unsigned char *buf = map_anon(folio_pages, RW);
	const __u64 dest = (unsigned long)buf;

	if (gup < 0)
		SKIP(return, "no " DEBUGFS "gup_test");
	enable(folio_order);
	for (__u32 flags = 0; flags <= 3; flags++) {
		unsigned char *p = huge_memory(folio_pages);
		struct pin_longterm_test pin = {
			.addr = (unsigned long)p, .flags = flags,
			.size = bytes(folio_pages),
		};

		ASSERT_EQ(0, ioctl(gup, PIN_LONGTERM_TEST_START, &pin));
		ASSERT_EQ(0, ioctl(gup, PIN_LONGTERM_TEST_READ, &dest));
		EXPECT_TRUE(is_content(buf, folio_pages));
		split(p, folio_pages, 0);
		mark(p, folio_pages, 4);
		ASSERT_EQ(0, ioctl(gup, PIN_LONGTERM_TEST_READ, &dest));
		EXPECT_TRUE(is_as_made(buf));
		EXPECT_EQ(folio_pages, smaps_pages(p, "Anonymous:"));
		ASSERT_EQ(0, ioctl(gup, PIN_LONGTERM_TEST_STOP));
		EXPECT_TRUE(is_as_made(p));
	}
}

/* -- Part of a folio ------------------------------------------------------- */

/*
 * What is unmapped goes, the rest stays. Catches a PMD that is zapped where it
 * had to be split, as those of files are, which can be read again.
 */
TEST_F(folio, munmap_part)
{
	unsigned char *p = make_folio(_metadata);
	unsigned char *hole = p + bytes(quarter());

	unmap(hole, quarter());
	EXPECT_TRUE(is_rest_as_made(p));
	EXPECT_EQ(3 * quarter(), count(p, folio_pages, PRIVATE));
	memory_at(hole, quarter(), 0);
	EXPECT_TRUE(is_content(hole, quarter()));
	mark(p, folio_pages, 4);
	EXPECT_TRUE(is_as_made(p));
}

/* What is dropped is the content again. Catches the same, and zeros. */
TEST_F(folio, dontneed_part)
{
	unsigned char *p = make_folio(_metadata);
	unsigned char *hole = p + bytes(quarter());

	advise(hole, quarter(), MADV_DONTNEED);
	EXPECT_EQ(quarter(), count(hole, quarter(), NONE));
	EXPECT_TRUE(is_rest_as_made(p));
	EXPECT_TRUE(is_content(hole, quarter()));
	EXPECT_EQ(3 * quarter(), smaps_pages(p, "Rss:"));
	mark(p, folio_pages, 4);
	EXPECT_TRUE(is_as_made(p));
	advise(p, folio_pages, MADV_DONTNEED);
	EXPECT_TRUE(is_content(p, folio_pages));
}

/*
 * The protection of a part changes, and not what is there. Catches a part that
 * is given pages of its own.
 */
TEST_F(folio, mprotect_part)
{
	unsigned char *p = make_folio(_metadata);
	unsigned char *part = p + bytes(quarter());
	const long len = bytes(quarter());

	ASSERT_EQ(0, mprotect(part, len, PROT_READ));
	EXPECT_TRUE(is_as_made(p));
	EXPECT_EQ(SIGSEGV, signal_of(part, STORE));
	ASSERT_EQ(0, mprotect(part, len, PROT_NONE));
	EXPECT_EQ(SIGSEGV, signal_of(part, LOAD));
	EXPECT_TRUE(is_rest_as_made(p));
	ASSERT_EQ(0, mprotect(part, len, RW));
	EXPECT_TRUE(is_as_made(p));
	EXPECT_EQ(folio_pages, count(p, folio_pages, PRIVATE));
	memset(p, 0x77, bytes(folio_pages));
	EXPECT_TRUE(is_byte(p, 0x77, bytes(folio_pages)));
}

/* Locking a part changes nothing in it, nor in the rest. */
TEST_F(folio, mlock_part)
{
	unsigned char *p = make_folio(_metadata);
	unsigned char *part = p + bytes(quarter());

	ASSERT_EQ(0, mlock(part, bytes(quarter())));
	EXPECT_EQ(quarter(), smaps_pages(part, "Rss:"));
	EXPECT_TRUE(is_as_made(p));
	split(p, folio_pages, 0);
	EXPECT_TRUE(is_as_made(p));
	ASSERT_EQ(0, munlock(part, bytes(quarter())));
	EXPECT_TRUE(is_as_made(p));
	unmap(p, 2 * quarter());
	EXPECT_TRUE(is_marked_part(p, 2 * quarter(), folio_pages, 4));
}

/*
 * A part moves away. Catches one that does not arrive, and pages that both
 * ends think are theirs.
 */
TEST_F(folio, mremap_part)
{
	unsigned char *p = make_folio(_metadata), *to, *q;

	to = reserve(folio_pages, 1) + bytes(quarter());
	q = mremap(p + bytes(quarter()), bytes(quarter()), bytes(quarter()),
		   MREMAP_MAYMOVE | MREMAP_FIXED, to);
	ASSERT_EQ(to, q);
	q -= bytes(quarter());
	EXPECT_TRUE(is_rest_as_made(p));
	EXPECT_TRUE(is_marked_part(q, quarter(), 2 * quarter(), 4));
	memset(p, 0x66, bytes(quarter()));
	EXPECT_TRUE(is_marked_part(q, quarter(), 2 * quarter(), 4));
	unmap(p, quarter());
	unmap(p + bytes(2 * quarter()), 2 * quarter());
	EXPECT_TRUE(is_marked_part(q, quarter(), 2 * quarter(), 4));
	memset(to, 0x77, bytes(quarter()));
	EXPECT_TRUE(is_byte(to, 0x77, bytes(quarter())));
}

/*
 * All of it moves by an odd number of pages, into other page tables, and is
 * split there. Catches a page that rmap looks for at the old address: it would
 * be lost.
 */
TEST_F(folio, mremap_unaligned)
{
	unsigned char *p = make_folio(_metadata), *q;

	q = reserve(folio_pages, 3);
	ASSERT_EQ(q, mremap(p, bytes(folio_pages), bytes(folio_pages),
			    MREMAP_MAYMOVE | MREMAP_FIXED, q));
	EXPECT_TRUE(is_as_made(q));
	EXPECT_EQ(folio_pages, count(q, folio_pages, PRIVATE));
	if (!split(q, folio_pages, 0))
		SKIP(return, "no " SPLIT);
	EXPECT_TRUE(is_folio(q + bytes(2), 0));
	EXPECT_TRUE(is_as_made(q));
	memset(q, 0x77, bytes(folio_pages));
	EXPECT_TRUE(is_byte(q, 0x77, bytes(folio_pages)));
}

/*
 * It moves far away, to other tables of PMDs, as it is, and is split there by
 * a part of it being dropped. Catches a page table put aside that stays behind:
 * there is none to split into.
 */
TEST_F(folio, mremap_far)
{
	const unsigned long gap = 1UL << 30;
	unsigned char *p, *q;

	p = make_folio(_metadata);
	q = reserve(3 * gap / psize(), 0) + gap;
	for (int i = 0; i < 2; i++, q += gap) {
		ASSERT_EQ(q, mremap(p, bytes(folio_pages), bytes(folio_pages),
				    MREMAP_MAYMOVE | MREMAP_FIXED, q));
		EXPECT_TRUE(is_folio(q, folio_order));
		EXPECT_TRUE(is_as_made(q));
		p = q;
	}
	if (folio_order == pmd_order)
		EXPECT_EQ(folio_pages, smaps_pages(p, "AnonHugePages:"));
	advise(p + bytes(quarter()), quarter(), MADV_DONTNEED);
	EXPECT_TRUE(is_rest_as_made(p));
	EXPECT_TRUE(is_content(p + bytes(quarter()), quarter()));
	unmap(p, folio_pages);
}

/*
 * What MREMAP_DONTUNMAP leaves behind is the content. Catches zeros there, and
 * a huge page at both ends.
 */
TEST_F(folio, mremap_dontunmap)
{
	unsigned char *p = make_folio(_metadata), *q = reserve(folio_pages, 0);

	ASSERT_EQ(q, mremap(p, bytes(folio_pages), bytes(folio_pages),
			    MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP,
			    q));
	EXPECT_TRUE(is_folio(q, folio_order));
	EXPECT_EQ(folio_pages, count(p, folio_pages, NONE));
	EXPECT_TRUE(is_as_made(q));
	EXPECT_TRUE(is_content(p, folio_pages));
	memset(p, 0x66, bytes(folio_pages));
	EXPECT_TRUE(is_as_made(q));
	unmap(q, folio_pages);
	EXPECT_TRUE(is_byte(p, 0x66, bytes(folio_pages)));
}

/*
 * A part becomes guards, and the content when they are removed. Catches guards
 * that take the rest of the folio with them.
 */
TEST_F(folio, guard_part)
{
	unsigned char *p = make_folio(_metadata);
	unsigned char *part = p + bytes(quarter());

	if (!guard(part, quarter()))
		SKIP(return, "no MADV_GUARD_INSTALL");
	EXPECT_EQ(SIGSEGV, signal_of(part, LOAD));
	EXPECT_EQ(SIGSEGV, signal_of(part + bytes(quarter()) - 1, LOAD));
	EXPECT_TRUE(is_rest_as_made(p));
	EXPECT_EQ(3 * quarter(), count(p, folio_pages, PRIVATE));
	advise(part, quarter(), MADV_GUARD_REMOVE);
	EXPECT_TRUE(is_content(part, quarter()));
	EXPECT_TRUE(is_rest_as_made(p));
}

/* -- Splitting ------------------------------------------------------------- */

/*
 * A split keeps what is in the pages. Those that equal the content are given
 * back, as zeros are from anonymous memory. Catches zeros put there, and pages
 * of zeros that are not the content being taken for it.
 */
TEST_F(folio, split)
{
	unsigned char *p = make_folio(_metadata);
	long before = order_counter(folio_order, "split");
	const long zeros = folio_pages - 1;

	memset(p + bytes(zeros), 0, psize());
	if (!split(p, folio_pages, 0))
		SKIP(return, "no " SPLIT);
	EXPECT_EQ(before + 1, order_counter(folio_order, "split"));
	EXPECT_TRUE(is_folio(p + bytes(2), 0));
	EXPECT_EQ(quarter(), count(p, zeros, PRIVATE));
	EXPECT_EQ(zeros - quarter(), count(p, zeros, FRESH));
	EXPECT_EQ(quarter() + count(p + bytes(zeros), 1, PRIVATE),
		  smaps_pages(p, "Rss:"));

	EXPECT_TRUE(is_byte(p + bytes(zeros), 0, psize()));
	EXPECT_TRUE(is_marked(p, zeros, 4));
	/* What was given back is the content, for others, too. */
	store_pages(p, 2);
	EXPECT_TRUE(same(p, altered(0, 1), psize()));
	EXPECT_TRUE(same(p + psize(), altered(0, 1), psize()));
	EXPECT_TRUE(is_marked_part(p, 2, zeros, 4));
}

/*
 * Into smaller folios, of which no page can be given back, or not at all if it
 * is as small. Catches a page that is taken out of the middle of a folio.
 */
TEST_F(folio, split_to_folios)
{
	unsigned char *p = make_folio(_metadata);

	if (!split(p, folio_pages, 2))
		SKIP(return, "no " SPLIT);
	EXPECT_TRUE(is_folio(p, 2));
	EXPECT_EQ(folio_pages, count(p, folio_pages, PRIVATE));
	EXPECT_TRUE(is_as_made(p));
	split(p, folio_pages, 0);
	EXPECT_EQ(quarter(), count(p, folio_pages, PRIVATE));
	EXPECT_TRUE(is_as_made(p));
}

/*
 * Pages that two processes have are given back to each. Catches an entry of
 * another process that is made for the reference page of this mapping.
 */
TEST_F(folio, split_shared)
{
	unsigned char *p = make_folio(_metadata);
	int parent[2], child[2];
	pid_t pid;

	if (access(SPLIT, W_OK))
		SKIP(return, "no " SPLIT);
	ASSERT_EQ(0, pipe(parent));
	ASSERT_EQ(0, pipe(child));
	pid = fork_child();
	if (!pid) {
		load(p);
		tell(parent);
		wait_for(child);
		EXPECT_TRUE(is_as_made(p));
		memset(p, 0x11, bytes(folio_pages));
		_exit(0);
	}
	wait_for(parent);
	EXPECT_TRUE(split(p, folio_pages, 0));
	tell(child);
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_as_made(p));
}

/* -- fork ------------------------------------------------------------------ */

/*
 * The child has what the parent had, and stores after that are seen by one side
 * only. Catches a PMD that is not copied, since a file could be read again, and
 * one that stays writable on a side.
 */
TEST_F(folio, fork)
{
	const long len = bytes(folio_pages);
	unsigned char *p = make_folio(_metadata);
	int parent[2], child[2];
	pid_t pid;

	ASSERT_EQ(0, pipe(parent));
	ASSERT_EQ(0, pipe(child));
	pid = fork_child();
	if (!pid) {
		EXPECT_TRUE(is_as_made(p));
		memset(p, 0x11, len);
		tell(parent);
		wait_for(child);
		EXPECT_TRUE(is_byte(p, 0x11, len));
		advise(p, folio_pages, MADV_DONTNEED);
		EXPECT_TRUE(is_content(p, folio_pages));
		_exit(0);
	}
	wait_for(parent);
	EXPECT_TRUE(is_as_made(p));
	memset(p, 0x22, len);
	tell(child);
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_byte(p, 0x22, len));
}

/*
 * One page is stored to while the rest is shared, then the other side is gone.
 * Catches a copy of a page that is filled with content where it had data.
 */
TEST_F(folio, fork_and_store_to_one)
{
	unsigned char *p = make_folio(_metadata);
	pid_t pid = fork_child();

	if (!pid) {
		store(p + bytes(2), mixed_offset(2) ^ 1);
		EXPECT_EQ((unsigned char)~content[mixed_offset(2)],
			  p[bytes(2) + mixed_offset(2)]);
		EXPECT_TRUE(is_marked_part(p, 3, folio_pages, 4));
		EXPECT_TRUE(is_content(p, 2));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_as_made(p));
	mark(p, folio_pages, 1);
	EXPECT_TRUE(is_marked(p, folio_pages, 1));
}

/*
 * A child outlives its parent. Catches a folio, or a page table put aside for
 * it, that goes with the process which allocated it.
 */
TEST_F(folio, fork_and_exit)
{
	int done[2];
	pid_t pid;
	char byte;

	ASSERT_EQ(0, pipe(done));
	pid = fork_child();
	if (!pid) {
		unsigned char *p = make_folio(_metadata);
		pid_t parent = getpid();

		if (!fork_child()) {
			close(done[0]);
			while (getppid() == parent)
				sched_yield();
			EXPECT_TRUE(is_as_made(p));
			store(p, 0);
			EXPECT_TRUE(is_marked_part(p, 1, folio_pages, 4));
			advise(p, quarter(), MADV_DONTNEED);
			EXPECT_TRUE(is_content(p, quarter()));
			unmap(p, folio_pages);
			tell(done);
		}
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	close(done[1]);
	EXPECT_EQ(1, read(done[0], &byte, 1));
}

/* -- Reclaim, migration, and others who look at pages ---------------------- */

/*
 * Swapped out and in, by loads and by stores, it keeps what it had. Catches
 * pages that read as the content after that.
 */
TEST_F(folio, swap)
{
	unsigned char *p = make_folio(_metadata);

	if (no_swap())
		SKIP(return, "no swap space");
	ASSERT_TRUE(page_out(p, folio_pages));
	EXPECT_TRUE(is_as_made(p));
	ASSERT_TRUE(page_out(p, folio_pages));
	mark(p, folio_pages, 4);
	EXPECT_TRUE(is_as_made(p));
	ASSERT_TRUE(page_out(p, folio_pages));
	advise(p + bytes(quarter()), quarter(), MADV_DONTNEED);
	EXPECT_TRUE(is_content(p + bytes(quarter()), quarter()));
	EXPECT_TRUE(is_rest_as_made(p));
}

/* A part is swapped out; the folio is split for that. */
TEST_F(folio, swap_part)
{
	unsigned char *p = make_folio(_metadata);

	if (no_swap())
		SKIP(return, "no swap space");
	ASSERT_TRUE(page_out(p + bytes(quarter()), quarter()));
	EXPECT_TRUE(is_rest_as_made(p));
	EXPECT_TRUE(is_as_made(p));
}

/* A child has what is swapped out as well. */
TEST_F(folio, swap_and_fork)
{
	unsigned char *p = make_folio(_metadata);
	pid_t pid;

	if (no_swap())
		SKIP(return, "no swap space");
	ASSERT_TRUE(page_out(p, folio_pages));
	pid = fork_child();
	if (!pid) {
		EXPECT_TRUE(is_as_made(p));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_as_made(p));
}

/* Move pages to @node; more than once, if something is in the way. */
static bool migrate(unsigned char *p, long pages, int node)
{
	int *to = calloc(pages, sizeof(*to));
	int *status = calloc(pages, sizeof(*status));
	bool there = false;

	for (long i = 0; i < pages; i++)
		to[i] = node;
	for (int tries = 0; tries < 10 && !there; tries++) {
		if (move_pages(p, pages, to, status) < 0)
			die("move_pages");
		there = count_on_node(p, pages, node) ==
			pages - count(p, pages, FRESH);
	}
	free(status);
	free(to);
	return there;
}

/*
 * Migration takes a folio to another node as it is, and whatever becomes of it
 * there, back. Catches an entry that is not found again, or found for less than
 * all of the folio.
 */
TEST_F(folio, migrate)
{
	unsigned char *p;

	if (one_node())
		SKIP(return, "one memory node");
	p = make_folio(_metadata);
	EXPECT_TRUE(migrate(p, folio_pages,
			    !count_on_node(p + bytes(2), 1, 1)));
	EXPECT_TRUE(is_folio(p, folio_order));
	EXPECT_TRUE(is_as_made(p));
	EXPECT_TRUE(migrate(p, folio_pages,
			    !count_on_node(p + bytes(2), 1, 1)));
	EXPECT_TRUE(is_as_made(p));
	mark(p, folio_pages, 1);
	EXPECT_TRUE(is_marked(p, folio_pages, 1));
}

/* Compaction moves what it finds, folios as well. */
TEST_F(folio, compaction)
{
	unsigned char *p[8];

	for (size_t i = 0; i < ARRAY_SIZE(p); i++)
		p[i] = make_folio(_metadata);
	for (size_t i = 0; i < ARRAY_SIZE(p); i += 2)
		unmap(p[i], folio_pages);
	if (!file_write("/proc/sys/vm/compact_memory", "1"))
		SKIP(return, "no compaction");
	for (size_t i = 1; i < ARRAY_SIZE(p); i += 2)
		EXPECT_TRUE(is_as_made(p[i]));
}

/*
 * The multi-gen LRU walks page tables, PMDs as well. Catches its warnings, and
 * entries that it ages although they are not those of the process.
 */
TEST_F(folio, lru_gen)
{
	unsigned char *p = make_folio(_metadata);
	unsigned char *q = huge_memory(folio_pages);

	load_pages(q, folio_pages);
	/* Without this bit, aging leaves page tables alone. */
	if (file_number("/sys/kernel/mm/lru_gen/enabled", "") < 2)
		SKIP(return, "no walks by the multi-gen LRU");
	for (int i = 0; i < 4; i++) {
		if (!lru_gen_age())
			SKIP(return, "no " LRU_GEN);
		EXPECT_TRUE(is_as_made(p));
		EXPECT_TRUE(is_content(q, folio_pages));
	}
}

/* Whatever clear_refs does to page tables and PMDs, pages stay as they are. */
TEST_F(folio, clear_refs)
{
	unsigned char *p = make_folio(_metadata);

	for (int what = 1; what <= 5; what++) {
		char text[2] = { '0' + what };

		if (what != 4 || softdirty_supported())
			EXPECT_TRUE(file_write("/proc/self/clear_refs", text));
		EXPECT_TRUE(is_folio(p, folio_order));
		EXPECT_TRUE(is_as_made(p));
	}
}

/*
 * mincore() sees all of a folio. Catches a search in the page cache of a file
 * that has none.
 */
TEST_F(folio, mincore)
{
	unsigned char *vec = malloc(2 * folio_pages), *p;

	enable(folio_order);
	p = huge_memory(2 * folio_pages);
	store(p + bytes(2), mixed_offset(2));
	ASSERT_EQ(0, mincore(p, bytes(2 * folio_pages), vec));
	for (long i = 0; i < 2 * folio_pages; i++)
		EXPECT_EQ(i < folio_pages, vec[i] & 1);
}

static void ignore_signal(int signal)
{
	(void)signal;
}

/*
 * A page with a memory error is lost, and one that is about to have one moves;
 * the rest of the folio is not concerned. Catches content put in the place of
 * what is lost, since a file could be read again.
 */
TEST_F(folio, memory_error)
{
	unsigned char *p = make_folio(_metadata);
	unsigned long pfn[2];

	if (access(UNPOISON, W_OK))
		SKIP(return, "no " UNPOISON);
	for (int i = 0; i < 2; i++)
		pfn[i] = pagemap_get_pfn(pagemap_fd, (char *)p + bytes(1 + i));
	/* It may be told so, as one who has just met with the error. */
	signal(SIGBUS, ignore_signal);
	EXPECT_EQ(0, madvise(p + bytes(1), psize(), MADV_HWPOISON));
	signal(SIGBUS, SIG_DFL);
	EXPECT_EQ(0, madvise(p + bytes(2), psize(), MADV_SOFT_OFFLINE));
	EXPECT_EQ(SIGBUS, signal_of(p + bytes(1), LOAD));
	EXPECT_TRUE(is_content(p, 1));
	EXPECT_TRUE(is_marked_part(p, 2, folio_pages, 4));
	EXPECT_NE(pfn[1], pagemap_get_pfn(pagemap_fd, (char *)p + bytes(2)));
	advise(p, 2, MADV_DONTNEED);
	EXPECT_TRUE(is_content(p, 2));
	for (int i = 0; i < 2; i++)
		unpoison(pfn[i]);
}

/*
 * KSM merges pages in folios, after a split. Catches pages of the content that
 * are lost between KSM and the reference page that they are given back for.
 */
TEST_F(folio, ksm)
{
	unsigned char *p = make_folio(_metadata);

	memset(p + bytes(2), 0x99, psize());
	memset(p + bytes(3), 0x99, psize());
	advise(p, folio_pages, MADV_MERGEABLE);
	if (!ksm_scan())
		SKIP(return, "no KSM");
	EXPECT_EQ(pagemap_get_pfn(pagemap_fd, (char *)p + bytes(2)),
		  pagemap_get_pfn(pagemap_fd, (char *)p + bytes(3)));
	EXPECT_EQ(0, smaps_pages(p, "AnonHugePages:"));
	EXPECT_TRUE(is_content(p, 2));
	EXPECT_TRUE(is_byte(p + bytes(2), 0x99, bytes(2)));
	EXPECT_TRUE(is_marked_part(p, 4, folio_pages, 4));
	mark(p, folio_pages, 1);
	EXPECT_TRUE(is_marked_part(p, 4, folio_pages, 1));
	advise(p, folio_pages, MADV_UNMERGEABLE);
	EXPECT_TRUE(is_marked_part(p, 4, folio_pages, 1));
}

/*
 * PAGEMAP_SCAN protects a folio and reports the page that was stored to, none
 * else. Catches a PMD that is not protected, or loses its pages when it has to
 * be split.
 */
TEST_F(folio, pagemap_scan)
{
	unsigned char *p = make_folio(_metadata);
	int fd = open_userfaultfd(WATCH_STORES);

	if (fd < 0)
		SKIP(return, "no userfaultfd, or no asynchronous mode");
	ASSERT_EQ(0, uffd_register(fd, p, bytes(folio_pages), false, true,
				   false));
	write_protect(p, folio_pages);
	EXPECT_TRUE(is_as_made(p));
	store(p + bytes(2), mixed_offset(2));
	for (long i = 0; i < folio_pages; i++)
		EXPECT_EQ(i == 2, scan_written(pagemap_fd, p + bytes(i), 0));
	EXPECT_TRUE(is_as_made(p));

	/* What is dropped has changed. */
	p = make_folio(_metadata);
	ASSERT_EQ(0, uffd_register(fd, p, bytes(folio_pages), false, true,
				   false));
	write_protect(p, folio_pages);
	advise(p, quarter(), MADV_DONTNEED);
	for (long i = 0; i < folio_pages; i++)
		EXPECT_EQ(i < quarter(),
			  scan_written(pagemap_fd, p + bytes(i), 0));
	write_protect(p, folio_pages);
	advise(p, folio_pages, MADV_DONTNEED);
	for (long i = 0; i < folio_pages; i++)
		EXPECT_TRUE(scan_written(pagemap_fd, p + bytes(i), 0));
	EXPECT_TRUE(is_content(p, folio_pages));
	ASSERT_EQ(0, uffd_unregister(fd, p, bytes(folio_pages)));
	mark(p, folio_pages, 1);
	EXPECT_TRUE(is_marked(p, folio_pages, 1));
}

/*
 * As long as userfaultfd watches, memory comes page by page, or by PMD, which
 * can be taken apart. Catches folios that are neither.
 */
TEST_F(folio, userfaultfd)
{
	int fd = open_userfaultfd(WATCH_STORES);
	unsigned char *p;

	if (fd < 0)
		SKIP(return, "no userfaultfd, or no asynchronous mode");
	enable(folio_order);
	p = huge_memory(folio_pages);
	ASSERT_EQ(0, uffd_register(fd, p, bytes(folio_pages), false, true,
				   false));
	store(p + bytes(2), mixed_offset(2));
	EXPECT_TRUE(is_folio(folio_order == pmd_order ? p : p + bytes(2),
			     folio_order == pmd_order ? pmd_order : 0));
	EXPECT_TRUE(is_marked(p, folio_pages, folio_pages));
}

/*
 * Soft-dirty bits are cleared, and set by a store. Catches a PMD that is left
 * out because its mapping has a file.
 */
TEST_F(folio, soft_dirty)
{
	unsigned char *p = make_folio(_metadata);

	if (!softdirty_supported())
		SKIP(return, "no soft-dirty bits on this architecture");
	EXPECT_TRUE(pagemap_is_softdirty(pagemap_fd, (char *)p));
	clear_softdirty();
	for (long i = 0; i < folio_pages; i++)
		EXPECT_FALSE(pagemap_is_softdirty(pagemap_fd,
						  (char *)p + bytes(i)));
	store(p + bytes(2), mixed_offset(2));
	EXPECT_TRUE(pagemap_is_softdirty(pagemap_fd, (char *)p + bytes(2)));
	EXPECT_TRUE(is_as_made(p));
}

/* -- Fixture: memory of each kind ------------------------------------------ */

FIXTURE(folios)
{
};

FIXTURE_VARIANT(folios)
{
	const struct kind *kind;
};

FIXTURE_VARIANT_ADD(folios, anon)
{
	.kind = &kind_anon,
};

FIXTURE_VARIANT_ADD(folios, byte)
{
	.kind = &kind_byte,
};

FIXTURE_VARIANT_ADD(folios, word)
{
	.kind = &kind_word,
};

FIXTURE_VARIANT_ADD(folios, page)
{
	.kind = &kind_page,
};

FIXTURE_SETUP(folios)
{
	const char *why = prepare(variant->kind);

	if (why)
		SKIP(return, "%s", why);
}

FIXTURE_TEARDOWN(folios)
{
	EXPECT_TRUE(finish());
}

/* An order to try what does not depend on it. */
#define ORDER	4
#define N	16L

/* -- Which orders ---------------------------------------------------------- */

/*
 * Each order there is, alone. The orders that are tested more are in another
 * fixture.
 */
TEST_F(folios, store_each_order)
{
	for (unsigned int order = 2; order <= pmd_order; order++) {
		long n = 1L << order;

		if (!(orders & 1U << order))
			continue;
		enable(order);
		check_store(_metadata, order, n / 2 + 1);
		set_order(order, "never");
	}
}

/* Orders that are not enabled: small pages. */
TEST_F(folios, store_no_order)
{
	unsigned char *p = huge_memory(pmd_pages());

	mark(p, pmd_pages(), 4);
	EXPECT_TRUE(is_folio(p + bytes(2), 0));
	EXPECT_EQ(pmd_pages() / 4, count(p, pmd_pages(), PRIVATE));
	EXPECT_EQ(pmd_pages() - pmd_pages() / 4, count(p, pmd_pages(), NONE));
	EXPECT_TRUE(is_marked(p, pmd_pages(), 4));
}

/* Of all orders, the largest that fits. */
TEST_F(folios, store_all_orders)
{
	unsigned char *p;

	for (unsigned int order = 2; order <= pmd_order; order++) {
		if (orders & 1U << order)
			enable(order);
	}
	for (unsigned int order = 2; order <= pmd_order; order++) {
		if (!(orders & 1U << order))
			continue;
		p = huge_memory(1L << order);
		store(p + bytes(2), mixed_offset(2));
		EXPECT_TRUE(is_folio(p, order));
		EXPECT_TRUE(is_marked(p, 1L << order, 1L << order));
	}
}

struct policy {
	const char *global;
	const char *order;
	int advice;
	bool disabled;
};

/* What Documentation/admin-guide/mm/transhuge.rst says. */
static bool policy_allows(const struct policy *policy)
{
	const char *value = policy->order;

	if (policy->disabled || policy->advice == MADV_NOHUGEPAGE)
		return false;
	if (!strcmp(value, "inherit"))
		value = policy->global;
	if (!strcmp(value, "madvise"))
		return policy->advice == MADV_HUGEPAGE;
	return !strcmp(value, "always");
}

static void check_policy(struct __test_metadata *_metadata, unsigned int order,
			 const struct policy *policy)
{
	bool want = policy_allows(policy);
	long n = 1L << order;
	unsigned char *p;

	ASSERT_EQ(0, prctl(PR_SET_THP_DISABLE, policy->disabled, 0, 0, 0));
	set(THP "enabled", policy->global);
	set_order(order, policy->order);
	p = memory(n);
	if (policy->advice)
		advise(p, n, policy->advice);
	EXPECT_EQ(want, smaps_number(p, "THPeligible:"));
	store(p + bytes(2), mixed_offset(2));
	EXPECT_EQ(want ? n : 1, count(p, n, PRIVATE)) {
		TH_LOG("order %u %s, enabled %s, advice %d, disabled %d",
		       order, policy->order, policy->global, policy->advice,
		       policy->disabled);
	}
	set_order(order, "never");
	EXPECT_TRUE(is_marked(p, n, n));
	unmap(p, n);
}

static void check_policies(struct __test_metadata *_metadata,
			   unsigned int order)
{
	static const char *const global[] = { "always", "madvise", "never" };
	static const char *const value[] = {
		"always", "inherit", "madvise", "never",
	};
	static const int advice[] = { 0, MADV_HUGEPAGE, MADV_NOHUGEPAGE };

	for (long i = 0; i < 2 * 3 * 4 * 3; i++) {
		struct policy policy = {
			.disabled = i % 2,
			.global = global[i / 2 % 3],
			.order = value[i / 6 % 4],
			.advice = advice[i / 24],
		};

		check_policy(_metadata, order, &policy);
	}
}

/*
 * sysfs, advice and prctl() say what they say for anonymous memory, and smaps
 * tells what comes of it. Catches mappings for which large folios always, or
 * never, happen, since the settings are those of anonymous memory or of files.
 */
TEST_F_TIMEOUT(folios, policy, 120)
{
	check_policies(_metadata, ORDER);
}

TEST_F_TIMEOUT(folios, policy_pmd, 120)
{
	check_policies(_metadata, pmd_order);
}

/* -- Where a folio fits ---------------------------------------------------- */

/*
 * A folio is all in the mapping. Catches one that covers pages which belong to
 * somebody else, and a file offset that has a say.
 */
TEST_F(folios, edges)
{
	unsigned char *p = reserve(4 * N, 1);
	long n = 4 * N - 2;

	enable(ORDER);
	memory_at(p, n, 0);
	advise(p, n, MADV_HUGEPAGE);
	store(p, 0);
	EXPECT_TRUE(is_folio(p, 0));
	store(p + bytes(n - 1), 0);
	EXPECT_TRUE(is_folio(p + bytes(n - 1), 0));
	EXPECT_EQ(2, count(p, n, PRIVATE));
	store(p + bytes(N), 0);
	EXPECT_TRUE(is_folio(p + bytes(N - 1), ORDER));
	EXPECT_EQ(N + 2, count(p, n, PRIVATE));
	EXPECT_TRUE(same(p, altered(0, 1), psize()));
	EXPECT_TRUE(is_content(p + bytes(1), N - 1));
	EXPECT_TRUE(same(p + bytes(N), altered(0, 1), psize()));
	EXPECT_TRUE(is_content(p + bytes(N + 1), n - N - 2));
}

/* A mapping that is smaller than one order has folios of the next. */
TEST_F(folios, small_mapping)
{
	unsigned char *p;

	enable(ORDER);
	p = huge_memory(N - 1);
	store(p + bytes(2), mixed_offset(2));
	EXPECT_EQ(1, count(p, N - 1, PRIVATE));
	enable(ORDER - 1);
	p = huge_memory(N - 1);
	store(p + bytes(2), mixed_offset(2));
	EXPECT_TRUE(is_folio(p, ORDER - 1));
	EXPECT_TRUE(is_marked(p, N - 1, N));
}

/* The offset given to mmap() means nothing; catches folios aligned to it. */
TEST_F(folios, mmap_offset)
{
	static const long offsets[] = { 1, 3, N - 1, N + 5, 1L << 40 };
	unsigned int flags = MAP_PRIVATE | MAP_FIXED;
	void *p;

	enable(ORDER);
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		p = mmap(reserve(N, 0), bytes(N), RW,
			 flags | (anon() ? MAP_ANONYMOUS : 0), memory_fd,
			 bytes(offsets[i]));
		ASSERT_NE(MAP_FAILED, p);
		advise(p, N, MADV_HUGEPAGE);
		store(p + bytes(2), mixed_offset(2));
		EXPECT_TRUE(is_folio(p, ORDER));
		EXPECT_TRUE(is_marked(p, N, N));
	}
}

/*
 * Moved memory has folios that are aligned to where it is, not to where it was,
 * which the offset in the mapping tells. Catches a look at the offset, for
 * folios of each size, and rmap that needs the two to agree.
 */
static void check_moved(struct __test_metadata *_metadata, unsigned int order,
			bool touched)
{
	const long n = 1L << order;
	unsigned char *p, *to;

	p = memory(3 * n);
	if (touched)
		store(p, 0);
	enable(order);
	advise(p, 3 * n, MADV_HUGEPAGE);
	/* What was page 2 * n - 1 is the first of a folio now. */
	to = reserve(3 * n, 1);
	ASSERT_EQ(to, mremap(p, bytes(3 * n), bytes(3 * n),
			     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	p = to + bytes(2 * n - 1);
	store(p + bytes(2), mixed_offset(2));
	EXPECT_TRUE(is_folio(p, order));
	EXPECT_EQ(n + touched, count(to, 3 * n, PRIVATE));
	mark(p, n, 4);
	EXPECT_EQ(touched ? (unsigned char)~content[0] : content[0], to[0]);
	EXPECT_TRUE(is_content(to + bytes(1), 2 * n - 2));
	EXPECT_TRUE(is_marked(p, n, 4));
	if (!access(SPLIT, W_OK)) {
		ASSERT_TRUE(split(p, n, 0));
		EXPECT_EQ(n / 4, count(p, n, PRIVATE));
	}
	EXPECT_TRUE(is_marked(p, n, 4));
	set_order(order, "never");
	unmap(to, 3 * n);
}

TEST_F(folios, mremap_untouched)
{
	check_moved(_metadata, ORDER, false);
	check_moved(_metadata, pmd_order, false);
}

TEST_F(folios, mremap_touched)
{
	check_moved(_metadata, ORDER, true);
	check_moved(_metadata, pmd_order, true);
}

/*
 * The kernel places mappings as anonymous ones, so that huge pages fit. Catches
 * the placement of files.
 */
TEST_F(folios, mmap_placement)
{
	const long len = 2 * bytes(pmd_pages());
	int flags = MAP_PRIVATE | (anon() ? MAP_ANONYMOUS : 0);
	unsigned char *p;

	enable(pmd_order);
	for (int i = 0; i < 3; i++) {
		map_anon(1, PROT_READ);
		p = mmap(NULL, len, RW, flags, memory_fd, 0);
		ASSERT_NE(MAP_FAILED, (void *)p);
		EXPECT_EQ(0, (long)p % bytes(pmd_pages()));
		map_anon(1, PROT_READ);
		advise(p, len / psize(), MADV_HUGEPAGE);
		store(p, 0);
		EXPECT_TRUE(is_folio(p, pmd_order));
	}
}

/* -- Fallbacks ------------------------------------------------------------- */

/*
 * Around a page that is in the way, smaller folios are allocated, which leave
 * it alone: a private page, a guard, or one that is swapped out.
 */
static void check_in_the_way(struct __test_metadata *_metadata,
			     bool (*put)(unsigned char *p), bool stored)
{
	unsigned char *p = memory(N);

	if (!put(p))
		return;
	for (unsigned int order = 2; order <= ORDER; order++)
		enable(order);
	advise(p, N, MADV_HUGEPAGE);
	store(p + bytes(N - 1), 0);
	EXPECT_TRUE(is_folio(p + bytes(N / 2), ORDER - 1));
	store(p + bytes(N / 2 - 1), 0);
	EXPECT_TRUE(is_folio(p + bytes(N / 4), ORDER - 2));
	store(p + bytes(N / 4 - 1), 0);
	EXPECT_TRUE(is_folio(p + bytes(N / 4 - 1), 0));
	EXPECT_TRUE(is_content(p + bytes(1), N / 4 - 2));
	EXPECT_TRUE(is_content(p + bytes(N / 4), N / 4 - 1));
	EXPECT_TRUE(is_content(p + bytes(N / 2), N / 2 - 1));
	for (unsigned int order = 2; order <= ORDER; order++)
		set_order(order, "never");
	if (stored)
		EXPECT_TRUE(same(p, altered(0, 1), psize()));
}

static bool put_private(unsigned char *p)
{
	store(p, 0);
	return true;
}

static bool put_swapped(unsigned char *p)
{
	store(p, 0);
	return !no_swap() && page_out(p, 1);
}

static bool put_guard(unsigned char *p)
{
	return guard(p, 1);
}

TEST_F(folios, private_page_in_the_way)
{
	check_in_the_way(_metadata, put_private, true);
}

TEST_F(folios, swapped_page_in_the_way)
{
	if (no_swap())
		SKIP(return, "no swap space");
	check_in_the_way(_metadata, put_swapped, true);
}

TEST_F(folios, guard_in_the_way)
{
	if (!guard(map_anon(1, RW), 1))
		SKIP(return, "no MADV_GUARD_INSTALL");
	check_in_the_way(_metadata, put_guard, false);
}

/*
 * A PMD is not for a page table with something in it. Catches a huge page put
 * over it.
 */
TEST_F(folios, private_page_in_the_way_of_pmd)
{
	unsigned char *p = memory(pmd_pages());

	store(p, 0);
	enable(pmd_order);
	enable(ORDER);
	advise(p, pmd_pages(), MADV_HUGEPAGE);
	store(p + bytes(N + 2), mixed_offset(2));
	EXPECT_TRUE(is_folio(p + bytes(N), ORDER));
	EXPECT_EQ(N + 1, count(p, pmd_pages(), PRIVATE));
	EXPECT_TRUE(same(p, altered(0, 1), psize()));
	EXPECT_TRUE(is_content(p + bytes(1), N - 1));
	EXPECT_TRUE(is_marked(p + bytes(N), N, N));
}

/* In a child: the limit is in the way of @order, but not of ORDER. */
static void check_charge(struct __test_metadata *_metadata, unsigned int order)
{
	static const char *const names[] = {
		"anon_fault_fallback", "anon_fault_fallback_charge",
	};
	long before[ARRAY_SIZE(names)], huge[2];
	const bool pmd = order == pmd_order;
	unsigned char *p;

	memcg_join();
	enable(order);
	enable(ORDER);
	p = huge_memory(1L << order);
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		before[i] = order_counter(order, names[i]);
	huge[0] = vm_counter("thp_fault_fallback");
	huge[1] = vm_counter("thp_fault_fallback_charge");
	/* What a CPU has in store is 64 pages. */
	set_number(MEMCG "memory.max",
		   memcg_number("memory.current", "") + bytes(128));
	store(p + bytes(2), mixed_offset(2));
	EXPECT_TRUE(is_folio(p, ORDER));
	EXPECT_EQ(N, count(p, 1L << order, PRIVATE));
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		EXPECT_EQ(before[i] + 1, order_counter(order, names[i]));
	EXPECT_EQ(huge[0] + pmd, vm_counter("thp_fault_fallback"));
	EXPECT_EQ(huge[1] + pmd, vm_counter("thp_fault_fallback_charge"));
	file_write(MEMCG "memory.max", "max");
	EXPECT_TRUE(is_marked(p, 1L << order, 1L << order));
}

/*
 * A folio that must not be charged is one less, the next size is tried.
 * Catches a folio that is filled and leaks, an error that is a signal, and
 * counters that are not those of anonymous memory.
 */
TEST_F(folios, fallback_charge)
{
	const unsigned int tried[] = { pmd_order - 1, pmd_order };
	const char *why = memcg_create();

	if (why)
		SKIP(return, "%s", why);
	/* Reclaim would not be in vain, and OOM not be averted. */
	set(THP "defrag", "never");
	file_write(MEMCG "memory.swap.max", "0");
	for (size_t i = 0; i < ARRAY_SIZE(tried); i++) {
		pid_t pid = fork_child();

		if (!pid) {
			check_charge(_metadata, tried[i]);
			_exit(0);
		}
		EXPECT_TRUE(child_passed(pid));
		set_order(tried[i], "never");
	}
}

/*
 * No large folios can be allocated. Catches an error, and folios of the content
 * that are taken from where there was no memory.
 */
TEST_F(folios, fallback_allocation)
{
	long before, huge;
	unsigned char *p;

	if (access(FAIL_ALLOC "probability", W_OK) ||
	    access("/proc/self/make-it-fail", W_OK))
		SKIP(return, "no fault injection");
	enable(pmd_order);
	enable(ORDER);
	p = huge_memory(pmd_pages());
	before = order_counter(ORDER, "anon_fault_fallback");
	huge = order_counter(pmd_order, "anon_fault_fallback");
	set(FAIL_ALLOC "task-filter", "Y");
	set(FAIL_ALLOC "ignore-gfp-wait", "N");
	set(FAIL_ALLOC "ignore-gfp-highmem", "N");
	set(FAIL_ALLOC "verbose", "0");
	set(FAIL_ALLOC "min-order", "2");
	set(FAIL_ALLOC "times", "-1");
	set(FAIL_ALLOC "probability", "100");
	file_write("/proc/self/make-it-fail", "1");
	store(p + bytes(2), mixed_offset(2));
	file_write("/proc/self/make-it-fail", "0");
	EXPECT_TRUE(is_folio(p + bytes(2), 0));
	EXPECT_EQ(before + 1, order_counter(ORDER, "anon_fault_fallback"));
	EXPECT_EQ(huge + 1, order_counter(pmd_order, "anon_fault_fallback"));
	EXPECT_TRUE(is_marked(p, pmd_pages(), pmd_pages()));
}

static void fill_in_memcg(long pages)
{
	unsigned char *p;

	memcg_join();
	p = huge_memory(pages);
	mark(p, pages, 1);
	_exit(is_marked(p, pages, 1) ? 0 : 3);
}

/*
 * A process that fills more than its memory cgroup may have is killed, and
 * nothing of it stays. Catches folios that leak on the way out of a fault.
 */
TEST_F_TIMEOUT(folios, oom_kill, 60)
{
	const long limit = 8UL << 20;
	const char *why = memcg_create();
	long before[2];
	pid_t pid;

	if (why)
		SKIP(return, "%s", why);
	enable(ORDER);
	enable(pmd_order);
	before[0] = order_counter(ORDER, "nr_anon");
	before[1] = order_counter(pmd_order, "nr_anon");
	set_number(MEMCG "memory.max", limit);
	file_write(MEMCG "memory.swap.max", "0");
	pid = fork_child();
	if (!pid)
		fill_in_memcg(4 * limit / psize());
	EXPECT_EQ(SIGKILL, WTERMSIG(wait_status(pid)));
	EXPECT_LE(1, memcg_number("memory.events", "oom_kill "));

	/* The reaper may hold on to it for a moment. */
	for (int tries = 0; tries < 500; tries++) {
		if (order_counter(ORDER, "nr_anon") == before[0] &&
		    order_counter(pmd_order, "nr_anon") == before[1] &&
		    memcg_number("memory.current", "") < (long)limit / 4)
			break;
		usleep(10000);
	}
	EXPECT_EQ(before[0], order_counter(ORDER, "nr_anon"));
	EXPECT_EQ(before[1], order_counter(pmd_order, "nr_anon"));
	EXPECT_GT((long)limit / 4, memcg_number("memory.current", ""));
}

/*
 * With swap, the same process gets through and finds all that it stored.
 * Catches folios that lose something on the way to swap or back.
 */
TEST_F_TIMEOUT(folios, memory_pressure, 120)
{
	const long limit = 8UL << 20;
	const char *why = memcg_create();
	long before = vm_counter("pswpout");
	pid_t pid;

	if (why)
		SKIP(return, "%s", why);
	if (no_swap())
		SKIP(return, "no swap space");
	enable(ORDER);
	enable(pmd_order);
	set_number(MEMCG "memory.max", limit);
	pid = fork_child();
	if (!pid)
		fill_in_memcg(4 * limit / psize());
	EXPECT_EQ(0, wait_status(pid));
	EXPECT_LE(before + 2 * (long)(limit / psize()), vm_counter("pswpout"));
}

/* -- Loads ----------------------------------------------------------------- */

/*
 * A load never allocates, with a huge zero page or without. Of anonymous
 * memory, without, it does. Catches that, and a huge page of zeros.
 */
TEST_F(folios, load_with_huge_pages)
{
	const long n = pmd_pages();

	enable(pmd_order);
	set_fault_around(1);
	for (int zero_page = 0; zero_page <= 1; zero_page++) {
		unsigned char *p = huge_memory(n);

		set_number(THP "use_zero_page", zero_page);
		load(p + bytes(7));
		EXPECT_EQ(anon() && !zero_page ? n : 0, count(p, n, PRIVATE));
		if (!anon() && !access(FAULT_AROUND, W_OK))
			EXPECT_EQ(1, count(p, n, FRESH));
		EXPECT_TRUE(is_content(p, n));
		EXPECT_EQ(anon() && !zero_page ? n : 0, count(p, n, PRIVATE));
		mark(p, n, 4);
		EXPECT_TRUE(is_marked(p, n, 4));
	}
}

/* -- Collapsing ------------------------------------------------------------ */

/* Nobody but MADV_COLLAPSE makes large folios of this. */
static unsigned char *small_memory(void)
{
	return memory(pmd_pages());
}

static bool is_collapsed(unsigned char *p)
{
	return smaps_pages(p, "AnonHugePages:") == pmd_pages() &&
	       smaps_pages(p, "Rss:") == pmd_pages() &&
	       is_folio(p, pmd_order);
}

static void check_collapse(struct __test_metadata *_metadata, unsigned char *p,
			   long step)
{
	EXPECT_EQ(0, collapse(p, pmd_pages()));
	EXPECT_TRUE(is_collapsed(p));
	EXPECT_TRUE(is_marked(p, pmd_pages(), step));
}

/* One page is marked, a quarter, or all. */
static const long steps[] = { 1UL << 30, 4, 1 };

/*
 * Untouched pages are the content in the huge page. Catches zeros, and pages
 * that are not filled at all.
 */
TEST_F(folios, collapse_untouched)
{
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		unsigned char *p = small_memory();

		mark(p, pmd_pages(), steps[i]);
		check_collapse(_metadata, p, steps[i]);
		/* It can be taken apart again. */
		advise(p, 1, MADV_DONTNEED);
		EXPECT_TRUE(is_marked_part(p, 1, pmd_pages(), steps[i]));
		EXPECT_TRUE(is_content(p, 1));
	}
}

/*
 * So are loaded ones. Catches a reference page that is taken for a page of the
 * process, its reference dropped, or for something that forbids to collapse.
 */
TEST_F(folios, collapse_loaded)
{
	for (size_t i = 0; i < ARRAY_SIZE(steps); i++) {
		unsigned char *p = small_memory();

		load_pages(p, pmd_pages());
		mark(p, pmd_pages(), steps[i]);
		check_collapse(_metadata, p, steps[i]);
		advise(p, pmd_pages(), MADV_DONTNEED);
		EXPECT_TRUE(is_content(p, pmd_pages()));
	}
}

/* Folios collapse as small pages do. */
TEST_F(folios, collapse_folios)
{
	unsigned char *p;

	enable(ORDER);
	p = huge_memory(pmd_pages());
	mark_part(p, 0, pmd_pages() / 2, N);
	EXPECT_TRUE(is_folio(p, ORDER));
	EXPECT_EQ(pmd_pages() / 2, count(p, pmd_pages(), PRIVATE));
	EXPECT_EQ(0, collapse(p, pmd_pages()));
	EXPECT_TRUE(is_collapsed(p));
	EXPECT_TRUE(is_marked_part(p, 0, pmd_pages() / 2, N));
	EXPECT_TRUE(is_content(p + bytes(pmd_pages() / 2), pmd_pages() / 2));
}

/*
 * A page of zeros that KSM replaced by the zero page stays zeros, beside pages
 * that are the content. Catches one taken for the other.
 */
TEST_F(folios, collapse_ksm_zero_page)
{
	unsigned char *p = small_memory();
	const long n = pmd_pages(), at = n / 2;

	mark(p, at, 4);
	memset(p + bytes(at), 0, bytes(8));
	load(p + bytes(n - 1));
	advise(p, n, MADV_MERGEABLE);
	if (!try_set(KSM "use_zero_pages", "1") || !ksm_scan())
		SKIP(return, "no KSM");
	EXPECT_EQ(8, count(p + bytes(at), 8, anon() ? FRESH : ZEROS));
	store(p + bytes(2), mixed_offset(2));
	EXPECT_EQ(0, collapse(p, n));
	EXPECT_TRUE(is_collapsed(p));
	EXPECT_TRUE(is_marked(p, at, 4));
	EXPECT_TRUE(is_byte(p + bytes(at), 0, bytes(8)));
	EXPECT_TRUE(is_content(p + bytes(at + 8), n - at - 8));
}

/* What is swapped out is swapped in for it. Catches content in its place. */
TEST_F(folios, collapse_swapped)
{
	unsigned char *p = small_memory();

	if (no_swap())
		SKIP(return, "no swap space");
	mark(p, pmd_pages(), 4);
	load_pages(p, pmd_pages() / 2);
	ASSERT_TRUE(page_out(p, pmd_pages()));
	store(p + bytes(2), mixed_offset(2));
	check_collapse(_metadata, p, 4);
}

/* A guard is in the way, and stays; catches one that is filled. */
TEST_F(folios, collapse_guard)
{
	unsigned char *p = small_memory();

	mark(p, pmd_pages(), 4);
	if (!guard(p + bytes(9), 1))
		SKIP(return, "no MADV_GUARD_INSTALL");
	EXPECT_EQ(EINVAL, collapse(p, pmd_pages()));
	EXPECT_EQ(0, smaps_pages(p, "AnonHugePages:"));
	EXPECT_EQ(SIGSEGV, signal_of(p + bytes(9), LOAD));
	EXPECT_TRUE(is_marked(p, 9, 4));
	EXPECT_TRUE(is_marked_part(p, 10, pmd_pages(), 4));
	advise(p + bytes(9), 1, MADV_GUARD_REMOVE);
	/* Not all pages must be shared with a child that is gone. */
	store(p + bytes(2), mixed_offset(2));
	check_collapse(_metadata, p, 4);
}

/*
 * Pages that are shared with a child are copied. Catches a page that is moved
 * out of the child.
 */
TEST_F(folios, collapse_shared)
{
	unsigned char *p = small_memory();
	int child[2];
	pid_t pid;

	mark(p, pmd_pages(), 4);
	ASSERT_EQ(0, pipe(child));
	pid = fork_child();
	if (!pid) {
		wait_for(child);
		EXPECT_TRUE(is_marked(p, pmd_pages(), 4));
		store(p + bytes(2), mixed_offset(2) ^ 1);
		EXPECT_EQ(0, collapse(p, pmd_pages()));
		EXPECT_TRUE(is_marked_part(p, 3, pmd_pages(), 4));
		_exit(0);
	}
	store(p + bytes(2), mixed_offset(2));
	check_collapse(_metadata, p, 4);
	tell(child);
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_marked(p, pmd_pages(), 4));
	mark(p, pmd_pages(), 1);
	EXPECT_TRUE(is_marked(p, pmd_pages(), 1));
}

/*
 * A mapping that was moved so that its offset is not aligned collapses, and
 * splits. Catches a look at the offset as if the mapping were one of a file.
 */
TEST_F(folios, collapse_moved)
{
	const long n = pmd_pages();
	unsigned char *p, *to;

	p = memory_at(reserve(n, 1), n, 0);
	mark(p, n, 4);
	to = reserve(n, 0);
	ASSERT_EQ(to, mremap(p, bytes(n), bytes(n),
			     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	check_collapse(_metadata, to, 4);
	if (access(SPLIT, W_OK))
		SKIP(return, "no " SPLIT);
	split(to, n, 0);
	EXPECT_EQ(n / 4, count(to, n, PRIVATE));
	EXPECT_TRUE(is_marked(to, n, 4));
}

enum before_collapse {
	UNTOUCHED, LOADED, ONE_LOADED, DROPPED, READ_ONLY, WATCHED, FULL, CASES
};

static long collapse_step(enum before_collapse what)
{
	return what == FULL ? 1 : what <= DROPPED ? pmd_pages() : 4;
}

static int collapse_errno(unsigned char *p, enum before_collapse what, int uffd)
{
	const long n = pmd_pages();

	if (what == LOADED)
		load_pages(p, n);
	if (what == ONE_LOADED)
		load(p + bytes(7));
	if (what >= DROPPED)
		mark(p, n, collapse_step(what));
	if (what == DROPPED)
		advise(p, n, MADV_DONTNEED);
	if (what == READ_ONLY && mprotect(p, bytes(n), PROT_READ))
		die("mprotect");
	if ((what == WATCHED || what == FULL) && uffd >= 0 &&
	    uffd_register(uffd, p, bytes(n), false, true, false))
		die("UFFDIO_REGISTER");
	return collapse(p, n);
}

/*
 * Where nothing can be collapsed, the error is that of anonymous memory.
 * Catches mappings that are treated as files, and a range that nobody has
 * stored to being filled.
 */
TEST_F(folios, collapse_errors)
{
	const long n = pmd_pages();
	int uffd = open_userfaultfd(WATCH_STORES);

	for (int what = 0; what < CASES; what++) {
		unsigned char *p = memory(n);
		unsigned char *q = map_at(reserve(n, 0), -1, n, RW,
					  MAP_FIXED | MAP_ANONYMOUS);

		EXPECT_EQ(collapse_errno(q, what, uffd),
			  collapse_errno(p, what, uffd)) {
			TH_LOG("case %d", what);
		}
		EXPECT_EQ(smaps_pages(q, "AnonHugePages:"),
			  smaps_pages(p, "AnonHugePages:")) {
			TH_LOG("case %d", what);
		}
		EXPECT_TRUE(is_marked_part(p, what <= DROPPED ? 3 : 0, n,
					   collapse_step(what)));
	}
}

/* Settings with which khugepaged gets there soon. */
static void run_khugepaged(void)
{
	set_number(KHUGEPAGED "max_ptes_none", pmd_pages() - 1);
	set_number(KHUGEPAGED "pages_to_scan", 64 * pmd_pages());
	set(KHUGEPAGED "alloc_sleep_millisecs", "10");
	enable(pmd_order);
	set(KHUGEPAGED "scan_sleep_millisecs", "10");
}

/*
 * khugepaged collapses what MADV_COLLAPSE does. Catches mappings that it does
 * not know of, or takes for files.
 */
TEST_F_TIMEOUT(folios, khugepaged, 60)
{
	unsigned char *p = small_memory(), *q = small_memory();
	const long n = pmd_pages();

	mark(p, n, n);
	load_pages(q, n);
	mark(q, n, 4);
	run_khugepaged();
	advise(p, n, MADV_HUGEPAGE);
	advise(q, n, MADV_HUGEPAGE);
	for (int tries = 0; tries < 2000; tries++) {
		/* It wants pages that are used. */
		load(p + bytes(2));
		load(q + bytes(2));
		if (smaps_pages(p, "AnonHugePages:") &&
		    smaps_pages(q, "AnonHugePages:"))
			break;
		usleep(10000);
	}
	EXPECT_TRUE(is_collapsed(p));
	EXPECT_TRUE(is_collapsed(q));
	EXPECT_TRUE(is_marked(p, n, n));
	EXPECT_TRUE(is_marked(q, n, 4));
}

/*
 * khugepaged leaves alone what has more untouched pages than max_ptes_none,
 * loaded ones included. Catches a reference page that counts as used.
 */
TEST_F_TIMEOUT(folios, khugepaged_max_ptes_none, 60)
{
	unsigned char *p = small_memory(), *q = small_memory();
	const long n = pmd_pages();
	long scans;

	load_pages(p, n);
	mark(p, n, 4);
	mark(q, n, 1);
	run_khugepaged();
	set_number(KHUGEPAGED "max_ptes_none", n / 2);
	advise(p, n, MADV_HUGEPAGE);
	advise(q, n, MADV_HUGEPAGE);
	for (int tries = 0; tries < 1000; tries++) {
		load(q);
		if (smaps_pages(q, "AnonHugePages:"))
			break;
		usleep(10000);
	}
	EXPECT_TRUE(is_collapsed(q));
	scans = file_number(KHUGEPAGED "full_scans", "");
	for (int tries = 0; tries < 500; tries++) {
		load_pages(p, n);
		if (file_number(KHUGEPAGED "full_scans", "") > scans + 2)
			break;
		usleep(10000);
	}
	EXPECT_EQ(n / 4, count(p, n, PRIVATE));
	EXPECT_TRUE(is_marked(p, n, 4));
}

/* -- Underused huge pages -------------------------------------------------- */

/* Run all shrinkers until a huge page was split, or not. */
static bool shrink(void)
{
	long before = vm_counter("thp_underused_split_page");

	for (int tries = 0; tries < 10; tries++) {
		if (!file_write("/proc/sys/vm/drop_caches", "2"))
			die("drop_caches");
		if (vm_counter("thp_underused_split_page") > before)
			return true;
	}
	return false;
}

/* A huge page: some marks, a page of zeros, one that is the content again. */
static unsigned char *make_underused(struct __test_metadata *_metadata)
{
	const long n = pmd_pages();
	unsigned char *p;

	enable(pmd_order);
	p = huge_memory(n);
	mark(p, n, n / 4);
	ASSERT_TRUE(is_folio(p, pmd_order));
	memset(p + bytes(n - 1), 0, psize());
	store(p + bytes(n - 3), 0);
	p[bytes(n - 3)] = content[0];
	set_order(pmd_order, "never");
	return p;
}

static bool is_underused_as_made(unsigned char *p)
{
	const long n = pmd_pages();

	return is_marked(p, n - 1, n / 4) &&
	       is_byte(p + bytes(n - 1), 0, psize());
}

/* Its last page may be the zero page. */
static bool is_given_back(unsigned char *p)
{
	const long n = pmd_pages() - 1;

	return count(p, n, PRIVATE) == 4 && count(p, n, FRESH) == n - 4 &&
	       smaps_pages(p, "Rss:") ==
	       4 + count(p + bytes(n), 1, PRIVATE);
}

/*
 * Of a huge page that is hardly used, the pages that are the content are given
 * back. Catches a search for zeros, which finds none, and one that takes zeros
 * for content, which they would turn into.
 */
TEST_F(folios, underused)
{
	unsigned char *p = make_underused(_metadata);

	if (vm_counter("thp_underused_split_page") < 0)
		SKIP(return, "underused huge pages are not split");
	set(THP "shrink_underused", "1");
	set_number(KHUGEPAGED "max_ptes_none", pmd_pages() / 2);
	EXPECT_TRUE(shrink());
	EXPECT_EQ(0, smaps_pages(p, "AnonHugePages:"));
	EXPECT_TRUE(is_given_back(p));
	EXPECT_TRUE(is_underused_as_made(p));
	mark_part(p, 0, pmd_pages() - 1, 1);
	EXPECT_TRUE(is_marked(p, pmd_pages() - 1, 1));
}

/*
 * A huge page that is used enough stays. Catches pages counted that are alike,
 * or equal the content of another mapping.
 */
TEST_F(folios, used_enough)
{
	const unsigned char used = anon() ? 0xaa : 0x55;
	unsigned char *p = make_underused(_metadata);
	const long n = pmd_pages();

	if (vm_counter("thp_underused_split_page") < 0)
		SKIP(return, "underused huge pages are not split");
	mark_part(p, 0, n / 2, 1);
	memset(p + bytes(n / 2), used, bytes(n / 2));
	set(THP "shrink_underused", "1");
	set_number(KHUGEPAGED "max_ptes_none", n / 4);
	EXPECT_FALSE(shrink());
	EXPECT_TRUE(is_folio(p, pmd_order));
	EXPECT_TRUE(is_marked(p, n / 2, 1));
	EXPECT_TRUE(is_byte(p + bytes(n / 2), used, bytes(n / 2)));
}

/*
 * The page is given back in each process that has it. Catches an entry made
 * for the reference page of another, or none, and a count that goes wrong.
 */
TEST_F(folios, underused_shared)
{
	unsigned char *p = make_underused(_metadata);
	int parent[2], child[2];
	pid_t pid;

	if (vm_counter("thp_underused_split_page") < 0)
		SKIP(return, "underused huge pages are not split");
	ASSERT_EQ(0, pipe(parent));
	ASSERT_EQ(0, pipe(child));
	pid = fork_child();
	if (!pid) {
		tell(parent);
		wait_for(child);
		EXPECT_TRUE(is_given_back(p));
		EXPECT_TRUE(is_underused_as_made(p));
		mark_part(p, 0, pmd_pages() - 1, 1);
		_exit(0);
	}
	wait_for(parent);
	set(THP "shrink_underused", "1");
	set_number(KHUGEPAGED "max_ptes_none", pmd_pages() / 2);
	EXPECT_TRUE(shrink());
	tell(child);
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_given_back(p));
	EXPECT_TRUE(is_underused_as_made(p));
}

/* -- Fault-around ---------------------------------------------------------- */

/*
 * How many pages a load maps. Of anonymous memory, one: what is found there
 * tells that the tests can tell.
 */
static long window(long pages)
{
	return anon() ? 1 : pages;
}

/* Are pages @first to @last - 1 fresh, and none of the others up to @pages? */
static bool is_fresh_only(unsigned char *p, long pages, long first,
			  long last)
{
	for (long i = 0; i < pages; i++) {
		bool want = first <= i && i < last;

		if (page_state(p + bytes(i)) == (want ? FRESH : NONE))
			continue;
		ksft_print_msg("page %zu is in state %d; %zu to %zu: fresh\n",
			       i, page_state(p + bytes(i)), first, last - 1);
		return false;
	}
	return true;
}

/*
 * A load maps the reference page into the aligned window around it, at no cost.
 * Catches a window that is not aligned, too large or none at all, and private
 * pages.
 */
TEST_F(folios, fault_around)
{
	static const long sizes[] = { 1, 4, 16, 64 };
	static const long loads[] = { 0, 5, 15, 16, 37, 127 };
	const long n = 128;

	if (!set_fault_around(16))
		SKIP(return, "no " FAULT_AROUND);
	for (size_t i = 0; i < ARRAY_SIZE(sizes) * ARRAY_SIZE(loads); i++) {
		size_t at = loads[i % ARRAY_SIZE(loads)];
		size_t size = window(sizes[i / ARRAY_SIZE(loads)]);
		unsigned char *p = memory(n);

		set_fault_around(sizes[i / ARRAY_SIZE(loads)]);
		if (i % 2)
			ASSERT_EQ(0, mprotect(p, bytes(n), PROT_READ));
		load(p + bytes(at));
		EXPECT_TRUE(is_fresh_only(p, n, at & -size,
					  (at & -size) + size));
		EXPECT_EQ(0, smaps_pages(p, "Rss:"));
		EXPECT_EQ(0, smaps_pages(p, "Pss:"));
		EXPECT_TRUE(is_content(p, n));
		unmap(p, n);
	}
}

/*
 * The window ends where the mapping does. Catches pages mapped for a neighbour,
 * which may be of another descriptor, or may not be read.
 */
TEST_F(folios, fault_around_edges)
{
	unsigned char *p = reserve(64, 5);

	if (!set_fault_around(16))
		SKIP(return, "no " FAULT_AROUND);
	/* From page 5 of a window to page 6 of the third. */
	memory_at(p, 16 + 16 + 7 - 5, 0);
	load(p);
	EXPECT_TRUE(is_fresh_only(p - bytes(5), 64, 5, 5 + window(11)));
	load(p + bytes(16 + 16 + 6 - 5));
	EXPECT_EQ(window(7), count(p + bytes(27), 7, FRESH));
	EXPECT_EQ(16, count(p + bytes(11), 16, NONE));
	EXPECT_TRUE(is_content(p, 34));
	unmap(p, 34);

	/* Another protection is another mapping. */
	p = memory(64);
	ASSERT_EQ(0, mprotect(p + bytes(4), bytes(4), PROT_READ));
	ASSERT_EQ(0, mprotect(p + bytes(8), bytes(8), PROT_NONE));
	load(p + bytes(5));
	EXPECT_TRUE(is_fresh_only(p, 64, anon() ? 5 : 4, anon() ? 6 : 8));
	load(p + bytes(1));
	EXPECT_EQ(window(4), count(p, 4, FRESH));
	EXPECT_EQ(56, count(p + bytes(8), 56, NONE));
	EXPECT_EQ(SIGSEGV, signal_of(p + bytes(8), LOAD));
}

/*
 * And where the page table does. Catches entries written behind its end.
 */
TEST_F(folios, fault_around_page_table)
{
	const long n = pmd_pages();
	unsigned char *p = memory(3 * n);

	if (!set_fault_around(n))
		SKIP(return, "no " FAULT_AROUND);
	load(p + bytes(2 * n - 1));
	EXPECT_EQ(window(n), count(p + bytes(n), n, FRESH));
	EXPECT_EQ(n, count(p, n, NONE));
	EXPECT_EQ(n, count(p + bytes(2 * n), n, NONE));
	EXPECT_TRUE(is_content(p, 3 * n));
}

/*
 * What is in the window is left as it is: private pages, guards, what is
 * swapped out. Catches each of them being replaced by the reference page.
 */
TEST_F(folios, fault_around_keeps)
{
	unsigned char *p = memory(16);
	bool guarded, swapped;

	if (!set_fault_around(16))
		SKIP(return, "no " FAULT_AROUND);
	store(p + bytes(2), mixed_offset(2));
	store(p + bytes(3), mixed_offset(3));
	swapped = !no_swap() && page_out(p + bytes(3), 1);
	guarded = guard(p + bytes(4), 1);
	load(p + bytes(9));
	EXPECT_EQ(window(13 + !guarded), count(p, 16, FRESH));
	EXPECT_EQ(1, count(p + bytes(2), 1, PRIVATE));
	EXPECT_EQ(1, count(p + bytes(3), 1, swapped ? SWAPPED : PRIVATE));
	if (guarded)
		EXPECT_EQ(SIGSEGV, signal_of(p + bytes(4), LOAD));
	EXPECT_TRUE(is_content(p, 2));
	EXPECT_TRUE(same(p + bytes(2), altered(mixed_offset(2), 1), psize()));
	EXPECT_TRUE(same(p + bytes(3), altered(mixed_offset(3), 1), psize()));
	EXPECT_TRUE(is_content(p + bytes(5), 11));
}

/*
 * The point of it: many pages, few faults. Catches windows of one page.
 */
TEST_F(folios, fault_around_faults)
{
	const long n = (64UL << 20) / psize();
	unsigned char *p = memory(n);
	long faults;

	if (!set_fault_around(16))
		SKIP(return, "no " FAULT_AROUND);
	faults = minor_faults();
	load_pages(p, n);
	faults = minor_faults() - faults;
	EXPECT_LE((long)(n / window(16)), faults);
	EXPECT_GE((long)(n / window(16)) + 16, faults);
	EXPECT_EQ(0, smaps_pages(p, "Rss:"));
}

/*
 * A store copies its page, one that is untouched and one that was mapped along
 * with another, and maps no others. Catches a window around stores, and one
 * that is writable.
 */
TEST_F(folios, fault_around_store)
{
	unsigned char *p = memory(32);

	if (!set_fault_around(16))
		SKIP(return, "no " FAULT_AROUND);
	store(p + bytes(2), mixed_offset(2));
	EXPECT_EQ(31, count(p, 32, NONE));
	load(p + bytes(20));
	EXPECT_EQ(window(16), count(p + bytes(16), 16, FRESH));
	store(p + bytes(18), mixed_offset(18));
	EXPECT_EQ(2, count(p, 32, PRIVATE));
	EXPECT_TRUE(is_marked(p, 32, 16));
	EXPECT_EQ(2, smaps_pages(p, "Rss:"));
}

/*
 * As long as userfaultfd watches, a load maps one page, so that what is
 * reported is what was touched. Catches a window over its markers.
 */
TEST_F(folios, fault_around_userfaultfd)
{
	unsigned char *p = memory(32);
	int fd = open_userfaultfd(WATCH_STORES);

	if (!set_fault_around(16))
		SKIP(return, "no " FAULT_AROUND);
	if (fd < 0)
		SKIP(return, "no userfaultfd, or no asynchronous mode");
	ASSERT_EQ(0, uffd_register(fd, p, bytes(32), false, true, false));
	load(p + bytes(3));
	EXPECT_TRUE(is_fresh_only(p, 32, 3, 4));
	write_protect(p, 32);
	load(p + bytes(20));
	store(p + bytes(18), mixed_offset(18));
	for (long i = 0; i < 32; i++)
		EXPECT_EQ(i == 18, scan_written(pagemap_fd, p + bytes(i), 0));
	EXPECT_TRUE(is_content(p, 18));
	EXPECT_TRUE(same(p + bytes(18), altered(mixed_offset(18), 1), psize()));
	ASSERT_EQ(0, uffd_unregister(fd, p, bytes(32)));
	advise(p, 32, MADV_DONTNEED);
	load(p + bytes(3));
	EXPECT_EQ(window(16), count(p, 32, FRESH));
}

/* -- Locks ----------------------------------------------------------------- */

static long mmap_lock_faults(void)
{
	return vm_counter("vma_lock_abort") + vm_counter("vma_lock_retry") +
	       vm_counter("vma_lock_miss");
}

enum touches {
	LOADS, STORES, STORES_AFTER_LOADS, LARGE_STORES, HUGE_STORES
};

static void touch_all(unsigned char *p, long pages, enum touches how)
{
	if (how == LOADS || how == STORES_AFTER_LOADS)
		load_pages(p, pages);
	if (how != LOADS)
		store_pages(p, pages);
}

static void check_vma_lock(struct __test_metadata *_metadata, long pages,
			   unsigned int order, enum touches how)
{
	unsigned char *p = memory(pages + 1);
	long retried, done, faults;

	if (order) {
		enable(order);
		advise(p, pages + 1, MADV_HUGEPAGE);
	}
	/* The first needs an anon_vma. */
	store(p + bytes(pages), 0);
	retried = mmap_lock_faults();
	done = vm_counter("vma_lock_success");
	faults = minor_faults();
	touch_all(p, pages, how);
	faults = minor_faults() - faults;
	/* Other processes may have some of their own. */
	EXPECT_GT(retried + 8 + faults / 8, mmap_lock_faults()) {
		TH_LOG("case %d: %ld faults", how, faults);
	}
	EXPECT_LE(done + faults * 7 / 8, vm_counter("vma_lock_success"));
	EXPECT_LE(pages >> order, faults);
	EXPECT_TRUE(is_byte(p, how == LOADS ? content[0] : ~content[0], 1));
	unmap(p, pages + 1);
	if (order)
		set_order(order, "never");
}

/*
 * Faults run under the lock of the VMA. Catches those that are sent back for
 * the mmap lock, because the mapping has operations that could need it.
 */
TEST_F(folios, vma_lock)
{
	if (vm_counter("vma_lock_success") < 0)
		SKIP(return, "no CONFIG_PER_VMA_LOCK_STATS");
	set_fault_around(1);
	check_vma_lock(_metadata, 4096, 0, LOADS);
	check_vma_lock(_metadata, 4096, 0, STORES);
	check_vma_lock(_metadata, 4096, 0, STORES_AFTER_LOADS);
	check_vma_lock(_metadata, 4096, ORDER, LARGE_STORES);
	check_vma_lock(_metadata, 24 * pmd_pages(), pmd_order, HUGE_STORES);
}

/* -- Races ----------------------------------------------------------------- */

#define RACERS	3

/*
 * Words of a page: one for each thread, one for children, which are in the
 * first half; the others are never stored to.
 */
static struct {
	unsigned char *p;
	long pages;
	bool drops;		/* what was stored may be gone */
	bool stop;
	long rounds;
	long wrong;
	unsigned long seen, wanted;
} race;

static unsigned long *race_word(long page, long i)
{
	return (unsigned long *)(race.p + bytes(page)) + i;
}

static unsigned long race_content(long i)
{
	return ((unsigned long *)content)[i];
}

static void race_wrong(unsigned long seen, unsigned long wanted)
{
	race.seen = seen;
	race.wanted = wanted;
	__atomic_fetch_add(&race.wrong, 1, __ATOMIC_RELAXED);
}

static void race_check_untouched(unsigned long random)
{
	long half = psize() / sizeof(unsigned long) / 2;
	long i = half + (random >> 20) % half;
	unsigned long value;

	value = __atomic_load_n(race_word(random % race.pages, i),
				__ATOMIC_RELAXED);
	if (value != race_content(i))
		race_wrong(value, race_content(i));
}

static bool racing(void)
{
	return !__atomic_load_n(&race.stop, __ATOMIC_RELAXED);
}

/* Each word of this thread holds what the thread stored last. */
static void *race_run(void *arg)
{
	unsigned long id = (unsigned long)arg, state = id, random, value, want;
	unsigned long *last = calloc(race.pages, sizeof(*last));

	while (racing()) {
		long page = (random = next_random(&state)) % race.pages;
		unsigned long *word = race_word(page, id);

		if (random >> 40 & 1)
			race_check_untouched(next_random(&state));
		value = __atomic_load_n(word, __ATOMIC_RELAXED);
		want = race_content(id) ^ last[page];
		if (race.drops && value == race_content(id))
			last[page] = 0;
		else if (value != want)
			race_wrong(value, want);
		if (random >> 41 & 1) {
			last[page] = random | 1;
			__atomic_store_n(word, race_content(id) ^ last[page],
					 __ATOMIC_RELAXED);
		}
		__atomic_fetch_add(&race.rounds, 1, __ATOMIC_RELAXED);
	}
	free(last);
	return NULL;
}

typedef void (*disturb_fn)(unsigned long random);

static void disturb_collapse(unsigned long random)
{
	unsigned long at = random % (race.pages / pmd_pages());

	madvise(race.p + at * bytes(pmd_pages()), bytes(pmd_pages()),
		MADV_COLLAPSE);
}

static void disturb_split(unsigned long random)
{
	split(race.p, race.pages, random & 1 ? 0 : ORDER);
}

/* A page, some, or all */
static void disturb(unsigned long random, int advice)
{
	long n = random & 1 ? 1 : random & 2 ? N + 3 : race.pages;
	long first = (random >> 8) % (race.pages - n + 1);

	madvise(race.p + bytes(first), bytes(n), advice);
}

static void disturb_drop(unsigned long random)
{
	disturb(random, MADV_DONTNEED);
}

static void disturb_reclaim(unsigned long random)
{
	disturb(random, MADV_PAGEOUT);
}

static void disturb_shrink(unsigned long random)
{
	if (!(random & 7))
		file_write("/proc/sys/vm/drop_caches", "2");
}

static void disturb_fork(unsigned long random)
{
	const long mine = RACERS + 1;
	pid_t pid = fork_child();

	if (!pid) {
		race.wrong = 0;
		for (long i = 0; i < race.pages; i += 1 + random % 7) {
			race_check_untouched(i);
			*race_word(i, mine) = ~race_content(mine);
			race_check_untouched(i);
			if (*race_word(i, mine) != ~race_content(mine))
				race_wrong(*race_word(i, mine),
					   ~race_content(mine));
		}
		_exit(race.wrong != 0);
	}
	if (wait_status(pid))
		race_wrong(0, 0);
	/* Its stores are its own. */
	if (*race_word(random % race.pages, mine) != race_content(mine))
		race_wrong(*race_word(random % race.pages, mine),
			   race_content(mine));
}

static void run_race(struct __test_metadata *_metadata, const disturb_fn *how,
		     long n)
{
	time_t end = time(NULL) + environment("REFPAGE_SECONDS", 2);
	unsigned long state = 7, random;
	pthread_t threads[RACERS];

	enable(ORDER);
	enable(pmd_order);
	race.pages = 2 * pmd_pages();
	race.p = huge_memory(race.pages);
	for (long i = 0; i < RACERS; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, race_run,
					    (void *)i));
	while (time(NULL) < end) {
		random = next_random(&state);
		how[(random >> 50) % n](random);
	}
	__atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
	for (long i = 0; i < RACERS; i++)
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
	EXPECT_LT(0, race.rounds);
	EXPECT_EQ(0, race.wrong) {
		TH_LOG("of %ld; the last was %#lx and not %#lx", race.rounds,
		       race.seen, race.wanted);
	}
}

/*
 * While folios are collapsed and split, no store is lost, and no byte is other
 * than the content or what was stored. Catches a page that is copied before it
 * is unmapped, and one that is given back and stored to at a time.
 */
TEST_F_TIMEOUT(folios, race_collapse, 120)
{
	const disturb_fn how[] = {
		disturb_collapse, disturb_split, disturb_shrink,
	};

	set_number(KHUGEPAGED "max_ptes_none", pmd_pages() / 2);
	run_race(_metadata, how, ARRAY_SIZE(how));
}

/*
 * The same while memory is dropped, and faulted in again by several threads.
 * Catches a folio that is mapped before it is filled, and one that replaces
 * another.
 */
TEST_F_TIMEOUT(folios, race_drop, 120)
{
	const disturb_fn how[] = {
		disturb_drop, disturb_drop, disturb_collapse, disturb_fork,
	};

	race.drops = true;
	run_race(_metadata, how, ARRAY_SIZE(how));
}

/* The same while it is reclaimed, and while the process forks. */
TEST_F_TIMEOUT(folios, race_reclaim, 120)
{
	const disturb_fn how[] = {
		disturb_reclaim, disturb_collapse, disturb_split, disturb_fork,
	};

	run_race(_metadata, how, ARRAY_SIZE(how));
}

TEST_HARNESS_MAIN
