// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of guard regions in anonymous memory, shared memory and files, and in
 * memory that is special.
 */
#include "guard-regions.h"

/* -- Variants ------------------------------------------------------------- */

FIXTURE_VARIANT_ADD(guard_regions, anon)
{
	.prot = RW, .flags = MAP_PRIVATE,
	.anon = true, .huge = true, .uffd = true, .only_copy = true,
};

/* Never has a private page. */
FIXTURE_VARIANT_ADD(guard_regions, anon_ro)
{
	.prot = PROT_READ, .flags = MAP_PRIVATE,
	.anon = true, .uffd = true, .only_copy = true,
};

/* Each of the first pages has a value of its own; what follows is a hole. */
static void file_fresh(unsigned char *page, size_t i)
{
	memset(page, i < PAGES ? 0xc0 + i : 0, psize());
}

static int file_fill(int fd)
{
	unsigned char *page = map_anon(1, RW);

	for (size_t i = 0; i < PAGES; i++) {
		file_fresh(page, i);
		if (pwrite(fd, page, psize(), bytes(i)) != psize())
			die("pwrite");
	}
	unmap(page, 1);
	return fd;
}

static int memfd_open(void)
{
	return file_fill(scratch_file());
}

static int file_open(void)
{
	char path[] = "guard-regions.XXXXXX";
	int fd = mkostemp(path, O_CLOEXEC);

	if (fd < 0)
		die("mkostemp");
	unlink(path);
	return file_fill(fd);
}

FIXTURE_VARIANT_ADD(guard_regions, shmem)
{
	.open = memfd_open, .fresh = file_fresh,
	.prot = RW, .flags = MAP_SHARED,
	.cached = true, .around = true, .huge = true,
	.uffd = true, .uffd_minor = true,
};

FIXTURE_VARIANT_ADD(guard_regions, file_private)
{
	.open = file_open, .fresh = file_fresh,
	.prot = RW, .flags = MAP_PRIVATE, .cached = true, .around = true,
};

FIXTURE_VARIANT_ADD(guard_regions, file_shared)
{
	.open = file_open, .fresh = file_fresh,
	.prot = RW, .flags = MAP_SHARED, .cached = true, .around = true,
};

/* -- What is not about a kind of memory ----------------------------------- */

FIXTURE(guard_memory)
{
	unsigned char *p;
};

FIXTURE_SETUP(guard_memory)
{
	self->p = map_anon(PAGES, RW);
	if (install(self->p, 0, 1) == EINVAL)
		SKIP(return, "the kernel has no guard regions");
	ASSERT_EQ(0, uninstall(self->p, 0, 1));
	catch_faults();
}

FIXTURE_TEARDOWN(guard_memory)
{
}

/* To run into a guard is to access it. */
TEST_F(guard_memory, exec)
{
	unsigned char *p = self->p;

	ASSERT_EQ(0, mprotect(p, bytes(PAGES), PROT_READ | PROT_EXEC));
	EXPECT_EQ(0, install(p, 1, 1));
	EXPECT_TRUE(is_maperr(try(p + psize(), EXEC), p + psize()));
	EXPECT_STREQ(".G..", look(p, 4));
}

/*
 * Another process's memory is not to be destroyed, not even by root and with
 * all rights to it. Catches advice that is let through for all processes, to
 * allow it for one's own.
 */
TEST_F(guard_memory, process_madvise_other)
{
	static const int advices[] = {
		MADV_GUARD_INSTALL, MADV_GUARD_REMOVE, MADV_DONTNEED, MADV_FREE,
	};
	struct iovec vec[2] = { { self->p, psize() },
				{ self->p + bytes(2), psize() } };
	int child[2];
	pid_t pid;

	memset(self->p, 0x5a, bytes(PAGES));
	ASSERT_EQ(0, pipe(child));
	pid = fork();
	if (!pid) {
		wait_for(child);
		EXPECT_EQ(0, count_marked(self->p, PAGES));
		EXPECT_TRUE(is_byte(self->p, 0x5a, bytes(PAGES)));
		_exit(0);
	}
	for (size_t i = 0; i < ARRAY_SIZE(advices); i++)
		EXPECT_EQ(-EINVAL, advise_vector(pid, vec, 2, advices[i]));
	/* The control: harmless advice. */
	EXPECT_EQ(geteuid() ? -EPERM : bytes(2),
		  advise_vector(pid, vec, 2, MADV_COLD));
	tell(child);
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_byte(self->p, 0x5a, bytes(PAGES)));
}

/*
 * One's own memory is, by any advice. Catches the list of what is allowed for
 * others being applied to oneself.
 */
