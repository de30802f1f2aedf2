// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of reference pages, see refpage_create(2), with allocation tags.
 *
 * The property: whatever is done to a mapping with PROT_MTE, a page of it has
 * the bytes and the tags of the reference page until either is stored to; a
 * store changes the bytes or tags stored to, in one page of one process, and
 * nothing ever changes the reference page. Each test does one thing to a
 * mapping, with each kind of content, and is named after it. What a comment
 * below says to be caught is the mistake in the kernel that makes the test
 * fail.
 *
 * ../../mm/refpage.c has the tests that need no tags.
 */
#define _GNU_SOURCE
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/refpage.h>
#include <linux/types.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../../kselftest_harness.h"
#include "check_refpage.h"

#ifndef PTRACE_PEEKMTETAGS
#define PTRACE_PEEKMTETAGS	33
#define PTRACE_POKEMTETAGS	34
#endif
#ifndef PT_AARCH64_MEMTAG_MTE
#define PT_AARCH64_MEMTAG_MTE	(PT_LOPROC + 2)
#endif
#ifndef SA_EXPOSE_TAGBITS
#define SA_EXPOSE_TAGBITS	0x00000800
#endif
#ifndef MADV_DONTNEED_LOCKED
#define MADV_DONTNEED_LOCKED	24
#endif

/* Bits of /proc/kpageflags; the last one says that a page has tags. */
#define KPF_THP		22
#define KPF_ZERO_PAGE	24
#define KPF_ARCH_2	41

/* Pages of most mappings: each state of a mixed mapping twice */
#define PAGES	16

/* What an untouched page reads, without tags. */
static struct page untagged;

static unsigned int pshift(void)
{
	return __builtin_ctzl(psize());
}

/* -- Tags ----------------------------------------------------------------- */

static size_t granule_of(const void *p)
{
	return (unsigned long)p % psize() / GRANULE;
}

/* A pointer with the tag of the reference page, and one with another tag */
static void *right(const void *p)
{
	return tagged(p, reference.tag[granule_of(p)]);
}

static void *wrong(const void *p)
{
	size_t granule = granule_of(p);

	return tagged(p, reference.tag[granule] ^ (1 + granule % 15));
}

static void store_tag_and_zero(void *p, unsigned int tag)
{
	mte_clear_tag_address_range(tagged(p, tag), GRANULE);
}

static void store_two_tags(void *p, unsigned int tag)
{
	asm volatile(".arch armv8.5-a+memtag\n\t"
		     "st2g %0, [%0]"
		     : : "r" (tagged(p, tag)) : "memory");
}

/* -- Comparing ------------------------------------------------------------ */

/* A page with the data and tags of the reference page, to be changed. */
static struct page *like_reference(void)
{
	static struct page page;

	if (!page.data)
		page = new_page();
	memcpy(page.data, reference.data, psize());
	memcpy(page.tag, reference.tag, granules());
	return &page;
}

/* -- Touching ------------------------------------------------------------- */

enum touch { LOAD, STORE };

static void store_pages(unsigned char *p, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		store(p + bytes(i));
}

/* The reference page with the first byte inverted, as store_pages() does */
static struct page *stored_page(void)
{
	struct page *page = like_reference();

	page->data[0] = ~page->data[0];
	return page;
}

static struct page *stored_page_untagged(void)
{
	struct page *page = stored_page();

	memset(page->tag, 0, granules());
	return page;
}

static struct {
	sigjmp_buf env;
	int code;
	void *addr;
} fault;

static void handle_fault(int signal, siginfo_t *si, void *context)
{
	fault.code = si->si_code;
	fault.addr = si->si_addr;
	/* Asynchronous: nothing to be repeated */
	if (si->si_code != SEGV_MTEAERR)
		siglongjmp(fault.env, 1);
}

static void catch_faults(int flags)
{
	struct sigaction action = {
		.sa_sigaction = handle_fault,
		.sa_flags = SA_SIGINFO | flags,
	};

	if (sigaction(SIGSEGV, &action, NULL))
		die("sigaction");
}

/* The si_code of the fault that a load or store meets; 0 if there is none. */
static int touch_code(unsigned char *p, enum touch touch)
{
	fault.code = 0;
	fault.addr = (void *)-1L;
	if (sigsetjmp(fault.env, 1))
		return fault.code;
	if (touch == LOAD)
		load(p);
	else
		store(p);
	mte_wait_after_trig();
	return fault.code;
}

/* -- Mappings ------------------------------------------------------------- */

/*
 * The pages of a mixed mapping are in every state: the bits of its number say
 * what was done to a page.
 */
enum { LOADED = 1, STORED = 2, RETAGGED = 4 };

static bool mixed_private(size_t i)
{
	return i & (STORED | RETAGGED);
}

static unsigned char *mix(unsigned char *p, size_t pages)
{
	for (size_t i = 0; i < pages; i++) {
		if (i & LOADED)
			load(p + bytes(i));
	}
	for (size_t i = 0; i < pages; i++) {
		unsigned char *page = p + bytes(i);

		/*
		 * A load also maps what is around it; let go of that. EINVAL:
		 * it is locked, and populated in any case.
		 */
		if (!(i & LOADED) && madvise(page, psize(), MADV_DONTNEED) &&
		    errno != EINVAL)
			die("madvise(MADV_DONTNEED)");
		if (i & STORED)
			store(page + mixed_offset(i));
		if (i & RETAGGED)
			store_tag(page + mixed_granule(i) * GRANULE,
				  mixed_tag(i));
	}
	return p;
}

static unsigned char *map_mixed(int fd)
{
	return mix(map(fd, PAGES, RWM), PAGES);
}

static struct page *mixed_page(size_t i)
{
	struct page *page = like_reference();

	if (i & STORED)
		page->data[mixed_offset(i)] ^= 0xff;
	if (i & RETAGGED)
		page->tag[mixed_granule(i)] = mixed_tag(i);
	return page;
}

static bool is_mixed_part(const unsigned char *p, size_t first, size_t last)
{
	for (size_t i = first; i < last; i++) {
		if (!is_page(p + bytes(i), mixed_page(i)))
			return false;
	}
	return true;
}

static bool is_mixed(const unsigned char *p, size_t pages)
{
	return is_mixed_part(p, 0, pages);
}

/* The private pages of a mixed mapping */
static long count_mixed_private(size_t pages)
{
	long count = 0;

	for (size_t i = 0; i < pages; i++)
		count += mixed_private(i);
	return count;
}

/* -- /proc and /sys ------------------------------------------------------- */

/* The pages that @field of smaps counts in the VMA which contains @p. */
static long smaps_pages_of(pid_t pid, const void *p, const char *field)
{
	char path[32];

	sprintf(path, "/proc/%d/smaps", pid);
	return smaps_number_in(path, p, field) * 1024 / psize();
}

/* Is this bit of /proc/kpageflags set for the page that is mapped at @p? */
static bool page_flag(const void *p, unsigned int bit)
{
	return has_flag(pfn_of(p), bit);
}

/* A page that is busy stays; so does one in another CPU's batch. */
static long page_out(unsigned char *p, size_t pages, long wanted)
{
	long swapped = 0;

	for (int tries = 0; tries < 100 && swapped < wanted; tries++) {
		/* Compaction empties the batches of all CPUs first */
		if (tries)
			file_write("/proc/sys/vm/compact_memory", "1");
		if (madvise(p, bytes(pages), MADV_PAGEOUT))
			die("MADV_PAGEOUT");
		swapped = count_swapped(p, pages);
	}
	return swapped;
}

/* -- Fixture: a descriptor, of each kind ---------------------------------- */

FIXTURE(refpage)
{
	int fd;
	unsigned int flags;
	unsigned char *source;
	unsigned char *witness;
};

FIXTURE_VARIANT(refpage)
{
	unsigned int n;		/* 1 << n bytes of pattern */
	bool whole_page;	/* n does not count */
	bool no_mte;		/* the source is not PROT_MTE; tags are 0 */
	int byte;		/* all bytes are this one; -1: they differ */
	int tag;		/* all tags are this one; -1: they differ */
	const char *kind;
};

/* What DC GZVA can fill, given as one granule and as a page */
FIXTURE_VARIANT_ADD(refpage, tag_granule)
{
	.n = 4, .byte = 0, .tag = 5, .kind = "tag",
};

FIXTURE_VARIANT_ADD(refpage, tag_page)
{
	.whole_page = true, .byte = 0, .tag = 10, .kind = "tag",
};

FIXTURE_VARIANT_ADD(refpage, granule)
{
	.n = 4, .byte = -1, .tag = 9, .kind = "pattern",
};

FIXTURE_VARIANT_ADD(refpage, pattern_64)
{
	.n = 6, .byte = -1, .tag = -1, .kind = "pattern",
};

FIXTURE_VARIANT_ADD(refpage, page)
{
	.whole_page = true, .byte = -1, .tag = -1, .kind = "page",
};

/* Could be mistaken for zeros of one tag. */
FIXTURE_VARIANT_ADD(refpage, zeros_of_many_tags)
{
	.whole_page = true, .byte = 0, .tag = -1, .kind = "page",
};

/* Could be mistaken for a byte, which has no tags. */
FIXTURE_VARIANT_ADD(refpage, tagged_byte_page)
{
	.whole_page = true, .byte = 0x77, .tag = 6, .kind = "page",
};

FIXTURE_VARIANT_ADD(refpage, untagged_byte)
{
	.no_mte = true, .n = 0, .byte = 0xa5, .kind = "byte",
};

/* Less than a granule, which cannot have a tag */
FIXTURE_VARIANT_ADD(refpage, untagged_word)
{
	.no_mte = true, .n = 3, .byte = -1, .kind = "pattern",
};

FIXTURE_VARIANT_ADD(refpage, untagged_page)
{
	.no_mte = true, .whole_page = true, .byte = -1, .kind = "page",
};

/* Of this kind, there is one reference page for all descriptors. */
static bool is_uniform(const char *kind)
{
	return !strcmp(kind, "byte") || !strcmp(kind, "tag");
}

FIXTURE_SETUP(refpage)
{
	size_t size = variant->whole_page ? psize() : 1UL << variant->n;

	mte_disable_pstate_tco();
	check_tags(MTE_NONE_ERR);

	make_reference(size, variant->byte, variant->tag);
	untagged = new_page();
	memcpy(untagged.data, reference.data, psize());

	self->source = map_anon(1, variant->no_mte ? RW : RWM);
	memcpy(self->source, reference.data, size);
	for (size_t i = 0; i < size / GRANULE && !variant->no_mte; i++)
		store_tag(self->source + i * GRANULE, reference.tag[i]);

	if (!variant->whole_page)
		self->flags = REFPAGE_PATTERN_SIZE(variant->n);
	self->fd = refpage_create(self->source, self->flags);
	if (self->fd < 0 && syscall_is_absent())
		SKIP(return, "the kernel has no refpage_create()");
	ASSERT_LE(0, self->fd);
	self->witness = map(self->fd, 1, RM);
}

/* After every test: nothing has written to the reference page. */
FIXTURE_TEARDOWN(refpage)
{
	trace_stop();
	check_tags(MTE_NONE_ERR);
	EXPECT_TRUE(is_content(self->witness, 1));
}

/* -- Loads ---------------------------------------------------------------- */

/*
 * Every byte and every tag is that of the content. Catches tags that were not
 * copied, and special PTEs of memory that is not mapped as tagged.
 */
TEST_F(refpage, load)
{
	unsigned char *p = map(self->fd, 4 * PAGES, RM);
	unsigned char *q = map(self->fd, 4 * PAGES, RWM);

	EXPECT_TRUE(is_content(p, 4 * PAGES));
	EXPECT_TRUE(is_content(q, 4 * PAGES));
	EXPECT_EQ(0, smaps_pages(p, "Rss:"));
	EXPECT_EQ(0, smaps_pages(q, "Rss:"));
}

/*
 * A load through the right tag is no fault, whichever comes first, it or a
 * load of the tag.
 */
TEST_F(refpage, load_checked)
{
	unsigned char *p = map(self->fd, 2, RWM);

	check_tags(MTE_SYNC_ERR);
	for (size_t i = 0; i < psize(); i++)
		ASSERT_EQ(reference.data[i], load(right(p + i)));
	EXPECT_TRUE(is_content(p, 2));
	for (size_t i = 0; i < psize(); i++)
		ASSERT_EQ(reference.data[i], load(right(p + psize() + i)));
}

/*
 * Loads and stores with a wrong tag are faults, whether a page is untouched,
 * loaded from or private. In the synchronous mode they do nothing else; in the
 * asynchronous one the store is made.
 */
static void check_mismatch_at(struct __test_metadata *_metadata,
			      unsigned char *at, struct page *want, int mode,
			      enum touch touch, bool exposed)
{
	const size_t offset = (unsigned long)at % psize();

	check_tags(mode);
	if (mode == MTE_SYNC_ERR) {
		EXPECT_EQ(SEGV_MTESERR, touch_code(wrong(at), touch));
		EXPECT_EQ(exposed ? wrong(at) : (void *)at, fault.addr);
	} else {
		EXPECT_EQ(SEGV_MTEAERR, touch_code(wrong(at), touch));
		EXPECT_EQ(NULL, fault.addr);
		if (touch == STORE)
			want->data[offset] = ~reference.data[offset];
	}
	EXPECT_TRUE(is_page(at - offset, want));

