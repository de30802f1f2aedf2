/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of refpage_create(2) with allocation tags share: the bytes and
 * tags of pages, and what they are compared with.
 */
#ifndef CHECK_REFPAGE_H
#define CHECK_REFPAGE_H

#include <fcntl.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "mte_common_util.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif

#define THP "/sys/kernel/mm/transparent_hugepage/"

#define GRANULE	MT_GRANULE_SIZE
#define RM	(PROT_READ | PROT_MTE)
#define RWM	(PROT_READ | PROT_WRITE | PROT_MTE)

static inline size_t psize(void)
{
	static size_t size;

	if (!size)
		size = sysconf(_SC_PAGESIZE);
	return size;
}

#include "../../mm/refpage-base.h"

/* What a page holds: its bytes, and a tag for each granule. */
struct page {
	unsigned char *data;
	unsigned char *tag;
};

/*
 * What an untouched page reads. Global, so that the helpers need not be told;
 * each test runs in a process of its own.
 */
static struct page reference;

static inline size_t granules(void)
{
	return psize() / GRANULE;
}

/* -- Tags ----------------------------------------------------------------- */

static inline void *tagged(const void *p, unsigned long tag)
{
	return (void *)MT_SET_TAG(MT_CLEAR_TAG((unsigned long)p), tag);
}

static inline unsigned int load_tag(const void *p)
{
	return MT_FETCH_TAG((unsigned long)mte_get_tag_address((void *)p));
}

static inline void store_tag(void *p, unsigned int tag)
{
	mte_set_tag_address_range(tagged(p, tag), GRANULE);
}

/* QEMU 7.2 has but two tags per page: it loses the offset of the granule. */
static inline bool tags_are_independent(void)
{
	unsigned char *p;
	bool independent;

	p = mmap(NULL, psize(), RWM, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		die("mmap");
	for (size_t i = 0; i < granules(); i++)
		store_tag(p + i * GRANULE, i / 16);
	independent = load_tag(p) == 0 && load_tag(p + 16 * GRANULE) == 1;
	munmap(p, psize());
	return independent;
}

/* Tests run without checks of tags, but for those that ask for them. */
static inline void check_tags(int mode)
{
	if (mte_switch_mode(mode, MTE_ALLOW_NON_ZERO_TAG))
		die("prctl");
}

/* -- Pages ---------------------------------------------------------------- */

static inline struct page new_page(void)
{
	struct page page = { calloc(1, psize()), calloc(1, granules()) };

	if (!page.data || !page.tag)
		die("calloc");
	return page;
}

/* Bytes and tags repeat after @size, which need not be a granule. */
static inline void make_reference(size_t size, int byte, int tag)
{
	reference = new_page();
	for (size_t i = 0; i < psize(); i++) {
		size_t at = i % size;

		reference.data[i] = byte;
		if (byte < 0)
			reference.data[i] = 29 + at * 131 + (at >> 8) * 17;
	}
	for (size_t i = 0; i < granules(); i++) {
		size_t at = i * GRANULE % size / GRANULE;

		reference.tag[i] = tag;
		if (tag < 0)
			reference.tag[i] = (3 + at * 5 + (at >> 4)) % 16;
	}
}

static inline bool same_data(const unsigned char *p, const unsigned char *want)
{
	bool same;

	mte_enable_pstate_tco();
	same = !memcmp(p, want, psize());
	for (size_t i = 0; !same && i < psize(); i++) {
		if (p[i] == want[i])
			continue;
		ksft_print_msg("page %p: byte %#zx is %02x and not %02x\n",
			       p, i, p[i], want[i]);
		break;
	}
	mte_disable_pstate_tco();
	return same;
}

static inline bool same_tag(const void *p, size_t granule, unsigned int tag,
			    unsigned int want)
{
	if (tag != want)
		ksft_print_msg("page %p: tag of granule %zu is %u and not %u\n",
			       p, granule, tag, want);
	return tag == want;
}

static inline bool same_tags(const unsigned char *p, const unsigned char *want)
{
	for (size_t i = 0; i < granules(); i++) {
		if (!same_tag(p, i, load_tag(p + i * GRANULE), want[i]))
			return false;
	}
	return true;
}

/* Tags first, which need not be loaded before the data is. */
static inline bool is_page(const unsigned char *p, const struct page *want)
{
	return same_tags(p, want->tag) && same_data(p, want->data);
}

static inline bool are_pages(const unsigned char *p, size_t pages,
			     const struct page *want)
{
	for (size_t i = 0; i < pages; i++) {
		if (!is_page(p + bytes(i), want))
			return false;
	}
	return true;
}

static inline bool is_content(const unsigned char *p, size_t pages)
{
	return are_pages(p, pages, &reference);
}

/* Invert a byte of content; the pointer may have a tag. */
static inline void store(unsigned char *p)
{
	__atomic_store_n(p, ~reference.data[(unsigned long)p % psize()],
			 __ATOMIC_RELAXED);
}

/* Give a page of PROT_MTE memory its bytes and tags. */
static inline void fill(unsigned char *p, const struct page *from)
{
	memcpy(p, from->data, psize());
	for (size_t i = 0; i < granules(); i++)
		store_tag(p + i * GRANULE, from->tag[i]);
}

/* In page @i, the byte that is stored to, and the granule and its other tag */
static inline size_t mixed_offset(size_t i)
{
	return i * 1021 % psize();
}

static inline size_t mixed_granule(size_t i)
{
	return i * 37 % granules();
}

static inline unsigned int mixed_tag(size_t i)
{
	return reference.tag[mixed_granule(i)] ^ (1 + i % 15);
}

/* -- /proc and /sys ------------------------------------------------------- */

/* An entry of a file of 64-bit entries */
static inline __u64 file_entry(const char *path, unsigned long index)
{
	int fd = open(path, O_RDONLY);
	__u64 entry;

	if (fd < 0 || pread(fd, &entry, sizeof(entry),
			    index * sizeof(entry)) != sizeof(entry))
		die(path);
	close(fd);
	return entry;
}

static inline __u64 page_entry(const void *p)
{
	return file_entry("/proc/self/pagemap", (unsigned long)p / psize());
}

static inline unsigned long pfn_of(const void *p)
{
	__u64 entry = page_entry(p);

	if (!(entry >> 63))
		return 0;
	return entry & ((1ULL << 55) - 1);
}

/* Is this bit of /proc/kpageflags set for a page frame? */
static inline bool has_flag(unsigned long pfn, unsigned int bit)
{
	return file_entry("/proc/kpageflags", pfn) >> bit & 1;
}

static inline bool has_no_swap(void)
{
	return file_number("/proc/meminfo", "SwapFree:") <= 0;
}

#endif /* CHECK_REFPAGE_H */