TEST_F(guard_memory, process_madvise_self)
{
	struct iovec vec[2] = { { self->p, psize() },
				{ self->p + bytes(2), psize() } };

	memset(self->p, 0x5a, bytes(PAGES));
	EXPECT_EQ(bytes(2), advise_vector(getpid(), vec, 2, MADV_DONTNEED));
	EXPECT_TRUE(is_byte(self->p, 0, psize()));
	EXPECT_TRUE(is_byte(self->p + psize(), 0x5a, psize()));
	EXPECT_TRUE(is_byte(self->p + bytes(2), 0, psize()));
	EXPECT_EQ(bytes(2), advise_vector(getpid(), vec, 2,
					  MADV_POPULATE_WRITE));
	EXPECT_EQ(-EINVAL, advise_vector(getpid(), vec, 2, 12345));
}

/* Memory that is locked when it is mapped is refused like any locked memory. */
TEST_F(guard_memory, mlockall_future)
{
	unsigned char *p;

	if (mlockall(MCL_FUTURE))
		SKIP(return, "may not lock memory");
	p = map_anon(PAGES, RW);
	EXPECT_EQ(EINVAL, install(p, 0, 1));
	EXPECT_EQ(0, uninstall(p, 0, 1));
	ASSERT_EQ(0, munlockall());
	EXPECT_EQ(0, install(p, 0, 1));
}

/*
 * Huge pages of hugetlbfs are not split. Catches a walk that takes one of its
 * entries for one of a page table.
 */
TEST_F(guard_memory, hugetlb)
{
	const size_t size = default_huge_page_size();
	unsigned char *p;

	p = mmap(NULL, size, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
		 -1, 0);
	if (p == MAP_FAILED)
		SKIP(return, "no huge page is free");
	for (int touched = 0; touched <= 1; touched++) {
		EXPECT_EQ(EINVAL, install(p, 0, 1));
		EXPECT_EQ(EINVAL, install(p, 0, size / psize()));
		EXPECT_EQ(EINVAL, uninstall(p, 0, size / psize()));
		memset(p, 0x33, psize());
	}
	EXPECT_TRUE(is_byte(p, 0x33, psize()));
}

/* The first address of a mapping with a name; NULL if there is none. */
static unsigned char *find_mapping(const char *name)
{
	FILE *file = fopen("/proc/self/maps", "r");
	unsigned char *p = NULL;
	unsigned long start;
	char line[512];

	while (file && !p && fgets(line, sizeof(line), file)) {
		if (strstr(line, name) && sscanf(line, "%lx-", &start) == 1)
			p = (unsigned char *)start;
	}
	if (file)
		fclose(file);
	return p;
}

/*
 * The kernel's own pages in a process are no memory of it. Catches a marker in
 * place of an entry that is nobody's to zap.
 */
TEST_F(guard_memory, special_mappings)
{
	static const char * const names[] = { "[vdso]", "[vvar]" };

	for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
		unsigned char *p = find_mapping(names[i]);

		ASSERT_NE(NULL, p) {
			TH_LOG("no %s", names[i]);
		}
		EXPECT_EQ(EINVAL, install(p, 0, 1));
		EXPECT_EQ(EINVAL, uninstall(p, 0, 1));
	}
}

/* Secret memory is locked, or was: some stable kernels account it otherwise. */
TEST_F(guard_memory, memfd_secret)
{
	int fd = syscall(__NR_memfd_secret, O_CLOEXEC);
	unsigned char *p;
	bool locked;

	if (fd < 0)
		SKIP(return, "no memfd_secret()");
	ASSERT_EQ(0, ftruncate(fd, bytes(2)));
	p = mmap(NULL, bytes(2), RW, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)p);
	memset(p, 0x21, bytes(2));
	locked = has_flag(p, "lo");
	EXPECT_EQ(locked ? EINVAL : 0, install(p, 0, 1));
	EXPECT_EQ(locked ? '.' : 'G', look_at(p));
	EXPECT_EQ(0, uninstall(p, 0, 1));
	EXPECT_TRUE(is_byte(p, 0x21, bytes(2)));
}

/* A stack can have guards; its end is far from what is in use. */
TEST_F(guard_memory, stack)
{
	unsigned char *p = find_mapping("[stack]");

	ASSERT_NE(NULL, p);
	EXPECT_EQ(0, install(p, 0, 1));
	EXPECT_EQ('G', look_at(p));
	EXPECT_EQ('.', look_at(p + psize()));
	EXPECT_EQ(0, uninstall(p, 0, 1));
	EXPECT_EQ('.', look_at(p));
}

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE	0x08
#endif

/*
 * Droppable memory, too; reclaim drops pages and no guards, nor are they
 * anything that is wiped but once. Catches a guard lost to both.
 */
