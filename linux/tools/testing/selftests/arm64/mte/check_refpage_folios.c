// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of reference pages, see refpage_create(2), with allocation tags and
 * large folios.
 *
 * The property: all pages of a large folio of a mapping with PROT_MTE have the
 * bytes and the tags of the reference page until either is stored to, and
 * whatever splits, collapses, moves or reclaims the folio keeps both. Each test
 * does one thing to a folio, with each kind of content, and with anonymous
 * memory for comparison. What a comment below says to be caught is the mistake
 * in the kernel that makes the test fail.
 *
 * check_refpage.c has the tests of small pages, ../../mm/refpage-folios.c those
 * that need no tags.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/refpage.h>
#include <linux/types.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../kselftest_harness.h"
#include "check_refpage.h"

#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE		25
#endif

/* Bits of /proc/kpageflags */
#define KPF_COMPOUND_HEAD	15
#define KPF_COMPOUND_TAIL	16

#define MAX_PTES_NONE	THP "khugepaged/max_ptes_none"
#define SPLIT		"/sys/kernel/debug/split_huge_pages"

static unsigned int folio_order;
static long folio_pages;
static long pmd_pages;

/* -- Settings -------------------------------------------------------------- */

struct setting {
	char path[96];
	char value[64];
};

/* What it was before the first test; the value is in brackets, if any are. */
static struct setting settings[4];
static pid_t main_pid;

static void save_setting(struct setting *setting, const char *path)
{
	snprintf(setting->path, sizeof(setting->path), "%s", path);
	get_setting(path, setting->value);
}

static void order_path(unsigned int order, char *path)
{
	sprintf(path, THP "hugepages-%ldkB/enabled", bytes(1L << order) / 1024);
}

static unsigned int pmd_order(void)
{
	return __builtin_ctzl(pmd_pages | 1L << 31);
}

static void save_settings(void)
{
	char path[96];

	main_pid = getpid();
	pmd_pages = file_number(THP "hpage_pmd_size", "") / (long)psize();
	save_setting(&settings[0], MAX_PTES_NONE);
	save_setting(&settings[1], THP "shrink_underused");
	order_path(4, path);
	save_setting(&settings[2], path);
	order_path(pmd_order(), path);
	save_setting(&settings[3], path);
}

static void restore_settings(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		file_write(settings[i].path, settings[i].value);
}

static void restore_at_exit(void)
{
	if (getpid() == main_pid)
		restore_settings();
}

static void set_order(unsigned int order, const char *value)
{
	char path[96];

	order_path(order, path);
	if (!file_write(path, value))
		die(path);
}

/* -- Bytes and tags -------------------------------------------------------- */

/*
 * Of @step pages, the first four are in different states: the bits of the
 * number say what was done to a page. A page that was zeroed has the tags of
 * the content still.
 */
enum { STORED = 1, RETAGGED = 2 };

static int mark_of(long i, long step)
{
	return i % step < 4 ? i % step : 0;
}

static void mark_page(unsigned char *p, long i, int mark)
{
	if (mark & STORED)
		store(p + bytes(i) + mixed_offset(i));
	if (mark & RETAGGED)
		store_tag(p + bytes(i) + mixed_granule(i) * GRANULE,
			  mixed_tag(i));
}

static void mark(unsigned char *p, long pages, long step)
{
	for (long i = 0; i < pages; i++)
		mark_page(p, i, mark_of(i, step));
}

/* Valid until the next call */
static const struct page *marked_page(long i, int mark)
{
	static struct page page;

	if (!page.data)
		page = new_page();
	memcpy(page.data, reference.data, psize());
	memcpy(page.tag, reference.tag, granules());
	if (mark & STORED)
		page.data[mixed_offset(i)] ^= 0xff;
	if (mark & RETAGGED)
		page.tag[mixed_granule(i)] = mixed_tag(i);
	return &page;
}

static bool is_marked_part(const unsigned char *p, long first, long last,
			   long step)
{
	for (long i = first; i < last; i++) {
		if (is_page(p + bytes(i), marked_page(i, mark_of(i, step))))
			continue;
		ksft_print_msg("in memory at %p\n", p);
		return false;
	}
	return true;
}

