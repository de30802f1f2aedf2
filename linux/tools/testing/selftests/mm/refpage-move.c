// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of refpage_create(2): what moves private pages, and what merges them.
 *
 * The property: private pages of a refpage mapping are pages of anonymous
 * memory to whoever wants them elsewhere or wants fewer of them: memory
 * policies, NUMA balancing, hot-remove, compaction and KSM. They keep every
 * byte on the way. The reference page never moves and never merges, and stays
 * out of the way of those who cannot do without moving everything. Each test
 * runs on anonymous memory, too. What a comment below says to be caught is the
 * mistake in the kernel that makes the test fail.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/kernel-page-flags.h>
#include <linux/mempolicy.h>
#include <linux/mman.h>
#include <linux/prctl.h>
#include <sched.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "refpage-system.h"

#define CPUSET		CGROUP "refpage-cpuset/"
#define BLOCKS		"/sys/devices/system/memory/"
#define COMPACT		"/proc/sys/vm/compact_memory"

static unsigned long pfn_at(const unsigned char *p)
{
	return pagemap_get_pfn(pagemap_fd, (char *)p);
}

/* -- Fixture: memory of one kind, in folios of one order ------------------ */

static unsigned int folio_order;

FIXTURE(move)
{
};

FIXTURE_VARIANT(move)
{
	const struct kind *kind;
	unsigned int order;
};

FIXTURE_VARIANT_ADD(move, anon)
{
	.kind = &kind_anon,
};

FIXTURE_VARIANT_ADD(move, anon_order_4)
{
	.kind = &kind_anon, .order = 4,
};

FIXTURE_VARIANT_ADD(move, byte)
{
	.kind = &kind_byte,
};

FIXTURE_VARIANT_ADD(move, byte_order_4)
{
	.kind = &kind_byte, .order = 4,
};

FIXTURE_VARIANT_ADD(move, page)
{
	.kind = &kind_page,
};

FIXTURE_VARIANT_ADD(move, page_order_4)
{
	.kind = &kind_page, .order = 4,
};

FIXTURE_SETUP(move)
{
	const char *why = prepare(variant->kind);

	if (why)
		SKIP(return, "%s", why);
	folio_order = variant->order;
	if (folio_order && !(orders & 1U << folio_order))
		SKIP(return, "no folios of order %u", folio_order);
	if (!set_fault_around(1))
		SKIP(return, "no " FAULT_AROUND);
	stay_on_this_cpu();
}

FIXTURE_TEARDOWN(move)
{
	EXPECT_TRUE(finish());
}

/* Has the reference page stayed where it was? */
static bool is_reference_page_there(void)
{
	if (anon())
		return true;
	load(witness);
	return pfn_at(witness) == reference_pfn;
}

static unsigned char *folio_memory(long pages)
{
	if (!folio_order)
		return memory(pages);
	enable(folio_order);
	return huge_memory(pages);
}

/* Of each mapping: pages that are stored to, then loaded ones, then others */
#define STORED	32L
#define LOADED	16L
#define PAGES	64L

static long set_policy(int mode, unsigned long nodes)
{
	return syscall(__NR_set_mempolicy, mode, nodes ? &nodes : NULL,
		       nodes ? 8 * sizeof(nodes) : 0);
}

static long bind_pages(unsigned char *p, long pages, int mode,
		       unsigned long nodes, unsigned int flags)
{
	return syscall(__NR_mbind, p, bytes(pages), mode, &nodes,
		       8 * sizeof(nodes), flags);
}

/* Memory with private pages on @node, to which nothing but that binds it */
static unsigned char *memory_on(int node)
{
	unsigned char *p = folio_memory(PAGES);

	if (set_policy(MPOL_BIND, 1UL << node))
		die("set_mempolicy");
	mark(p, STORED, 1);
	load_pages(p + bytes(STORED), LOADED);
	if (set_policy(MPOL_DEFAULT, 0))
		die("set_mempolicy");
	if (count_on_node(p, STORED, node) != STORED ||
	    !is_folio(p, folio_order))
		die("memory on that node");
	drain_batches();
	return p;
}

/* What was stored, what was loaded, and what was not, is as it was made. */
static bool is_as_made(unsigned char *p)
{
	return count(p, STORED, PRIVATE) == STORED &&
	       count(p + bytes(STORED), LOADED, FRESH) == LOADED &&
	       count(p + bytes(STORED + LOADED), PAGES - STORED - LOADED,
		     NONE) == PAGES - STORED - LOADED &&
	       is_marked(p, STORED, 1) &&
	       is_content(p + bytes(STORED), LOADED) &&
	       is_reference_page_there();
}

/* -- Policies ------------------------------------------------------------- */

/*
 * mbind() moves what is on another node, and later stores are given pages of
 * that node. Catches a policy that is looked up as that of a file, and pages of
 * the content that are moved as others are, or are in the way.
 */
TEST_F(move, mbind)
{
	unsigned char *p;

	if (one_node())
		SKIP(return, "one memory node");
	p = memory_on(0);
	for (int to = 1; to >= 0; to--) {
		ASSERT_EQ(0, bind_pages(p, PAGES, MPOL_BIND, 1UL << to,
					MPOL_MF_MOVE | MPOL_MF_STRICT));
		EXPECT_EQ(STORED, count_on_node(p, STORED, to));
		EXPECT_TRUE(is_as_made(p));
	}
	ASSERT_EQ(0, bind_pages(p, PAGES, MPOL_BIND, 2, 0));
	store(p + bytes(PAGES - 1), 0);
	EXPECT_EQ(1, count_on_node(p + bytes(PAGES - 1), 1, 1));
	store(p + bytes(STORED), 0);
	EXPECT_EQ(1, count_on_node(p + bytes(STORED), 1, 1));
	EXPECT_TRUE(is_marked(p, STORED, 1));
}