TEST_F(guard_memory, droppable)
{
	unsigned char *p = mmap(NULL, bytes(PAGES), RW,
				MAP_ANONYMOUS | MAP_DROPPABLE, -1, 0);

	if (p == MAP_FAILED)
		SKIP(return, "no MAP_DROPPABLE");
	memset(p, 0x12, bytes(PAGES));
	install_some(p);
	EXPECT_EQ(0, advise(p, 0, PAGES, MADV_PAGEOUT));
	EXPECT_STREQ(SOME, look(p, PAGES));
	EXPECT_EQ(0, uninstall(p, 0, PAGES));
	EXPECT_STREQ("................", look(p, PAGES));
	EXPECT_TRUE(is_byte(p + bytes(5), 0, bytes(2)));
}

#define MANY_TABLES	1024	/* as long as a vector may be */

/* Each element lies in one page table, and not at its beginning. */
static int install_vector(unsigned char *p)
{
	static struct iovec iov[MANY_TABLES];
	const size_t n = table_pages();

	for (size_t i = 0; i < MANY_TABLES; i++)
		iov[i] = (struct iovec){ p + bytes(n * i + 1), bytes(n - 1) };
	return advise_vector(getpid(), iov, MANY_TABLES, MADV_GUARD_INSTALL) !=
	       bytes(n - 1) * MANY_TABLES;
}

/* Returns when the child has installed guards in many page tables, or died. */
static double install_many(bool vector, double kill_after, int *status)
{
	const size_t pages = table_pages() * MANY_TABLES * (vector ? 1 : 8);
	unsigned char *p = mmap(NULL, bytes(pages), PROT_NONE, MAP_PRIVATE |
				MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	int started[2];
	double start;
	pid_t pid;

	if (p == MAP_FAILED)
		die("mmap");
	if (pipe(started))
		die("pipe");
	pid = fork();
	if (!pid) {
		tell(started);
		_exit(vector ? install_vector(p) : install(p, 0, pages));
	}
	wait_for(started);
	start = now();
	if (kill_after) {
		usleep(kill_after * 1000000);
		kill(pid, SIGKILL);
	}
	*status = wait_status(pid);
	unmap(p, pages);
	return now() - start;
}

/* Dies much earlier than it would have been done. */
static void check_fatal_signal(struct __test_metadata *_metadata, bool vector)
{
	double whole, killed;
	int status;

	whole = install_many(vector, 0, &status);
	EXPECT_EQ(0, status);
	/* The machine may have been busy with something else. */
	for (int i = 0; i < 5; i++) {
		killed = install_many(vector, whole / 10, &status);
		EXPECT_TRUE(WIFSIGNALED(status));
		if (killed < whole / 2)
			return;
	}
	EXPECT_LT(killed, whole / 2);
}

/*
 * A range may be so large that installing takes a while, and memory for page
 * tables. Catches a walk that cannot be killed.
 */
TEST_F_TIMEOUT(guard_memory, fatal_signal_range, 120)
{
	check_fatal_signal(_metadata, false);
}

/* So may be a vector. Catches a loop that does not look. */
TEST_F_TIMEOUT(guard_memory, fatal_signal_vector, 120)
{
	check_fatal_signal(_metadata, true);
}

/* Map a file that nobody can write to through this mapping, ever. */
static void check_readonly(struct __test_metadata *_metadata, int fd, int flags)
{
	unsigned char *p = mmap(NULL, bytes(PAGES), PROT_READ, flags, fd, 0);

	ASSERT_NE(MAP_FAILED, (void *)p);
	install_some(p);
	EXPECT_STREQ(SOME, look(p, PAGES));
	EXPECT_EQ(0, uninstall(p, 0, PAGES));
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_TRUE(is_byte(p + bytes(i), 0xc0 + i, psize()));
}

/*
 * A file that is open for reading, or sealed against writing. Catches guards
 * refused where the VMA may never become writable.
 */
TEST_F(guard_memory, readonly_file)
{
	int fd = file_open(), readonly, memfd;
	char path[40];

	sprintf(path, "/proc/self/fd/%d", fd);
	readonly = open(path, O_RDONLY);
	ASSERT_LE(0, readonly);
	check_readonly(_metadata, readonly, MAP_SHARED);
	check_readonly(_metadata, readonly, MAP_PRIVATE);

	memfd = memfd_create("guard-regions", MFD_ALLOW_SEALING);
	ASSERT_LE(0, memfd);
	file_fill(memfd);
	ASSERT_EQ(0, fcntl(memfd, F_ADD_SEALS, F_SEAL_WRITE));
	check_readonly(_metadata, memfd, MAP_SHARED);
}

TEST_HARNESS_MAIN