static bool is_marked(const unsigned char *p, long pages, long step)
{
	return is_marked_part(p, 0, pages, step);
}

/* Data of the content, but tag 0 everywhere */
static bool is_untagged(const unsigned char *p, long pages)
{
	unsigned char *zeros = calloc(1, granules());
	bool good = true;

	for (long i = 0; good && i < pages; i++)
		good = same_data(p + bytes(i), reference.data) &&
		       same_tags(p + bytes(i), zeros);
	free(zeros);
	return good;
}

/* -- Memory ---------------------------------------------------------------- */

static void advise(void *p, long pages, int advice)
{
	if (madvise(p, bytes(pages), advice))
		die("madvise");
}

/* Memory that starts at a page table, with nothing to merge with around it */
static unsigned char *memory(long pages, int prot)
{
	const unsigned long align = bytes(pmd_pages);
	uintptr_t p;

	p = (uintptr_t)map_anon(pages + 2 * pmd_pages, PROT_NONE);
	p = (p + align) & -align;
	return memory_at((void *)p, pages, prot, MAP_FIXED);
}

static unsigned char *huge_memory(int prot)
{
	unsigned char *p = memory(folio_pages, prot);

	set_order(folio_order, "madvise");
	advise(p, folio_pages, MADV_HUGEPAGE);
	return p;
}

/* Does one folio map here, from @p on? */
static bool is_folio(const unsigned char *p, long pages)
{
	unsigned long pfn = pfn_of(p);

	return pfn && has_flag(pfn, KPF_COMPOUND_HEAD) &&
	       has_flag(pfn + pages - 1, KPF_COMPOUND_TAIL) &&
	       !has_flag(pfn + pages, KPF_COMPOUND_TAIL) &&
	       pfn_of(p + bytes(pages - 1)) == pfn + pages - 1;
}

static bool split(unsigned char *p, long pages)
{
	char text[100];

	sprintf(text, "%d,0x%lx,0x%lx", getpid(), (unsigned long)p,
		(unsigned long)p + bytes(pages));
	return file_write(SPLIT, text);
}

static int collapse(unsigned char *p, long pages)
{
	int tries = 0, err;

	do {
		err = madvise(p, bytes(pages), MADV_COLLAPSE) ? errno : 0;
	} while (err == EAGAIN && ++tries < 100);
	return err;
}

/* -- Fixture --------------------------------------------------------------- */

FIXTURE(folio)
{
	unsigned char *witness;
};

FIXTURE_VARIANT(folio)
{
	const struct kind *kind;
	unsigned int order;	/* 0: that of a PMD */
};

FIXTURE_VARIANT_ADD(folio, anon_order_4)
{
	.kind = &kind_anon, .order = 4,
};

FIXTURE_VARIANT_ADD(folio, anon_pmd)
{
	.kind = &kind_anon,
};

FIXTURE_VARIANT_ADD(folio, tag_order_4)
{
	.kind = &kind_tag, .order = 4,
};

FIXTURE_VARIANT_ADD(folio, tag_pmd)
{
	.kind = &kind_tag,
};

FIXTURE_VARIANT_ADD(folio, granule_order_4)
{
	.kind = &kind_granule, .order = 4,
};

FIXTURE_VARIANT_ADD(folio, granule_pmd)
{
	.kind = &kind_granule,
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
	const char *why;

	/* If the last test was killed */
	restore_settings();
	memcg_remove();
	mte_disable_pstate_tco();
	check_tags(MTE_NONE_ERR);
	if (geteuid() || access(THP "enabled", W_OK))
		SKIP(return, "not root, or no transparent huge pages");

	folio_order = variant->order ?: pmd_order();
	folio_pages = 1L << folio_order;
	set_order(4, "never");
	set_order(pmd_order(), "never");
	why = make_memory(variant->kind);
	if (why)
		SKIP(return, "%s", why);
	if (memory_fd >= 0)
		self->witness = map(memory_fd, 1, RM);
}