/*
 * MPOL_MF_STRICT finds private pages that are elsewhere, and does not mind the
 * reference page, wherever that is. Catches EIO for memory of which all can go
 * where the policy says.
 */
TEST_F(move, mbind_strict)
{
	unsigned char *p;

	if (one_node())
		SKIP(return, "one memory node");
	for (int node = 0; node <= 1; node++) {
		p = memory_on(node);
		EXPECT_EQ(0, bind_pages(p, PAGES, MPOL_BIND, 1UL << node,
					MPOL_MF_STRICT));
		EXPECT_EQ(-1, bind_pages(p, PAGES, MPOL_BIND, 1UL << !node,
					 MPOL_MF_STRICT));
		EXPECT_EQ(EIO, errno);
		EXPECT_EQ(0, bind_pages(p + bytes(STORED), PAGES - STORED,
					MPOL_BIND, 1UL << !node,
					MPOL_MF_STRICT));
		EXPECT_EQ(STORED, count_on_node(p, STORED, node));
		EXPECT_TRUE(is_as_made(p));
	}
}

/*
 * Pages that another process has as well move for MPOL_MF_MOVE_ALL only; that
 * they do not for MPOL_MF_MOVE is no error. Catches the child being left with
 * what was there.
 */
TEST_F(move, mbind_shared)
{
	int child[2];
	unsigned char *p;
	pid_t pid;

	if (one_node())
		SKIP(return, "one memory node");
	p = memory_on(0);
	ASSERT_EQ(0, pipe(child));
	pid = fork_child();
	if (!pid) {
		wait_for(child);
		EXPECT_EQ(STORED, count_on_node(p, STORED, 1));
		EXPECT_TRUE(is_as_made(p));
		store(p, 1);
		_exit(0);
	}
	EXPECT_EQ(0, bind_pages(p, PAGES, MPOL_BIND, 2,
				MPOL_MF_MOVE | MPOL_MF_STRICT));
	EXPECT_EQ(STORED, count_on_node(p, STORED, 0));
	EXPECT_EQ(0, bind_pages(p, PAGES, MPOL_BIND, 2,
				MPOL_MF_MOVE_ALL | MPOL_MF_STRICT));
	EXPECT_EQ(STORED, count_on_node(p, STORED, 1));
	tell(child);
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_as_made(p));
}

/* Do folios alternate between the nodes? */
static bool is_interleaved(unsigned char *p, long pages)
{
	const long step = 1L << folio_order;
	int first = count_on_node(p, step, 1) ? 1 : 0;

	for (long i = 0; i < pages / step; i++) {
		int node = i % 2 ? !first : first;

		if (count_on_node(p + bytes(i * step), step, node) == step)
			continue;
		ksft_print_msg("folio %zu is not on node %d\n", i, node);
		return false;
	}
	return true;
}

/*
 * Interleaved memory goes round the nodes by folio, by the policy of the task
 * and of the mapping. Catches all of it on one node, as would follow from an
 * offset that is not that of the page.
 */
TEST_F(move, interleave)
{
	unsigned char *p;

	if (one_node())
		SKIP(return, "one memory node");
	p = folio_memory(PAGES);
	ASSERT_EQ(0, set_policy(MPOL_INTERLEAVE, 3));
	mark(p, PAGES, 1);
	ASSERT_EQ(0, set_policy(MPOL_DEFAULT, 0));
	EXPECT_TRUE(is_interleaved(p, PAGES));
	EXPECT_TRUE(is_marked(p, PAGES, 1));

	p = folio_memory(PAGES);
	ASSERT_EQ(0, bind_pages(p, PAGES, MPOL_INTERLEAVE, 3, 0));
	mark(p, PAGES, 1);
	EXPECT_TRUE(is_interleaved(p, PAGES));
	EXPECT_TRUE(is_marked(p, PAGES, 1));
}

/* -- Migration on request ------------------------------------------------- */

/*
 * migrate_pages() moves all that a process has on a node. Catches mappings that
 * are passed over because they are of a file.
 */