	EXPECT_EQ(0, touch_code(right(at), touch));
	if (touch == STORE)
		want->data[offset] = ~reference.data[offset];
	EXPECT_TRUE(is_page(at - offset, want));
	check_tags(MTE_NONE_ERR);
}

static void check_mismatch(struct __test_metadata *_metadata, int fd, int mode,
			   enum touch touch)
{
	const size_t offsets[] = { 3, psize() / 2 + GRANULE + 5, psize() - 1 };
	enum { UNTOUCHED, LOADED_FROM, PRIVATE, STATES };

	for (unsigned int i = 0; i < 2 * STATES * ARRAY_SIZE(offsets); i++) {
		unsigned char *p = map(fd, 1, RWM);
		unsigned int state = i / 2 % STATES;
		size_t offset = offsets[i / 2 / STATES];
		struct page *want = like_reference();

		if (state == LOADED_FROM)
			load(p);
		if (state == PRIVATE) {
			store(p);
			want = stored_page();
		}
		catch_faults(i % 2 ? SA_EXPOSE_TAGBITS : 0);
		check_mismatch_at(_metadata, p + offset, want, mode, touch,
				  i % 2);
		unmap(p, 1);
	}
}

TEST_F(refpage, mismatch_sync_load)
{
	check_mismatch(_metadata, self->fd, MTE_SYNC_ERR, LOAD);
}

TEST_F(refpage, mismatch_sync_store)
{
	check_mismatch(_metadata, self->fd, MTE_SYNC_ERR, STORE);
}

TEST_F(refpage, mismatch_async_load)
{
	check_mismatch(_metadata, self->fd, MTE_ASYNC_ERR, LOAD);
}

TEST_F(refpage, mismatch_async_store)
{
	check_mismatch(_metadata, self->fd, MTE_ASYNC_ERR, STORE);
}

/* -- Stores --------------------------------------------------------------- */

static void check_stores(struct __test_metadata *_metadata, int fd,
			 bool load_before)
{
	const size_t offsets[] = { 0, 1, psize() / 2, psize() - 1 };
	unsigned char *other = map(fd, 3, RWM);

	check_tags(MTE_SYNC_ERR);
	store(right(other + psize()));
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		unsigned char *p = map(fd, 3, RWM);
		struct page *want;

		for (size_t k = 0; k < 3 && load_before; k++)
			load(right(p + bytes(k)));
		store(right(p + psize() + offsets[i]));
		want = like_reference();
		want->data[offsets[i]] ^= 0xff;
		EXPECT_TRUE(is_page(p + psize(), want));
		EXPECT_TRUE(is_content(p, 1));
		EXPECT_TRUE(is_content(p + bytes(2), 1));
	}
	EXPECT_TRUE(is_content(other, 1));
	EXPECT_TRUE(is_page(other + psize(), stored_page()));
}

/*
 * The first store gives the page its tags, too. Catches a new page with the
 * tags of zeros, for which the store would be a fault when it is repeated.
 */
TEST_F(refpage, store_to_untouched)
{
	check_stores(_metadata, self->fd, false);
}

/* The same after a load; catches a copy of the data without the tags. */
TEST_F(refpage, store_after_load)
{
	check_stores(_metadata, self->fd, true);
}

/*
 * A store of tags changes those and no others, and no data but what STZG makes
 * zero. Catches a page that is filled after the tag was stored, and tags
 * stored to the reference page.
 */
static void check_tag_stores(struct __test_metadata *_metadata, int fd,
			     bool load_before)
{
	const size_t at[] = { 0, 1, granules() / 2, granules() - 2 };
	unsigned char *p, *q;
	struct page *want;

	for (size_t i = 0; i < ARRAY_SIZE(at); i++) {
		size_t offset = at[i] * GRANULE;
		unsigned int tag = reference.tag[at[i]] ^ (3 + i);

		p = map(fd, 4, RWM);
		for (size_t k = 0; k < 4 && load_before; k++)
			load_tag(p + bytes(k));

		store_tag(p + offset, tag);
		want = like_reference();
		want->tag[at[i]] = tag;
		EXPECT_TRUE(is_page(p, want));

		store_tag_and_zero(p + bytes(1) + offset, tag);
		memset(want->data + offset, 0, GRANULE);
		EXPECT_TRUE(is_page(p + bytes(1), want));

		store_two_tags(p + bytes(2) + offset, tag);
		want = like_reference();
		want->tag[at[i]] = tag;
		want->tag[at[i] + 1] = tag;
		EXPECT_TRUE(is_page(p + bytes(2), want));
		EXPECT_TRUE(is_content(p + bytes(3), 1));
	}

	/* One instruction, two pages */
	p = map(fd, 2, RWM);
	q = p + psize() - GRANULE;
	if (load_before)
		load(q);
	store_two_tags(q, 12);
	want = like_reference();
	want->tag[granules() - 1] = 12;
	EXPECT_TRUE(is_page(p, want));
	want = like_reference();
	want->tag[0] = 12;
	EXPECT_TRUE(is_page(p + psize(), want));
	EXPECT_TRUE(is_content(map(fd, 1, RM), 1));
}

TEST_F(refpage, store_tag_to_untouched)
{
	check_tag_stores(_metadata, self->fd, false);
}

TEST_F(refpage, store_tag_after_load)
{
	check_tag_stores(_metadata, self->fd, true);
}

/*
 * Threads that touch an untouched page at once all find the tags in place.
 * Catches a page that is mapped before its tags are copied, for which a store
 * is SIGSEGV, and one that is filled after it was stored to.
 */
#define RACERS		4
#define RACE_ROUNDS	100
#define RACE_PAGES	4

static struct {
	pthread_barrier_t barrier;
	unsigned char *p;
	unsigned int round;
	unsigned int wrong;
} race;

static size_t race_offset(size_t racer)
{
	return (race.round * 7 + racer) % granules() * GRANULE + racer;
}

static bool race_check(unsigned char *page)
{
	bool same = true;

	/* Nobody stores to the upper half of a granule. */
	for (size_t at = GRANULE / 2; at < psize(); at += GRANULE) {
		__u64 want, got;

		memcpy(&want, reference.data + at, sizeof(want));
		got = __atomic_load_n((__u64 *)right(page + at),
				      __ATOMIC_RELAXED);
		same &= got == want &&
			load_tag(page + at) == reference.tag[at / GRANULE];
	}
	return same;
}

static void *race_run(void *arg)
{
	size_t me = (size_t)arg;

	for (unsigned int round = 0; round < RACE_ROUNDS; round++) {
		pthread_barrier_wait(&race.barrier);
		for (size_t i = 0; i < RACE_PAGES; i++) {
			unsigned char *page = race.p + bytes(i);

			if ((me ^ i) & 1)
				store(right(page + race_offset(me)));
			if (!race_check(page))
				__atomic_fetch_add(&race.wrong, 1,
						   __ATOMIC_RELAXED);
			if (!((me ^ i) & 1))
				store(right(page + race_offset(me)));
		}
		pthread_barrier_wait(&race.barrier);
	}
	return NULL;
}

TEST_F(refpage, threads)
{
	pthread_t threads[RACERS];
	struct page *want;

	check_tags(MTE_SYNC_ERR);
	ASSERT_EQ(0, pthread_barrier_init(&race.barrier, NULL, RACERS + 1));
	for (size_t i = 0; i < RACERS; i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, race_run,
					    (void *)i));
	for (unsigned int round = 0; round < RACE_ROUNDS; round++) {
		race.round = round;
		race.p = map(self->fd, RACE_PAGES, RWM);
		pthread_barrier_wait(&race.barrier);
		pthread_barrier_wait(&race.barrier);
		want = like_reference();
		for (size_t i = 0; i < RACERS; i++)
			want->data[race_offset(i)] ^= 0xff;
		EXPECT_TRUE(are_pages(race.p, RACE_PAGES, want));
		unmap(race.p, RACE_PAGES);
	}
	for (size_t i = 0; i < RACERS; i++)
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
	EXPECT_EQ(0, race.wrong);
}

/* -- PROT_MTE and its absence --------------------------------------------- */

/*
 * Without PROT_MTE there are neither tags nor checks. Catches a private page
 * that is tagged because the reference page is: what KSM or swap do to it
 * would depend on tags that nobody can see.
 */
TEST_F(refpage, without_mte)
{
	unsigned char *p = map(self->fd, 3, RW);

	if (pfns_are_hidden())
		SKIP(return, "page frame numbers are not visible");
	check_tags(MTE_SYNC_ERR);
	catch_faults(0);
	for (size_t i = 0; i < psize(); i += GRANULE) {
		EXPECT_EQ(0, touch_code(right(p + psize() + i), LOAD));
		EXPECT_EQ(0, touch_code(wrong(p + psize() + i), LOAD));
	}
	EXPECT_EQ(0, touch_code(tagged(p + bytes(2), 1), STORE));
	EXPECT_EQ(0, touch_code(tagged(p + bytes(2), 2), STORE));
	EXPECT_TRUE(are_pages(p, 2, &untagged));
	EXPECT_TRUE(is_page(p + bytes(2), stored_page_untagged()));
	EXPECT_FALSE(page_flag(p + bytes(2), KPF_ARCH_2));
}

/*
 * PROT_MTE added later brings the tags of the reference page to pages that
 * were not stored to, and zero tags to the others, as in anonymous memory.
 * Catches private pages whose tags are what the page last had.
 */
TEST_F(refpage, mprotect_adds_mte)
{
	unsigned char *p = map(self->fd, 6, RW);

	if (pfns_are_hidden())
		SKIP(return, "page frame numbers are not visible");
	load(p + bytes(1));
	store(p + bytes(2));
	load(p + bytes(3));
	store(p + bytes(3));
	load_tag(p + bytes(4));
	EXPECT_FALSE(page_flag(p + bytes(2), KPF_ARCH_2));
	EXPECT_FALSE(page_flag(p + bytes(3), KPF_ARCH_2));

	ASSERT_EQ(0, mprotect(p, bytes(6), RWM));
	EXPECT_TRUE(is_content(p, 2));
	EXPECT_TRUE(are_pages(p + bytes(2), 2, stored_page_untagged()));
	EXPECT_TRUE(page_flag(p + bytes(2), KPF_ARCH_2));
	EXPECT_TRUE(is_content(p + bytes(4), 2));

	check_tags(MTE_SYNC_ERR);
	for (size_t i = 0; i < 2; i++)
		store(right(p + bytes(i)));
	store(right(p + bytes(5)));
	EXPECT_TRUE(are_pages(p, 2, stored_page()));
	EXPECT_TRUE(is_page(p + bytes(5), stored_page()));
}

/* The same where nothing was touched; catches a mapping taken for a file's. */
TEST_F(refpage, mprotect_adds_mte_to_untouched)
{
	unsigned char *p = map(self->fd, PAGES, PROT_NONE);

	ASSERT_EQ(0, mprotect(p, bytes(PAGES), RWM));
	EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));
}

/* The same for pages that come back from swap with PROT_MTE added. */
TEST_F(refpage, mprotect_adds_mte_to_swapped)
{
	unsigned char *p = map(self->fd, PAGES, RW);
	unsigned char *tags = map_mixed(self->fd);

	if (has_no_swap())
		SKIP(return, "no swap space");
	/* Tags that were saved for the slots of the swap device, and left. */
	ASSERT_LT(0, page_out(tags, PAGES, count_mixed_private(PAGES)));
	unmap(tags, PAGES);
	store_pages(p, PAGES / 2);
	ASSERT_EQ(PAGES / 2, page_out(p, PAGES, PAGES / 2));
	ASSERT_EQ(0, mprotect(p, bytes(PAGES), RWM));
	EXPECT_TRUE(are_pages(p, PAGES / 2, stored_page_untagged()));
	EXPECT_TRUE(is_content(p + bytes(PAGES / 2), PAGES / 2));
}

/*
 * PROT_MTE stays, as in other memory, and with it tags and checks. Catches
 * tags that a change of protection loses.
 */
TEST_F(refpage, mprotect_keeps_mte)
{
	static const int prots[] = { PROT_NONE, PROT_READ, RW };
	unsigned char *p = map_mixed(self->fd);

	for (size_t i = 0; i < ARRAY_SIZE(prots); i++)
		ASSERT_EQ(0, mprotect(p, bytes(PAGES), prots[i]));
	EXPECT_TRUE(is_mixed(p, PAGES));

	check_tags(MTE_SYNC_ERR);
	catch_faults(0);
	for (size_t i = 0; i < 4; i++) {
		unsigned char *at = p + bytes(i) + mixed_offset(i);

		EXPECT_EQ(SEGV_MTESERR, touch_code(wrong(at), LOAD));
		EXPECT_EQ(SEGV_MTESERR, touch_code(wrong(at), STORE));
		EXPECT_EQ(0, touch_code(right(at), LOAD));
		EXPECT_EQ(0, touch_code(right(at), STORE));
	}
}

/* -- Populating ----------------------------------------------------------- */

/*
 * Pages that are populated for writing have tags, others are the reference
 * page. Catches a private page that was filled by another path.
 */