/* After every test: nothing has written to the reference page. */
FIXTURE_TEARDOWN(folio)
{
	restore_settings();
	memcg_remove();
	trace_stop();
	if (self->witness)
		EXPECT_TRUE(is_content(self->witness, 1));
}

/* A folio with a page in each state, repeatedly */
static unsigned char *make_folio(struct __test_metadata *_metadata)
{
	unsigned char *p = huge_memory(RWM);

	mark_page(p, 1, STORED);
	ASSERT_TRUE(is_folio(p, folio_pages));
	mark(p, folio_pages, 8);
	return p;
}

/* And khugepaged does not put together again what is split */
static unsigned char *make_last_folio(struct __test_metadata *_metadata)
{
	unsigned char *p = make_folio(_metadata);

	set_order(folio_order, "never");
	return p;
}

static bool is_as_made(const unsigned char *p)
{
	return is_marked(p, folio_pages, 8);
}

/* -- Tests ----------------------------------------------------------------- */

/*
 * A store is given a folio, all pages of which have the tags. Catches tags that
 * are those of the first page only, or of the page stored to.
 */
TEST_F(folio, store)
{
	long pages[] = { 1, folio_pages - 1 };

	for (size_t i = 0; i < ARRAY_SIZE(pages); i++) {
		unsigned char *p = huge_memory(RWM);
		long at = pages[i];

		mark_page(p, at, STORED);
		EXPECT_TRUE(is_folio(p, folio_pages));
		EXPECT_TRUE(is_content(p, at));
		EXPECT_TRUE(same_tags(p + bytes(at), reference.tag));
		EXPECT_TRUE(is_content(p + bytes(at + 1),
				       folio_pages - at - 1));
	}
}

/*
 * A tag that is stored first changes its granule only. Catches tags that come
 * after it.
 */
TEST_F(folio, store_tag)
{
	unsigned char *p = huge_memory(RWM);

	mark_page(p, 2, RETAGGED);
	EXPECT_TRUE(is_folio(p, folio_pages));
	EXPECT_TRUE(is_content(p, 2));
	EXPECT_TRUE(same_data(p + bytes(2), reference.data));
	EXPECT_EQ(mixed_tag(2), load_tag(p + bytes(2) +
					 mixed_granule(2) * GRANULE));
	EXPECT_TRUE(is_content(p + bytes(3), folio_pages - 3));
}

/*
 * So is one that takes the place of what loads have left. Catches tags that the
 * PTEs are thought to have brought already.
 */
TEST_F(folio, store_after_loads)
{
	unsigned char *p = huge_memory(RWM);

	EXPECT_TRUE(is_content(p, folio_pages));
	mark(p, folio_pages, 8);
	if (!variant->kind->anon && folio_pages < pmd_pages)
		EXPECT_TRUE(is_folio(p, folio_pages));
	EXPECT_TRUE(is_as_made(p));
}

/*
 * Memory that had other tags has none of them. Catches tags that are taken for
 * those of a page which was just allocated, or are left where they need not be
 * checked.
 */
TEST_F(folio, recycled)
{
	unsigned char *p = make_folio(_metadata);
	unsigned char *q;

	for (int i = 0; i < 4; i++) {
		for (long k = 0; k < folio_pages * granules(); k++)
			store_tag(p + k * GRANULE, (k + i) % 16);
		memset(p, 0x11, bytes(folio_pages));
		advise(p, folio_pages, MADV_DONTNEED);
		if (i % 2) {
			q = huge_memory(RW);
			mark_page(q, 0, STORED);
			EXPECT_EQ(0, mprotect(q, bytes(folio_pages), RWM));
			EXPECT_TRUE(is_untagged(q + bytes(1), folio_pages - 1));
			munmap(q, bytes(folio_pages));
		}
		mark_page(p, 1, STORED);
		EXPECT_TRUE(is_folio(p, folio_pages));
		mark_page(p, 2, RETAGGED);
		mark_page(p, 3, STORED | RETAGGED);
		EXPECT_TRUE(is_marked(p, folio_pages, folio_pages));
	}
}

