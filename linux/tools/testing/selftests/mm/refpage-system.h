/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What tests of refpage_create(2) share that need root: settings of the system,
 * memory of each kind, the anonymous control included, the state of its pages,
 * and a memory cgroup.
 *
 * Settings in sysfs and debugfs are changed, and restored by the next test and
 * at the end. Large folios are asked for with MADV_HUGEPAGE and "madvise", so
 * that other programs do not get in the way of the counters.
 */
#ifndef REFPAGE_SYSTEM_H
#define REFPAGE_SYSTEM_H

#include <glob.h>
#include <linux/kernel-page-flags.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>

#include "refpage-util.h"

#define THP		"/sys/kernel/mm/transparent_hugepage/"
#define KHUGEPAGED	THP "khugepaged/"
#define DEBUGFS		"/sys/kernel/debug/"
#define FAULT_AROUND	DEBUGFS "fault_around_bytes"
#define SPLIT		DEBUGFS "split_huge_pages"
#define FAIL_ALLOC	DEBUGFS "fail_page_alloc/"
#define UNPOISON	DEBUGFS "hwpoison/unpoison-pfn"
#define SCHED_NUMA	DEBUGFS "sched/numa_balancing/"
#define NUMA_BALANCING	"/proc/sys/kernel/numa_balancing"
#define PCP_FRACTION	"/proc/sys/vm/percpu_pagelist_high_fraction"
#define OVERCOMMIT	"/proc/sys/vm/overcommit_memory"
#define OVERCOMMIT_RATIO	"/proc/sys/vm/overcommit_ratio"

/* -- Settings of the system ----------------------------------------------- */

static const char *const setting_patterns[] = {
	THP "enabled", THP "defrag", THP "use_zero_page",
	THP "shrink_underused", THP "hugepages-*kB/enabled",
	KHUGEPAGED "defrag", KHUGEPAGED "max_ptes_*",
	KHUGEPAGED "pages_to_scan", KHUGEPAGED "*_millisecs",
	KSM "run", KSM "sleep_millisecs", KSM "pages_to_scan",
	KSM "smart_scan", KSM "use_zero_pages", FAULT_AROUND,
	NUMA_BALANCING, SCHED_NUMA "scan_*", PCP_FRACTION,
	FAIL_ALLOC "probability", FAIL_ALLOC "times", FAIL_ALLOC "min-order",
	FAIL_ALLOC "task-filter", FAIL_ALLOC "ignore-gfp-wait",
	FAIL_ALLOC "ignore-gfp-highmem",
	FAIL_ALLOC "verbose", OVERCOMMIT, OVERCOMMIT_RATIO,
};

/* What the tests change, as it was before the first of them. */
static struct {
	char path[96];
	char value[64];
} settings[64];
static size_t nr_settings;

static pid_t main_pid;

/* The orders of large folios that can be had; one of them maps by PMD. */
static unsigned int orders;
static unsigned int pmd_order;

static inline bool try_set(const char *path, const char *value)
{
	char now[64];

	if (get_setting(path, now) && !strcmp(now, value))
		return true;
	return file_write(path, value);
}

static inline void set(const char *path, const char *value)
{
	if (!try_set(path, value))
		die(path);
}

static inline void set_number(const char *path, unsigned long value)
{
	char text[24];

	sprintf(text, "%lu", value);
	set(path, text);
}

static inline const char *order_path(unsigned int order, const char *file)
{
	static char path[128];

	snprintf(path, sizeof(path), THP "hugepages-%lukB/%s",
		 bytes(1L << order) / 1024, file);
	return path;
}

static inline void restore_settings(void)
{
	for (size_t i = 0; i < nr_settings; i++)
		try_set(settings[i].path, settings[i].value);
}