TEST_F(move, migrate_pages)
{
	unsigned long from = 1, to = 2;
	pid_t pid;

	if (one_node())
		SKIP(return, "one memory node");
	pid = fork_child();
	if (!pid) {
		unsigned char *p = memory_on(0);

		/* Something may be in the way for a moment. */
		for (int tries = 0; tries < 10; tries++) {
			EXPECT_LE(0, syscall(__NR_migrate_pages, 0,
					     8 * sizeof(from), &from, &to));
			if (count_on_node(p, STORED, 1) == STORED)
				break;
		}
		EXPECT_EQ(STORED, count_on_node(p, STORED, 1));
		EXPECT_TRUE(is_folio(p, folio_order));
		EXPECT_TRUE(is_as_made(p));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
}

/*
 * The status of one page, after an attempt to move it to a node if @to is one
 */
static int status_of(unsigned char *p, int to)
{
	int status = 12345;

	if (move_pages(p, 1, to < 0 ? NULL : &to, &status) < 0)
		die("move_pages");
	return status;
}

/*
 * move_pages() tells the node of a private page, and that of others there is
 * none. Catches the node of a page that is swapped out or a guard.
 */
TEST_F(move, move_pages_status)
{
	unsigned char *p;
	int to;

	if (one_node())
		SKIP(return, "one memory node");
	if (no_swap())
		SKIP(return, "no swap space");
	p = memory_on(0);
	ASSERT_TRUE(page_out(p, STORED / 2));
	ASSERT_TRUE(guard(p + bytes(PAGES - 1), 1));
	for (to = 1; to >= -1; to--) {
		EXPECT_EQ(-ENOENT, status_of(p, to));
		EXPECT_EQ(-ENOENT, status_of(p + bytes(PAGES - 2), to));
		EXPECT_EQ(-ENOENT, status_of(p + bytes(PAGES - 1), to));
		EXPECT_EQ(to < 0 ? 0 : to,
			  status_of(p + bytes(STORED - 1), to));
	}
	EXPECT_TRUE(is_marked(p, STORED, 1));
	EXPECT_TRUE(is_content(p + bytes(STORED), PAGES - STORED - 1));
}

/*
 * A page that was only loaded cannot be moved, and is on no node: EFAULT says
 * that it is the zero page, ENOENT that no page of the process is there. Catches
 * a reference page that is taken for a private page.
 */
TEST_F(move, move_pages_status_of_loaded)
{
	unsigned char *p = folio_memory(PAGES);

	if (one_node())
		SKIP(return, "one memory node");
	load_pages(p, PAGES);
	for (int to = 1; to >= -1; to--)
		EXPECT_EQ(anon() ? -EFAULT : -ENOENT,
			  status_of(p + bytes(3), to));
	EXPECT_EQ(PAGES, count(p, PAGES, FRESH));
	EXPECT_TRUE(is_content(p, PAGES));
}

static void cpuset_remove(void)
{
	rmdir(CPUSET);
	file_write(CGROUP "cgroup.subtree_control", "-cpuset");
}

/*
 * A process whose cpuset is given other nodes takes its memory along. Catches
 * the same mistakes as migrate_pages(), on another way there.
 */
TEST_F(move, cpuset)
{
	pid_t pid;
	char text[64];

	if (one_node())
		SKIP(return, "one memory node");
	if (!get_setting(CGROUP "cgroup.controllers", text) ||
	    !strstr(text, "cpuset"))
		SKIP(return, "no cpuset controller in cgroup v2 at " CGROUP);
	cpuset_remove();
	ASSERT_TRUE(file_write(CGROUP "cgroup.subtree_control", "+cpuset"));
	ASSERT_EQ(0, mkdir(CPUSET, 0755));
	EXPECT_TRUE(file_write(CPUSET "cpuset.mems", "0"));
	pid = fork_child();
	if (!pid) {
		unsigned char *p;

		EXPECT_TRUE(file_write(CPUSET "cgroup.procs", "0"));
		p = memory_on(0);
		for (int node = 1; node >= 0; node--) {
			sprintf(text, "%d", node);
			EXPECT_TRUE(file_write(CPUSET "cpuset.mems", text));
			EXPECT_EQ(STORED, count_on_node(p, STORED, node));
			EXPECT_TRUE(is_as_made(p));
		}
		store(p + bytes(PAGES - 1), 0);
		EXPECT_EQ(1, count_on_node(p + bytes(PAGES - 1), 1, 0));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	cpuset_remove();
}

/* -- NUMA balancing ------------------------------------------------------- */

/* Not of the vDSO, which does not know the nodes of numa=fake. */
static int this_node(void)
{
	unsigned int cpu, node;

	if (syscall(__NR_getcpu, &cpu, &node, NULL))
		die("getcpu");
	return node;
}

static const char *prepare_numa_balancing(void)
{
	if (one_node())
		return "one memory node";
	if (access(NUMA_BALANCING, W_OK) || access(SCHED_NUMA, F_OK))
		return "no NUMA balancing";
	set(NUMA_BALANCING, "0");
	set(SCHED_NUMA "scan_delay_ms", "1");
	set(SCHED_NUMA "scan_period_min_ms", "10");
	set(SCHED_NUMA "scan_period_max_ms", "100");
	set(SCHED_NUMA "scan_size_mb", "64");
	return NULL;
}

/*
 * Use memory on the other node for as long as it takes to be moved to this one;
 * if that does not come to an end, it does not happen.
 */
static bool is_drawn_near(unsigned char *p, long pages)
{
	time_t end = time(NULL) + 20;
	int node = this_node();

	while (count_on_node(p, pages, node) < pages) {
		if (time(NULL) > end) {
			ksft_print_msg("%zu of %zu pages are on node %d\n",
				       count_on_node(p, pages, node), pages,
				       node);
			return false;
		}
		for (int i = 0; i < 1000; i++)
			load_pages(p, pages);
	}
	return true;
}

/*
 * The first that is seen of memory is that it is far away: memory that a
 * process has not used before it was looked at twice is looked at rarely from
 * then on.
 */
static void check_numa_balancing(struct __test_metadata *_metadata, int prot)
{
	const char *why = prepare_numa_balancing();
	long updates, faults;
	pid_t pid;

	if (why)
		SKIP(return, "%s", why);
	updates = vm_counter("numa_pte_updates");
	faults = vm_counter("numa_hint_faults");
	pid = fork_child();
	if (!pid) {
		unsigned char *p = memory_on(!this_node());

		if (mprotect(p, bytes(PAGES), prot))
			die("mprotect");
		set(NUMA_BALANCING, "1");
		EXPECT_TRUE(is_drawn_near(p, STORED));
		EXPECT_TRUE(is_folio(p, folio_order));
		EXPECT_TRUE(is_as_made(p));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_LE(updates + STORED, vm_counter("numa_pte_updates"));
	EXPECT_LT(faults, vm_counter("numa_hint_faults"));
}

/*
 * Pages that a process uses come to the node that it runs on. Catches hints
 * that are given to the reference page, or not to the pages of a file.
 */
TEST_F_TIMEOUT(move, numa_balancing, 120)
{
	check_numa_balancing(_metadata, RW);
}

/* Those that it may only read, too: they are no pages of a shared library. */
TEST_F_TIMEOUT(move, numa_balancing_read_only, 120)
{
	check_numa_balancing(_metadata, PROT_READ);
}

/* -- Hot-remove and compaction -------------------------------------------- */

/* Is this page in a zone of this name? */
static bool is_in_zone(unsigned long pfn, const char *name)
{
	unsigned long spanned = 0, number;
	FILE *file = fopen("/proc/zoneinfo", "r");
	bool inside = false, found = false;
	char line[256], zone[32];

	if (!file)
		die("/proc/zoneinfo");
	while (!found && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "Node %*d, zone %31s", zone) == 1)
			inside = !strcmp(zone, name);
		else if (sscanf(line, " spanned %lu", &number) == 1)
			spanned = number;
		else if (sscanf(line, " start_pfn: %lu", &number) == 1)
			found = inside && pfn - number < spanned;
	}
	fclose(file);
	return found;
}

/*
 * The reference page lies where pages lie that cannot move. Catches one that is
 * in the way of hot-remove, which ZONE_MOVABLE is for, where private pages are.
 */
TEST_F(move, zone_movable)
{
	unsigned char *p = folio_memory(PAGES), *q;
	unsigned long state = 7;

	mark(p, STORED, 1);
	if (!is_in_zone(pfn_at(p), "Movable"))
		SKIP(return, "no ZONE_MOVABLE (movablecore=512M)");
	for (long i = 0; i < STORED; i++)
		EXPECT_TRUE(is_in_zone(pfn_at(p + bytes(i)), "Movable"));
	if (anon())
		return;
	EXPECT_FALSE(is_in_zone(reference_pfn, "Movable"));
	for (int i = 0; i < 64; i++) {
		unsigned long random = next_random(&state);
		int fd = refpage_create(&random, REFPAGE_PATTERN_SIZE(3));

		ASSERT_LE(0, fd);
		q = map(fd, 1, PROT_READ);
		load(q);
		EXPECT_FALSE(is_in_zone(pfn_at(q), "Movable"));
	}
}

static unsigned long block_of(unsigned long pfn)
{
	static unsigned long pages;
	char text[64];

	if (!pages) {
		if (!file_text(BLOCKS "block_size_bytes", "", text))
			die(BLOCKS "block_size_bytes");
		pages = strtoul(text, NULL, 16) / psize();
	}
	return pfn / pages;
}

/* Returns the error. */
static int set_block(unsigned long block, const char *state)
{
	char path[64];

	snprintf(path, sizeof(path), BLOCKS "memory%lu/state", block);
	return file_write(path, state) ? 0 : errno;
}

/*
 * A block of ZONE_MOVABLE that can be taken offline: not all can, as boot may
 * have left something there. Returns why there is none.
 */
static const char *find_block(unsigned long *block)
{
	const char *why = "no ZONE_MOVABLE (movablecore=512M)";
	char path[64], zones[64];
	int err;

	if (access(BLOCKS "block_size_bytes", R_OK))
		return "no CONFIG_MEMORY_HOTREMOVE";
	for (*block = 0; *block < 1024; ++*block) {
		snprintf(path, sizeof(path), BLOCKS "memory%lu/valid_zones",
			 *block);
		if (!file_text(path, "", zones) || strcmp(zones, "Movable"))
			continue;
		err = set_block(*block, "offline");
		if (!err && set_block(*block, "online_movable"))
			die("online_movable");
		if (!err)
			return NULL;
		if (err == EPERM)
			why = "memory of boot cannot be removed here";
	}
	return why;
}

static long count_in_block(unsigned char *p, long pages, unsigned long block)
{
	long found = 0;

	for (long i = 0; i < pages; i++)
		found += block_of(pfn_at(p + bytes(i))) == block;
	return found;
}

/* Take memory until some of it is in that block. NULL if there is no more. */
static unsigned char *memory_in_block(long pages, unsigned long block)
{
	unsigned char *p = NULL;
	bool found = false;

	for (int i = 0; !found && i < 2048; i++) {
		if (!one_node() && set_policy(MPOL_BIND, 1UL << i % 2))
			die("set_mempolicy");
		p = folio_memory(pages);
		mark(p, pages, 1);
		found = count_in_block(p, pages, block);
	}
	set_policy(MPOL_DEFAULT, 0);
	return found ? p : NULL;
}

/*
 * A block of memory goes offline, and what is in it moves. Catches private
 * pages that cannot be found from the page, and a reference page that is in
 * the way.
 */
TEST_F_TIMEOUT(move, hot_remove, 120)
{
	const long pages = 256;
	unsigned long block = 0;
	const char *why = find_block(&block);
	unsigned char *p, *q = memory(LOADED);
	int err;

	if (why)
		SKIP(return, "%s", why);
	load_pages(q, LOADED);
	p = memory_in_block(pages, block);
	ASSERT_NE(NULL, p);
	/* A page may be busy for a moment. */
	for (int tries = 0; tries < 20; tries++) {
		err = set_block(block, "offline");
		if (!err)
			break;
	}
	ASSERT_EQ(0, err);
	EXPECT_EQ(0, count_in_block(p, pages, block));
	EXPECT_EQ(pages, count(p, pages, PRIVATE));
	EXPECT_TRUE(is_marked(p, pages, 1));
	EXPECT_EQ(LOADED, count(q, LOADED, FRESH));
	EXPECT_TRUE(is_reference_page_there());
	EXPECT_EQ(0, set_block(block, "online_movable"));
	advise(p, pages, MADV_DONTNEED);
	EXPECT_TRUE(is_content(p, pages));
}

/*
 * Compaction of memory with holes moves pages, and keeps what they hold.
 * Catches an entry that is not found again, and a reference page that is
 * moved.
 */
TEST_F_TIMEOUT(move, compaction, 120)
{
	const long pages = (32L << 20) / psize(), step = 1L << folio_order;
	unsigned long *pfn = calloc(pages, sizeof(*pfn));
	unsigned char *p = folio_memory(pages);
	long moved = 0, migrated;

	if (access(COMPACT, W_OK))
		SKIP(return, "no compaction");
	/* What is freed does not stay in the lists of a processor. */
	try_set(PCP_FRACTION, "100000");
	mark(p, pages, 1);
	for (long i = 0; i < pages / step; i++) {
		if (i % 4)
			advise(p + bytes(i * step), step, MADV_DONTNEED);
	}
	drain_batches();
	for (long i = 0; i < pages; i++)
		pfn[i] = pfn_at(p + bytes(i));
	migrated = vm_counter("pgmigrate_success");
	ASSERT_TRUE(file_write(COMPACT, "1"));
	for (long i = 0; i < pages; i++) {
		bool stored = i / step % 4 == 0;

		moved += stored && pfn_at(p + bytes(i)) != pfn[i];
		if (stored)
			EXPECT_TRUE(is_marked_part(p, i, i + 1, 1));
	}
	EXPECT_LT(0, moved) {
		TH_LOG("%ld migrated; pages %#lx to %#lx",
		       vm_counter("pgmigrate_success") - migrated,
		       pfn[0], pfn[pages - 4 * step]);
	}
	EXPECT_LE(migrated + moved, vm_counter("pgmigrate_success"));
	EXPECT_EQ(pages / 4, count(p, pages, PRIVATE));
	EXPECT_TRUE(is_reference_page_there());
	free(pfn);
}

/* -- Fixture: memory that KSM may merge ----------------------------------- */

static const struct kind kind_zero = {};	/* one byte, and that is 0 */

/* What all pages of memory that is to be merged are filled with */
#define EQUAL	0x99
#define MERGED	8L

FIXTURE(merge)
{
};

FIXTURE_VARIANT(merge)
{
	const struct kind *kind;
};

FIXTURE_VARIANT_ADD(merge, anon)
{
	.kind = &kind_anon,
};

FIXTURE_VARIANT_ADD(merge, byte)
{
	.kind = &kind_byte,
};

FIXTURE_VARIANT_ADD(merge, page)
{
	.kind = &kind_page,
};

FIXTURE_VARIANT_ADD(merge, zero)
{
	.kind = &kind_zero,
};

static unsigned char *fill(unsigned char *p, long pages, unsigned char byte)
{
	memset(p, byte, bytes(pages));
	advise(p, pages, MADV_MERGEABLE);
	return p;
}

/* Scans come to no end where nothing may be merged: there is always this. */
static void keep_ksm_busy(void)
{
	fill(memory(1), 1, 0x55);
}

FIXTURE_SETUP(merge)
{
	const char *why = prepare(variant->kind);

	if (why)
		SKIP(return, "%s", why);
	if (access(KSM "run", W_OK))
		SKIP(return, "no KSM");
	if (!set_fault_around(1))
		SKIP(return, "no " FAULT_AROUND);
	set(KSM "use_zero_pages", "0");
	keep_ksm_busy();
}

FIXTURE_TEARDOWN(merge)
{
	EXPECT_TRUE(finish());
}

static void scan(void)
{
	if (!ksm_scan())
		die("KSM");
}

/*
 * Are these pages one page frame? KPF_KSM does not tell, as it is set for all
 * pages of anonymous memory.
 */
static bool is_merged(const unsigned char *p, long pages)
{
	unsigned long pfn = pfn_at(p);

	for (long i = 0; i < pages; i++) {
		if (pfn_at(p + bytes(i)) != pfn) {
			ksft_print_msg("page %zu is not merged\n", i);
			return false;
		}
	}
	return smaps_pages(p, "KSM:") >= pages;
}

/* Has each of these pages a frame of its own? */
static bool is_unmerged(const unsigned char *p, long pages)
{
	for (long i = 0; i < pages; i++) {
		unsigned long pfn = pfn_at(p + bytes(i));

		for (long j = 0; j < i; j++) {
			if (pfn != pfn_at(p + bytes(j)))
				continue;
			ksft_print_msg("pages %zu and %zu: pfn %#lx\n", i, j,
				       pfn);
			return false;
		}
	}
	return !smaps_pages(p, "KSM:");
}

/*
 * Private pages that are equal merge, also with those of anonymous memory; a
 * store to one gives it a page that is filled from what was merged, not from
 * the content. Catches pages that are passed over because they are in a mapping
 * of a file.
 */
TEST_F_TIMEOUT(merge, with_anon, 60)
{
	unsigned char *p = fill(memory(MERGED), MERGED, EQUAL);
	unsigned char *q = fill(anon_memory(MERGED), MERGED, EQUAL);

	scan();
	EXPECT_TRUE(is_merged(p, MERGED));
	EXPECT_TRUE(is_merged(q, MERGED));
	EXPECT_EQ(pfn_at(p), pfn_at(q));
	p[3] = 1;
	q[bytes(2) - 1] = 2;
	EXPECT_EQ(1, p[3]);
	EXPECT_TRUE(is_byte(p, EQUAL, 3));
	EXPECT_TRUE(is_byte(p + 4, EQUAL, bytes(MERGED) - 4));
	EXPECT_TRUE(is_byte(q, EQUAL, bytes(2) - 1));
	EXPECT_TRUE(is_byte(q + bytes(2), EQUAL, bytes(MERGED - 2)));
	EXPECT_TRUE(is_merged(p + bytes(1), MERGED - 1));
	EXPECT_EQ(pfn_at(p + bytes(1)), pfn_at(q));
	/* And again, when they are equal again */
	p[3] = EQUAL;
	q[bytes(2) - 1] = EQUAL;
	scan();
	EXPECT_TRUE(is_merged(p, MERGED));
	EXPECT_EQ(pfn_at(p), pfn_at(q + bytes(1)));
	unmap(q, MERGED);
	EXPECT_TRUE(is_byte(p, EQUAL, bytes(MERGED)));
}

/*
 * Those of several processes, too, and each can go without the other. Catches
 * page frames that are lost, or freed, with one of them.
 */
TEST_F_TIMEOUT(merge, across_processes, 60)
{
	unsigned long *pfn = mmap(NULL, psize(), RW, MAP_SHARED | MAP_ANONYMOUS,
				  -1, 0);
	int parent[2], child[2];
	unsigned char *p;
	pid_t pid;

	ASSERT_EQ(0, pipe(parent));
	ASSERT_EQ(0, pipe(child));
	pid = fork_child();
	if (!pid) {
		unsigned char *q = fill(memory(MERGED), MERGED, EQUAL);

		tell(parent);
		wait_for(child);
		*pfn = pfn_at(q);
		EXPECT_TRUE(is_merged(q, MERGED));
		q[0] = 1;
		EXPECT_TRUE(is_byte(q + 1, EQUAL, bytes(MERGED) - 1));
		tell(parent);
		wait_for(child);
		EXPECT_TRUE(is_byte(q + 1, EQUAL, bytes(MERGED) - 1));
		_exit(0);
	}
	wait_for(parent);
	p = fill(memory(MERGED), MERGED, EQUAL);
	scan();
	tell(child);
	wait_for(parent);
	EXPECT_EQ(*pfn, pfn_at(p));
	EXPECT_TRUE(is_merged(p, MERGED));
	EXPECT_TRUE(is_byte(p, EQUAL, bytes(MERGED)));
	memset(p, 2, bytes(MERGED));
	tell(child);
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_byte(p, 2, bytes(MERGED)));
	advise(p, MERGED, MADV_DONTNEED);
	EXPECT_TRUE(is_content(p, MERGED));
}