TEST_F(refpage, map_populate)
{
	unsigned char *p = map_at(NULL, self->fd, PAGES, RM, MAP_POPULATE);
	unsigned char *q = map_at(NULL, self->fd, PAGES, RWM, MAP_POPULATE);

	EXPECT_EQ(0, smaps_pages(p, "Rss:"));
	EXPECT_TRUE(is_content(p, PAGES));
	EXPECT_EQ(PAGES, smaps_pages(q, "Anonymous:"));
	EXPECT_TRUE(is_content(q, PAGES));
	EXPECT_TRUE(is_mixed(mix(q, PAGES), PAGES));
}

TEST_F(refpage, madvise_populate_read)
{
	unsigned char *p = map_mixed(self->fd);

	ASSERT_EQ(0, madvise(p, bytes(PAGES), MADV_POPULATE_READ));
	EXPECT_EQ(count_mixed_private(PAGES), smaps_pages(p, "Rss:"));
	EXPECT_TRUE(is_mixed(p, PAGES));
}

TEST_F(refpage, madvise_populate_write)
{
	unsigned char *p = map_mixed(self->fd);

	ASSERT_EQ(0, madvise(p, bytes(PAGES), MADV_POPULATE_WRITE));
	EXPECT_EQ(PAGES, smaps_pages(p, "Anonymous:"));
	EXPECT_TRUE(is_mixed(p, PAGES));
}

TEST_F(refpage, mlock)
{
	unsigned char *p = map_mixed(self->fd);

	ASSERT_EQ(0, mlock(p, bytes(PAGES)));
	EXPECT_EQ(PAGES, smaps_pages(p, "Locked:"));
	EXPECT_TRUE(is_mixed(p, PAGES));
}

/* -- Access by the kernel ------------------------------------------------- */

static int scratch_file(void)
{
	int fd = memfd_create("refpage", MFD_CLOEXEC);

	if (fd < 0)
		die("memfd_create");
	return fd;
}

/*
 * write(2) from and read(2) into a mapping. The kernel checks tags as the
 * program does. Catches a first store by the kernel, after which the page has
 * other tags than before.
 */
TEST_F(refpage, read_and_write)
{
	const size_t offsets[] = {
		0, psize() / 2 + GRANULE, psize() - GRANULE,
	};
	unsigned char buf[GRANULE], inverted[GRANULE];
	int file = scratch_file();

	check_tags(MTE_SYNC_ERR);
	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		unsigned char *p = map(self->fd, 4, RWM);
		struct page *want;

		for (size_t k = 0; k < GRANULE; k++)
			inverted[k] = ~reference.data[offsets[i] + k];
		/* Untouched, loaded from, private, and only written to */
		load(right(p + bytes(1)));
		store(right(p + bytes(2) + psize() / 2));
		for (size_t k = 0; k < 4; k++) {
			unsigned char *at = p + bytes(k) + offsets[i];

			want = like_reference();
			if (k == 2)
				want->data[psize() / 2] ^= 0xff;

			EXPECT_EQ(-1, pwrite(file, wrong(at), GRANULE, 0));
			EXPECT_EQ(EFAULT, errno);
			if (k < 3) {
				EXPECT_EQ(GRANULE, pwrite(file, right(at),
							  GRANULE, 0));
				EXPECT_EQ(GRANULE, pread(file, buf,
							 GRANULE, 0));
				EXPECT_EQ(0, memcmp(want->data + offsets[i],
						    buf, GRANULE));
			}

			ASSERT_EQ(GRANULE, pwrite(file, inverted, GRANULE, 0));
			EXPECT_EQ(-1, pread(file, wrong(at), GRANULE, 0));
			EXPECT_EQ(EFAULT, errno);
			EXPECT_TRUE(is_page(p + bytes(k), want));
			EXPECT_EQ(GRANULE, pread(file, right(at), GRANULE, 0));
			memcpy(want->data + offsets[i], inverted, GRANULE);
			EXPECT_TRUE(is_page(p + bytes(k), want));
		}
	}
}

/*
 * Another process reads and writes by pinning pages, at addresses that have
 * tags. Catches a copy for the writer that lacks tags.
 */
TEST_F(refpage, process_vm)
{
	unsigned char *p = map_mixed(self->fd), *buf = map_anon(PAGES, RW);
	struct iovec local = { buf, bytes(PAGES) };
	struct iovec remote = { right(p), bytes(PAGES) };
	const size_t at = psize() / 2 + 5, len = 100;
	int child[2];
	pid_t pid;

	ASSERT_EQ(0, pipe(child));
	pid = fork();
	if (!pid) {
		wait_for(child);
		for (size_t i = 0; i < PAGES; i++) {
			struct page *want = mixed_page(i);

			memset(want->data + at, 0x3c, len);
			EXPECT_TRUE(is_page(p + bytes(i), want)) {
				TH_LOG("page %zu", i);
			}
		}
		_exit(0);
	}
	ASSERT_EQ(bytes(PAGES),
		  process_vm_readv(pid, &local, 1, &remote, 1, 0));
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_TRUE(same_data(buf + bytes(i), mixed_page(i)->data));

	memset(buf, 0x3c, len);
	for (size_t i = 0; i < PAGES; i++) {
		local.iov_len = len;
		remote.iov_base = right(p + bytes(i) + at);
		remote.iov_len = len;
		ASSERT_EQ((ssize_t)len,
			  process_vm_writev(pid, &local, 1, &remote, 1, 0));
	}
	tell(child);
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_mixed(p, PAGES));
}

/*
 * A debugger writes to read-only memory, too. Catches a forced write for which
 * the copy is made in another way.
 */
TEST_F(refpage, proc_mem_forced_write)
{
	const off_t at = psize() / 2 + 5;
	unsigned char *p = map(self->fd, 3, RM), *anon = map_anon(1, PROT_READ);
	int fd = open("/proc/self/mem", O_RDWR);
	struct page *want = like_reference();

	ASSERT_LE(0, fd);
	if (pwrite(fd, "", 1, (off_t)anon) != 1)
		SKIP(return, "forced writes are disabled");
	load(p + psize());
	memset(want->data + at, 0x3c, 40);
	for (size_t i = 0; i < 2; i++) {
		ASSERT_EQ(40, pwrite(fd, want->data + at, 40,
				     (off_t)p + bytes(i) + at));
		EXPECT_TRUE(is_page(p + bytes(i), want));
	}
	EXPECT_TRUE(is_content(p + bytes(2), 1));
}

static long access_tags(int request, pid_t pid, unsigned char *p,
			unsigned char *tags, size_t count)
{
	struct iovec iov = { tags, count };

	if (ptrace(request, pid, p, &iov))
		return -1;
	return iov.iov_len;
}

/*
 * A debugger sees the tags of untouched pages, which it does not touch by
 * that. Catches a special PTE that the walk does not know, and the kernel
 * warning about a page with PROT_MTE that has no tags.
 */
TEST_F(refpage, ptrace_peek_tags)
{
	unsigned char *p = map_mixed(self->fd), *q = map(self->fd, 2, RW);
	unsigned char *tags = malloc(granules());
	const long count = granules();
	pid_t pid;

	load(q);
	pid = fork();
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		_exit(0);
	}
	ASSERT_TRUE(WIFSTOPPED(wait_status(pid)));
	for (size_t i = 0; i < PAGES; i++) {
		struct page *want = mixed_page(i);

		ASSERT_EQ(count, access_tags(PTRACE_PEEKMTETAGS, pid,
					     p + bytes(i), tags, count)) {
			TH_LOG("page %zu: %m", i);
		}
		for (long k = 0; k < count; k++)
			ASSERT_TRUE(same_tag(p + bytes(i), k, tags[k],
					     want->tag[k]));
	}
	EXPECT_EQ(count_mixed_private(PAGES), smaps_pages_of(pid, p, "Rss:"));
	for (size_t i = 0; i < 2; i++) {
		EXPECT_EQ(-1, access_tags(PTRACE_PEEKMTETAGS, pid, q + bytes(i),
					  tags, count));
		EXPECT_TRUE(errno == EIO || errno == EOPNOTSUPP) {
			TH_LOG("%m");
		}
	}
	EXPECT_EQ(0, ptrace(PTRACE_CONT, pid, NULL, NULL));
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_mixed(p, PAGES));
}

/*
 * Tags that a debugger sets are those of its child, and of a page with the
 * content. Catches a write to the reference page, also where the mapping is
 * read-only and the write is forced.
 */
TEST_F(refpage, ptrace_poke_tags)
{
	unsigned char *p = map_mixed(self->fd), *ro = map(self->fd, 2, RM);
	unsigned char *poked[PAGES + 2], tags[5];
	const size_t at = 9, many = ARRAY_SIZE(tags);
	pid_t pid;

	load(ro);
	for (size_t i = 0; i < PAGES; i++)
		poked[i] = p + bytes(i);
	poked[PAGES] = ro;
	poked[PAGES + 1] = ro + psize();
	for (size_t k = 0; k < many; k++)
		tags[k] = reference.tag[at + k] ^ 11;

	pid = fork();
	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		for (size_t i = 0; i < ARRAY_SIZE(poked); i++) {
			struct page *want = mixed_page(i < PAGES ? i : 0);

			for (size_t k = 0; k < many; k++)
				want->tag[at + k] = tags[k];
			EXPECT_TRUE(is_page(poked[i], want)) {
				TH_LOG("page %zu", i);
			}
		}
		_exit(0);
	}
	ASSERT_TRUE(WIFSTOPPED(wait_status(pid)));
	for (size_t i = 0; i < ARRAY_SIZE(poked); i++) {
		EXPECT_EQ((long)many,
			  access_tags(PTRACE_POKEMTETAGS, pid,
				      poked[i] + at * GRANULE, tags, many)) {
			TH_LOG("page %zu: %m", i);
		}
	}
	EXPECT_EQ(0, ptrace(PTRACE_CONT, pid, NULL, NULL));
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_mixed(p, PAGES));
	EXPECT_TRUE(is_content(ro, 2));
}

/* -- fork ----------------------------------------------------------------- */

/*
 * Data and tags stored after fork() are seen by one side only. Catches a copy
 * of a private page that is made without its tags, and STG on a page that both
 * have.
 */
TEST_F(refpage, fork)
{
	unsigned char *p = map_mixed(self->fd);
	struct page mine = new_page(), theirs = new_page();
	int parent[2], child[2];
	pid_t pid;

	memset(mine.data, 0x22, psize());
	memset(mine.tag, 2, granules());
	memset(theirs.data, 0x11, psize());
	memset(theirs.tag, 1, granules());
	ASSERT_EQ(0, pipe(parent));
	ASSERT_EQ(0, pipe(child));
	pid = fork();
	if (!pid) {
		EXPECT_TRUE(is_mixed(p, PAGES));
		for (size_t i = 0; i < PAGES; i++)
			fill(p + bytes(i), &theirs);
		tell(parent);
		wait_for(child);
		EXPECT_TRUE(are_pages(p, PAGES, &theirs));
		madvise(p, bytes(PAGES), MADV_DONTNEED);
		EXPECT_TRUE(is_content(p, PAGES));
		_exit(0);
	}
	wait_for(parent);
	EXPECT_TRUE(is_mixed(p, PAGES));
	for (size_t i = 0; i < PAGES; i++)
		fill(p + bytes(i), &mine);
	tell(child);
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(are_pages(p, PAGES, &mine));
}

/* One store of each kind to each page that was shared by fork(). */
TEST_F(refpage, fork_and_store)
{
	unsigned char *p = map_mixed(self->fd);
	struct page *want;
	pid_t pid = fork();

	if (!pid) {
		for (size_t i = 0; i < PAGES; i++) {
			unsigned char *page = p + bytes(i);

			want = mixed_page(i);
			if (i / 8) {
				store_tag(page + 20 * GRANULE, 15);
				want->tag[20] = 15;
			} else {
				page[20 * GRANULE] = 0x99;
				want->data[20 * GRANULE] = 0x99;
			}
			EXPECT_TRUE(is_page(page, want));
		}
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_mixed(p, PAGES));
}

/* -- Mappings, mremap and madvise ----------------------------------------- */

/*
 * Neighbours merge if both have PROT_MTE or neither has. Catches flags that a
 * mapping gets after it was compared with its neighbour.
 */
TEST_F(refpage, merge)
{
	unsigned char *p = map_anon(PAGES, PROT_NONE);

	for (size_t i = 0; i < PAGES; i++)
		map_at(p + bytes(i), self->fd, 1, i < 8 ? RWM : RW, MAP_FIXED);
	EXPECT_EQ(2, count_vmas(p, PAGES, NULL));
	EXPECT_TRUE(is_content(p, 8));
	EXPECT_TRUE(are_pages(p + bytes(8), 8, &untagged));
	ASSERT_EQ(0, mprotect(p, bytes(PAGES), RWM));
	EXPECT_EQ(1, count_vmas(p, PAGES, NULL));
	EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));
}

/*
 * Tags move with their pages, and what is added has the content. Catches PTEs
 * that lose the attribute of tagged memory on the way.
 */
TEST_F(refpage, mremap_grow)
{
	unsigned char *p = map(self->fd, 2 * PAGES, RWM);

	unmap(p + bytes(PAGES), PAGES);
	mix(p, PAGES);
	ASSERT_EQ(p, mremap(p, bytes(PAGES), bytes(2 * PAGES), 0));
	EXPECT_TRUE(is_mixed(p, PAGES));
	EXPECT_TRUE(is_content(p + bytes(PAGES), PAGES));
}