static void __attribute__((constructor)) save_settings(void)
{
	unsigned long kb;
	glob_t found;

	main_pid = getpid();
	memcg_enabled_before =
		memcg_controller(CGROUP "cgroup.subtree_control");
	for (size_t i = 0; i < ARRAY_SIZE(setting_patterns); i++) {
		int flags = i ? GLOB_APPEND : 0;

		if (glob(setting_patterns[i], flags, NULL, &found) && !i)
			return;
	}
	for (size_t i = 0; i < found.gl_pathc; i++) {
		const char *path = found.gl_pathv[i];

		if (nr_settings == ARRAY_SIZE(settings))
			break;
		snprintf(settings[nr_settings].path, sizeof(settings[0].path),
			 "%s", path);
		if (!get_setting(path, settings[nr_settings].value))
			continue;
		nr_settings++;
		if (sscanf(path, THP "hugepages-%lukB", &kb) == 1)
			orders |= kb * 1024 / psize();
	}
	globfree(&found);
	/* Folios of two pages are not for anonymous memory. */
	orders &= ~3U;
	while (orders >> pmd_order > 1)
		pmd_order++;
	if (bytes(1UL << pmd_order) != (long)read_pmd_pagesize())
		orders = 0;
}

static void __attribute__((destructor)) restore_at_exit(void)
{
	if (getpid() != main_pid)
		return;
	restore_settings();
	memcg_remove();
}

/*
 * No large folios; khugepaged asleep, and lazy if it wakes up; all effort for a
 * folio that a test asks for.
 */
static inline void set_defaults(void)
{
	set(THP "enabled", "madvise");
	for (size_t i = 0; i < nr_settings; i++) {
		if (strstr(settings[i].path, "hugepages-"))
			set(settings[i].path, "never");
	}
	set(THP "defrag", "always");
	set(THP "use_zero_page", "1");
	set(KHUGEPAGED "scan_sleep_millisecs", "3600000");
	set(KHUGEPAGED "pages_to_scan", "1");
	set(KHUGEPAGED "max_ptes_none", "0");
}

static inline void set_order(unsigned int order, const char *value)
{
	set(order_path(order, "enabled"), value);
}

/* Folios of this order for those who advise MADV_HUGEPAGE. */
static inline void enable(unsigned int order)
{
	set_order(order, "madvise");
}

static inline bool set_fault_around(long pages)
{
	if (access(FAULT_AROUND, W_OK))
		return false;
	set_number(FAULT_AROUND, bytes(pages));
	return true;
}

/* -- Counters ------------------------------------------------------------- */

static inline long order_counter(unsigned int order, const char *name)
{
	char file[64];
	long value;

	snprintf(file, sizeof(file), "stats/%s", name);
	value = file_number(order_path(order, file), "");
	if (value < 0)
		die(order_path(order, file));
	return value;
}

/* -1 if the kernel does not count that. */
static inline long vm_counter(const char *name)
{
	char field[64];

	snprintf(field, sizeof(field), "%s ", name);
	return file_number("/proc/vmstat", field);
}

static inline long minor_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

/* -- Memory of each kind -------------------------------------------------- */

struct kind {
	bool anon;		/* the control: memory born with zeros */
	bool whole_page;	/* or else a pattern of 1 << @n bytes */
	unsigned int n;
	int byte;		/* all bytes are this one; -1: they differ */
};

static const struct kind kind_anon = { .anon = true };
static const struct kind kind_byte = { .byte = 0xaa };
static const struct kind kind_word = { .n = 3, .byte = -1 };
static const struct kind kind_page = { .whole_page = true, .byte = -1 };

static int memory_fd = -1;	/* of anonymous memory: -1 */
static int memory_type = MAP_PRIVATE;	/* or MAP_DROPPABLE */
static int pagemap_fd;
static int flags_fd;
static unsigned char *witness;
static unsigned long reference_pfn;

/* What is seen there is the process that opened it. */
static inline void open_pagemap(void)
{
	pagemap_fd = open("/proc/self/pagemap", O_RDONLY);
	if (pagemap_fd < 0)
		die("/proc/self/pagemap");
}

static inline pid_t fork_child(void)
{
	pid_t pid = fork();

	if (!pid)
		open_pagemap();
	return pid;
}

static inline bool anon(void)
{
	return memory_fd < 0;
}