/*
 * A folio of a mapping without PROT_MTE has tag 0 when PROT_MTE is added, in a
 * part or all over; what was not touched has the tags of the content. Catches
 * the tags of a page in the middle of a folio being looked for at its head.
 */
TEST_F(folio, mprotect_adds_mte)
{
	unsigned char *p = huge_memory(RW), *q = huge_memory(RW);
	const long half = folio_pages / 2;

	mark_page(p, 0, STORED);
	EXPECT_TRUE(is_folio(p, folio_pages));
	ASSERT_EQ(0, mprotect(p + bytes(half), bytes(half), RWM));
	EXPECT_TRUE(is_untagged(p + bytes(half), half));
	ASSERT_EQ(0, mprotect(p, bytes(folio_pages), RWM));
	EXPECT_TRUE(is_untagged(p + bytes(1), folio_pages - 1));

	ASSERT_EQ(0, mprotect(q, bytes(folio_pages), RWM));
	mark_page(q, 1, STORED);
	EXPECT_TRUE(is_folio(q, folio_pages));
	EXPECT_TRUE(is_content(q, 1));
	EXPECT_TRUE(is_content(q + bytes(2), folio_pages - 2));
}

/* What is dropped has the tags again, as do pages whose guards are removed. */
TEST_F(folio, drop_part)
{
	unsigned char *p = make_folio(_metadata);

	advise(p, 2, MADV_DONTNEED);
	EXPECT_TRUE(is_content(p, 2));
	EXPECT_TRUE(is_marked_part(p, 2, folio_pages, 8));
	if (madvise(p + bytes(2), bytes(2), MADV_GUARD_INSTALL))
		SKIP(return, "no MADV_GUARD_INSTALL");
	advise(p + bytes(2), 2, MADV_GUARD_REMOVE);
	EXPECT_TRUE(is_content(p, 4));
	EXPECT_TRUE(is_marked_part(p, 4, folio_pages, 8));
}

/* Zeros in two pages: with the tags of the content, and with tag 0 */
static void zero_pages(unsigned char *p)
{
	memset(p, 0, bytes(2));
	for (long i = 0; i < granules(); i++)
		store_tag(p + bytes(1) + i * GRANULE, 0);
}

static bool are_zero_pages(unsigned char *p)
{
	struct page zeros = new_page();
	bool good;

	good = same_data(p, zeros.data) && same_tags(p, reference.tag) &&
	       is_page(p + bytes(1), &zeros);
	free(zeros.data);
	free(zeros.tag);
	return good;
}

/*
 * A split keeps bytes and tags. Catches a page that is given back since its
 * bytes are the content, or zeros, where its tags are others.
 */
TEST_F(folio, split)
{
	unsigned char *p = make_folio(_metadata);
	const long n = folio_pages - 2;

	zero_pages(p + bytes(n));
	if (!split(p, folio_pages))
		SKIP(return, "no " SPLIT);
	EXPECT_FALSE(is_folio(p, folio_pages));
	EXPECT_TRUE(is_marked(p, n, 8));
	EXPECT_TRUE(are_zero_pages(p + bytes(n)));
	mark(p, n, 4);
	EXPECT_TRUE(is_marked(p, n, 4));
}

/*
 * The same when the kernel splits a huge page because it is hardly used.
 * Catches tags that are left out of the comparison, or make all of them differ.
 */