/* Have pages that are private and hold just the content. */
static void make_content_private(unsigned char *p, long pages)
{
	for (long i = 0; i < pages; i++) {
		store(p + bytes(i), 5);
		p[bytes(i) + 5] = content[5];
	}
	advise(p, pages, MADV_MERGEABLE);
}

/*
 * Private pages that hold the content again merge with each other, and not with
 * the reference page. Catches one that is put into the trees of KSM, where its
 * own users cannot be found from it.
 */
TEST_F_TIMEOUT(merge, content, 60)
{
	unsigned char *p = memory(MERGED + 1), *q = memory(MERGED);

	advise(p, MERGED + 1, MADV_MERGEABLE);
	make_content_private(p, MERGED);
	make_content_private(q, MERGED);
	load(p + bytes(MERGED));
	scan();
	EXPECT_TRUE(is_merged(p, MERGED));
	EXPECT_TRUE(is_merged(q, MERGED));
	EXPECT_EQ(pfn_at(p), pfn_at(q));
	EXPECT_EQ(1, count(p + bytes(MERGED), 1, FRESH));
	EXPECT_NE(pfn_at(p), pfn_at(p + bytes(MERGED)));
	if (!anon())
		EXPECT_FALSE(page_flags(reference_pfn) & BIT_ULL(KPF_KSM));
	EXPECT_TRUE(is_content(p, MERGED + 1));
	EXPECT_TRUE(is_content(q, MERGED));

	mark(p, MERGED + 1, 3);
	EXPECT_TRUE(is_marked(p, MERGED + 1, 3));
	EXPECT_TRUE(is_content(q, MERGED));
	advise(q, MERGED, MADV_UNMERGEABLE);
	EXPECT_TRUE(is_unmerged(q, MERGED));
	EXPECT_TRUE(is_content(q, MERGED));
	advise(q, MERGED, MADV_DONTNEED);
	load_pages(q, MERGED);
	EXPECT_EQ(MERGED, count(q, MERGED, FRESH));
}

