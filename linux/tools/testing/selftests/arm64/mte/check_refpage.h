/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of refpage_create(2) with allocation tags share: the bytes and
 * tags of pages, and what they are compared with. Before this header there has
 * to be the harness.
 */
#ifndef CHECK_REFPAGE_H
#define CHECK_REFPAGE_H

#include <fcntl.h>
#include <linux/mman.h>
#include <linux/types.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "mte_common_util.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL	102
#define MADV_GUARD_REMOVE	103
#endif

#define THP "/sys/kernel/mm/transparent_hugepage/"

/* A bit of /proc/kpageflags */
#define KPF_ANON	12

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

/*
 * Loads through pointers with the right tags give the data, while tags are
 * checked; one that is wrong ends the process.
 */
static inline bool loads_are_right(const unsigned char *p,
				   const struct page *want)
{
	size_t wrong = 0;

	check_tags(MTE_SYNC_ERR);
	for (size_t i = 0; i < psize(); i += GRANULE / 2)
		wrong += load(tagged(p + i, want->tag[i / GRANULE])) !=
			 want->data[i];
	check_tags(MTE_NONE_ERR);
	if (wrong)
		ksft_print_msg("page %p: %zu bytes are wrong\n", p, wrong);
	return !wrong;
}

/* Either of them may be what brings the page back. */
static inline bool is_back(const unsigned char *p, size_t i,
			   const struct page *want)
{
	p += bytes(i);
	if (i % 2)
		return loads_are_right(p, want) && is_page(p, want);
	return is_page(p, want) && loads_are_right(p, want);
}