static inline void make_content(const struct kind *kind)
{
	long size = kind->whole_page ? psize() : 1UL << kind->n;
	unsigned long state = 1;

	content = map_anon(1, RW);
	for (long i = 0; i < psize(); i++) {
		content[i] = kind->byte;
		if (kind->byte < 0)
			content[i] = i < size ? next_random(&state) >> 32 :
						content[i - size];
	}
}

static inline const char *make_descriptor(const struct kind *kind)
{
	unsigned int flags = REFPAGE_PATTERN_SIZE(kind->n);

	memory_fd = refpage_create(content, kind->whole_page ? 0 : flags);
	if (memory_fd < 0 && syscall_is_absent())
		return "the kernel has no refpage_create()";
	if (memory_fd < 0)
		die("refpage_create");
	witness = map(memory_fd, 1, PROT_READ);
	load(witness);
	reference_pfn = pagemap_get_pfn(pagemap_fd, (char *)witness);
	return NULL;
}

/* Returns why not, if that is so. */
static inline const char *prepare_small(const struct kind *kind)
{
	if (geteuid())
		return "not root";
	if (orders && access(THP "enabled", W_OK))
		return "sysfs is read-only";
	/* If the last test was killed */
	restore_settings();
	memcg_remove();

	if (orders)
		set_defaults();
	flags_fd = open("/proc/kpageflags", O_RDONLY);
	if (flags_fd < 0)
		return "no /proc/kpageflags";
	open_pagemap();
	make_content(kind);
	return kind->anon ? NULL : make_descriptor(kind);
}

/* The same for tests that need large folios. */
static inline const char *prepare(const struct kind *kind)
{
	if (!geteuid() && !orders)
		return "no transparent huge pages";
	if (orders && read_pmd_pagesize() > 32 << 20)
		return "huge pages are too large";
	return prepare_small(kind);
}

/* Nothing has written to the reference page. */
static inline bool finish(void)
{
	restore_settings();
	memcg_remove();
	return anon() || is_content(witness, 1);
}