static long merge_counter(const char *name)
{
	return file_number("/proc/self/ksm_stat", name);
}

/*
 * MADV_UNMERGEABLE and run=2 give each page a frame of its own that holds what
 * was merged. The counters return to what they were. Catches pages that read as
 * the content after that.
 */
TEST_F_TIMEOUT(merge, unmerge, 60)
{
	unsigned char *p = fill(memory(MERGED), MERGED, EQUAL);
	long items = merge_counter("ksm_rmap_items");
	long merging = merge_counter("ksm_merging_pages");

	scan();
	EXPECT_LE(items + MERGED, merge_counter("ksm_rmap_items"));
	EXPECT_EQ(merging + MERGED, merge_counter("ksm_merging_pages"));
	EXPECT_TRUE(is_merged(p, MERGED));
	advise(p, MERGED, MADV_UNMERGEABLE);
	EXPECT_TRUE(is_unmerged(p, MERGED));
	EXPECT_TRUE(is_byte(p, EQUAL, bytes(MERGED)));
	scan();
	EXPECT_EQ(merging, merge_counter("ksm_merging_pages"));

	advise(p, MERGED, MADV_MERGEABLE);
	scan();
	EXPECT_TRUE(is_merged(p, MERGED));
	set(KSM "run", "2");
	EXPECT_TRUE(is_unmerged(p, MERGED));
	EXPECT_TRUE(is_byte(p, EQUAL, bytes(MERGED)));
	EXPECT_EQ(merging, merge_counter("ksm_merging_pages"));
	EXPECT_EQ(0, merge_counter("ksm_rmap_items"));
}