TEST_F(folio, underused)
{
	const char *field = "thp_underused_split_page ";
	const char *vmstat = "/proc/vmstat";
	long before = file_number(vmstat, field), n = pmd_pages - 2;
	unsigned char *p;

	if (before < 0)
		SKIP(return, "underused huge pages are not split");
	folio_pages = pmd_pages;
	folio_order = pmd_order();
	p = huge_memory(RWM);
	mark_page(p, 1, STORED);
	ASSERT_TRUE(is_folio(p, pmd_pages));
	mark(p, n, n);
	zero_pages(p + bytes(n));
	file_write(THP "shrink_underused", "1");
	file_write(MAX_PTES_NONE, "64");
	for (int i = 0; i < 10 && file_number(vmstat, field) == before; i++)
		file_write("/proc/sys/vm/drop_caches", "2");
	/* Of anonymous memory, no page with tags is taken for the zero page. */
	EXPECT_EQ(before + !variant->kind->anon, file_number(vmstat, field));
	EXPECT_EQ(variant->kind->anon, is_folio(p, pmd_pages));
	EXPECT_TRUE(is_marked(p, n, n));
	EXPECT_TRUE(are_zero_pages(p + bytes(n)));
	mark(p, n, 4);
	EXPECT_TRUE(is_marked(p, n, 4));
}

/* Memory that is collapsed: of folios, or of small pages */
static unsigned char *small_memory(int prot)
{
	unsigned char *p = memory(pmd_pages, prot);

	if (folio_pages < pmd_pages) {
		set_order(folio_order, "madvise");
		advise(p, pmd_pages, MADV_HUGEPAGE);
	}
	return p;
}

/*
 * In a huge page made of pages that were stored to, retagged, loaded, and not
 * touched, each has the tags it had. Catches tags that are not copied, and
 * those of the reference page that are not set.
 */
TEST_F(folio, collapse)
{
	for (long step = 4; step <= pmd_pages; step *= pmd_pages / 4) {
		unsigned char *p = small_memory(RWM);

		for (long i = 0; i < pmd_pages / 2; i += 3)
			load_tag(p + bytes(i));
		mark(p, pmd_pages, step);
		EXPECT_EQ(0, collapse(p, pmd_pages));
		EXPECT_TRUE(is_folio(p, pmd_pages));
		EXPECT_TRUE(is_marked(p, pmd_pages, step));
	}
}

/* Without PROT_MTE, the huge page has no tags. */
TEST_F(folio, collapse_without_mte)
{
	unsigned char *p = small_memory(RW);

	mark_page(p, 0, STORED);
	EXPECT_EQ(0, collapse(p, pmd_pages));
	EXPECT_TRUE(is_folio(p, pmd_pages));
	ASSERT_EQ(0, mprotect(p, bytes(pmd_pages), RWM));
	EXPECT_TRUE(is_untagged(p + bytes(1), pmd_pages - 1));
}

/* A child has the tags; what it stores is its own, and the other way round. */
TEST_F(folio, fork)
{
	unsigned char *p = make_folio(_metadata);
	pid_t pid = fork();

	if (!pid) {
		EXPECT_TRUE(is_as_made(p));
		mark(p, folio_pages, 4);
		EXPECT_TRUE(is_marked(p, folio_pages, 4));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_as_made(p));
	mark(p, folio_pages, 4);
	EXPECT_TRUE(is_marked(p, folio_pages, 4));
}

/* Tags survive swap. Catches those of the pages behind the first being lost. */
TEST_F(folio, swap)
{
	unsigned char *p = make_folio(_metadata);

	if (has_no_swap())
		SKIP(return, "no swap space");
	for (int i = 0; i < 2; i++) {
		ASSERT_TRUE(reclaim_pages(p, folio_pages));
		EXPECT_TRUE(is_as_made(p));
	}
	ASSERT_TRUE(reclaim_pages(p, folio_pages));
	mark(p, folio_pages, 4);
	EXPECT_TRUE(is_marked(p, folio_pages, 4));
}

/* The same if the pages are read from swap before they are touched. */
TEST_F(folio, willneed)
{
	unsigned char *p = make_folio(_metadata);

	if (has_no_swap())
		SKIP(return, "no swap space");
	ASSERT_TRUE(reclaim_pages(p, folio_pages));
	advise(p, folio_pages, MADV_WILLNEED);
	EXPECT_TRUE(is_as_made(p));
}

/*
 * A folio that was given up has its bytes and tags until it is reclaimed, and
 * the content and its tags afterwards. Catches zeros or tag 0 that are those of
 * anonymous memory, and pages of a folio that are forgotten.
 */