TEST_F(refpage, mremap_move)
{
	unsigned char *p = map_mixed(self->fd);
	unsigned char *to = map_anon(2 * PAGES, PROT_NONE);

	ASSERT_EQ(to, mremap(p, bytes(PAGES), bytes(2 * PAGES),
			     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	EXPECT_TRUE(is_mixed(to, PAGES));
	EXPECT_TRUE(is_content(to + bytes(PAGES), PAGES));
	EXPECT_TRUE(is_mixed(mix(to, 2 * PAGES), 2 * PAGES));

	p = mremap(to, bytes(PAGES), bytes(PAGES),
		   MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	ASSERT_NE(MAP_FAILED, (void *)p);
	EXPECT_TRUE(is_mixed(p, PAGES));
	EXPECT_TRUE(is_content(to, PAGES));
}

TEST_F(refpage, mremap_shrink)
{
	unsigned char *p = map_mixed(self->fd);

	ASSERT_EQ(p, mremap(p, bytes(PAGES), bytes(5), 0));
	EXPECT_TRUE(is_mixed(p, 5));
	ASSERT_EQ(p, mremap(p, bytes(5), bytes(PAGES), 0));
	EXPECT_TRUE(is_mixed(p, 5));
	EXPECT_TRUE(is_content(p + bytes(5), PAGES - 5));
}

/* Dropped pages have the content and its tags again; catches zero tags. */
TEST_F(refpage, madvise_dontneed)
{
	unsigned char *p = map_mixed(self->fd);

	ASSERT_EQ(0, madvise(p + bytes(4), bytes(4), MADV_DONTNEED));
	EXPECT_TRUE(is_mixed(p, 4));
	EXPECT_TRUE(is_content(p + bytes(4), 4));
	EXPECT_TRUE(is_mixed_part(p, 8, PAGES));
	ASSERT_EQ(0, madvise(p, bytes(PAGES), MADV_DONTNEED));
	store_pages(p, 2);
	EXPECT_TRUE(are_pages(p, 2, stored_page()));
	EXPECT_TRUE(is_content(p + bytes(2), PAGES - 2));
	ASSERT_EQ(0, madvise(p, bytes(PAGES), MADV_DONTNEED));
	EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));
}

/*
 * A page whose guard is removed has the content and its tags; a guard is no
 * memory, of whatever tag.
 */
TEST_F(refpage, guard)
{
	unsigned char *p = map_mixed(self->fd);

	if (madvise(p + bytes(4), bytes(4), MADV_GUARD_INSTALL)) {
		ASSERT_EQ(EINVAL, errno);
		SKIP(return, "no guard regions");
	}
	catch_faults(0);
	check_tags(MTE_SYNC_ERR);
	for (size_t i = 4; i < 8; i++) {
		EXPECT_EQ(SEGV_MAPERR, touch_code(right(p + bytes(i)), LOAD));
		EXPECT_EQ(SEGV_MAPERR, touch_code(right(p + bytes(i)), STORE));
		EXPECT_EQ(SEGV_MAPERR, touch_code(wrong(p + bytes(i)), LOAD));
	}
	EXPECT_TRUE(is_mixed(p, 4));
	EXPECT_TRUE(is_mixed_part(p, 8, PAGES));
	ASSERT_EQ(0, madvise(p + bytes(4), bytes(4), MADV_GUARD_REMOVE));
	EXPECT_TRUE(is_content(p + bytes(4), 4));
	store(right(p + bytes(4)));
	EXPECT_TRUE(is_page(p + bytes(4), stored_page()));
}

/* -- Swap, migration, KSM ------------------------------------------------- */

/*
 * Tags survive swap as data does, and untouched pages never go there. Catches
 * tags that are not saved, or restored to another page.
 */
TEST_F(refpage, swap)
{
	unsigned char *p = map_mixed(self->fd);
	long private = count_mixed_private(PAGES);

	if (has_no_swap())
		SKIP(return, "no swap space");
	EXPECT_EQ(private, page_out(p, PAGES, private));
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_EQ(mixed_private(i), is_swapped(p + bytes(i)));
	EXPECT_TRUE(is_mixed(p, PAGES));

	/* Out again with other tags, and in by a store. */
	for (size_t i = 0; i < PAGES; i++) {
		if (i & RETAGGED)
			store_tag(p + bytes(i), mixed_tag(i));
	}
	EXPECT_EQ(private, page_out(p, PAGES, private));
	for (size_t i = 0; i < PAGES; i++) {
		struct page *want = mixed_page(i);

		if (i & RETAGGED)
			want->tag[0] = mixed_tag(i);
		p[bytes(i) + 99] = 0x99;
		want->data[99] = 0x99;
		EXPECT_TRUE(is_page(p + bytes(i), want)) {
			TH_LOG("page %zu", i);
		}
	}
}

/* Both sides of a fork find the tags of what was swapped out before it. */
TEST_F(refpage, swap_and_fork)
{
	unsigned char *p = map_mixed(self->fd);
	long private = count_mixed_private(PAGES);
	pid_t pid;

	if (has_no_swap())
		SKIP(return, "no swap space");
	ASSERT_EQ(private, page_out(p, PAGES, private));
	pid = fork();
	if (!pid) {
		EXPECT_TRUE(is_mixed(p, PAGES));
		for (size_t i = 0; i < PAGES; i++)
			store_tag(p + bytes(i), 1);
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_mixed(p, PAGES));
}

/*
 * Migration takes tags along; the reference page stays. Catches a copy of a
 * page without its tags.
 */
TEST_F(refpage, move_pages)
{
	unsigned char *p = map_mixed(self->fd);
	int nodes[PAGES], status[PAGES];
	void *pages[PAGES];

	if (access("/sys/devices/system/node/node1", F_OK))
		SKIP(return, "one memory node");
	for (int to = 1; to >= 0; to--) {
		for (size_t i = 0; i < PAGES; i++) {
			pages[i] = p + bytes(i);
			nodes[i] = to;
		}
		ASSERT_LE(0, syscall(__NR_move_pages, 0, (long)PAGES, pages,
				     nodes, status, 2));
		for (size_t i = 0; i < PAGES; i++) {
			EXPECT_EQ(mixed_private(i), status[i] == to) {
				TH_LOG("page %zu: %d", i, status[i]);
			}
		}
		EXPECT_TRUE(is_mixed(p, PAGES));
	}
	EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));
}

/* Compaction moves pages of its own choice. */
TEST_F(refpage, compaction)
{
	const size_t pages = 16 * PAGES;
	unsigned char *p = mix(map(self->fd, pages, RWM), pages);

	/* Holes, for which there is something to move */
	for (size_t i = 3; i < pages; i += 8)
		madvise(p + bytes(i), psize(), MADV_DONTNEED);
	if (!file_write("/proc/sys/vm/compact_memory", "1"))
		SKIP(return, "no compaction, or not root");
	for (size_t i = 0; i < pages; i++)
		EXPECT_TRUE(is_page(p + bytes(i), i % 8 == 3 ? &reference :
						  mixed_page(i)));
}

/* Private pages of one byte; their tags are left as the store found them. */
static unsigned char *map_byte(int fd, size_t pages, int prot, int byte)
{
	unsigned char *p = map(fd, pages, prot);

	memset(p, byte, bytes(pages));
	if (madvise(p, bytes(pages), MADV_MERGEABLE))
		die("MADV_MERGEABLE");
	return p;
}

/* Is the page at @p mapped nowhere else in these pages, @p among them? */
static bool is_only(const unsigned char *p, const unsigned char *in,
		    size_t pages)
{
	size_t count = 0;

	for (size_t i = 0; i < pages; i++)
		count += pfn_of(in + bytes(i)) == pfn_of(p);
	return count == 1;
}

/*
 * Pages with tags never merge, neither with each other nor with others of the
 * same data. The control: pages without PROT_MTE do. Catches private pages of
 * which KSM does not know that they have tags.
 */
TEST_F(refpage, ksm)
{
	const size_t n = 4;
	unsigned char *p, *plain, *retagged;
	struct page *want;

	if (access(KSM "run", W_OK))
		SKIP(return, "no KSM, or not root");
	if (pfns_are_hidden())
		SKIP(return, "page frame numbers are not visible");
	p = map_byte(self->fd, n, RWM, 0x99);
	retagged = map_byte(self->fd, n, RWM, 0x99);
	plain = map_byte(self->fd, n, RW, 0x99);
	for (size_t i = 0; i < n; i++)
		store_tag(retagged + bytes(i), reference.tag[0] ^ (1 + i));

	ASSERT_TRUE(ksm_scan_until("ksm_merging_pages", n));
	EXPECT_EQ((long)n, file_number("/proc/self/ksm_stat",
				       "ksm_merging_pages"));
	for (size_t i = 0; i < n; i++) {
		EXPECT_EQ(pfn_of(plain), pfn_of(plain + bytes(i)));
		EXPECT_TRUE(is_only(p + bytes(i), p, n));
		EXPECT_TRUE(is_only(retagged + bytes(i), retagged, n));
	}

	want = like_reference();
	memset(want->data, 0x99, psize());
	EXPECT_TRUE(are_pages(p, n, want));
	for (size_t i = 0; i < n; i++) {
		want->tag[0] = reference.tag[0] ^ (1 + i);
		EXPECT_TRUE(is_page(retagged + bytes(i), want));
	}

	/* One page for all of them gets tags: those are of one mapping only. */
	ASSERT_EQ(0, mprotect(plain, bytes(n), RWM));
	store_tag(plain, 7);
	memset(want->tag, 0, granules());
	EXPECT_TRUE(are_pages(plain + psize(), n - 1, want));
	want->tag[0] = 7;
	EXPECT_TRUE(is_page(plain, want));
	ASSERT_EQ(0, madvise(plain, bytes(n), MADV_UNMERGEABLE));
	EXPECT_TRUE(is_page(plain, want));
	want->tag[0] = 0;
	EXPECT_TRUE(are_pages(plain + psize(), n - 1, want));
}

/*
 * KSM replaces pages of zeros, but not those with tags. Catches the zero page
 * being taken for the reference page, both of which are special PTEs, when
 * PROT_MTE is added or the page is stored to.
 */
TEST_F(refpage, ksm_zero_page)
{
	const size_t n = 4;
	unsigned char *p, *plain;
	char use_zero_pages[64];
	struct page *want;
	bool merged;

	if (pfns_are_hidden())
		SKIP(return, "page frame numbers are not visible");
	if (!file_text(KSM "use_zero_pages", "", use_zero_pages) ||
	    !file_write(KSM "use_zero_pages", "1"))
		SKIP(return, "no KSM, or not root");
	p = map_byte(self->fd, n, RWM, 0);
	plain = map_byte(self->fd, n, RW, 0);
	merged = ksm_scan_until("ksm_zero_pages", n);
	file_write(KSM "use_zero_pages", use_zero_pages);
	ASSERT_TRUE(merged);
	EXPECT_EQ((long)n, file_number("/proc/self/ksm_stat",
				       "ksm_zero_pages"));

	want = like_reference();
	memset(want->data, 0, psize());
	for (size_t i = 0; i < n; i++) {
		EXPECT_TRUE(page_flag(plain + bytes(i), KPF_ZERO_PAGE));
		EXPECT_FALSE(page_flag(p + bytes(i), KPF_ZERO_PAGE));
		EXPECT_TRUE(is_only(p + bytes(i), p, n));
	}
	EXPECT_TRUE(are_pages(p, n, want));

	ASSERT_EQ(0, mprotect(plain, bytes(n), RWM));
	memset(want->tag, 0, granules());
	EXPECT_TRUE(are_pages(plain, n, want));
	plain[5] = 1;
	want->data[5] = 1;
	EXPECT_TRUE(is_page(plain, want));
	store_tag(plain + psize(), 7);
	want->data[5] = 0;
	want->tag[0] = 7;
	EXPECT_TRUE(is_page(plain + psize(), want));
	want->tag[0] = 0;
	EXPECT_TRUE(are_pages(plain + bytes(2), 2, want));
}

/* -- Core dump ------------------------------------------------------------ */

/*
 * Where a core has the page at @p: its data, or its tags, two of them to a
 * byte; NULL if nowhere.
 */
static unsigned char *core_find(unsigned char *core, unsigned int type, void *p)
{
	const size_t ratio = type == PT_LOAD ? 1 : 2 * GRANULE;
	Elf64_Ehdr *header = (void *)core;
	Elf64_Phdr *segment = (void *)(core + header->e_phoff);
	unsigned long start = (unsigned long)p;

	for (int i = 0; i < header->e_phnum; i++, segment++) {
		size_t at = (start - segment->p_vaddr) / ratio;

		if (segment->p_type == type && segment->p_vaddr <= start &&
		    at + psize() / ratio <= segment->p_filesz)
			return core + segment->p_offset + at;
	}
	return NULL;
}

/*
 * A core has what the process saw, tags included. Catches untouched pages that
 * are left out as holes, which stand for zeros and zero tags.
 */