/*
 * The counters return when what was merged is stored to, dropped or unmapped.
 */
TEST_F_TIMEOUT(merge, counters, 60)
{
	long items, merging;
	unsigned char *p;

	scan();
	items = merge_counter("ksm_rmap_items");
	merging = merge_counter("ksm_merging_pages");
	p = fill(memory(3 * MERGED), 3 * MERGED, EQUAL);
	scan();
	EXPECT_EQ(merging + 3 * MERGED, merge_counter("ksm_merging_pages"));
	EXPECT_EQ(3 * MERGED, smaps_pages(p, "KSM:"));
	mark(p, MERGED, 1);
	advise(p + bytes(MERGED), MERGED, MADV_DONTNEED);
	EXPECT_EQ(MERGED, smaps_pages(p, "KSM:"));
	unmap(p + bytes(2 * MERGED), MERGED);
	scan();
	EXPECT_EQ(merging, merge_counter("ksm_merging_pages"));
	EXPECT_TRUE(is_content(p + bytes(MERGED), MERGED));
	unmap(p, 2 * MERGED);
	scan();
	EXPECT_EQ(items, merge_counter("ksm_rmap_items"));
}

/*
 * A child has what is merged, and both can store. Catches a copy that is filled
 * with the content.
 */
TEST_F_TIMEOUT(merge, fork, 60)
{
	unsigned char *p = fill(memory(MERGED), MERGED, EQUAL);
	pid_t pid;

	scan();
	pid = fork_child();
	if (!pid) {
		EXPECT_TRUE(is_merged(p, MERGED));
		p[0] = 1;
		EXPECT_TRUE(is_byte(p + 1, EQUAL, bytes(MERGED) - 1));
		advise(p, 2, MADV_DONTNEED);
		EXPECT_TRUE(is_content(p, 2));
		EXPECT_TRUE(is_byte(p + bytes(2), EQUAL, bytes(MERGED - 2)));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_merged(p, MERGED));
	p[1] = 1;
	EXPECT_TRUE(is_byte(p + 2, EQUAL, bytes(MERGED) - 2));
}