static void check_free(struct __test_metadata *_metadata)
{
	unsigned char *p = make_last_folio(_metadata);

	give_up(p, folio_pages);
	EXPECT_TRUE(is_folio(p, folio_pages));
	EXPECT_TRUE(is_as_made(p));
	EXPECT_TRUE(reclaim_pages(p, folio_pages));
	EXPECT_EQ(0, count_swapped(p, folio_pages));
	EXPECT_EQ(0, smaps_pages(p, "Anonymous:"));
	EXPECT_TRUE(is_content_back(p, folio_pages));
	mark(p, folio_pages, 4);
	EXPECT_TRUE(is_marked(p, folio_pages, 4));
}

TEST_F(folio, free)
{
	check_free(_metadata);
}

TEST_F(folio, free_in_memcg)
{
	in_memcg(_metadata, check_free);
}

/*
 * A part of it is given up, for which it is split. Catches tags that the rest
 * loses, and those that go to other pages.
 */
TEST_F(folio, free_part)
{
	unsigned char *p = make_last_folio(_metadata);
	const long first = 1, last = folio_pages / 2 + 3;

	give_up(p + bytes(first), last - first);
	EXPECT_FALSE(is_folio(p, folio_pages));
	EXPECT_TRUE(is_as_made(p));
	ASSERT_TRUE(reclaim_pages(p + bytes(first), last - first));
	EXPECT_EQ(0, count_swapped(p, folio_pages));
	EXPECT_TRUE(is_content_back(p + bytes(first), last - first));
	EXPECT_TRUE(is_marked_part(p, 0, first, 8));
	EXPECT_TRUE(is_marked_part(p, last, folio_pages, 8));
}

/*
 * A page that is stored to afterwards is kept, also if only a tag is. Each of
 * the others is kept or dropped as a whole. Catches a folio that is dropped
 * since no byte of it has changed.
 */
static void check_free_and_store(struct __test_metadata *_metadata)
{
	const long retagged = folio_pages / 2, stored = retagged + 5;
	unsigned char *p = make_last_folio(_metadata);
	bool *kept = calloc(folio_pages, sizeof(*kept));

	give_up(p, folio_pages);
	mark_page(p, retagged, RETAGGED);
	mark_page(p, stored, STORED);
	EXPECT_TRUE(reclaim_pages(p, folio_pages));
	for (long i = 0; i < folio_pages; i++)
		kept[i] = is_swapped(p + bytes(i));
	EXPECT_TRUE(kept[retagged]);
	EXPECT_TRUE(kept[stored]);
	for (long i = 0; i < folio_pages; i++) {
		int mark = mark_of(i, 8);

		mark |= i == retagged ? RETAGGED : 0;
		mark |= i == stored ? STORED : 0;
		EXPECT_TRUE(is_back(p, i, marked_page(i, kept[i] ? mark : 0))) {
			TH_LOG("page %ld", i);
		}
	}
	free(kept);
}

TEST_F(folio, free_and_store)
{
	if (has_no_swap())
		SKIP(return, "no swap space");
	check_free_and_store(_metadata);
}

TEST_F(folio, free_and_store_in_memcg)
{
	if (has_no_swap())
		SKIP(return, "no swap space");
	in_memcg(_metadata, check_free_and_store);
}

/* What is in swap is given up at once; catches the tags of the slots. */
TEST_F(folio, free_swapped_out)
{
	unsigned char *p = make_last_folio(_metadata);

	if (has_no_swap())
		SKIP(return, "no swap space");
	ASSERT_TRUE(reclaim_pages(p, folio_pages));
	EXPECT_EQ(folio_pages, count_swapped(p, folio_pages));
	give_up(p, folio_pages);
	EXPECT_EQ(0, count_swapped(p, folio_pages));
	EXPECT_TRUE(is_content_back(p, folio_pages));
}

/*
 * A folio of droppable memory is dropped although it was just stored to.
 * Catches tags that it had, and one that is split and swapped out.
 */