TEST_F(refpage, core_dump)
{
	unsigned char *p = map_mixed(self->fd), *core;
	unsigned char *plain = map(self->fd, 1, RW);

	if (geteuid() || access(CORE_PATTERN, W_OK))
		SKIP(return, "no core dumps, or not root");
	store(plain);
	core = dump_core();
	ASSERT_NE(NULL, core);
	EXPECT_NE(NULL, core_find(core, PT_LOAD, plain));
	EXPECT_EQ(NULL, core_find(core, PT_AARCH64_MEMTAG_MTE, plain));
	for (size_t i = 0; i < PAGES; i++) {
		struct page *want = mixed_page(i);
		unsigned char *data, *tags;

		data = core_find(core, PT_LOAD, p + bytes(i));
		ASSERT_NE(NULL, data);
		EXPECT_TRUE(same_data(data, want->data));
		tags = core_find(core, PT_AARCH64_MEMTAG_MTE, p + bytes(i));
		ASSERT_NE(NULL, tags);
		for (size_t k = 0; k < granules(); k++)
			ASSERT_TRUE(same_tag(p + bytes(i), k,
					     tags[k / 2] >> k % 2 * 4 & 15,
					     want->tag[k]));
	}
}

/* -- Recycled pages ------------------------------------------------------- */

#define TAINTED		1024
#define RECYCLED	256

static unsigned long tainted[TAINTED];

static int compare_pfns(const void *a, const void *b)
{
	unsigned long x = *(unsigned long *)a, y = *(unsigned long *)b;

	return x < y ? -1 : x > y;
}

static bool is_tainted(const void *p, size_t count)
{
	unsigned long pfn = pfn_of(p);

	return bsearch(&pfn, tainted, count, sizeof(pfn), compare_pfns);
}

/* Free pages which are full of bytes and tags, and remember which they are. */
static void taint_memory(void)
{
	unsigned char *p = map_anon(TAINTED, RWM);

	memset(p, 0xff, bytes(TAINTED));
	mte_set_tag_address_range(tagged(p, 14), bytes(TAINTED));
	for (size_t i = 0; i < TAINTED; i++)
		tainted[i] = pfn_of(p + bytes(i));
	qsort(tainted, TAINTED, sizeof(*tainted), compare_pfns);
	unmap(p, TAINTED);
}

/*
 * A private page has the tags that it should, not those that its memory had
 * before. Catches a fill that writes fewer tags than there are.
 */
TEST_F(refpage, recycled_private_pages)
{
	size_t reused = 0;

	if (pfns_are_hidden())
		SKIP(return, "page frame numbers are not visible");
	for (int round = 0; round < 4; round++) {
		unsigned char *p = map(self->fd, RECYCLED, RWM);
		unsigned char *plain = map(self->fd, RECYCLED, RW);

		taint_memory();
		store_pages(p, RECYCLED);
		store_pages(plain, RECYCLED);
		for (size_t i = 0; i < RECYCLED; i++)
			reused += is_tainted(p + bytes(i), TAINTED) &&
				  is_tainted(plain + bytes(i), TAINTED);

		EXPECT_TRUE(are_pages(p, RECYCLED, stored_page()));
		EXPECT_TRUE(are_pages(plain, RECYCLED, stored_page_untagged()));
		ASSERT_EQ(0, mprotect(plain, bytes(RECYCLED), RWM));
		EXPECT_TRUE(are_pages(plain, RECYCLED, stored_page_untagged()));
		unmap(p, RECYCLED);
		unmap(plain, RECYCLED);
	}
	EXPECT_NE(0, reused) {
		TH_LOG("no page was used again, so nothing was tested");
	}
}

/*
 * The same for reference pages, which are not movable and come from other
 * memory than private ones. They follow reference pages full of tags.
 */
TEST_F(refpage, recycled_reference_pages)
{
	unsigned char *p[RECYCLED], *from = map_anon(1, RWM);
	size_t reused = 0;
	int fd;

	if (pfns_are_hidden())
		SKIP(return, "page frame numbers are not visible");
	for (size_t i = 0; i < psize(); i++)
		from[i] = 255 - i % 3;
	mte_set_tag_address_range(tagged(from, 13), psize());
	for (int round = 0; round < 4; round++) {
		taint_memory();
		for (size_t i = 0; i < RECYCLED; i++) {
			fd = refpage_create(from, 0);
			ASSERT_LE(0, fd);
			p[i] = map(fd, 1, RM);
			close(fd);
			ASSERT_EQ(13, load_tag(p[i] + psize() - 1));
			tainted[i] = pfn_of(p[i]);
		}
		for (size_t i = 0; i < RECYCLED; i++)
			unmap(p[i], 1);
		qsort(tainted, RECYCLED, sizeof(*tainted), compare_pfns);

		for (size_t i = 0; i < RECYCLED; i++) {
			fd = refpage_create(self->source, self->flags);
			ASSERT_LE(0, fd);
			p[i] = map(fd, 1, RM);
			close(fd);
			EXPECT_TRUE(is_content(p[i], 1));
			reused += is_tainted(p[i], RECYCLED);
		}
		for (size_t i = 0; i < RECYCLED; i++)
			unmap(p[i], 1);
	}
	/* Of bytes and tags there is one page for all, which is in use. */
	if (is_uniform(variant->kind))
		return;
	EXPECT_NE(0, reused) {
		TH_LOG("no page was used again, so nothing was tested");
	}
}

/* -- Descriptor ----------------------------------------------------------- */

/* fdinfo tells how memory is filled, and with which tag. */
TEST_F(refpage, fdinfo)
{
	bool is_byte = !strcmp(variant->kind, "byte");
	bool is_tag = !strcmp(variant->kind, "tag");
	char path[40], text[64];

	sprintf(path, "/proc/self/fdinfo/%d", self->fd);
	ASSERT_TRUE(file_text(path, "refpage-kind:", text));
	EXPECT_STREQ(variant->kind, text);
	EXPECT_EQ(variant->whole_page ? (long)psize() : 1L << variant->n,
		  file_number(path, "refpage-size:"));
	EXPECT_EQ(is_byte ? variant->byte : -1,
		  file_number(path, "refpage-byte:"));
	EXPECT_EQ(is_tag ? variant->tag : -1,
		  file_number(path, "refpage-tag:"));
}

static int trace_uniform_line(unsigned long pfn, const char *kind, long size,
			      unsigned int byte, unsigned int tag)
{
	return trace_line("create",
			  "pfn=0x%lx kind=%s size=%ld byte=0x%02x tag=0x%x\n",
			  pfn, kind, size, byte, tag);
}

/*
 * Trace events, of pages that are touched through a pointer with a tag. Catches
 * another kind than that of fdinfo, addresses that have tags, and a store of
 * tags that is no fill.
 */
TEST_F(refpage, trace)
{
	const char *kind = variant->kind, *why = trace_start();
	const long size = variant->whole_page ? psize() : 1L << variant->n;
	int created, loaded, filled;
	unsigned long pfn;
	unsigned char *p;
	int fd;

	if (why)
		SKIP(return, "%s", why);
	fd = refpage_create(self->source, self->flags);
	ASSERT_LE(0, fd);
	p = map(fd, 2, RWM);
	load(right(p + psize() / 2));
	pfn = pfn_of(p);
	created = trace_line("create", "pfn=0x%lx kind=%s size=%ld ", pfn, kind,
			     size);
	loaded = trace_line("load", "addr=0x%lx pfn=0x%lx\n",
			    (unsigned long)p, pfn);
	store_tag(p + 20 * GRANULE, 11);
	filled = trace_fill_line(p, 0, kind);
	EXPECT_NE(0, created);
	EXPECT_LT(created, loaded);
	EXPECT_LT(loaded, filled);

	if (is_uniform(kind))
		EXPECT_EQ(created, trace_uniform_line(pfn, kind, size,
						      variant->byte,
						      variant->tag));

	store(right(p + psize() + 5));
	EXPECT_LT(filled, trace_fill_line(p + psize(), 0, kind));
}

/*
 * A mapping outlives the descriptor. Catches a reference page that is freed
 * with it; the tags of the next ones would be seen.
 */
TEST_F(refpage, fd_close)
{
	int fd = refpage_create(self->source, self->flags);
	unsigned char *p = map(fd, PAGES, RWM), *other = map_anon(1, RWM);

	load(p);
	close(self->fd);
	close(fd);
	unmap(self->witness, 1);
	self->witness = p;
	for (size_t i = 0; i < psize(); i++)
		other[i] = i * 3;
	mte_set_tag_address_range(tagged(other, 4), psize());
	for (int i = 0; i < 64; i++) {
		unsigned char *q;

		fd = refpage_create(other, 0);
		ASSERT_LE(0, fd);
		q = map(fd, 1, RM);
		EXPECT_EQ(4, load_tag(q));
		unmap(q, 1);
		close(fd);
	}
	EXPECT_TRUE(is_content(p, PAGES));
	mix(p + bytes(8), 8);
	EXPECT_TRUE(is_mixed(p + bytes(8), 8));
}

/* -- Source --------------------------------------------------------------- */

static bool creates_content(const void *from, unsigned int flags)
{
	int fd = refpage_create(from, flags);
	unsigned char *p;
	bool same;

	if (fd < 0) {
		ksft_print_msg("refpage_create: %s\n", strerror(errno));
		return false;
	}
	p = map(fd, 2, RWM);
	close(fd);
	store(p + psize());
	same = is_content(p, 1) && is_page(p + psize(), stored_page());
	unmap(p, 2);
	return same;
}

/* Later changes of data and tags of the source are not seen. */
TEST_F(refpage, source_is_a_snapshot)
{
	unsigned char *p = map(self->fd, PAGES, RWM);

	memset(self->source, 0x3e, psize());
	mte_set_tag_address_range(tagged(self->source, 11), psize());
	EXPECT_TRUE(is_content(p, PAGES / 2));
	unmap(self->source, 1);
	EXPECT_TRUE(is_content(p, PAGES));
}

/*
 * The source is only read. Catches a pin for writing, and tags that are set on
 * a page which has none.
 */
TEST_F(refpage, source_is_unchanged)
{
	struct page before = new_page();
	unsigned long pfn;

	if (pfns_are_hidden())
		SKIP(return, "page frame numbers are not visible");
	memcpy(before.data, self->source, psize());
	for (size_t i = 0; i < granules(); i++)
		before.tag[i] = load_tag(self->source + i * GRANULE);
	pfn = pfn_of(self->source);
	ASSERT_NE(0, pfn);
	ASSERT_EQ(!variant->no_mte, page_flag(self->source, KPF_ARCH_2));
	EXPECT_TRUE(creates_content(self->source, self->flags));
	EXPECT_EQ(pfn, pfn_of(self->source));
	EXPECT_EQ(!variant->no_mte, page_flag(self->source, KPF_ARCH_2));
	EXPECT_TRUE(is_page(self->source, &before));
}

TEST_F(refpage, source_is_read_only)
{
	ASSERT_EQ(0, mprotect(self->source, psize(), PROT_READ));
	EXPECT_TRUE(creates_content(self->source, self->flags));
}

/* Memory that fork() made shared; catches a copy made for a reader. */
TEST_F(refpage, source_is_shared_by_fork)
{
	pid_t pid = fork();

	if (!pid) {
		EXPECT_TRUE(creates_content(self->source, self->flags));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(creates_content(self->source, self->flags));
}

/*
 * A refpage mapping is a source like any other: an untouched page, and one
 * with other data and tags than its reference page.
 */
TEST_F(refpage, source_is_refpage)
{
	unsigned char *p = map_mixed(self->fd), *q;
	int fd;

	for (size_t i = 0; i < PAGES; i++) {
		fd = refpage_create(p + bytes(i), 0);
		ASSERT_LE(0, fd);
		q = map(fd, 1, RM);
		EXPECT_TRUE(is_page(q, mixed_page(i))) {
			TH_LOG("page %zu", i);
		}
		close(fd);
	}
	EXPECT_TRUE(creates_content(p, self->flags));
	EXPECT_EQ(count_mixed_private(PAGES), smaps_pages(p, "Rss:"));

	/* Not through PROT_MTE, and so without tags */
	p = map(self->fd, 1, PROT_READ);
	fd = refpage_create(p, 0);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(is_page(map(fd, 1, RM), &untagged));
}

/* Tags that are in swap are those of the page, too. */
TEST_F(refpage, source_is_swapped_out)
{
	if (has_no_swap())
		SKIP(return, "no swap space");
	ASSERT_EQ(1, page_out(self->source, 1, 1));
	EXPECT_TRUE(creates_content(self->source, self->flags));
}

/* -- In one call ---------------------------------------------------------- */

/*
 * MAP_REFPAGE copies the tags of the page as refpage_create() does, whatever
 * else the mapping is to be. Catches tags that come with a descriptor only, and
 * populated pages that lack them.
 */
TEST_F(refpage, one_call)
{
	static const int flags[] = {
		MAP_PRIVATE, MAP_PRIVATE | MAP_POPULATE,
		MAP_PRIVATE | MAP_NORESERVE, MAP_PRIVATE | MAP_LOCKED,
		MAP_DROPPABLE, MAP_DROPPABLE | MAP_POPULATE,
	};
	unsigned char *page = make_source(variant->no_mte ? RW : RWM), *p;

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		bool populated = flags[i] & (MAP_POPULATE | MAP_LOCKED);

		p = map_page(NULL, page, PAGES, RWM, flags[i]);
		ASSERT_NE(MAP_FAILED, (void *)p);
		EXPECT_EQ(populated * PAGES, smaps_pages(p, "Anonymous:"));
		EXPECT_TRUE(is_content_back(p, PAGES));
		EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));

		p = map_page(NULL, page, PAGES, RM, flags[i]);
		ASSERT_NE(MAP_FAILED, (void *)p);
		EXPECT_TRUE(is_content_back(p, PAGES));
		EXPECT_EQ(0, smaps_pages(p, "Anonymous:"));
	}
}