static inline unsigned char *memory_at(void *addr, long pages, int flags)
{
	void *p;

	flags |= memory_type | MAP_FIXED | (anon() ? MAP_ANONYMOUS : 0);
	p = mmap(addr, bytes(pages), RW, flags, memory_fd, 0);
	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static inline long pmd_pages(void)
{
	return 1L << pmd_order;
}

/*
 * Address space, @offset pages after the beginning of a page table, with more
 * on both sides: what is mapped there merges with nothing.
 */
static inline unsigned char *reserve(long pages, long offset)
{
	const unsigned long align = bytes(pmd_pages());
	uintptr_t p;

	p = (uintptr_t)map_anon(pages + offset + 2 * pmd_pages(), PROT_NONE);
	return (unsigned char *)((p + align) & -align) + bytes(offset);
}

static inline unsigned char *memory(long pages)
{
	return memory_at(reserve(pages, 0), pages, 0);
}

static inline void advise(void *p, long pages, int advice)
{
	if (madvise(p, bytes(pages), advice))
		die("madvise");
}

/* Memory that may have large folios, of the orders that are enabled. */
static inline unsigned char *huge_memory(long pages)
{
	unsigned char *p = memory(pages);

	advise(p, pages, MADV_HUGEPAGE);
	return p;
}

/*
 * Pages that are stored to are marked: each at another offset, one page in
 * @step, the third at first; or all.
 */
static inline bool is_marked_page(long i, long step)
{
	return i % step == 2 % step;
}

static inline void mark_part(unsigned char *p, long first, long last,
			     long step)
{
	for (long i = first; i < last; i++) {
		if (is_marked_page(i, step))
			store(p + bytes(i), mixed_offset(i));
	}
}

static inline void mark(unsigned char *p, long pages, long step)
{
	mark_part(p, 0, pages, step);
}

/* Are pages @first to @last - 1 of memory at @p marked, or else the content? */
static inline bool is_marked_part(const unsigned char *p, long first,
				  long last, long step)
{
	for (long i = first; i < last; i++) {
		const unsigned char *want = content;

		if (is_marked_page(i, step))
			want = altered(mixed_offset(i), 1);
		if (!same(p + bytes(i), want, psize())) {
			ksft_print_msg("in page %zu\n", i);
			return false;
		}
	}
	return true;
}

static inline bool is_marked(const unsigned char *p, long pages, long step)
{
	return is_marked_part(p, 0, pages, step);
}

/* The control, where memory_fd is that of another kind */
static inline unsigned char *anon_memory(long pages)
{
	int fd = memory_fd;
	unsigned char *p;

	memory_fd = -1;
	p = memory(pages);
	memory_fd = fd;
	return p;
}

/* -- Looking at pages ----------------------------------------------------- */

enum state {
	NONE,
	FRESH,		/* the reference page; of anonymous memory, zeros */
	ZEROS,		/* the zero page where it is not the content */
	PRIVATE,
	SWAPPED,
};

static inline __u64 page_flags(unsigned long pfn)
{
	__u64 flags;

	if (pread(flags_fd, &flags, sizeof(flags), pfn * sizeof(flags)) !=
	    sizeof(flags))
		die("/proc/kpageflags");
	return flags;
}

static inline enum state entry_state(__u64 entry)
{
	if (entry & PM_SWAP)
		return SWAPPED;
	if (!(entry & PM_PRESENT))
		return NONE;
	if (!anon() && PAGEMAP_PFN(entry) == reference_pfn)
		return FRESH;
	if (page_flags(PAGEMAP_PFN(entry)) & BIT_ULL(KPF_ZERO_PAGE))
		return anon() ? FRESH : ZEROS;
	return PRIVATE;
}

static inline enum state page_state(const void *p)
{
	return entry_state(pagemap_get_entry(pagemap_fd, (char *)p));
}

static inline long count(const unsigned char *p, long pages, enum state state)
{
	long found = 0, n;
	__u64 entries[64];

	for (long i = 0; i < pages; i++) {
		n = i % ARRAY_SIZE(entries);
		if (!n && pread(pagemap_fd, entries, sizeof(entries),
				((uintptr_t)p / psize() + i) * sizeof(__u64)) !=
			  sizeof(entries))
			die("pagemap");
		found += entry_state(entries[n]) == state;
	}
	return found;
}

static inline bool is_page_of_folio(__u64 entry, unsigned int order, long i)
{
	__u64 want = BIT_ULL(KPF_ANON), mask;

	mask = want | BIT_ULL(KPF_THP) | BIT_ULL(KPF_COMPOUND_HEAD) |
	       BIT_ULL(KPF_COMPOUND_TAIL);
	if (order)
		want |= BIT_ULL(KPF_THP) | BIT_ULL(i ? KPF_COMPOUND_TAIL :
						       KPF_COMPOUND_HEAD);
	return (page_flags(PAGEMAP_PFN(entry)) & mask) == want;
}

/* Does one folio, of this order, map here? With order 0: a small one. */
static inline bool is_folio(const unsigned char *p, unsigned int order)
{
	__u64 first = pagemap_get_entry(pagemap_fd, (char *)p), entry;
	unsigned long pfn = PAGEMAP_PFN(first);

	if (!(first & PM_PRESENT) || pfn & ((1L << order) - 1)) {
		ksft_print_msg("%p: pagemap %#llx\n", p, (long long)first);
		return false;
	}
	for (long i = 0; i < 1L << order; i++) {
		entry = pagemap_get_entry(pagemap_fd, (char *)p + bytes(i));
		if (PAGEMAP_PFN(entry) == pfn + i &&
		    is_page_of_folio(entry, order, i))
			continue;
		ksft_print_msg("page %zu at %p: pagemap %#llx, flags %#llx\n",
			       i, p, (long long)entry,
			       (long long)page_flags(PAGEMAP_PFN(entry)));
		return false;
	}
	/* It is not part of a larger one. */
	return !(page_flags(pfn + (1L << order)) & BIT_ULL(KPF_COMPOUND_TAIL));
}

/* -- What is done to memory ----------------------------------------------- */

/* To folios of 1 << @order pages; page by page when that is 0. */
static inline bool split(unsigned char *p, long pages, unsigned int order)
{
	char text[100];

	snprintf(text, sizeof(text), "%d,0x%lx,0x%lx,%u", getpid(),
		 (unsigned long)p, (unsigned long)p + bytes(pages), order);
	return file_write(SPLIT, text);
}

/* A page may be busy for a moment. Returns the error. */
static inline int collapse(unsigned char *p, long pages)
{
	int tries = 0, err;

	do {
		err = madvise(p, bytes(pages), MADV_COLLAPSE) ? errno : 0;
	} while (err == EAGAIN && ++tries < 100);
	return err;
}

static inline bool no_swap(void)
{
	return file_number("/proc/meminfo", "SwapFree:") <= 0;
}

/* A page that is busy stays; that of another CPU's batch, too. */
static inline bool page_out(unsigned char *p, long pages)
{
	for (int tries = 0; tries < 100; tries++) {
		advise(p, pages, MADV_PAGEOUT);
		if (!count(p, pages, PRIVATE))
			return true;
	}
	ksft_print_msg("%zu pages are not swapped out\n",
		       count(p, pages, PRIVATE));
	return false;
}

static inline void unpoison(unsigned long pfn)
{
	char text[24];

	sprintf(text, "%#lx", pfn);
	file_write(UNPOISON, text);
}

static inline bool guard(unsigned char *p, long pages)
{
	return !madvise(p, bytes(pages), MADV_GUARD_INSTALL);
}

static inline long move_pages(unsigned char *p, long pages, int *to,
			      int *status)
{
	void **addresses = calloc(pages, sizeof(*addresses));
	long ret;

	for (long i = 0; i < pages; i++)
		addresses[i] = p + bytes(i);
	ret = syscall(__NR_move_pages, 0, pages, addresses, to, status,
		      MPOL_MF_MOVE);
	free(addresses);
	return ret;
}

/* How many of these pages are on this node? */
static inline long count_on_node(unsigned char *p, long pages, int node)
{
	int *status = calloc(pages, sizeof(*status));
	long found = 0;

	if (move_pages(p, pages, NULL, status))
		die("move_pages");
	for (long i = 0; i < pages; i++)
		found += status[i] == node;
	free(status);
	return found;
}

static inline bool one_node(void)
{
	return access("/sys/devices/system/node/node1", F_OK);
}

static inline long ksm_scans(void)
{
	return file_number(KSM "full_scans", "");
}

/* Let KSM look at everything a few times. */
static inline bool ksm_scan(void)
{
	long scans;

	if (access(KSM "run", W_OK))
		return false;
	try_set(KSM "smart_scan", "0");
	set(KSM "sleep_millisecs", "0");
	set(KSM "pages_to_scan", "10000");
	set(KSM "run", "1");
	scans = ksm_scans();
	while (ksm_scans() < scans + 4)
		usleep(1000);
	set(KSM "run", "0");
	return true;
}

/* Have the first page, which is zeros, replaced by the zero page. */
static inline bool ksm_zero_page(unsigned char *p, long pages)
{
	bool done;

	advise(p, pages, MADV_MERGEABLE);
	done = try_set(KSM "use_zero_pages", "1") && ksm_scan();
	if (done && count(p, 1, anon() ? FRESH : ZEROS) != 1)
		die("KSM did not take zeros for zeros");
	return done;
}

/* -- Watching for stores --------------------------------------------------- */

/* Features of userfaultfd for its asynchronous mode */
#define WATCH_STORES \
	(UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED)

/* Negative if there is no userfaultfd, or not with these features. */
static inline int open_userfaultfd(__u64 features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);

	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api))
		return -1;
	return fd;
}

/* What is stored to from now on is reported as written. */
static inline void write_protect(unsigned char *p, long pages)
{
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + bytes(pages),
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};

	if (ioctl(pagemap_fd, PAGEMAP_SCAN, &arg) < 0)
		die("PAGEMAP_SCAN");
}

#endif /* REFPAGE_SYSTEM_H */