/*
 * Zeros become the zero page where that is asked for: not the reference page,
 * even if that is zeros, too. MADV_FREE leaves it, since it costs nothing, and
 * MADV_DONTNEED brings the content. There is nothing to swap. Catches zeros
 * that turn into content.
 */
TEST_F_TIMEOUT(merge, zero_pages, 60)
{
	unsigned char *p = fill(memory(MERGED), MERGED, 0);
	const enum state zeros = anon() ? FRESH : ZEROS;

	set(KSM "use_zero_pages", "1");
	scan();
	EXPECT_EQ(MERGED, count(p, MERGED, zeros));
	EXPECT_EQ(MERGED, merge_counter("ksm_zero_pages"));
	EXPECT_EQ(0, smaps_pages(p, "Rss:"));
	EXPECT_TRUE(is_byte(p, 0, bytes(MERGED)));

	advise(p, MERGED, MADV_FREE);
	advise(p, MERGED, MADV_PAGEOUT);
	EXPECT_EQ(MERGED, count(p, MERGED, zeros));
	EXPECT_TRUE(is_byte(p, 0, bytes(MERGED)));
	p[0] = 1;
	EXPECT_TRUE(is_byte(p + 1, 0, bytes(MERGED) - 1));
	advise(p + bytes(1), 2, MADV_DONTNEED);
	EXPECT_EQ(MERGED - 3, merge_counter("ksm_zero_pages"));
	EXPECT_TRUE(is_content(p + bytes(1), 2));
	EXPECT_TRUE(is_byte(p + bytes(3), 0, bytes(MERGED - 3)));
	advise(p, MERGED, MADV_UNMERGEABLE);
	EXPECT_EQ(0, merge_counter("ksm_zero_pages"));
	EXPECT_EQ(0, count(p, MERGED, ZEROS));
	EXPECT_TRUE(is_byte(p + 1, 0, psize() - 1));
	EXPECT_TRUE(is_byte(p + bytes(3), 0, bytes(MERGED - 3)));
}