/*
 * Zeros of one tag, and bytes, are the page that all descriptors have; other
 * content is not. Catches a page for each call.
 */
TEST_F(refpage, one_call_shares_page)
{
	unsigned char *p;

	if (pfns_are_hidden())
		SKIP(return, "page frame numbers are not visible");
	p = map_page(NULL, make_source(variant->no_mte ? RW : RWM), 1, RM,
		     MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, (void *)p);
	EXPECT_TRUE(is_content(p, 1));
	EXPECT_TRUE(is_content(self->witness, 1));
	EXPECT_EQ(is_uniform(variant->kind),
		  pfn_of(p) == pfn_of(self->witness));
}

/* Tags need PROT_MTE on both sides, as with a descriptor. */
TEST_F(refpage, one_call_without_mte)
{
	unsigned char *p;

	p = map_page(NULL, make_source(RW), 2, RWM, MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, (void *)p);
	store(p + psize());
	EXPECT_TRUE(is_page(p, &untagged));
	EXPECT_TRUE(is_page(p + psize(), stored_page_untagged()));

	p = map_page(NULL, make_source(variant->no_mte ? RW : RWM), 2, RW,
		     MAP_PRIVATE);
	ASSERT_NE(MAP_FAILED, (void *)p);
	store(p + psize());
	EXPECT_TRUE(is_page(p, &untagged));
	ASSERT_EQ(0, mprotect(p, bytes(2), RWM));
	EXPECT_TRUE(is_content(p, 1));
	EXPECT_TRUE(is_page(p + psize(), stored_page_untagged()));
}

/*
 * With MAP_FIXED, the mapping may take the place of the page. Catches content
 * and tags that are read when they are gone.
 */
TEST_F(refpage, one_call_replaces_page)
{
	static const int flags[] = { 0, MAP_POPULATE };
	unsigned char *p = map_anon(PAGES, PROT_NONE);

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		unsigned char *page = p + bytes(3);

		ASSERT_EQ(page, mremap(make_source(variant->no_mte ? RW : RWM),
				       psize(), psize(),
				       MREMAP_MAYMOVE | MREMAP_FIXED, page));
		ASSERT_EQ(p, map_page(p, page, PAGES, RWM,
				      MAP_PRIVATE | MAP_FIXED | flags[i]));
		EXPECT_TRUE(is_content_back(p, PAGES));
		EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));

		/* Once more, from a page that was only loaded from */
		ASSERT_EQ(p, map_page(p, p + bytes(LOADED), PAGES, RWM,
				      MAP_PRIVATE | MAP_FIXED | flags[i]));
		EXPECT_EQ(1, count_vmas(p, PAGES, NULL));
		EXPECT_TRUE(is_content_back(p, PAGES));
	}
}

/*
 * What is dropped has content and tags again, although nobody else has the page
 * of content. Catches a mapping for which it is not kept.
 */
TEST_F(refpage, one_call_dropped)
{
	unsigned char *page = make_source(variant->no_mte ? RW : RWM), *p;

	if (pfns_are_hidden())
		SKIP(return, "page frame numbers are not visible");
	p = map_page(NULL, page, PAGES, RWM, MAP_DROPPABLE);
	ASSERT_NE(MAP_FAILED, (void *)p);
	unmap(page, 1);
	for (int round = 0; round < 2; round++) {
		mix(p, PAGES);
		EXPECT_EQ(count_mixed_private(PAGES), count_private(p, PAGES));
		ASSERT_TRUE(reclaim_pages(p, PAGES));
		EXPECT_EQ(0, count_swapped(p, PAGES));
		EXPECT_TRUE(is_content_back(p, PAGES));
	}
}

/* -- Fixture: sources and descriptors of more than one kind --------------- */

FIXTURE(create)
{
	unsigned char *page;
};

FIXTURE_SETUP(create)
{
	int fd;

	mte_disable_pstate_tco();
	check_tags(MTE_NONE_ERR);
	reference = new_page();
	for (size_t i = 0; i < psize(); i++)
		reference.data[i] = 3 + i * 7 + (i >> 8) * 5;
	for (size_t i = 0; i < granules(); i++)
		reference.tag[i] = (i * 7 + (i >> 4)) % 16;
	untagged = new_page();
	memcpy(untagged.data, reference.data, psize());

	self->page = map_anon(2, RWM);
	fd = refpage_create(self->page, 0);
	if (fd < 0 && syscall_is_absent())
		SKIP(return, "the kernel has no refpage_create()");
	ASSERT_LE(0, fd);
	close(fd);
	fill(self->page, &reference);
}

FIXTURE_TEARDOWN(create)
{
}

static int create_errno(const void *from, unsigned int flags)
{
	int fd = refpage_create(from, flags);

	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

/*
 * Each size from a granule up repeats its tags; smaller ones have none.
 * Catches tags that are repeated at another rate than the data.
 */
TEST_F(create, sizes)
{
	struct page from = reference;

	reference = new_page();
	for (unsigned int n = 0; n <= pshift(); n++) {
		size_t size = 1UL << n;

		for (size_t i = 0; i < psize(); i++)
			reference.data[i] = from.data[i % size];
		for (size_t i = 0; i < granules() && n >= 4; i++)
			reference.tag[i] = from.tag[i % (size / GRANULE)];
		EXPECT_TRUE(creates_content(self->page,
					    REFPAGE_PATTERN_SIZE(n))) {
			TH_LOG("n = %u", n);
		}
	}
}

/* The pattern is taken from where it is, not from where its page starts. */
TEST_F(create, sizes_at_offset)
{
	struct page from = reference;

	reference = new_page();
	for (unsigned int n = 0; n < pshift(); n++) {
		size_t size = 1UL << n, at = psize() - size;

		for (size_t i = 0; i < psize(); i++)
			reference.data[i] = from.data[at + i % size];
		for (size_t i = 0; i < granules() && n >= 4; i++)
			reference.tag[i] = from.tag[at / GRANULE +
						    i % (size / GRANULE)];
		EXPECT_TRUE(creates_content(self->page + at,
					    REFPAGE_PATTERN_SIZE(n))) {
			TH_LOG("n = %u", n);
		}
	}
}

/*
 * The protection of the source counts, not the flag of the page: memory may be
 * mapped twice, with and without PROT_MTE.
 */
TEST_F(create, source_has_an_alias)
{
	unsigned char *with, *without, *fresh;
	int fd = scratch_file();

	if (pfns_are_hidden())
		SKIP(return, "page frame numbers are not visible");
	ASSERT_EQ(0, ftruncate(fd, bytes(2)));
	with = mmap(NULL, bytes(2), RWM, MAP_SHARED, fd, 0);
	without = mmap(NULL, bytes(2), RW, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)with);
	ASSERT_NE(MAP_FAILED, (void *)without);

	fill(with, &reference);
	EXPECT_TRUE(creates_content(with, 0));
	EXPECT_TRUE(same_data(without, reference.data));
	ASSERT_EQ(pfn_of(with), pfn_of(without));
	fd = refpage_create(without, 0);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(is_page(map(fd, 1, RM), &untagged));
	EXPECT_TRUE(is_page(with, &reference));

	/* A page that has no tags yet does not get them. */
	fresh = without + psize();
	memcpy(fresh, reference.data, psize());
	fd = refpage_create(fresh, 0);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(is_page(map(fd, 1, RM), &untagged));
	EXPECT_FALSE(page_flag(fresh, KPF_ARCH_2));
}

/* Untouched memory stays untouched, and is zeros of tag zero. */
TEST_F(create, source_is_untouched)
{
	unsigned char *p = map_anon(2, RWM);

	if (pfns_are_hidden())
		SKIP(return, "page frame numbers are not visible");
	memset(reference.data, 0, psize());
	memset(reference.tag, 0, granules());
	EXPECT_TRUE(creates_content(p, 0));
	EXPECT_TRUE(creates_content(p + psize(), REFPAGE_PATTERN_SIZE(4)));
	for (size_t i = 0; i < 2; i++)
		EXPECT_TRUE(!pfn_of(p + bytes(i)) ||
			    page_flag(p + bytes(i), KPF_ZERO_PAGE));
}

/*
 * Any page of a huge page. Catches the tags of the first one, and a huge page
 * that is split.
 */
TEST_F(create, source_is_huge)
{
	size_t pmd = file_number(THP "hpage_pmd_size", "");
	unsigned char *p;

	if (pmd == -1UL)
		SKIP(return, "no transparent huge pages");
	if (pfns_are_hidden())
		SKIP(return, "page frame numbers are not visible");
	p = map_anon(2 * pmd / psize(), RWM);
	p += -(unsigned long)p % pmd;
	ASSERT_EQ(0, madvise(p, pmd, MADV_HUGEPAGE));
	memset(p, 1, pmd);
	if (!page_flag(p, KPF_THP))
		SKIP(return, "no huge page is free, or none is allowed");
	for (size_t at = 7 * psize(); at < pmd; at += pmd / 4) {
		fill(p + at, &reference);
		EXPECT_TRUE(creates_content(p + at, 0));
	}
	EXPECT_TRUE(page_flag(p, KPF_THP));
	EXPECT_EQ((long)(pmd / psize()), smaps_pages(p, "AnonHugePages:"));
	EXPECT_EQ(0, load_tag(p));
}

/*
 * The pointer to the source may have a tag, which is checked as in any other
 * call. Catches an address with a tag that finds no memory.
 */
TEST_F(create, source_pointer_has_a_tag)
{
	static const unsigned int flags[] = {
		0, REFPAGE_PATTERN_SIZE(4), REFPAGE_PATTERN_SIZE(7),
	};
	const unsigned int tag = 9;

	/* In the pattern and the page that the flags stand for */
	for (size_t i = 0; i < psize(); i++)
		reference.data[i] = 100 + i % GRANULE;
	memset(reference.tag, tag, granules());
	fill(self->page, &reference);

	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		/* No checks: any tag will do. */
		check_tags(MTE_NONE_ERR);
		for (unsigned int other = 0; other < 16; other++)
			EXPECT_TRUE(creates_content(tagged(self->page, other),
						    flags[i]));

		check_tags(MTE_SYNC_ERR);
		for (unsigned int other = 0; other < 16; other++) {
			EXPECT_EQ(other == tag ? 0 : EFAULT,
				  create_errno(tagged(self->page, other),
					       flags[i])) {
				TH_LOG("tag %u, flags %#x", other, flags[i]);
			}
		}
		check_tags(MTE_NONE_ERR);
		EXPECT_TRUE(creates_content(tagged(self->page, tag), flags[i]));
	}

	/* The last granule counts, too. */
	store_tag(self->page + psize() - GRANULE, tag ^ 1);
	check_tags(MTE_SYNC_ERR);
	EXPECT_EQ(EFAULT, create_errno(tagged(self->page, tag), 0));
}

static int map_page_errno(const void *page)
{
	void *p = map_page(NULL, page, 1, RM, MAP_PRIVATE);

	if (p == MAP_FAILED)
		return errno;
	unmap(p, 1);
	return 0;
}

/*
 * The same for MAP_REFPAGE, where the pointer is an offset, the topmost byte of
 * which may be the tag. Catches an offset that is too large for a file.
 */
TEST_F(create, one_call_pointer_has_a_tag)
{
	static const unsigned int tags[] = { 0, 1, 7, 8, 15 };
	unsigned char *p;

	for (size_t i = 0; i < ARRAY_SIZE(tags); i++) {
		memset(reference.tag, tags[i], granules());
		fill(self->page, &reference);
		for (unsigned int other = 0; other < 16; other++) {
			unsigned char *page = tagged(self->page, other);

			/* No checks: any tag will do. */
			p = map_page(NULL, page, 1, RM, MAP_PRIVATE);
			ASSERT_NE(MAP_FAILED, (void *)p);
			EXPECT_TRUE(is_content(p, 1));
			unmap(p, 1);

			check_tags(MTE_SYNC_ERR);
			EXPECT_EQ(other == tags[i] ? 0 : EFAULT,
				  map_page_errno(page)) {
				TH_LOG("tag %u for %u", other, tags[i]);
			}
			EXPECT_EQ(EINVAL, map_page_errno(page + GRANULE));
			check_tags(MTE_NONE_ERR);
		}
		check_tags(MTE_SYNC_ERR);
		p = map_page(NULL, tagged(self->page, tags[i]), 2, RWM,
			     MAP_PRIVATE);
		ASSERT_NE(MAP_FAILED, (void *)p);
		EXPECT_TRUE(is_content_back(p, 2));
		check_tags(MTE_NONE_ERR);
	}

	/* The last granule counts, too, and what is not mapped has no tag. */
	store_tag(self->page + psize() - GRANULE, 14);
	check_tags(MTE_SYNC_ERR);
	EXPECT_EQ(EFAULT, map_page_errno(tagged(self->page, 15)));
	unmap(self->page, 1);
	EXPECT_EQ(EFAULT, map_page_errno(tagged(self->page, 15)));
}

