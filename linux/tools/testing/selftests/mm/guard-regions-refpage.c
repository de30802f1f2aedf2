// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of guard regions in mappings of refpage_create(2): all those of other
 * memory, and that content is what a guard leaves behind.
 */
#include "guard-regions.h"

#include <linux/refpage.h>

/* The content, of which an untouched page of any mapping is a copy. */
static unsigned char *reference;

static void refpage_fresh(unsigned char *page, size_t i)
{
	(void)i;
	memcpy(page, reference, psize());
}

static int refpage_open(unsigned int flags)
{
	int fd = syscall(__NR_refpage_create, reference, flags);

	if (fd < 0 && !syscall_is_absent())
		die("refpage_create");
	return fd;
}

/* Every byte tells where it is. */
static int refpage_open_page(void)
{
	reference = map_anon(1, RW);
	for (size_t i = 0; i < psize(); i++)
		reference[i] = 131 + i * 29 + (i >> 8) * 17;
	return refpage_open(0);
}

static int refpage_open_byte(void)
{
	reference = map_anon(1, RW);
	memset(reference, 0xa5, psize());
	return refpage_open(REFPAGE_PATTERN_SIZE(0));
}

FIXTURE_VARIANT_ADD(guard_regions, refpage_page)
{
	.open = refpage_open_page, .fresh = refpage_fresh,
	.prot = RW, .flags = MAP_PRIVATE,
	.around = true, .huge = true, .only_copy = true,
};

FIXTURE_VARIANT_ADD(guard_regions, refpage_byte)
{
	.open = refpage_open_byte, .fresh = refpage_fresh,
	.prot = RW, .flags = MAP_PRIVATE,
	.around = true, .huge = true, .only_copy = true,
};

/* A page of content but for its first byte. */
static bool is_stored_to(unsigned char *page, unsigned char byte)
{
	return page[0] == byte &&
	       !memcmp(page + 1, reference + 1, psize() - 1);
}

/*
 * A page that was a guard is born again with content, be the first access a
 * load, a store or the kernel's. Catches zeros, since a page of zeros is what
 * anonymous memory gets.
 */
TEST_F(guard_regions, refpage_removed)
{
	unsigned char *p = map_filled();

	EXPECT_EQ(0, install(p, 2, 6));
	EXPECT_EQ(0, uninstall(p, 2, 6));
	p[bytes(2)] = 1;
	EXPECT_EQ(0, advise(p, 3, 1, MADV_POPULATE_READ));
	EXPECT_EQ(0, advise(p, 4, 1, MADV_POPULATE_WRITE));
	EXPECT_TRUE(is_stored_to(p + bytes(2), 1));
	EXPECT_TRUE(holds(p, 3, 8, FRESH));
	EXPECT_TRUE(holds(p, 8, PAGES, DATA));
	p[bytes(3)] = 2;
	p[bytes(5)] = 3;
	EXPECT_TRUE(is_stored_to(p + bytes(3), 2));
	EXPECT_TRUE(is_stored_to(p + bytes(5), 3));
}

/*
 * The reference page itself gives way to a guard, without being zapped as a
 * page of the process. Catches a special PTE that is passed over, and counters
 * that go below zero, which the log of the kernel reports, too.
 */
TEST_F(guard_regions, refpage_loaded)
{
	unsigned char *p = map_at(reserve(1), PAGES);

	EXPECT_TRUE(holds(p, 0, PAGES, FRESH));
	install_some(p);
	EXPECT_STREQ(SOME, look(p, PAGES));
	EXPECT_EQ(0, smaps_pages(p, "Rss:"));
	EXPECT_TRUE(others_hold(p, FRESH));
	EXPECT_EQ(0, uninstall(p, 0, PAGES));
	EXPECT_TRUE(holds(p, 0, PAGES, FRESH));
	EXPECT_EQ(0, smaps_pages(p, "Rss:"));
	/* What others see of it is the same as before. */
	EXPECT_TRUE(holds(map(PAGES), 0, PAGES, FRESH));
}

/*
 * Private pages and untouched ones lie on both sides of a guard. Catches a
 * guard that takes its neighbours, or their content, with it.
 */
TEST_F(guard_regions, refpage_neighbours)
{
	unsigned char *p = map(PAGES);

	fill(p, 3);
	EXPECT_EQ(0, install(p, 3, 1));
	p[bytes(4)] = 7;
	EXPECT_EQ(0, install(p, 6, 1));
	EXPECT_STREQ("...G..G.........", look(p, PAGES));
	EXPECT_TRUE(holds(p, 0, 3, DATA));
	EXPECT_TRUE(is_stored_to(p + bytes(4), 7));
	EXPECT_TRUE(holds(p, 5, 6, FRESH));
	EXPECT_TRUE(holds(p, 7, PAGES, FRESH));
	EXPECT_EQ(0, advise(p, 2, 5, MADV_DONTNEED));
	EXPECT_STREQ("...G..G.........", look(p, PAGES));
	EXPECT_TRUE(holds(p, 0, 2, DATA));
	EXPECT_TRUE(holds(p, 2, 3, FRESH));
	EXPECT_TRUE(holds(p, 4, 6, FRESH));
}

/*
 * A child that removes a guard which it inherited finds content there. Catches
 * a child whose mapping is taken for anonymous memory.
 */
TEST_F(guard_regions, refpage_fork)
{
	unsigned char *p = map_with_some();
	pid_t pid = fork();

	if (!pid) {
		EXPECT_EQ(0, uninstall(p, 0, PAGES));
		EXPECT_TRUE(others_hold(p, DATA));
		EXPECT_TRUE(holds(p, 2, 3, FRESH));
		p[bytes(5)] = 9;
		EXPECT_TRUE(is_stored_to(p + bytes(5), 9));
		EXPECT_TRUE(holds(p, 6, 7, FRESH));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_STREQ(SOME, look(p, PAGES));
	EXPECT_EQ(0, uninstall(p, 0, PAGES));
	EXPECT_TRUE(others_hold(p, DATA));
	EXPECT_TRUE(holds(p, 5, 7, FRESH));
}

TEST_HARNESS_MAIN