/*
 * A page that was freed may be merged, and is then kept; or it is dropped, and
 * reads as the content. Catches a third possibility, which is zeros.
 */
TEST_F_TIMEOUT(merge, freed, 60)
{
	unsigned char *p = fill(memory(MERGED), MERGED, EQUAL);

	drain_batches();
	advise(p, MERGED, MADV_FREE);
	scan();
	for (int round = 0; round < 2; round++) {
		for (long i = 0; i < MERGED; i++) {
			unsigned char *page = p + bytes(i);

			EXPECT_TRUE(load(page) == EQUAL ?
				    is_byte(page, EQUAL, psize()) :
				    is_content(page, 1));
		}
		advise(p, MERGED, MADV_PAGEOUT);
	}
}

/* Merged, and then freed: MADV_FREE leaves pages that others have, too. */
TEST_F_TIMEOUT(merge, and_free, 60)
{
	unsigned char *p = fill(memory(MERGED), MERGED, EQUAL);

	scan();
	ASSERT_TRUE(is_merged(p, MERGED));
	advise(p, MERGED, MADV_FREE);
	EXPECT_TRUE(is_byte(p, EQUAL, bytes(MERGED)));
	memset(p, 1, bytes(2));
	advise(p, MERGED, MADV_PAGEOUT);
	EXPECT_TRUE(is_byte(p, 1, bytes(2)));
	EXPECT_TRUE(is_byte(p + bytes(2), EQUAL, bytes(MERGED - 2)));
}

/*
 * Merged pages go to swap and come back, to each who had them. Catches a page
 * of swap that is not found in all mappings, as they have no common file.
 */
TEST_F_TIMEOUT(merge, swap, 60)
{
	const char *why = memcg_create();
	pid_t pid;

	if (why)
		SKIP(return, "%s", why);
	if (no_swap())
		SKIP(return, "no swap space");
	pid = fork_child();
	if (!pid) {
		unsigned char *p, *q;

		memcg_join();
		p = fill(memory(MERGED), MERGED, EQUAL);
		q = fill(anon_memory(MERGED), MERGED, EQUAL);
		scan();
		EXPECT_EQ(pfn_at(p), pfn_at(q));
		/* It looks at a page twice before it takes that. */
		for (int tries = 0; tries < 100; tries++) {
			file_write(MEMCG "memory.reclaim", "16M");
			if (count(p, MERGED, SWAPPED) == MERGED)
				break;
		}
		EXPECT_EQ(MERGED, count(p, MERGED, SWAPPED));
		EXPECT_EQ(MERGED, count(q, MERGED, SWAPPED));
		EXPECT_TRUE(is_byte(p, EQUAL, bytes(MERGED / 2)));
		memset(p + bytes(MERGED / 2), 1, bytes(MERGED / 2));
		EXPECT_TRUE(is_byte(q, EQUAL, bytes(MERGED)));
		EXPECT_TRUE(is_byte(p + bytes(MERGED / 2), 1,
				    bytes(MERGED / 2)));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
}

/*
 * A process for which all is to be merged: mappings that are there, new ones,
 * and those of its children, but none that may be dropped. Catches mappings
 * that are left out because they are of a file.
 */
TEST_F_TIMEOUT(merge, prctl, 60)
{
	pid_t pid = fork_child();

	if (!pid) {
		unsigned char *p = memory(MERGED), *q, *droppable;

		EXPECT_FALSE(has_vm_flag(p, " mg"));
		EXPECT_EQ(0, prctl(PR_SET_MEMORY_MERGE, 1, 0, 0, 0));
		q = memory(MERGED);
		memory_type = MAP_DROPPABLE;
		droppable = memory(MERGED);
		memory_type = MAP_PRIVATE;
		EXPECT_TRUE(has_vm_flag(p, " mg"));
		EXPECT_TRUE(has_vm_flag(q, " mg"));
		EXPECT_FALSE(has_vm_flag(droppable, " mg"));
		memset(p, EQUAL, bytes(MERGED));
		memset(q, EQUAL, bytes(MERGED));
		scan();
		EXPECT_TRUE(is_merged(p, MERGED));
		EXPECT_EQ(pfn_at(p), pfn_at(q));

		pid = fork_child();
		if (!pid) {
			EXPECT_TRUE(has_vm_flag(p, " mg"));
			EXPECT_TRUE(has_vm_flag(memory(1), " mg"));
			EXPECT_TRUE(is_byte(p, EQUAL, bytes(MERGED)));
			_exit(0);
		}
		EXPECT_TRUE(child_passed(pid));

		EXPECT_EQ(0, prctl(PR_SET_MEMORY_MERGE, 0, 0, 0, 0));
		EXPECT_FALSE(has_vm_flag(p, " mg"));
		EXPECT_FALSE(has_vm_flag(memory(1), " mg"));
		EXPECT_TRUE(is_unmerged(p, MERGED));
		EXPECT_TRUE(is_byte(p, EQUAL, bytes(MERGED)));
		EXPECT_TRUE(is_byte(q, EQUAL, bytes(MERGED)));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
}

TEST_HARNESS_MAIN