/* What cannot be read has no tags to read. */
TEST_F(create, source_is_not_readable)
{
	unsigned char *none = map_anon(1, PROT_NONE | PROT_MTE);
	unsigned char *hole = map_anon(1, RWM);

	unmap(hole, 1);
	ASSERT_EQ(0, mprotect(self->page, psize(), PROT_NONE));
	for (unsigned int n = 0; n <= pshift() + 1; n++) {
		unsigned int flags = n > pshift() ? 0 : REFPAGE_PATTERN_SIZE(n);

		EXPECT_EQ(EFAULT, create_errno(none, flags));
		EXPECT_EQ(EFAULT, create_errno(hole, flags));
		EXPECT_EQ(EFAULT, create_errno(self->page, flags));
	}
	ASSERT_EQ(0, mprotect(self->page, psize(), PROT_READ));
	EXPECT_TRUE(creates_content(self->page, 0));
}

/* -- One page for all descriptors ----------------------------------------- */

/* A descriptor of zeros with one tag, given as a granule or as a page */
static int create_tag(unsigned char *from, unsigned int tag, bool whole_page)
{
	int fd;

	memset(from, 0, psize());
	mte_set_tag_address_range(tagged(from, tag), psize());
	fd = refpage_create(from, whole_page ? 0 : REFPAGE_PATTERN_SIZE(4));
	if (fd < 0)
		die("refpage_create");
	return fd;
}

static void expect_tag(unsigned int tag)
{
	memset(reference.data, 0, psize());
	memset(reference.tag, tag, granules());
}

static unsigned long pfn_of_fd(int fd)
{
	unsigned char *p = map(fd, 1, RM);
	unsigned long pfn;

	load(p);
	pfn = pfn_of(p);
	unmap(p, 1);
	return pfn;
}

/*
 * Zeros of each tag, in memory that was full of other things. Catches a block
 * of DC GZVA that is not as large as the loop takes it to be, and the tag of
 * one descriptor given to another.
 */
TEST_F(create, every_tag)
{
	unsigned char *p[16][2];
	int fd;

	for (unsigned int i = 0; i < 32; i++) {
		fd = create_tag(self->page, i / 2, i % 2);
		p[i / 2][i % 2] = map(fd, 8, RWM);
		close(fd);
	}
	if (pfns_are_hidden())
		SKIP(return, "page frame numbers are not visible");
	taint_memory();
	for (unsigned int i = 0; i < 32; i++) {
		expect_tag(i / 2);
		load(p[i / 2][i % 2] + psize());
		store_pages(p[i / 2][i % 2], 4);
	}
	for (unsigned int i = 0; i < 32; i++) {
		expect_tag(i / 2);
		EXPECT_TRUE(are_pages(p[i / 2][i % 2], 4, stored_page()));
		EXPECT_TRUE(is_content(p[i / 2][i % 2] + bytes(4), 4));
	}
}

/*
 * There is one page for zeros of a tag, whoever asks for it and however it was
 * given. Catches one page for all tags, and one for each descriptor.
 */
TEST_F(create, page_of_a_tag)
{
	unsigned long *pfns = mmap(NULL, psize(), RW,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int fds[16];
	pid_t pid;

	ASSERT_NE(MAP_FAILED, (void *)pfns);
	if (pfns_are_hidden())
		SKIP(return, "page frame numbers are not visible");
	for (unsigned int tag = 1; tag < 16; tag++)
		fds[tag] = create_tag(self->page, tag, tag % 2);
	pid = fork();
	if (!pid) {
		unsigned char *page = map_anon(1, RWM);

		for (unsigned int tag = 1; tag < 16; tag++) {
			int fd = create_tag(page, tag, true);

			pfns[tag] = pfn_of_fd(fd);
			expect_tag(tag);
			EXPECT_TRUE(is_content(map(fd, 1, RM), 1));
		}
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	for (unsigned int tag = 1; tag < 16; tag++) {
		unsigned long pfn = pfn_of_fd(fds[tag]);

		EXPECT_NE(0, pfn);
		EXPECT_EQ(pfn, pfns[tag]);
		EXPECT_EQ(pfn, pfn_of_fd(create_tag(self->page, tag, false)));
		EXPECT_EQ(pfn, pfn_of_fd(create_tag(self->page, tag, true)));
		for (unsigned int other = 1; other < tag; other++) {
			EXPECT_NE(pfn, pfns[other]) {
				TH_LOG("tags %u and %u", tag, other);
			}
		}
	}
}

/*
 * It is there as long as anybody has it. Catches a page that goes with the
 * descriptor which it was made for, and one that is found when it is gone.
 */
TEST_F(create, page_of_a_tag_lives)
{
	unsigned char *p, *other = map_anon(1, RWM);
	const unsigned int tag = 3;
	unsigned long pfn;
	int first, second;

	if (pfns_are_hidden())
		SKIP(return, "page frame numbers are not visible");
	expect_tag(tag);
	for (int round = 0; round < 20; round++) {
		first = create_tag(self->page, tag, round & 1);
		second = create_tag(self->page, tag, round & 2);
		pfn = pfn_of_fd(first);
		close(first);
		EXPECT_EQ(pfn, pfn_of_fd(second));
		p = map(second, 2, RWM);
		close(second);
		/* If it was freed, this is where it is used again. */
		for (int i = 0; i < 8; i++) {
			memset(other, 0x10 + i, GRANULE);
			mte_set_tag_address_range(tagged(other, 12), GRANULE);
			ASSERT_EQ(0, create_errno(other,
						  REFPAGE_PATTERN_SIZE(4)));
		}
		EXPECT_TRUE(is_content(p, 1));
		EXPECT_EQ(pfn, pfn_of(p));
		first = create_tag(self->page, tag, true);
		EXPECT_EQ(pfn, pfn_of_fd(first));
		close(first);
		store(p);
		EXPECT_TRUE(is_page(p, stored_page()));
		EXPECT_TRUE(is_content(p + psize(), 1));
		unmap(p, 2);
	}
}

/* Counted when that is exact: CPUs keep some of it to themselves. */
static long vm_gauge(const char *field)
{
	file_write("/proc/sys/vm/stat_refresh", "1");
	return file_number("/proc/vmstat", field);
}

/*
 * It is counted once, as a shared one, by descriptors and MAP_REFPAGE alike.
 * Catches one that is counted for each user, or not when it goes.
 */
TEST_F(create, page_of_a_tag_is_counted)
{
	const long shared = vm_gauge("nr_refpage_shared ");
	const long all = vm_gauge("nr_refpage ");
	unsigned char *p[16][2];

	if (geteuid())
		SKIP(return, "not root");
	for (unsigned int tag = 1; tag < 16; tag++) {
		int fd = create_tag(self->page, tag, tag % 2);

		p[tag][0] = map(fd, 1, RWM);
		close(fd);
		memset(self->page, 0, psize());
		p[tag][1] = map_page(NULL, self->page, 1, RWM, MAP_PRIVATE);
		ASSERT_NE(MAP_FAILED, (void *)p[tag][1]);
		store(p[tag][1]);
		EXPECT_EQ(shared + tag, vm_gauge("nr_refpage_shared "));
		EXPECT_EQ(all + tag, vm_gauge("nr_refpage "));
	}
	for (unsigned int tag = 1; tag < 16; tag++) {
		unmap(p[tag][tag % 2], 1);
		EXPECT_EQ(shared + 16 - tag, vm_gauge("nr_refpage_shared "));
		unmap(p[tag][!(tag % 2)], 1);
		EXPECT_EQ(shared + 15 - tag, vm_gauge("nr_refpage_shared "));
		EXPECT_EQ(all + 15 - tag, vm_gauge("nr_refpage "));
	}
}

/* The same for a byte, which has no tags whoever gives it. */
TEST_F(create, page_of_a_byte)
{
	unsigned char *from = map_anon(1, RW);
	unsigned long pfns[4];

	if (pfns_are_hidden())
		SKIP(return, "page frame numbers are not visible");
	for (size_t i = 0; i < ARRAY_SIZE(pfns); i++) {
		int fd, other;

		memset(from, 0xa5 + i, psize());
		memset(self->page, 0xa5 + i, psize());
		memset(reference.data, 0xa5 + i, psize());
		memset(reference.tag, 0, granules());
		fd = refpage_create(from, REFPAGE_PATTERN_SIZE(0));
		ASSERT_LE(0, fd);
		pfns[i] = pfn_of_fd(fd);
		EXPECT_TRUE(is_content(map(fd, 1, RM), 1));

		other = refpage_create(from, 0);
		ASSERT_LE(0, other);
		EXPECT_EQ(pfns[i], pfn_of_fd(other));
		other = refpage_create(self->page, REFPAGE_PATTERN_SIZE(0));
		ASSERT_LE(0, other);
		EXPECT_EQ(pfns[i], pfn_of_fd(other));
		/* A whole page of it has tags, and so is another page. */
		other = refpage_create(self->page, 0);
		ASSERT_LE(0, other);
		EXPECT_NE(pfns[i], pfn_of_fd(other));
		close(fd);
		EXPECT_TRUE(is_content(map(fd = refpage_create(from, 0), 1, RM),
				       1));
		for (size_t k = 0; k < i; k++)
			EXPECT_NE(pfns[i], pfns[k]);
	}
}

/* -- Fixture: memory that is reclaimed, and anonymous memory as control ---- */

FIXTURE(memory)
{
	unsigned char *witness;
};

FIXTURE_VARIANT(memory)
{
	const struct kind *kind;
};

FIXTURE_VARIANT_ADD(memory, anon)
{
	.kind = &kind_anon,
};

FIXTURE_VARIANT_ADD(memory, tag)
{
	.kind = &kind_tag,
};

FIXTURE_VARIANT_ADD(memory, granule)
{
	.kind = &kind_granule,
};

FIXTURE_VARIANT_ADD(memory, page)
{
	.kind = &kind_page,
};

FIXTURE_VARIANT_ADD(memory, untagged_byte)
{
	.kind = &kind_byte,
};

/* Nothing merges with it, so that smaps tells of this memory only. */
static unsigned char *memory(size_t pages)
{
	unsigned char *p = map_anon(pages + 2, PROT_NONE);

	return memory_at(p + psize(), pages, RWM, MAP_FIXED);
}

static unsigned char *mixed_memory(void)
{
	return mix(memory(PAGES), PAGES);
}

FIXTURE_SETUP(memory)
{
	const char *why;

	mte_disable_pstate_tco();
	check_tags(MTE_NONE_ERR);
	/* If the last test was killed */
	memcg_remove();
	if (pfns_are_hidden())
		SKIP(return, "page frame numbers are not visible");
	why = make_memory(variant->kind);
	if (why)
		SKIP(return, "%s", why);
	if (memory_fd >= 0)
		self->witness = map(memory_fd, 1, RM);
}

FIXTURE_TEARDOWN(memory)
{
	memcg_remove();
	if (self->witness)
		EXPECT_TRUE(is_content(self->witness, 1));
}

/*
 * Memory that was given up has its bytes and tags until it is reclaimed, and
 * the content and its tags afterwards. Catches zeros or tag 0 that are those of
 * anonymous memory, the old tags with new bytes, and pages that are swapped out
 * although nobody wants them.
 */
static void check_free(struct __test_metadata *_metadata)
{
	unsigned char *p = mixed_memory();

	for (int round = 0; round < 2; round++) {
		give_up(p, PAGES);
		EXPECT_EQ(count_mixed_private(PAGES), count_private(p, PAGES));
		EXPECT_TRUE(is_mixed(p, PAGES));
		EXPECT_TRUE(reclaim_pages(p, PAGES));
		EXPECT_EQ(0, count_swapped(p, PAGES));
		EXPECT_EQ(0, smaps_pages(p, "Anonymous:"));
		EXPECT_TRUE(is_content_back(p, PAGES));
		EXPECT_EQ(0, count_private(p, PAGES));
		/* As good as new */
		EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));
	}
}

TEST_F(memory, free_and_page_out)
{
	check_free(_metadata);
}

TEST_F(memory, free_in_memcg)
{
	in_memcg(_metadata, check_free);
}

/* What is done to a page after MADV_FREE, and what it holds then */
enum { LEFT, REWRITTEN, RETAGGED_ONLY, RETAGGED_TWICE, ZEROED, CHANGES };

static void change_page(unsigned char *p, int change, struct page *want)
{
	const size_t at = granules() / 2;
	unsigned int tag = reference.tag[at] ^ 9;

	switch (change) {
	case REWRITTEN:
		p[99] = 0x99;
		want->data[99] = 0x99;
		break;
	case RETAGGED_ONLY:
		store_tag(p + at * GRANULE, tag);
		want->tag[at] = tag;
		break;
	case RETAGGED_TWICE:
		store_two_tags(p + at * GRANULE, tag);
		want->tag[at] = tag;
		want->tag[at + 1] = tag;
		break;
	case ZEROED:
		store_tag_and_zero(p + at * GRANULE, tag);
		want->tag[at] = tag;
		memset(want->data + at * GRANULE, 0, GRANULE);
		break;
	}
}

/*
 * A page that is stored to after MADV_FREE is kept, with all bytes and tags,
 * and a store of a tag is a store. Catches a page that is thought to be clean
 * since no byte of it has changed.
 */