static void check_droppable(struct __test_metadata *_metadata)
{
	memory_type = MAP_DROPPABLE;
	for (int round = 0; round < 2; round++) {
		unsigned char *p = make_last_folio(_metadata);

		EXPECT_TRUE(is_as_made(p));
		EXPECT_TRUE(reclaim_pages(p, folio_pages));
		EXPECT_EQ(0, count_swapped(p, folio_pages));
		EXPECT_EQ(0, smaps_pages(p, "Swap:"));
		EXPECT_TRUE(is_content_back(p, folio_pages));
		mark(p, folio_pages, 4);
		EXPECT_TRUE(is_marked(p, folio_pages, 4));
	}
}

TEST_F(folio, droppable)
{
	check_droppable(_metadata);
}

TEST_F(folio, droppable_in_memcg)
{
	in_memcg(_metadata, check_droppable);
}

/* A child has the content where it inherits no folio. Catches zeros. */
TEST_F(folio, wipeonfork)
{
	static const int types[] = { MAP_PRIVATE, MAP_DROPPABLE };

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		unsigned char *p;
		pid_t pid;

		memory_type = types[i];
		p = make_folio(_metadata);
		advise(p, folio_pages, MADV_WIPEONFORK);
		pid = fork();
		if (!pid) {
			EXPECT_TRUE(is_content_back(p, folio_pages));
			mark(p, folio_pages, 4);
			EXPECT_TRUE(is_marked(p, folio_pages, 4));
			_exit(0);
		}
		EXPECT_TRUE(child_passed(pid));
		EXPECT_TRUE(is_as_made(p));
	}
}

/* A mapping that was made in one call has large folios with tags. */
TEST_F(folio, one_call)
{
	unsigned char *p = huge_memory(RWM);

	if (!variant->kind->anon) {
		ASSERT_EQ(p, map_page(p, make_source(RWM), folio_pages, RWM,
				      MAP_PRIVATE | MAP_FIXED));
		advise(p, folio_pages, MADV_HUGEPAGE);
	}
	mark_page(p, 2, RETAGGED);
	EXPECT_TRUE(is_folio(p, folio_pages));
	mark(p, folio_pages, 8);
	EXPECT_TRUE(is_as_made(p));
}

/*
 * A folio is one event, and says what it was filled with, for the tag that was
 * stored. Catches a path of huge pages without it.
 */
TEST_F(folio, trace)
{
	const char *why = trace_start();
	unsigned char *p;

	if (why)
		SKIP(return, "%s", why);
	p = huge_memory(RWM);
	mark_page(p, 2, RETAGGED);
	mark(p, folio_pages, 8);
	EXPECT_TRUE(is_folio(p, folio_pages));
	EXPECT_EQ(!variant->kind->anon,
		  !!trace_fill_line(p, folio_order, variant->kind->name));
}

/* Migration takes the tags along. Catches the same. */
TEST_F(folio, migrate)
{
	unsigned char *p = make_folio(_metadata);
	int to = -1, status = 0;
	void *page = p;

	if (access("/sys/devices/system/node/node1", F_OK))
		SKIP(return, "one memory node");
	ASSERT_EQ(0, syscall(__NR_move_pages, 0, 1L, &page, NULL, &status, 0));
	for (int i = 0; i < 10 && status != to; i++) {
		to = to < 0 ? !status : to;
		ASSERT_LE(0, syscall(__NR_move_pages, 0, 1L, &page, &to,
				     &status, 2));
	}
	EXPECT_EQ(to, status);
	EXPECT_TRUE(is_folio(p, folio_pages));
	EXPECT_TRUE(is_as_made(p));
}

int main(int argc, char **argv)
{
	if (!(getauxval(AT_HWCAP2) & HWCAP2_MTE)) {
		ksft_print_header();
		ksft_exit_skip("no MTE\n");
	}
	if (!tags_are_independent()) {
		ksft_print_header();
		ksft_exit_fail_msg("granules share a tag, as in QEMU 7.2\n");
	}
	save_settings();
	memcg_enabled_before =
		memcg_controller(CGROUP "cgroup.subtree_control");
	atexit(restore_at_exit);
	return test_harness_run(argc, argv);
}