static inline bool is_content_back(const unsigned char *p, size_t pages)
{
	for (size_t i = 0; i < pages; i++) {
		if (!is_back(p, i, &reference))
			return false;
	}
	return true;
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

static inline bool pfns_are_hidden(void)
{
	unsigned char *p = map_anon(1, RW);
	unsigned long pfn;

	*p = 1;
	pfn = pfn_of(p);
	unmap(p, 1);
	return !pfn || access("/proc/kpageflags", R_OK);
}

static inline bool has_no_swap(void)
{
	return file_number("/proc/meminfo", "SwapFree:") <= 0;
}

static inline bool is_swapped(const void *p)
{
	return page_entry(p) >> 62 & 1;
}

static inline long count_swapped(const unsigned char *p, size_t pages)
{
	long count = 0;

	for (size_t i = 0; i < pages; i++)
		count += is_swapped(p + bytes(i));
	return count;
}

/* Neither the reference page nor the zero page, nor in swap */
static inline long count_private(const unsigned char *p, size_t pages)
{
	long count = 0;

	for (size_t i = 0; i < pages; i++) {
		unsigned long pfn = pfn_of(p + bytes(i));

		count += pfn && has_flag(pfn, KPF_ANON);
	}
	return count;
}

/* -- Memory of each kind -------------------------------------------------- */

struct kind {
	bool anon;		/* the control: memory born with zeros, tag 0 */
	bool no_mte;		/* the source is not PROT_MTE; tags are 0 */
	bool whole_page;	/* or else a granule */
	int byte;		/* all bytes are this one; -1: they differ */
	int tag;		/* all tags are this one; -1: they differ */
	const char *name;	/* refpage-kind */
};

static const struct kind kind_anon = { .anon = true, .name = "" };
/* What DC GZVA can fill */
static const struct kind kind_tag = { .tag = 5, .name = "tag" };
static const struct kind kind_granule = {
	.byte = -1, .tag = 9, .name = "pattern",
};

static const struct kind kind_page = {
	.whole_page = true, .byte = -1, .tag = -1, .name = "page",
};

static const struct kind kind_byte = {
	.no_mte = true, .whole_page = true, .byte = 0xa5, .name = "byte",
};

static int memory_fd = -1;	/* -1: anonymous memory */
static int memory_type = MAP_PRIVATE;	/* or MAP_DROPPABLE */

/* A page of the content, with its tags, which need not be of a refpage. */
static inline unsigned char *make_source(int prot)
{
	unsigned char *p = map_anon(1, prot);

	if (prot & PROT_MTE)
		fill(p, &reference);
	else
		memcpy(p, reference.data, psize());
	return p;
}

/* Returns why not, if that is so. */
static inline const char *make_memory(const struct kind *kind)
{
	make_reference(kind->whole_page ? psize() : GRANULE, kind->byte,
		       kind->tag);
	memory_fd = -1;
	if (kind->anon)
		return NULL;
	memory_fd = refpage_create(make_source(kind->no_mte ? RW : RWM),
				   kind->whole_page ? 0 :
				   REFPAGE_PATTERN_SIZE(4));
	if (memory_fd < 0 && syscall_is_absent())
		return "the kernel has no refpage_create()";
	if (memory_fd < 0)
		die("refpage_create");
	return NULL;
}

static inline unsigned char *memory_at(void *addr, size_t pages, int prot,
				       int flags)
{
	flags |= memory_type | (memory_fd < 0 ? MAP_ANONYMOUS : 0);
	return map_type_at(addr, memory_fd, pages, prot, flags);
}

/* Memory with the content of a page, in one call; it may fail. */
static inline unsigned char *map_page(void *addr, const void *page,
				      size_t pages, int prot, int flags)
{
	return mmap(addr, bytes(pages), prot, flags | MAP_REFPAGE, -1,
		    (off_t)page);
}

/* -- Reclaim -------------------------------------------------------------- */

/* By the memory cgroup of this process, or else by advice */
static bool reclaim_by_memcg;

/* MADV_FREE of pages that reclaim has on its lists: others may be left out. */
static inline void give_up(unsigned char *p, size_t pages)
{
	drain_batches();
	if (madvise(p, bytes(pages), MADV_FREE))
		die("MADV_FREE");
}

/*
 * Until no page is private: what is not dropped is swapped out. A page that is
 * busy stays, and so does one that was just used.
 */
static inline bool reclaim_pages(unsigned char *p, size_t pages)
{
	char size[24];

	sprintf(size, "%ld", bytes(pages));
	for (int tries = 0; tries < 100; tries++) {
		drain_batches();
		if (reclaim_by_memcg)
			file_write(MEMCG "memory.reclaim", size);
		else if (madvise(p, bytes(pages), MADV_PAGEOUT))
			die("MADV_PAGEOUT");
		if (!count_private(p, pages))
			return true;
	}
	ksft_print_msg("%ld pages are not reclaimed\n",
		       count_private(p, pages));
	return false;
}

/* Check this in a child that is in a memory cgroup of its own. */
static inline void in_memcg(struct __test_metadata *_metadata,
			    void (*check)(struct __test_metadata *_metadata))
{
	const char *why = memcg_create();
	pid_t pid;

	if (why)
		SKIP(return, "%s", why);
	pid = fork();
	if (!pid) {
		memcg_join();
		reclaim_by_memcg = true;
		check(_metadata);
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
}

/* -- Trace events --------------------------------------------------------- */

#define TRACEFS		"/sys/kernel/tracing/"
#define TRACE		TRACEFS "instances/refpage-tags/"

/* Returns why not, if that is so. */
static inline const char *trace_start(void)
{
	char pid[12];

	sprintf(pid, "%d", getpid());
	rmdir(TRACE);
	if (access(TRACEFS "instances", F_OK))
		mount("tracefs", TRACEFS, "tracefs", 0, NULL);
	if (mkdir(TRACE, 0755))
		return "no tracefs, or not root";
	if (access(TRACE "events/refpage", F_OK))
		return "no trace events of refpage_create()";
	if (!file_write(TRACE "set_event_pid", pid) ||
	    !file_write(TRACE "events/refpage/enable", "1"))
		die(TRACE);
	return NULL;
}

static inline void trace_stop(void)
{
	rmdir(TRACE);
}

/* The first line of this event that goes on like that, from 1 on; 0: none */
static inline __printf(2, 3)
int trace_line(const char *event, const char *format, ...)
{
	FILE *trace = fopen(TRACE "trace", "r");
	char want[160], line[256];
	int found = 0, len;
	va_list args;

	len = sprintf(want, ": refpage_%s: ", event);
	va_start(args, format);
	vsnprintf(want + len, sizeof(want) - len, format, args);
	va_end(args);
	for (int i = 1; trace && fgets(line, sizeof(line), trace); i++) {
		if (!found && strstr(line, want))
			found = i;
	}
	if (trace)
		fclose(trace);
	want[strcspn(want, "\n")] = 0;
	if (!found)
		ksft_print_msg("no event%s\n", want);
	return found;
}

/* Is it traced that the folio which begins here was filled? */
static inline int trace_fill_line(const void *p, unsigned int order,
				  const char *kind)
{
	return trace_line("fill", "addr=0x%lx pfn=0x%lx order=%u kind=%s\n",
			  (unsigned long)p, pfn_of(p), order, kind);
}

#endif /* CHECK_REFPAGE_H */