static void check_free_and_store(struct __test_metadata *_metadata)
{
	unsigned char *p = memory(PAGES);
	struct page want[CHANGES], before = *stored_page();

	before.tag[5] ^= 3;
	for (size_t i = 0; i < PAGES; i++)
		fill(p + bytes(i), &before);
	give_up(p, PAGES);
	for (size_t i = 0; i < CHANGES; i++) {
		want[i] = new_page();
		memcpy(want[i].data, before.data, psize());
		memcpy(want[i].tag, before.tag, granules());
	}
	for (size_t i = 0; i < PAGES; i++)
		change_page(p + bytes(i), i % CHANGES, &want[i % CHANGES]);
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_TRUE(is_page(p + bytes(i), &want[i % CHANGES]));
	EXPECT_TRUE(reclaim_pages(p, PAGES));
	for (size_t i = 0; i < PAGES; i++) {
		EXPECT_EQ(i % CHANGES != LEFT, is_swapped(p + bytes(i))) {
			TH_LOG("page %zu", i);
		}
	}
	want[LEFT] = reference;
	for (size_t i = 0; i < PAGES; i++) {
		EXPECT_TRUE(is_back(p, i, &want[i % CHANGES])) {
			TH_LOG("page %zu, change %zu", i, i % CHANGES);
		}
	}
}

TEST_F(memory, free_and_store)
{
	if (has_no_swap())
		SKIP(return, "no swap space");
	check_free_and_store(_metadata);
}

TEST_F(memory, free_and_store_in_memcg)
{
	if (has_no_swap())
		SKIP(return, "no swap space");
	in_memcg(_metadata, check_free_and_store);
}

/*
 * What is in swap is given up at once. Catches tags that come back without the
 * data, and those of the slots, for pages that are swapped out later.
 */
TEST_F(memory, free_swapped_out)
{
	long private = count_mixed_private(PAGES);
	unsigned char *p = mixed_memory();

	if (has_no_swap())
		SKIP(return, "no swap space");
	for (int round = 0; round < 2; round++) {
		ASSERT_TRUE(reclaim_pages(p, PAGES));
		EXPECT_EQ(private, count_swapped(p, PAGES));
		give_up(p, PAGES);
		EXPECT_EQ(0, count_swapped(p, PAGES));
		EXPECT_TRUE(is_content_back(p, PAGES));
		mix(p, PAGES);
	}
	ASSERT_TRUE(reclaim_pages(p, PAGES));
	EXPECT_TRUE(is_mixed(p, PAGES));
}

/*
 * One of two processes gives up what both have. Catches pages of the other one
 * that lose their tags.
 */
TEST_F(memory, free_after_fork)
{
	unsigned char *p = mixed_memory();
	pid_t pid = fork();

	if (!pid) {
		give_up(p, PAGES);
		for (size_t i = 0; i < PAGES; i += 2)
			store_tag(p + bytes(i) + GRANULE, 3);
		madvise(p, bytes(PAGES), MADV_PAGEOUT);
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_mixed(p, PAGES));
}

/*
 * A child reads the content and its tags, and the parent what it had. Catches
 * zeros, and tags that are inherited with no data.
 */
static void check_wiped(struct __test_metadata *_metadata, unsigned char *p)
{
	pid_t pid = fork();

	if (!pid) {
		EXPECT_EQ(0, count_private(p, PAGES));
		EXPECT_TRUE(is_content_back(p, PAGES));
		EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));
		for (size_t i = 0; i < PAGES; i++)
			store_tag(p + bytes(i), 12);
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_mixed(p, PAGES));
}

TEST_F(memory, wipeonfork)
{
	unsigned char *p = mixed_memory();
	pid_t pid;

	ASSERT_EQ(0, madvise(p, bytes(PAGES), MADV_WIPEONFORK));
	check_wiped(_metadata, p);
	ASSERT_EQ(0, madvise(p, bytes(PAGES), MADV_KEEPONFORK));
	pid = fork();
	if (!pid) {
		EXPECT_TRUE(is_mixed(p, PAGES));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
}

/*
 * Droppable memory goes when there is pressure, whatever was stored to it, and
 * is as it was born then. Catches pages with the tags that they had, and
 * droppable pages in swap.
 */
static void check_droppable(struct __test_metadata *_metadata)
{
	unsigned char *p;

	memory_type = MAP_DROPPABLE;
	p = mixed_memory();
	for (int round = 0; round < 3; round++) {
		EXPECT_EQ(count_mixed_private(PAGES), count_private(p, PAGES));
		EXPECT_TRUE(is_mixed(p, PAGES));
		EXPECT_TRUE(reclaim_pages(p, PAGES));
		EXPECT_EQ(0, count_swapped(p, PAGES));
		EXPECT_EQ(0, smaps_pages(p, "Swap:"));
		EXPECT_EQ(0, smaps_pages(p, "Anonymous:"));
		EXPECT_TRUE(is_content_back(p, PAGES));
		mix(p, PAGES);
	}
}

TEST_F(memory, droppable)
{
	check_droppable(_metadata);
}

TEST_F(memory, droppable_in_memcg)
{
	in_memcg(_metadata, check_droppable);
}

/*
 * The same when a process writes more than its memory cgroup may have: each
 * page is what was written last, or the content. Catches a page that is dropped
 * between its bytes and its tags.
 */
static void check_droppable_limit(struct __test_metadata *_metadata)
{
	const size_t pages = 2048;
	size_t dropped = 0;
	unsigned char *p;
	char limit[24];

	memory_type = MAP_DROPPABLE;
	p = memory(pages);
	sprintf(limit, "%ld", memcg_number("memory.current", "") +
		bytes(pages / 2));
	EXPECT_TRUE(file_write(MEMCG "memory.max", limit));
	for (size_t i = 0; i < pages; i++)
		store_tag_and_zero(p + bytes(i), reference.tag[0] ^ 6);
	for (size_t i = 0; i < pages; i++) {
		struct page *want = like_reference();

		if (count_private(p + bytes(i), 1)) {
			memset(want->data, 0, GRANULE);
			want->tag[0] ^= 6;
		} else {
			dropped++;
		}
		EXPECT_TRUE(is_page(p + bytes(i), want)) {
			TH_LOG("page %zu", i);
		}
	}
	EXPECT_EQ(0, smaps_pages(p, "Swap:"));
	EXPECT_LE(pages / 4, dropped);
	EXPECT_TRUE(file_write(MEMCG "memory.max", "max"));
}

TEST_F(memory, droppable_at_limit)
{
	in_memcg(_metadata, check_droppable_limit);
}

/* Droppable memory is wiped in a child, as if that had been asked for. */
TEST_F(memory, droppable_fork)
{
	memory_type = MAP_DROPPABLE;
	check_wiped(_metadata, mixed_memory());
}

/*
 * Pages that are read from swap ahead of time have their tags when they are
 * mapped. Catches tags that are restored in a fault from swap only.
 */
TEST_F(memory, willneed)
{
	long private = count_mixed_private(PAGES), before;
	unsigned char *p = mixed_memory();

	if (has_no_swap())
		SKIP(return, "no swap space");
	ASSERT_TRUE(reclaim_pages(p, PAGES));
	ASSERT_EQ(private, count_swapped(p, PAGES));
	ASSERT_EQ(0, madvise(p, bytes(PAGES), MADV_WILLNEED));
	before = file_number("/proc/vmstat", "pswpin ");
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_TRUE(is_back(p, i, mixed_page(i)));
	EXPECT_EQ(before, file_number("/proc/vmstat", "pswpin "));
	ASSERT_EQ(0, madvise(p, bytes(PAGES), MADV_WILLNEED));
	EXPECT_TRUE(is_mixed(p, PAGES));
}

/* Memory that is cold is the first to be swapped out, with its tags. */
static void check_cold(struct __test_metadata *_metadata)
{
	unsigned char *p = mixed_memory();

	EXPECT_EQ(0, madvise(p, bytes(PAGES), MADV_COLD));
	EXPECT_TRUE(is_mixed(p, PAGES));
	EXPECT_EQ(0, madvise(p, bytes(PAGES), MADV_COLD));
	EXPECT_TRUE(reclaim_pages(p, PAGES));
	EXPECT_EQ(count_mixed_private(PAGES), count_swapped(p, PAGES));
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_TRUE(is_back(p, i, mixed_page(i)));
}

TEST_F(memory, cold_in_memcg)
{
	if (has_no_swap())
		SKIP(return, "no swap space");
	in_memcg(_metadata, check_cold);
}

/*
 * Locked pages, which only this drops. Catches zeros and tag 0, for which a
 * locked mapping might be populated again.
 */
TEST_F(memory, dontneed_locked)
{
	unsigned char *p = mixed_memory();

	ASSERT_EQ(0, mlock(p, bytes(PAGES)));
	EXPECT_TRUE(is_mixed(p, PAGES));
	ASSERT_EQ(-1, madvise(p, bytes(8), MADV_FREE));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_TRUE(is_mixed(p, PAGES));
	ASSERT_EQ(0, madvise(p, bytes(8), MADV_DONTNEED_LOCKED));
	EXPECT_TRUE(is_content_back(p, 8));
	EXPECT_TRUE(is_mixed_part(p, 8, PAGES));
	EXPECT_TRUE(is_mixed(mix(p, 8), PAGES));
}

/* -- Without MTE ---------------------------------------------------------- */

static bool is_plain(const unsigned char *p, const unsigned char *want)
{
	return !memcmp(p, want, psize());
}

/* mmap() may ignore PROT_MTE, or refuse it: what it does for other memory. */
static bool maps_as_anonymous(int fd, const unsigned char *want)
{
	unsigned char *anon, *p;
	int anon_errno;

	errno = 0;
	anon = mmap(NULL, psize(), RWM, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	anon_errno = errno;
	errno = 0;
	p = mmap(NULL, psize(), RWM, MAP_PRIVATE, fd, 0);
	if (anon == MAP_FAILED || p == MAP_FAILED)
		return anon == p && errno == anon_errno;
	return is_plain(p, want);
}

/* mprotect() refuses it, and changes nothing. */
static bool mprotect_is_refused(unsigned char *p)
{
	return mprotect(p, psize(), RWM) == -1 && errno == EINVAL;
}

/* Stored to, given up perhaps, and reclaimed: is it as it was born? */
static bool is_dropped(unsigned char *p, const unsigned char *source,
		       bool give)
{
	p[5] = ~source[5];
	if (give)
		give_up(p, 1);
	return p[5] != source[5] &&
	       reclaim_pages(p, 2) && !count_swapped(p, 2) &&
	       is_plain(p, source) && is_plain(p + psize(), source);
}

/*
 * Where there is no MTE, reference pages do without it, and PROT_MTE is what
 * it is for anonymous memory.
 */
static int test_without_mte(void)
{
	unsigned char *source, *stored, *p;
	int fd;

	ksft_print_header();
	ksft_set_plan(9);

	source = map_anon(1, RW);
	stored = map_anon(1, RW);
	for (size_t i = 0; i < psize(); i++)
		source[i] = i * 7 + (i >> 8);
	memcpy(stored, source, psize());
	stored[5] = ~source[5];

	fd = refpage_create(source, 0);
	if (fd < 0 && syscall_is_absent())
		ksft_exit_skip("the kernel has no refpage_create()\n");
	ksft_test_result(fd >= 0, "no_mte.create\n");
	p = map(fd, 3, RW);
	ksft_test_result(is_plain(p, source), "no_mte.load\n");
	p[bytes(1) + 5] = stored[5];
	ksft_test_result(is_plain(p + bytes(1), stored), "no_mte.store\n");
	ksft_test_result(maps_as_anonymous(fd, source), "no_mte.mmap\n");
	ksft_test_result(mprotect_is_refused(map_anon(1, RW)) &&
			 mprotect_is_refused(p) &&
			 mprotect_is_refused(p + bytes(1)) &&
			 mprotect_is_refused(p + bytes(2)) &&
			 is_plain(p, source) &&
			 is_plain(p + bytes(1), stored) &&
			 is_plain(p + bytes(2), source),
			 "no_mte.mprotect\n");

	p = map_page(NULL, source, 2, RW, MAP_PRIVATE);
	ksft_test_result(p != MAP_FAILED && is_plain(p, source),
			 "no_mte.one_call\n");
	ksft_test_result(map_page(NULL, tagged(source, 5), 1, RW,
				  MAP_PRIVATE) == MAP_FAILED && errno == EFAULT,
			 "no_mte.one_call_pointer_has_a_tag\n");
	if (pfns_are_hidden()) {
		ksft_test_result_skip("no_mte.free\n");
		ksft_test_result_skip("no_mte.droppable\n");
		ksft_finished();
	}
	ksft_test_result(is_dropped(map(fd, 2, RW), source, true),
			 "no_mte.free\n");
	p = map_type_at(NULL, fd, 2, RW, MAP_DROPPABLE);
	ksft_test_result(is_dropped(p, source, false),
			 "no_mte.droppable\n");
	ksft_finished();
}

int main(int argc, char **argv)
{
	if (!(getauxval(AT_HWCAP2) & HWCAP2_MTE))
		return test_without_mte();
	if (!tags_are_independent()) {
		ksft_print_header();
		ksft_exit_fail_msg("granules share a tag, as in QEMU 7.2\n");
	}
	memcg_enabled_before =
		memcg_controller(CGROUP "cgroup.subtree_control");
	return test_harness_run(argc, argv);
}
