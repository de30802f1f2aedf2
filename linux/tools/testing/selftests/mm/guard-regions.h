/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tests of guard regions: MADV_GUARD_INSTALL and MADV_GUARD_REMOVE.
 *
 * The property: a page that was made a guard faults on every access, and
 * nothing but MADV_GUARD_REMOVE, or the end of its mapping, changes that; it
 * costs no VMA and does nothing to its neighbours. Each test does one thing to
 * a mapping that could break this, and is named after it. What a comment below
 * says to be caught is the mistake in the kernel that makes the test fail.
 *
 * Whoever includes this adds a variant of the fixture for each kind of memory
 * that it wants to be tested: guard-regions.c those that every kernel has.
 *
 * environment:
 *   GUARD_SECONDS  duration of each race test (2)
 */
#ifndef GUARD_REGIONS_H
#define GUARD_REGIONS_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/elf.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <linux/mman.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "vm_util.h"

/* Pages of most mappings, and pages with content of a file. */
#define PAGES	16

#define RW	(PROT_READ | PROT_WRITE)

/* Not in a header for user space: a guard page in /proc/PID/pagemap. */
#define PM_GUARD_REGION	BIT_ULL(58)

/* -- Fixture: memory, of each kind ---------------------------------------- */

FIXTURE(guard_regions)
{
	int fd;
};

FIXTURE_VARIANT(guard_regions)
{
	int (*open)(void);	/* The descriptor to map; NULL: anonymous */
	/* What an untouched page @i reads; NULL: zeros */
	void (*fresh)(unsigned char *page, size_t i);
	int prot;
	int flags;
	bool anon;		/* The kernel treats the VMA as anonymous */
	bool cached;		/* Pages are shared with a page cache */
	bool around;		/* A load also maps what is around it */
	bool huge;		/* MADV_COLLAPSE makes a huge page of it */
	bool uffd;		/* userfaultfd: missing and write-protect mode */
	bool uffd_minor;	/* userfaultfd: minor mode */
	bool only_copy;		/* Data are nowhere else: mseal() protects them */
};

/* Global, for the helpers; each test runs in a process of its own. */
static FIXTURE_VARIANT(guard_regions) kind;
static int backing_fd = -1;

/* For what the tests need and what is not tested. */
static void die(const char *what)
{
	ksft_print_msg("%s: %s\n", what, strerror(errno));
	_exit(KSFT_FAIL);
}

static bool syscall_is_absent(void)
{
	return errno == ENOSYS;
}

static long bytes(long pages)
{
	return pages * psize();
}

/* Memory under one page table. */
static long table_pages(void)
{
	return psize() / sizeof(__u64);
}

static bool writable(void)
{
	return kind.prot & PROT_WRITE;
}

static bool shared(void)
{
	return kind.flags & MAP_SHARED;
}

/* -- Mappings ------------------------------------------------------------- */

/* The file under a mapping has to reach to its end. */
static void extend(size_t pages)
{
	struct stat stat;

	if (!kind.cached)
		return;
	if (fstat(backing_fd, &stat))
		die("fstat");
	if (stat.st_size < bytes(pages) && ftruncate(backing_fd, bytes(pages)))
		die("ftruncate");
}

static unsigned char *map_at(void *addr, size_t pages)
{
	int flags = kind.flags | (addr ? MAP_FIXED : 0);
	void *p;

	extend(pages);
	if (!kind.open)
		flags |= MAP_ANONYMOUS;
	p = mmap(addr, bytes(pages), kind.prot, flags, backing_fd, 0);
	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static unsigned char *map(size_t pages)
{
	return map_at(NULL, pages);
}

static unsigned char *map_anon(size_t pages, int prot)
{
	void *p = mmap(NULL, bytes(pages), prot, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

/* Address space that starts at a page table, with more on both sides. */
static unsigned char *reserve(size_t tables)
{
	const size_t table = bytes(table_pages());
	uintptr_t p;

	p = (uintptr_t)map_anon((tables + 2) * table_pages(), PROT_NONE);
	return (unsigned char *)((p + table) & -table);
}

static unsigned char *map_tables(size_t tables)
{
	return map_at(reserve(tables), tables * table_pages());
}

static void unmap(void *p, size_t pages)
{
	if (munmap(p, bytes(pages)))
		die("munmap");
}

static void protect(unsigned char *p, size_t i, size_t pages, int prot)
{
	if (mprotect(p + bytes(i), bytes(pages), prot))
		die("mprotect");
}

/* -- Content -------------------------------------------------------------- */

enum content {
	DATA,		/* what fill() stored */
	FRESH,		/* what was there before */
	DROPPED,	/* what is there after the page was zapped */
};

static const unsigned char *content(enum content what, size_t i)
{
	static unsigned char *page;

	if (!page)
		page = map_anon(1, RW);
	if (what == DROPPED)
		what = shared() ? DATA : FRESH;
	if (what == DATA && writable())
		memset(page, 1 + i % 100, psize());
	else if (kind.fresh)
		kind.fresh(page, i);
	else
		memset(page, 0, psize());
	return page;
}

/* Do pages @first to @last - 1 of the mapping at @p hold what they should? */
static bool holds(const unsigned char *p, size_t first, size_t last,
		  enum content what)
{
	for (size_t i = first; i < last; i++) {
		const unsigned char *want = content(what, i);
		const unsigned char *got = p + bytes(i);

		if (!memcmp(got, want, psize()))
			continue;
		ksft_print_msg("page %zu starts with %02x and not %02x\n",
			       i, got[0], want[0]);
		return false;
	}
	return true;
}

static bool is_byte(const unsigned char *p, unsigned char byte, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (p[i] == byte)
			continue;
		ksft_print_msg("byte %#zx is %02x and not %02x\n",
			       i, p[i], byte);
		return false;
	}
	return true;
}

/* Touch all pages: store, or load where nothing can be stored. */
static unsigned char *fill(unsigned char *p, size_t pages)
{
	for (size_t i = 0; i < pages; i++) {
		if (writable())
			memcpy(p + bytes(i), content(DATA, i), psize());
		else
			__atomic_load_n(p + bytes(i), __ATOMIC_RELAXED);
	}
	return p;
}

static unsigned char *map_filled(void)
{
	return fill(map(PAGES), PAGES);
}

/* -- Faults --------------------------------------------------------------- */

enum touch { LOAD, STORE, TOUCH, EXEC };

struct fault {
	int signal;	/* 0: the access was good */
	int code;
	unsigned char *addr;
	unsigned char loaded;
};

static __thread sigjmp_buf fault_env;
static __thread struct fault fault;
static __thread bool fault_expected;

/* The compiler must not move the access out of what is between two of these. */
static void expect_fault(bool expected)
{
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
	fault_expected = expected;
	__atomic_signal_fence(__ATOMIC_SEQ_CST);
}

static void on_fault(int signal, siginfo_t *info, void *context)
{
	(void)context;
	if (!fault_expected) {
		ksft_print_msg("signal %d at %p\n", signal, info->si_addr);
		_exit(KSFT_FAIL);
	}
	fault.signal = signal;
	fault.code = info->si_code;
	fault.addr = info->si_addr;
	siglongjmp(fault_env, 1);
}

/* SA_NODEFER, so that there is no signal mask to restore. */
static void catch_faults(void)
{
	struct sigaction action = {
		.sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER,
	};

	if (sigaction(SIGSEGV, &action, NULL) ||
	    sigaction(SIGBUS, &action, NULL))
		die("sigaction");
}

static void access_byte(unsigned char *p, enum touch touch, unsigned char byte)
{
	switch (touch) {
	case LOAD:
		fault.loaded = __atomic_load_n(p, __ATOMIC_RELAXED);
		break;
	case STORE:
		__atomic_store_n(p, byte, __ATOMIC_RELAXED);
		break;
	case TOUCH:
		__atomic_fetch_or(p, 0, __ATOMIC_RELAXED);
		break;
	case EXEC:
		((void (*)(void))p)();
		break;
	}
}

static struct fault try_byte(unsigned char *p, enum touch touch,
			     unsigned char byte)
{
	fault.signal = 0;
	expect_fault(true);
	if (!sigsetjmp(fault_env, 0))
		access_byte(p, touch, byte);
	expect_fault(false);
	return fault;
}

/* TOUCH, and not STORE: it leaves what is there. */
static struct fault try(unsigned char *p, enum touch touch)
{
	return try_byte(p, touch, 0);
}

static bool is_maperr(struct fault fault, unsigned char *p)
{
	return fault.signal == SIGSEGV && fault.code == SEGV_MAPERR &&
	       fault.addr == p;
}

/* -- Guards --------------------------------------------------------------- */

/* The entry of a page; of this process, which may be a child. */
static __u64 pagemap_entry(unsigned char *p)
{
	static int fd, pid;

	if (pid != getpid()) {
		fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
		if (fd < 0)
			die("/proc/self/pagemap");
		pid = getpid();
	}
	return pagemap_get_entry(fd, (char *)p);
}

/* What the page tables say; touches nothing. */
static bool is_marked(unsigned char *p)
{
	return pagemap_entry(p) & PM_GUARD_REGION;
}

static int count_marked(unsigned char *p, size_t pages)
{
	int count = 0;

	for (size_t i = 0; i < pages; i++)
		count += is_marked(p + bytes(i));
	return count;
}

/*
 * What an access says: a guard (G), a page (.), no permission (-), no page in
 * the file (b); or that it and the page tables disagree (?).
 */
static char look_at(unsigned char *p)
{
	struct fault load = try(p, LOAD);
	bool marked = is_marked(p);

	if (is_maperr(load, p)) {
		if (!marked || try(p, TOUCH).signal != SIGSEGV)
			return '?';
		return 'G';
	}
	if (load.signal == SIGSEGV && load.code == SEGV_ACCERR)
		return '-';
	if (marked)
		return '?';
	return load.signal == SIGBUS ? 'b' : '.';
}

#define MAX_LOOK	64

static const char *look(unsigned char *p, size_t pages)
{
	static char picture[MAX_LOOK + 1];

	for (size_t i = 0; i < pages; i++)
		picture[i] = look_at(p + bytes(i));
	picture[pages] = '\0';
	return picture;
}

/* The same without an access. */
static const char *look_marks(unsigned char *p, size_t pages)
{
	static char picture[MAX_LOOK + 1];

	for (size_t i = 0; i < pages; i++)
		picture[i] = is_marked(p + bytes(i)) ? 'G' : '.';
	picture[pages] = '\0';
	return picture;
}

/* -- Advice --------------------------------------------------------------- */

/* Returns 0 or the error. */
static int advise(unsigned char *p, size_t i, size_t pages, int advice)
{
	return madvise(p + bytes(i), bytes(pages), advice) ? errno : 0;
}

static int install(unsigned char *p, size_t i, size_t pages)
{
	return advise(p, i, pages, MADV_GUARD_INSTALL);
}

static int uninstall(unsigned char *p, size_t i, size_t pages)
{
	return advise(p, i, pages, MADV_GUARD_REMOVE);
}

/* Returns what the call does, or the negative error. */
static long advise_vector(pid_t pid, const struct iovec *vec, size_t n,
			  int advice)
{
	int pidfd = syscall(__NR_pidfd_open, pid, 0);
	long ret;

	if (pidfd < 0)
		die("pidfd_open");
	ret = syscall(__NR_process_madvise, pidfd, vec, n, advice, 0);
	if (ret < 0)
		ret = -errno;
	close(pidfd);
	return ret;
}

/* The pattern that most tests start from. */
#define SOME	"..G..GG........G"

static void install_some(unsigned char *p)
{
	if (install(p, 2, 1) || install(p, 5, 2) || install(p, 15, 1))
		die("MADV_GUARD_INSTALL");
}

/* The pages that are no guards hold data; see SOME. */
static bool others_hold(unsigned char *p, enum content what)
{
	return holds(p, 0, 2, what) && holds(p, 3, 5, what) &&
	       holds(p, 7, 15, what);
}

static unsigned char *map_with_some(void)
{
	unsigned char *p = map_filled();

	install_some(p);
	return p;
}

/* -- Processes ------------------------------------------------------------ */

static int wait_status(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		die("fork or waitpid");
	return status;
}

/* What a child expected in vain is in the metadata, which it shares with us. */
static bool child_passed(pid_t pid)
{
	return wait_status(pid) == 0;
}

/* For a child that may hang: it is killed after some seconds. Then, -1. */
static int wait_status_for(pid_t pid, int seconds)
{
	const struct timespec tick = { .tv_nsec = 10 * 1000 * 1000 };
	int status;

	if (pid < 0)
		die("fork");
	for (int i = 0; i < seconds * 100; i++) {
		if (waitpid(pid, &status, WNOHANG) == pid)
			return status;
		nanosleep(&tick, NULL);
	}
	kill(pid, SIGKILL);
	ksft_print_msg("the child hangs\n");
	wait_status(pid);
	return -1;
}

/* One process waits for another at a pipe. */
static void tell(const int *pipe)
{
	if (write(pipe[1], "", 1) != 1)
		die("write to pipe");
}

static void wait_for(const int *pipe)
{
	char byte;

	if (read(pipe[0], &byte, 1) != 1)
		die("read from pipe");
}

/* -- /proc ---------------------------------------------------------------- */

/* The number that follows @field; -1 if there is none. */
static long file_number(const char *path, const char *field)
{
	FILE *file = fopen(path, "r");
	char line[256];
	long number = -1;

	while (file && number < 0 && fgets(line, sizeof(line), file)) {
		if (!strncmp(line, field, strlen(field)))
			number = strtol(line + strlen(field), NULL, 0);
	}
	if (file)
		fclose(file);
	return number;
}

static bool file_write(const char *path, const char *text)
{
	ssize_t len = strlen(text);
	int fd = open(path, O_WRONLY);
	bool done = fd >= 0 && write(fd, text, len) == len;

	if (fd >= 0)
		close(fd);
	return done;
}

/* What follows @field in smaps, for the VMA that contains @p. */
static const char *smaps_text(const void *p, const char *field)
{
	FILE *file = fopen("/proc/self/smaps", "r");
	unsigned long start, end;
	static char line[512];
	bool inside = false;

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2) {
			inside = start <= (unsigned long)p &&
				 (unsigned long)p < end;
			continue;
		}
		if (inside && !strncmp(line, field, strlen(field))) {
			fclose(file);
			return line + strlen(field);
		}
	}
	die(field);
	return NULL;
}

static long smaps_pages(const void *p, const char *field)
{
	return strtol(smaps_text(p, field), NULL, 10) * 1024 / psize();
}

static bool has_flag(const void *p, const char *flag)
{
	char wanted[8];

	snprintf(wanted, sizeof(wanted), " %s ", flag);
	return strstr(smaps_text(p, "VmFlags:"), wanted);
}

static int count_vmas(const void *p, size_t pages)
{
	unsigned long first = (unsigned long)p, last = first + bytes(pages);
	FILE *file = fopen("/proc/self/maps", "r");
	unsigned long start, end;
	char line[512];
	int count = 0;

	if (!file)
		die("/proc/self/maps");
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2 &&
		    start < last && first < end)
			count++;
	}
	fclose(file);
	return count;
}

static int scratch_file(void)
{
	int fd = memfd_create("guard-regions", MFD_CLOEXEC);

	if (fd < 0)
		die("memfd_create");
	return fd;
}

static bool is_on_tmpfs(int fd)
{
	struct statfs fs;

	return !fstatfs(fd, &fs) && fs.f_type == TMPFS_MAGIC;
}

FIXTURE_SETUP(guard_regions)
{
	unsigned char *anon = map_anon(1, RW);

	if (install(anon, 0, 1) == EINVAL)
		SKIP(return, "the kernel has no guard regions");
	unmap(anon, 1);
	kind = *variant;
	self->fd = variant->open ? variant->open() : -1;
	if (variant->open && self->fd < 0 && syscall_is_absent())
		SKIP(return, "the kernel has no memory of this kind");
	backing_fd = self->fd;
	if (is_on_tmpfs(self->fd)) {
		kind.uffd = true;
		kind.uffd_minor = true;
	}
	catch_faults();
}

FIXTURE_TEARDOWN(guard_regions)
{
}

/* -- The calls ------------------------------------------------------------ */

/*
 * Exactly the pages asked for become guards, and cease to be. Catches a range
 * that is off by a page, and data of neighbours that are zapped.
 */
TEST_F(guard_regions, basic)
{
	unsigned char *p = map_filled();

	EXPECT_EQ(0, install(p, 0, 1));
	EXPECT_STREQ("G...............", look(p, PAGES));
	EXPECT_EQ(0, install(p, PAGES - 1, 1));
	EXPECT_STREQ("G..............G", look(p, PAGES));
	EXPECT_EQ(0, install(p, 7, 1));
	EXPECT_EQ(0, install(p, 9, 3));
	EXPECT_STREQ("G......G.GGG...G", look(p, PAGES));
	EXPECT_TRUE(holds(p, 1, 7, DATA));
	EXPECT_TRUE(holds(p, 8, 9, DATA));
	EXPECT_TRUE(holds(p, 12, PAGES - 1, DATA));

	EXPECT_EQ(0, uninstall(p, 10, 1));
	EXPECT_STREQ("G......G.G.G...G", look(p, PAGES));
	EXPECT_EQ(0, uninstall(p, 0, 8));
	EXPECT_STREQ(".........G.G...G", look(p, PAGES));
	EXPECT_EQ(0, uninstall(p, 8, 8));
	EXPECT_STREQ("................", look(p, PAGES));
	EXPECT_TRUE(holds(p, 1, 7, DATA));
	EXPECT_TRUE(holds(p, 8, 9, DATA));
	EXPECT_TRUE(holds(p, 12, PAGES - 1, DATA));
}

/*
 * A page that was a guard is like one that was dropped, and can be used.
 * Catches old data in a new page, and an entry that is not empty.
 */
TEST_F(guard_regions, removed)
{
	unsigned char *p = map_filled();

	EXPECT_EQ(0, install(p, 3, 5));
	EXPECT_EQ(5, count_marked(p, PAGES));
	EXPECT_EQ(0, uninstall(p, 3, 5));
	EXPECT_TRUE(holds(p, 0, 3, DATA));
	EXPECT_TRUE(holds(p, 3, 8, DROPPED));
	EXPECT_TRUE(holds(p, 8, PAGES, DATA));
	EXPECT_TRUE(holds(fill(p, PAGES), 0, PAGES, DATA));
}

/*
 * Nothing need have been touched, not even a page table. Catches a walk that
 * passes over what is not there.
 */
TEST_F(guard_regions, untouched)
{
	const long pages = 2 * table_pages();
	unsigned char *p = map_tables(2);

	EXPECT_EQ(0, install(p, table_pages() - 3, 6));
	EXPECT_EQ(6, count_marked(p, pages));
	EXPECT_STREQ(".GGGGGG.", look(p + bytes(table_pages() - 4), 8));
	EXPECT_EQ(0, install(p, 0, pages));
	EXPECT_EQ(pages, count_marked(p, pages));
	EXPECT_EQ(0, uninstall(p, 0, pages));
	EXPECT_EQ(0, count_marked(p, pages));
	EXPECT_TRUE(holds(p, 0, PAGES, FRESH));
}

/*
 * To install again is no error and no change. Catches a walk that stops at, or
 * a restart because of, what is a guard.
 */
TEST_F(guard_regions, install_again)
{
	unsigned char *p = map_with_some();

	EXPECT_EQ(0, install(p, 2, 1));
	EXPECT_EQ(0, install(p, 1, 3));
	EXPECT_EQ(0, install(p, 4, 4));
	EXPECT_STREQ(".GGGGGGG.......G", look(p, PAGES));
	EXPECT_TRUE(holds(p, 0, 1, DATA));
	EXPECT_TRUE(holds(p, 8, 15, DATA));
}

/*
 * Where there is no guard, there is nothing to remove. Catches pages that are
 * zapped by the wrong one of the two.
 */
TEST_F(guard_regions, remove_nothing)
{
	unsigned char *p = map_filled(), *untouched = map_tables(1);

	EXPECT_EQ(0, uninstall(p, 0, PAGES));
	EXPECT_TRUE(holds(p, 0, PAGES, DATA));
	EXPECT_EQ(0, uninstall(untouched, 0, table_pages()));
	EXPECT_EQ(0, smaps_pages(untouched, "Rss:"));
}

/*
 * Addresses and lengths are taken as by other advice. Catches a length that is
 * rounded down, and 0 taken for everything.
 */
TEST_F(guard_regions, arguments)
{
	static const int advices[] = { MADV_GUARD_INSTALL, MADV_GUARD_REMOVE };
	unsigned char *p = map_filled();

	for (size_t i = 0; i < ARRAY_SIZE(advices); i++) {
		const int advice = advices[i];

		EXPECT_EQ(-1, madvise(p + 1, psize(), advice));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, madvise(p + psize() / 2, psize(), advice));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, madvise(p, -1UL, advice));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(-1, madvise(p, -(uintptr_t)p - psize() / 2, advice));
		EXPECT_EQ(EINVAL, errno);
		EXPECT_EQ(0, madvise(p, 0, advice));
	}
	EXPECT_STREQ("................", look(p, PAGES));
	EXPECT_TRUE(holds(p, 0, PAGES, DATA));

	EXPECT_EQ(0, madvise(p, 1, MADV_GUARD_INSTALL));
	EXPECT_EQ(0, madvise(p + bytes(2), psize() + 1, MADV_GUARD_INSTALL));
	EXPECT_STREQ("G.GG............", look(p, PAGES));
	EXPECT_EQ(0, madvise(p, 0, MADV_GUARD_REMOVE));
	EXPECT_EQ(0, madvise(p + bytes(2), 1, MADV_GUARD_REMOVE));
	EXPECT_STREQ("G..G............", look(p, PAGES));
}

/*
 * A guard looks like a hole: SEGV_MAPERR, at the address of the access, which
 * tells it from memory that is protected. Catches SIGBUS and a fault that is
 * retried for ever.
 */
TEST_F(guard_regions, si_code)
{
	unsigned char *p = map_with_some();
	const size_t offsets[] = { 0, 8, psize() - 1 };

	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		unsigned char *at = p + bytes(2) + offsets[i];
		struct fault store = try(at, TOUCH);

		EXPECT_TRUE(is_maperr(try(at, LOAD), at));
		EXPECT_EQ(SIGSEGV, store.signal);
		EXPECT_EQ(writable() ? SEGV_MAPERR : SEGV_ACCERR, store.code);
		EXPECT_EQ(at, store.addr);
	}
	protect(p, 2, 1, PROT_NONE);
	EXPECT_EQ(SEGV_ACCERR, try(p + bytes(2), LOAD).code);
}

/*
 * A hole in the range is ENOMEM, and all that is mapped is done. Catches a
 * return at the hole, and a loop that forgets the error.
 */
TEST_F(guard_regions, hole)
{
	unsigned char *p = map_filled();

	unmap(p + bytes(4), 2);
	unmap(p + bytes(9), 1);
	EXPECT_EQ(ENOMEM, install(p, 0, PAGES));
	EXPECT_STREQ("GGGG", look(p, 4));
	EXPECT_STREQ("GGG", look(p + bytes(6), 3));
	EXPECT_STREQ("GGGGGG", look(p + bytes(10), 6));
	EXPECT_EQ(ENOMEM, uninstall(p, 0, PAGES));
	EXPECT_STREQ("....", look(p, 4));
	EXPECT_STREQ("...", look(p + bytes(6), 3));
	EXPECT_STREQ("......", look(p + bytes(10), 6));
	EXPECT_EQ(ENOMEM, install(p, 4, 1));
	EXPECT_EQ(ENOMEM, uninstall(p, 4, 2));
}

/*
 * A VMA that can have no guards ends the call; VMAs before it have theirs.
 * Catches a roll back, and guards in or after that VMA.
 */
TEST_F(guard_regions, partial)
{
	unsigned char *p = map_filled();

	ASSERT_EQ(0, mlock(p + bytes(8), bytes(4)));
	EXPECT_EQ(EINVAL, install(p, 0, PAGES));
	EXPECT_STREQ("GGGGGGGG........", look(p, PAGES));
	EXPECT_TRUE(holds(p, 8, PAGES, DATA));
}

/*
 * One call can span VMAs of any protection. Catches a walk that stays in the
 * first, and PROT_NONE or read-only memory being refused.
 */
TEST_F(guard_regions, multi_vma)
{
	unsigned char *p = map_filled();

	protect(p, 2, 3, PROT_NONE);
	protect(p, 5, 3, PROT_READ);
	protect(p, 9, 2, PROT_NONE);
	EXPECT_EQ(0, install(p, 1, PAGES - 2));
	EXPECT_STREQ(".GGGGGGGGGGGGGG.", look_marks(p, PAGES));
	protect(p, 0, PAGES, kind.prot);
	EXPECT_STREQ(".GGGGGGGGGGGGGG.", look(p, PAGES));
	protect(p, 4, 4, PROT_NONE);
	EXPECT_EQ(0, uninstall(p, 3, 9));
	protect(p, 0, PAGES, kind.prot);
	EXPECT_STREQ(".GG.........GGG.", look(p, PAGES));
	EXPECT_TRUE(holds(p, 0, 1, DATA));
	EXPECT_TRUE(holds(p, 3, 12, DROPPED));
	EXPECT_TRUE(holds(p, PAGES - 1, PAGES, DATA));
}

/*
 * The guards of a mapping are its own. Catches a marker that is kept with the
 * file or the content.
 */
TEST_F(guard_regions, other_mapping)
{
	unsigned char *p = map_filled(), *q = map_filled();

	install_some(p);
	EXPECT_STREQ(SOME, look(p, PAGES));
	EXPECT_STREQ("................", look(q, PAGES));
	EXPECT_TRUE(holds(q, 0, PAGES, DATA));
	EXPECT_EQ(0, install(q, 0, 1));
	EXPECT_STREQ(SOME, look(p, PAGES));
}

/* More than the kernel has room for on its stack. */
#define ELEMENTS	12

/* Every second page. */
static void set_vector(struct iovec *vec, unsigned char *p)
{
	for (size_t i = 0; i < ELEMENTS; i++) {
		vec[i].iov_base = p + bytes(2 * i);
		vec[i].iov_len = psize();
	}
}

/*
 * A vector does what as many calls would. Catches process_madvise() that
 * refuses destructive advice to oneself, and a vector that is cut off.
 */
TEST_F(guard_regions, process_madvise)
{
	unsigned char *p = fill(map(2 * ELEMENTS), 2 * ELEMENTS);
	struct iovec vec[ELEMENTS];

	set_vector(vec, p);
	EXPECT_EQ(bytes(ELEMENTS), advise_vector(getpid(), vec, ELEMENTS,
						 MADV_GUARD_INSTALL));
	EXPECT_STREQ("G.G.G.G.G.G.G.G.G.G.G.G.", look(p, 2 * ELEMENTS));
	for (size_t i = 1; i < 2 * ELEMENTS; i += 2)
		EXPECT_TRUE(holds(p, i, i + 1, DATA));
	EXPECT_EQ(bytes(ELEMENTS - 1), advise_vector(getpid(), vec + 1,
						     ELEMENTS - 1,
						     MADV_GUARD_REMOVE));
	EXPECT_STREQ("G.......................", look(p, 2 * ELEMENTS));
}

/*
 * An element that fails ends the call, which returns the bytes done before it,
 * or the error if there are none. Catches an error that hides what was done,
 * and elements done after it.
 */
TEST_F(guard_regions, process_madvise_partial)
{
	unsigned char *p = map(2 * ELEMENTS);
	struct iovec vec[ELEMENTS];

	set_vector(vec, p);
	unmap(p + bytes(20), 1);
	ASSERT_EQ(0, mlock(p + bytes(16), psize()));
	EXPECT_EQ(bytes(8), advise_vector(getpid(), vec, ELEMENTS,
					  MADV_GUARD_INSTALL));
	EXPECT_STREQ("G.G.G.G.G.G.G.G.....", look(p, 20));
	EXPECT_STREQ("...", look(p + bytes(21), 3));
	EXPECT_EQ(-EINVAL, advise_vector(getpid(), vec + 8, ELEMENTS - 8,
					 MADV_GUARD_INSTALL));
	EXPECT_EQ(bytes(10), advise_vector(getpid(), vec, ELEMENTS,
					   MADV_GUARD_REMOVE));
	EXPECT_STREQ("....................", look(p, 20));
	EXPECT_EQ(-ENOMEM, advise_vector(getpid(), vec + 10, 2,
					 MADV_GUARD_INSTALL));
	EXPECT_STREQ("...", look(p + bytes(21), 3));
	vec[0].iov_base = p + 1;
	EXPECT_EQ(-EINVAL, advise_vector(getpid(), vec, ELEMENTS,
					 MADV_GUARD_INSTALL));
	EXPECT_STREQ("....................", look(p, 20));
}

/*
 * Elements may be empty, or end in a page. Catches a loop that gets stuck at
 * an empty element, and one that counts pages.
 */
TEST_F(guard_regions, process_madvise_lengths)
{
	unsigned char *p = map_filled();
	const struct iovec vec[] = {
		{ p, 0 }, { p + bytes(1), 1 }, { p + bytes(3), 0 },
		{ p + bytes(4), psize() + 1 }, { p + bytes(7), 0 },
		{ p + bytes(8), psize() }, { p + bytes(9), 0 }, { NULL, 0 },
		{ p + bytes(12), psize() }, { p + bytes(13), 0 },
	};
	const size_t n = ARRAY_SIZE(vec);

	EXPECT_EQ(bytes(3) + 2, advise_vector(getpid(), vec, n,
					      MADV_GUARD_INSTALL));
	EXPECT_STREQ(".G..GG..G...G...", look(p, PAGES));
	EXPECT_EQ(0, advise_vector(getpid(), vec, 0, MADV_GUARD_REMOVE));
	EXPECT_EQ(0, advise_vector(getpid(), vec, 1, MADV_GUARD_REMOVE));
	EXPECT_STREQ(".G..GG..G...G...", look(p, PAGES));
	EXPECT_EQ(bytes(3) + 2, advise_vector(getpid(), vec, n,
					      MADV_GUARD_REMOVE));
	EXPECT_STREQ("................", look(p, PAGES));
}

/* -- Access by the kernel ------------------------------------------------- */

static long failed(long ret)
{
	return ret < 0 ? -errno : ret;
}

/*
 * System calls that copy from and to a guard fail as at a hole. Catches a fault
 * in the kernel that is not fixed up, and one that is served.
 */
TEST_F(guard_regions, user_copy)
{
	unsigned char *p = map_with_some(), *guard = p + bytes(2);
	const long half = psize() / 2;
	int fd = scratch_file();

	EXPECT_EQ(-EFAULT, failed(pwrite(fd, guard, psize(), 0)));
	EXPECT_EQ(-EFAULT, failed(pwrite(fd, guard + half, half, 0)));
	/* Up to the guard, whether it starts at a page or not. */
	EXPECT_EQ(bytes(2), failed(pwrite(fd, p, bytes(4), 0)));
	EXPECT_EQ(half, failed(pwrite(fd, guard - half, psize(), bytes(4))));

	ASSERT_EQ(0, ftruncate(fd, 0));
	ASSERT_EQ(bytes(2), failed(pwrite(fd, p, bytes(2), 0)));
	ASSERT_EQ(0, ftruncate(fd, bytes(4)));
	EXPECT_EQ(-EFAULT, failed(pread(fd, guard, psize(), 0)));
	EXPECT_EQ(writable() ? bytes(2) : -EFAULT,
		  failed(pread(fd, p, bytes(4), 0)));
	EXPECT_STREQ(SOME, look(p, PAGES));
	EXPECT_TRUE(others_hold(p, DATA));
}

/*
 * process_vm_readv() and process_vm_writev() get and set what is before the
 * guard. Catches pages that are pinned through a marker.
 */
TEST_F(guard_regions, process_vm)
{
	unsigned char *p = map_with_some(), *buf = map_anon(PAGES, RW);
	struct iovec local = { buf, bytes(2) };
	struct iovec remote = { p + bytes(2), bytes(2) };
	const pid_t pid = getpid();

	EXPECT_EQ(-EFAULT, failed(process_vm_readv(pid, &local, 1,
						   &remote, 1, 0)));
	EXPECT_EQ(-EFAULT, failed(process_vm_writev(pid, &local, 1,
						    &remote, 1, 0)));
	local.iov_len = bytes(PAGES);
	remote = (struct iovec){ p, bytes(PAGES) };
	EXPECT_EQ(bytes(2), failed(process_vm_readv(pid, &local, 1,
						    &remote, 1, 0)));
	EXPECT_TRUE(holds(buf, 0, 2, DATA));
	EXPECT_EQ(writable() ? bytes(2) : -EFAULT,
		  failed(process_vm_writev(pid, &local, 1, &remote, 1, 0)));
	EXPECT_STREQ(SOME, look(p, PAGES));
	EXPECT_TRUE(others_hold(p, DATA));
}

/*
 * A debugger's access, which ignores protection, is stopped as well. Catches
 * FOLL_FORCE that gets a page in place of a guard.
 */
TEST_F(guard_regions, proc_mem)
{
	unsigned char *p = map_with_some(), *buf = map_anon(PAGES, RW);
	int fd = open("/proc/self/mem", O_RDWR);
	const off_t at = (uintptr_t)p;

	ASSERT_LE(0, fd);
	EXPECT_EQ(-EIO, failed(pread(fd, buf, psize(), at + bytes(2))));
	EXPECT_EQ(-EIO, failed(pwrite(fd, buf, psize(), at + bytes(2))));
	EXPECT_EQ(-EIO, failed(pwrite(fd, buf, 1, at + bytes(6) + 5)));
	EXPECT_EQ(bytes(2), failed(pread(fd, buf, bytes(PAGES), at)));
	EXPECT_TRUE(holds(buf, 0, 2, DATA));
	if (writable())
		EXPECT_EQ(bytes(2), failed(pwrite(fd, buf, bytes(4), at)));
	EXPECT_STREQ(SOME, look(p, PAGES));
	EXPECT_TRUE(others_hold(p, DATA));
}

/* The same by ptrace(), in another process. */
TEST_F(guard_regions, ptrace)
{
	unsigned char *p = map_with_some();
	pid_t pid = fork();
	long word;

	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		EXPECT_STREQ(SOME, look(p, PAGES));
		EXPECT_TRUE(others_hold(p, DATA));
		_exit(0);
	}
	ASSERT_TRUE(WIFSTOPPED(wait_status(pid)));
	errno = 0;
	word = ptrace(PTRACE_PEEKDATA, pid, p + bytes(1), NULL);
	EXPECT_EQ(0, errno);
	EXPECT_EQ(0, memcmp(&word, p + bytes(1), sizeof(word)));
	EXPECT_EQ(-EIO, failed(ptrace(PTRACE_PEEKDATA, pid, p + bytes(2), NULL)));
	EXPECT_EQ(-EIO, failed(ptrace(PTRACE_POKEDATA, pid, p + bytes(2), word)));
	/* The child's faults are the tracer's to see; it lets go. */
	EXPECT_EQ(0, ptrace(PTRACE_DETACH, pid, NULL, NULL));
	EXPECT_TRUE(child_passed(pid));
	EXPECT_STREQ(SOME, look(p, PAGES));
}

/*
 * The fast way to pin pages, without the mmap lock, stops at a guard, too.
 * Catches a marker that is taken for a page there.
 */
TEST_F(guard_regions, vmsplice)
{
	unsigned char *p = map_with_some(), *buf = map_anon(2, RW);
	struct iovec iov = { p + bytes(2), psize() };
	int pipes[2];

	ASSERT_EQ(0, pipe(pipes));
	EXPECT_EQ(-EFAULT, failed(vmsplice(pipes[1], &iov, 1, 0)));
	iov = (struct iovec){ p, bytes(4) };
	EXPECT_EQ(bytes(2), failed(vmsplice(pipes[1], &iov, 1, 0)));
	EXPECT_EQ(psize(), failed(read(pipes[0], buf, psize())));
	EXPECT_EQ(psize(), failed(read(pipes[0], buf + psize(), psize())));
	EXPECT_TRUE(holds(buf, 0, 2, DATA));
	EXPECT_STREQ(SOME, look(p, PAGES));
}

/* -- Other advice --------------------------------------------------------- */

/*
 * Pages cannot be made to exist where a guard is. Catches a populate that goes
 * over guards, and one that takes the fault for success and loops.
 */
TEST_F(guard_regions, madvise_populate)
{
	unsigned char *p = map(PAGES);

	install_some(p);
	EXPECT_EQ(EFAULT, advise(p, 0, PAGES, MADV_POPULATE_READ));
	EXPECT_EQ(writable() ? EFAULT : EINVAL,
		  advise(p, 0, PAGES, MADV_POPULATE_WRITE));
	EXPECT_EQ(EFAULT, advise(p, 5, 1, MADV_POPULATE_READ));
	EXPECT_EQ(0, advise(p, 3, 2, MADV_POPULATE_READ));
	EXPECT_TRUE(!!(pagemap_entry(p + psize()) & PM_PRESENT));
	EXPECT_STREQ(SOME, look(p, PAGES));
	EXPECT_EQ(0, uninstall(p, 0, PAGES));
	EXPECT_EQ(0, advise(p, 0, PAGES, MADV_POPULATE_READ));
	EXPECT_TRUE(holds(p, 0, PAGES, FRESH));
}

/*
 * Pages are dropped around guards, which stay. Catches a zap that drops
 * markers, as munmap() has to.
 */
TEST_F(guard_regions, madvise_dontneed)
{
	unsigned char *p = map_with_some();

	EXPECT_EQ(0, advise(p, 0, PAGES, MADV_DONTNEED));
	EXPECT_STREQ(SOME, look_marks(p, PAGES));
	EXPECT_STREQ(SOME, look(p, PAGES));
	EXPECT_TRUE(others_hold(p, DROPPED));
	EXPECT_EQ(0, uninstall(p, 0, PAGES));
	EXPECT_TRUE(holds(p, 0, PAGES, DROPPED));
}

/* The same with locked memory. */
TEST_F(guard_regions, madvise_dontneed_locked)
{
	unsigned char *p = map_with_some();

	ASSERT_EQ(0, mlock2(p, bytes(PAGES), MLOCK_ONFAULT));
	EXPECT_EQ(EINVAL, advise(p, 0, PAGES, MADV_DONTNEED));
	EXPECT_EQ(0, advise(p, 0, PAGES, MADV_DONTNEED_LOCKED));
	EXPECT_STREQ(SOME, look(p, PAGES));
	EXPECT_TRUE(others_hold(p, DROPPED));
}

/*
 * Free pages may go at any time, guards may not. Catches MADV_FREE clearing
 * what is a marker of any kind.
 */
TEST_F(guard_regions, madvise_free)
{
	unsigned char *p = map_with_some();

	EXPECT_EQ(kind.only_copy ? 0 : EINVAL,
		  advise(p, 0, PAGES, MADV_FREE));
	EXPECT_STREQ(SOME, look(p, PAGES));
	fill(p, 2);
	EXPECT_TRUE(holds(p, 0, 2, DATA));
}

/*
 * Advice on reclaim changes no guard and no data. Catches a walk that takes a
 * marker for a swap entry, from which WILLNEED would read.
 */
TEST_F(guard_regions, madvise_cold)
{
	static const int advices[] = {
		MADV_COLD, MADV_PAGEOUT, MADV_WILLNEED, MADV_RANDOM,
		MADV_SEQUENTIAL, MADV_NORMAL,
	};
	unsigned char *p = map_with_some();

	for (size_t i = 0; i < ARRAY_SIZE(advices); i++) {
		EXPECT_EQ(0, advise(p, 0, PAGES, advices[i]));
		EXPECT_STREQ(SOME, look(p, PAGES));
		EXPECT_TRUE(others_hold(p, DATA));
	}
}

/* Pages that are in swap; a guard looks like one but for its own bit. */
static int count_swapped(unsigned char *p, size_t pages)
{
	int count = 0;

	for (size_t i = 0; i < pages; i++)
		count += (pagemap_entry(p + bytes(i)) &
			  (PM_SWAP | PM_GUARD_REGION)) == PM_SWAP;
	return count;
}

/*
 * Neighbours go to swap and come back; swapped pages become guards and lose
 * their swap space. Catches a marker that swap readahead reads from, and swap
 * entries that are leaked, or removed as if they were guards.
 */
TEST_F(guard_regions, swap)
{
	unsigned char *p = fill(map_at(reserve(1), PAGES), PAGES);
	const int wanted = writable() && !shared() ? PAGES - 4 : 0;
	int swapped = 0;

	if (file_number("/proc/meminfo", "SwapFree:") <= 0)
		SKIP(return, "no swap space");
	install_some(p);
	/* A page that is busy stays; that of another CPU's batch, too. */
	for (int tries = 0; tries < 100; tries++) {
		ASSERT_EQ(0, advise(p, 0, PAGES, MADV_PAGEOUT));
		swapped = count_swapped(p, PAGES);
		if (swapped == wanted)
			break;
	}
	EXPECT_EQ(wanted, swapped);
	EXPECT_STREQ(SOME, look_marks(p, PAGES));
	if (wanted)
		EXPECT_EQ(wanted, smaps_pages(p, "Swap:"));
	EXPECT_EQ(0, install(p, 8, 2));
	EXPECT_EQ(0, uninstall(p, 10, 3));
	EXPECT_STREQ("..G..GG.GG.....G", look(p, PAGES));
	EXPECT_TRUE(holds(p, 3, 5, DATA));
	EXPECT_TRUE(holds(p, 10, 15, DATA));
	EXPECT_EQ(0, uninstall(p, 0, PAGES));
	EXPECT_TRUE(holds(p, 8, 10, DROPPED));
	EXPECT_TRUE(holds(p, 10, 15, DATA));
}

/* -- Files ---------------------------------------------------------------- */

/*
 * MADV_REMOVE takes pages from the file, and no guards from the mapping.
 * Catches an unmap that drops markers.
 */
TEST_F(guard_regions, madvise_remove)
{
	unsigned char *p = map_with_some();
	int error = advise(p, 0, PAGES, MADV_REMOVE);

	if (error == EOPNOTSUPP)
		SKIP(return, "the file system cannot punch holes");
	EXPECT_STREQ(SOME, look(p, PAGES));
	if (!shared()) {
		EXPECT_EQ(kind.open ? EACCES : EINVAL, error);
		EXPECT_TRUE(others_hold(p, DATA));
		return;
	}
	EXPECT_EQ(0, error);
	EXPECT_TRUE(is_byte(p, 0, bytes(2)));
	EXPECT_EQ(0, uninstall(p, 0, PAGES));
	EXPECT_TRUE(is_byte(p, 0, bytes(PAGES)));
}

/*
 * The same by fallocate(), for private mappings, too, which keep their pages.
 * Memory without a page cache has no holes.
 */
TEST_F(guard_regions, hole_punch)
{
	unsigned char *p = map_with_some();
	long ret = failed(fallocate(self->fd, FALLOC_FL_PUNCH_HOLE |
				    FALLOC_FL_KEEP_SIZE, 0, bytes(PAGES)));

	if (kind.cached && ret == -EOPNOTSUPP)
		SKIP(return, "the file system cannot punch holes");
	EXPECT_STREQ(SOME, look(p, PAGES));
	if (!shared()) {
		EXPECT_EQ(kind.cached, !ret);
		EXPECT_TRUE(others_hold(p, DATA));
	}
	EXPECT_EQ(0, uninstall(p, 0, PAGES));
	if (!kind.cached) {
		EXPECT_TRUE(holds(p, 5, 7, FRESH));
		return;
	}
	EXPECT_EQ(0, ret);
	EXPECT_TRUE(is_byte(p + bytes(5), 0, bytes(2)));
	if (shared())
		EXPECT_TRUE(is_byte(p, 0, bytes(PAGES)));
}

/*
 * Where the file ends, a guard is still a guard and other pages are SIGBUS.
 * Catches a truncation that drops markers, and a fault that looks at the file
 * before it looks at the marker.
 */
TEST_F(guard_regions, truncate)
{
	unsigned char *p = map_with_some();

	if (!kind.cached) {
		EXPECT_EQ(-1, ftruncate(self->fd, bytes(4)));
		EXPECT_STREQ(SOME, look(p, PAGES));
		return;
	}
	ASSERT_EQ(0, ftruncate(self->fd, bytes(4)));
	EXPECT_STREQ("..G.bGGbbbbbbbbG", look(p, PAGES));
	EXPECT_EQ(0, uninstall(p, 6, 1));
	EXPECT_EQ(0, install(p, 9, 1));
	EXPECT_STREQ("..G.bGbbbGbbbbbG", look(p, PAGES));
	ASSERT_EQ(0, ftruncate(self->fd, bytes(PAGES)));
	EXPECT_STREQ("..G..G...G.....G", look(p, PAGES));
	EXPECT_TRUE(holds(p, 0, 2, DATA));
	EXPECT_TRUE(is_byte(p + bytes(6), 0, bytes(3)));
	EXPECT_EQ(0, uninstall(p, 0, PAGES));
	EXPECT_TRUE(holds(p, 2, 3, DROPPED));
	EXPECT_TRUE(is_byte(p + bytes(9), 0, bytes(7)));
}

/*
 * A fault on a file maps what the page cache has around it, but no guards.
 * Catches map_pages() that takes a marker for an empty entry.
 */
TEST_F(guard_regions, fault_around)
{
	unsigned char *p = map_at(reserve(1), PAGES);

	EXPECT_EQ(0, install(p, 5, 2));
	EXPECT_EQ(0, install(p, 9, 1));
	EXPECT_EQ(0, try(p + bytes(4), LOAD).signal);
	/* That there was something around is the control. */
	EXPECT_EQ(kind.around, !!(pagemap_entry(p + bytes(3)) & PM_PRESENT));
	EXPECT_EQ(kind.around, !!(pagemap_entry(p + bytes(8)) & PM_PRESENT));
	EXPECT_STREQ(".....GG..G......", look(p, PAGES));
	EXPECT_EQ(0, try(p + bytes(8), LOAD).signal);
	EXPECT_STREQ(".....GG..G......", look(p, PAGES));
	EXPECT_EQ(0, uninstall(p, 0, PAGES));
	EXPECT_TRUE(holds(p, 0, PAGES, FRESH));
}

/* Guards are nothing to write back. Catches an error of msync() for them. */
TEST_F(guard_regions, msync)
{
	unsigned char *p = map_with_some();

	EXPECT_EQ(0, msync(p, bytes(PAGES), MS_SYNC));
	EXPECT_EQ(0, msync(p, bytes(PAGES), MS_ASYNC | MS_INVALIDATE));
	EXPECT_STREQ(SOME, look(p, PAGES));
	EXPECT_TRUE(others_hold(p, DATA));
}

/*
 * mincore() tells of a guard what it tells of a page that is not mapped:
 * whether the page cache has one. Catches a marker taken for a swap entry.
 */
TEST_F(guard_regions, mincore)
{
	unsigned char *p = map_filled(), vec[PAGES];

	install_some(p);
	ASSERT_EQ(0, mincore(p, bytes(PAGES), vec));
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_EQ(kind.cached || SOME[i] == '.', vec[i] & 1);
	EXPECT_STREQ(SOME, look(p, PAGES));
}

/* -- mmap, mremap, mprotect ----------------------------------------------- */

/*
 * Guards go with their mapping. Catches a marker that munmap() leaves in the
 * page table, for the next mapping to stumble over.
 */
TEST_F(guard_regions, munmap)
{
	unsigned char *p = map_with_some();

	unmap(p + bytes(1), 5);
	ASSERT_EQ(p + bytes(1), map_at(p + bytes(1), 5));
	EXPECT_STREQ("......G........G", look_marks(p, PAGES));
	EXPECT_STREQ("......G........G", look(p, PAGES));
	unmap(p, PAGES);
	map_at(p, PAGES);
	EXPECT_STREQ("................", look_marks(p, PAGES));
	EXPECT_STREQ("................", look(p, PAGES));
}

/* The same for a mapping that replaces another, of its kind or not. */
TEST_F(guard_regions, mmap_fixed)
{
	unsigned char *p = map_with_some(), *anon;

	map_at(p, PAGES);
	EXPECT_STREQ("................", look(p, PAGES));
	install_some(p);
	anon = mmap(p + bytes(1), bytes(5), RW,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	ASSERT_EQ(p + bytes(1), anon);
	EXPECT_STREQ(".....", look(anon, 5));
	EXPECT_TRUE(is_byte(anon, 0, bytes(5)));
	EXPECT_STREQ("......G........G", look(p, PAGES));
}

/*
 * Guards move with their mapping. Catches an entry that is not moved since it
 * is neither a page nor in swap.
 */
TEST_F(guard_regions, mremap_move)
{
	unsigned char *p = map_with_some(), *to = map_anon(PAGES, PROT_NONE);

	ASSERT_EQ(to, mremap(p, bytes(PAGES), bytes(PAGES),
			     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	EXPECT_STREQ(SOME, look(to, PAGES));
	EXPECT_TRUE(others_hold(to, DATA));
	map_at(p, PAGES);
	EXPECT_STREQ("................", look(p, PAGES));
	EXPECT_EQ(0, uninstall(to, 0, PAGES));
	EXPECT_STREQ("................", look(to, PAGES));
}

/* The same where whole page tables are moved. */
TEST_F(guard_regions, mremap_move_tables)
{
	const long n = table_pages();
	unsigned char *p = map_tables(2), *to = reserve(2);

	EXPECT_EQ(0, install(p, 0, 1));
	EXPECT_EQ(0, install(p, n - 1, 2));
	EXPECT_EQ(0, install(p, 2 * n - 1, 1));
	ASSERT_EQ(to, mremap(p, bytes(2 * n), bytes(2 * n),
			     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	EXPECT_EQ(4, count_marked(to, 2 * n));
	EXPECT_STREQ("G.", look(to, 2));
	EXPECT_STREQ(".GG.", look(to + bytes(n - 2), 4));
	EXPECT_STREQ(".G", look(to + bytes(2 * n - 2), 2));
	map_at(p, 2 * n);
	EXPECT_EQ(0, count_marked(p, 2 * n));
	EXPECT_TRUE(holds(to, 1, PAGES, FRESH));
}

/* What mremap() adds has no guards, whether the mapping has to move or not. */
TEST_F(guard_regions, mremap_expand)
{
	unsigned char *p = map(3 * PAGES), *q, *in_the_way;

	unmap(p + bytes(PAGES), 2 * PAGES);
	fill(p, PAGES);
	install_some(p);
	ASSERT_EQ(p, mremap(p, bytes(PAGES), bytes(2 * PAGES), 0));
	EXPECT_STREQ(SOME "................", look(p, 2 * PAGES));
	EXPECT_TRUE(others_hold(p, DATA));

	in_the_way = mmap(p + bytes(2 * PAGES), psize(), PROT_NONE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	ASSERT_EQ(p + bytes(2 * PAGES), in_the_way);
	q = mremap(p, bytes(2 * PAGES), bytes(3 * PAGES), MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, (void *)q);
	ASSERT_NE(p, q);
	EXPECT_STREQ(SOME "................................",
		     look(q, 3 * PAGES));
	EXPECT_TRUE(others_hold(q, DATA));
}

/* What mremap() cut off does not come back. Catches a marker left behind. */
TEST_F(guard_regions, mremap_shrink)
{
	unsigned char *p = map_with_some();

	ASSERT_EQ(p, mremap(p, bytes(PAGES), bytes(6), 0));
	EXPECT_STREQ("..G..G", look(p, 6));
	ASSERT_EQ(p, mremap(p, bytes(6), bytes(PAGES), 0));
	EXPECT_STREQ("..G..G..........", look(p, PAGES));
	EXPECT_TRUE(holds(p, 0, 2, DATA));
}

/*
 * The guards are where the pages are; the range that stays behind is as if
 * untouched. Catches guards in both or in none.
 */
TEST_F(guard_regions, mremap_dontunmap)
{
	unsigned char *p = map_with_some(), *q;

	q = mremap(p, bytes(PAGES), bytes(PAGES),
		   MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	ASSERT_NE(MAP_FAILED, (void *)q);
	EXPECT_STREQ(SOME, look(q, PAGES));
	EXPECT_TRUE(others_hold(q, DATA));
	EXPECT_STREQ("................", look(p, PAGES));
	EXPECT_TRUE(holds(p, 0, PAGES, DROPPED));
}

/*
 * mprotect() and guards do not know of each other. Catches a change of
 * protection that clears a marker, and one that makes it accessible.
 */
TEST_F(guard_regions, mprotect)
{
	static const int prots[] = { PROT_NONE, PROT_READ };
	unsigned char *p = map_with_some();

	for (size_t i = 0; i < ARRAY_SIZE(prots); i++) {
		protect(p, 0, PAGES, prots[i]);
		EXPECT_STREQ(SOME, look_marks(p, PAGES));
		protect(p, 0, PAGES, kind.prot);
		EXPECT_STREQ(SOME, look(p, PAGES));
		EXPECT_TRUE(others_hold(p, DATA));
	}
	protect(p, 0, PAGES, PROT_READ);
	EXPECT_STREQ(SOME, look(p, PAGES));
	protect(p, 0, PAGES, PROT_NONE);
	EXPECT_STREQ("----------------", look(p, PAGES));
	EXPECT_EQ(0, uninstall(p, 5, 2));
	EXPECT_EQ(0, install(p, 8, 1));
	protect(p, 0, PAGES, kind.prot);
	EXPECT_STREQ("..G.....G......G", look(p, PAGES));
}

/*
 * Guards cost no VMAs, and are not lost when VMAs are split or merged. Catches
 * a flag or an anon_vma that keeps neighbours apart.
 */
TEST_F(guard_regions, split_merge)
{
	unsigned char *p = map_filled();

	for (size_t i = 1; i < PAGES; i += 2)
		EXPECT_EQ(0, install(p, i, 1));
	EXPECT_EQ(1, count_vmas(p, PAGES));
	EXPECT_STREQ(".G.G.G.G.G.G.G.G", look(p, PAGES));
	protect(p, 4, 4, PROT_NONE);
	EXPECT_EQ(3, count_vmas(p, PAGES));
	EXPECT_STREQ(".G.G----.G.G.G.G", look(p, PAGES));
	EXPECT_STREQ(".G.G.G.G.G.G.G.G", look_marks(p, PAGES));
	EXPECT_EQ(0, uninstall(p, 5, 1));
	EXPECT_EQ(0, install(p, 10, 1));
	protect(p, 4, 4, kind.prot);
	EXPECT_EQ(1, count_vmas(p, PAGES));
	EXPECT_STREQ(".G.G...G.GGG.G.G", look(p, PAGES));
	unmap(p + bytes(8), 2);
	EXPECT_STREQ(".G.G...G", look(p, 8));
	EXPECT_STREQ("GG.G.G", look(p + bytes(10), 6));
}

/* Install in a half of a mapping while the other half is another VMA. */
static void install_and_merge(unsigned char *p, size_t pages, size_t half,
			      size_t guard)
{
	protect(p, pages / 2 * !half, pages / 2, PROT_NONE);
	if (install(p, guard, 2))
		die("MADV_GUARD_INSTALL");
	protect(p, 0, pages, kind.prot);
}

/*
 * A VMA with guards merges with one without, on either side, and guards are
 * inherited. Catches a merged VMA that no longer knows of its guards.
 */
TEST_F(guard_regions, merge_with_unguarded)
{
	for (size_t half = 0; half <= 1; half++) {
		const size_t guard = half ? 11 : 3;
		unsigned char *p = map(PAGES);
		pid_t pid;

		install_and_merge(p, PAGES, half, guard);
		EXPECT_EQ(1, count_vmas(p, PAGES));
		pid = fork();
		if (!pid) {
			EXPECT_EQ(2, count_marked(p, PAGES));
			EXPECT_STREQ(".GG.", look(p + bytes(guard - 1), 4));
			_exit(0);
		}
		EXPECT_TRUE(child_passed(pid));
	}
}

/*
 * The VMA between them becomes like its neighbours, of which the right one has
 * guards, and the left one survives. Catches flags of a removed VMA that are
 * lost: those which the call has worked out are those of the VMA in the middle.
 */
TEST_F(guard_regions, merge_with_both)
{
	unsigned char *p = map(PAGES);
	pid_t pid;

	protect(p, 6, 4, PROT_NONE);
	EXPECT_EQ(0, install(p, 11, 2));
	protect(p, 6, 4, kind.prot);
	EXPECT_EQ(1, count_vmas(p, PAGES));
	pid = fork();
	if (!pid) {
		EXPECT_STREQ("...........GG...", look(p, PAGES));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
}

/* -- fork ----------------------------------------------------------------- */

/* Each side removes and installs; the other does not notice. */
static void check_fork(struct __test_metadata *_metadata, unsigned char *p)
{
	int parent[2], child[2];
	pid_t pid;

	ASSERT_EQ(0, pipe(parent));
	ASSERT_EQ(0, pipe(child));
	pid = fork();
	if (!pid) {
		EXPECT_STREQ(SOME, look_marks(p, PAGES));
		EXPECT_STREQ(SOME, look(p, PAGES));
		EXPECT_EQ(0, uninstall(p, 5, 2));
		EXPECT_EQ(0, install(p, 0, 1));
		tell(parent);
		wait_for(child);
		EXPECT_STREQ("G.G............G", look(p, PAGES));
		_exit(0);
	}
	wait_for(parent);
	EXPECT_STREQ(SOME, look(p, PAGES));
	EXPECT_EQ(0, uninstall(p, 2, 1));
	EXPECT_EQ(0, install(p, 9, 2));
	tell(child);
	EXPECT_TRUE(child_passed(pid));
	EXPECT_STREQ(".....GG..GG....G", look(p, PAGES));
}

/*
 * A child inherits the guards, and they are its own. Catches markers that are
 * not copied.
 */
TEST_F(guard_regions, fork)
{
	unsigned char *p = map_with_some();
	pid_t pid = fork();

	if (!pid) {
		EXPECT_STREQ(SOME, look(p, PAGES));
		EXPECT_TRUE(others_hold(p, DATA));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	check_fork(_metadata, p);
}

/*
 * The same if nothing but guards was ever in the mapping. Catches page tables
 * that are not copied because faults could fill them.
 */
TEST_F(guard_regions, fork_untouched)
{
	unsigned char *p = map(PAGES);

	install_some(p);
	check_fork(_metadata, p);
}

/*
 * A guard that was inherited is inherited again. Catches a child whose VMA
 * does not know of its guards.
 */
TEST_F(guard_regions, fork_again)
{
	unsigned char *p = map(PAGES);
	pid_t pid;

	install_some(p);
	pid = fork();
	if (!pid) {
		check_fork(_metadata, p);
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
}

/*
 * Data beside guards are shared or copied as ever. Catches a page table that
 * is copied as a whole.
 */
TEST_F(guard_regions, fork_cow)
{
	unsigned char *p = map_with_some();
	pid_t pid;

	if (!writable()) {
		EXPECT_EQ(SEGV_ACCERR, try(p, TOUCH).code);
		return;
	}
	pid = fork();
	if (!pid) {
		memset(p, 0xee, bytes(2));
		EXPECT_EQ(0, install(p, 4, 1));
		EXPECT_TRUE(holds(p, 3, 4, DATA));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_STREQ(SOME, look(p, PAGES));
	EXPECT_TRUE(holds(p, 3, 5, DATA));
	EXPECT_TRUE(shared() ? is_byte(p, 0xee, bytes(2)) :
			       holds(p, 0, 2, DATA));
}

/*
 * What is wiped has no guards. Catches markers that are copied all the same.
 * Only data that are nowhere else can be wiped.
 */
TEST_F(guard_regions, fork_wipeonfork)
{
	unsigned char *p = map_with_some();
	pid_t pid;

	EXPECT_EQ(kind.only_copy ? 0 : EINVAL,
		  advise(p, 0, PAGES, MADV_WIPEONFORK));
	pid = fork();
	if (!pid) {
		if (kind.only_copy) {
			EXPECT_STREQ("................", look(p, PAGES));
			EXPECT_TRUE(holds(p, 0, PAGES, FRESH));
		} else {
			EXPECT_STREQ(SOME, look(p, PAGES));
		}
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_STREQ(SOME, look(p, PAGES));
	EXPECT_TRUE(others_hold(p, DATA));
}

/* What is not inherited is free for other mappings. */
TEST_F(guard_regions, fork_dontfork)
{
	unsigned char *p = map_with_some();
	pid_t pid;

	EXPECT_EQ(0, advise(p, 0, PAGES, MADV_DONTFORK));
	pid = fork();
	if (!pid) {
		EXPECT_EQ(0, count_vmas(p, PAGES));
		map_at(p, PAGES);
		EXPECT_STREQ("................", look(p, PAGES));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_STREQ(SOME, look(p, PAGES));
}

/* -- mlock and mseal ------------------------------------------------------ */

/*
 * Locked memory cannot be discarded, so no guards; to remove some discards
 * nothing. Catches locked pages that are zapped.
 */
TEST_F(guard_regions, mlock)
{
	unsigned char *p = map_filled();

	ASSERT_EQ(0, mlock(p, bytes(PAGES)));
	EXPECT_EQ(EINVAL, install(p, 2, 1));
	EXPECT_EQ(0, uninstall(p, 0, PAGES));
	EXPECT_STREQ("................", look(p, PAGES));
	EXPECT_TRUE(holds(p, 0, PAGES, DATA));
	ASSERT_EQ(0, munlock(p, bytes(PAGES)));
	EXPECT_EQ(0, install(p, 2, 1));
	EXPECT_STREQ("..G.............", look(p, PAGES));
}

static void check_locked(struct __test_metadata *_metadata, unsigned char *p)
{
	EXPECT_TRUE(has_flag(p, "lo"));
	EXPECT_STREQ(SOME, look(p, PAGES));
	EXPECT_TRUE(others_hold(p, DATA));
	EXPECT_EQ(EINVAL, install(p, 0, 1));
	EXPECT_EQ(EINVAL, install(p, 2, 1));
	EXPECT_EQ(0, uninstall(p, 5, 2));
	EXPECT_STREQ("..G............G", look(p, PAGES));
}

/*
 * mlock() over guards locks, and fails to bring in all pages: ENOMEM. Catches
 * guards that are populated, and the lock being undone.
 */
TEST_F(guard_regions, mlock_guards)
{
	unsigned char *p = map_with_some();

	EXPECT_EQ(-1, mlock(p, bytes(PAGES)));
	EXPECT_EQ(ENOMEM, errno);
	check_locked(_metadata, p);
}

/* MLOCK_ONFAULT brings in nothing, and so succeeds. */
TEST_F(guard_regions, mlock_onfault)
{
	unsigned char *p = map_with_some();

	EXPECT_EQ(0, mlock2(p, bytes(PAGES), MLOCK_ONFAULT));
	check_locked(_metadata, p);
}

/*
 * To install is to discard, which mseal() forbids where the data are in no
 * other place and could not be overwritten; to remove discards nothing.
 * Catches guards that get around a seal.
 */
TEST_F(guard_regions, mseal)
{
	unsigned char *p = map_with_some(), *rw = map_with_some();

	protect(p, 0, PAGES, PROT_READ);
	if (syscall(__NR_mseal, p, bytes(PAGES), 0) && syscall_is_absent())
		SKIP(return, "no mseal()");
	EXPECT_EQ(kind.only_copy ? EPERM : 0, install(p, 0, 1));
	EXPECT_EQ(0, uninstall(p, 5, 2));
	EXPECT_STREQ(kind.only_copy ? "..G............G" :
					  "G.G............G", look(p, PAGES));
	EXPECT_TRUE(holds(p, 7, 15, DATA));

	ASSERT_EQ(0, syscall(__NR_mseal, rw, bytes(PAGES), 0));
	EXPECT_EQ(kind.only_copy && !writable() ? EPERM : 0,
		  install(rw, 0, 1));
	EXPECT_EQ(0, uninstall(rw, 5, 2));
}

/* -- Huge pages ----------------------------------------------------------- */

/* A page that is busy makes it fail; 0 or the error. */
static int collapse(unsigned char *p)
{
	int error = EAGAIN;

	for (int tries = 0; tries < 20; tries++) {
		error = advise(p, 0, table_pages(), MADV_COLLAPSE);
		if (error != EAGAIN && error != EBUSY)
			break;
	}
	return error;
}

static bool is_huge(unsigned char *p)
{
	const size_t size = bytes(table_pages());

	return kind.cached ? check_huge_shmem(p, 1, size) :
				 check_huge_anon(p, 1, size);
}

static bool has_huge_pages(void)
{
	return read_pmd_pagesize() == (__u64)bytes(table_pages());
}

/* Memory of one page table, a huge page if there are any of its kind. */
static unsigned char *map_huge(struct __test_metadata *_metadata)
{
	unsigned char *p = map_tables(1);
	int error;

	fill(p, table_pages());
	error = collapse(p);
	if (kind.huge) {
		EXPECT_EQ(0, error);
		EXPECT_TRUE(is_huge(p));
	}
	return p;
}

/*
 * A guard takes a page out of a huge page; the others keep what they hold.
 * Catches a huge page that is zapped as a whole, or passed over.
 */
TEST_F(guard_regions, thp)
{
	const long n = table_pages();
	unsigned char *p;

	if (!has_huge_pages())
		SKIP(return, "no transparent huge pages");
	p = map_huge(_metadata);
	EXPECT_EQ(0, uninstall(p, 0, n));
	if (kind.huge)
		EXPECT_TRUE(is_huge(p));
	EXPECT_EQ(0, install(p, 3, 1));
	EXPECT_EQ(0, install(p, 100, 2));
	EXPECT_EQ(3, count_marked(p, n));
	EXPECT_STREQ("...G....", look(p, 8));
	EXPECT_STREQ(".GG.", look(p + bytes(99), 4));
	EXPECT_TRUE(holds(p, 0, 3, DATA));
	EXPECT_TRUE(holds(p, 4, 100, DATA));
	EXPECT_TRUE(holds(p, 102, n, DATA));
	EXPECT_EQ(0, uninstall(p, 0, n));
	EXPECT_TRUE(holds(p, 3, 4, DROPPED));
	EXPECT_TRUE(holds(p, 100, 102, DROPPED));
}

/* The same with all of a huge page. Catches a page table that is not there. */
TEST_F(guard_regions, thp_whole)
{
	const long n = table_pages();
	unsigned char *p;

	if (!has_huge_pages())
		SKIP(return, "no transparent huge pages");
	p = map_huge(_metadata);
	EXPECT_EQ(0, install(p, 0, n));
	EXPECT_EQ(n, count_marked(p, n));
	EXPECT_EQ(0, smaps_pages(p, "Rss:"));
	EXPECT_EQ(0, uninstall(p, 0, n));
	EXPECT_TRUE(holds(p, 0, n, DROPPED));
}

/*
 * The same with the huge page of zeros, which a load gets from anonymous
 * memory. Catches one that is not a page to the walk and stays.
 */
TEST_F(guard_regions, thp_zero)
{
	const long n = table_pages();
	unsigned char *p;

	if (!has_huge_pages())
		SKIP(return, "no transparent huge pages");
	p = map_tables(1);
	EXPECT_EQ(0, advise(p, 0, n, MADV_HUGEPAGE));
	EXPECT_EQ(0, try(p + bytes(50), LOAD).signal);
	EXPECT_EQ(0, install(p, 3, 2));
	EXPECT_EQ(2, count_marked(p, n));
	EXPECT_STREQ("...GG...", look(p, 8));
	EXPECT_TRUE(holds(p, 5, n, FRESH));
	EXPECT_EQ(0, uninstall(p, 0, n));
	EXPECT_TRUE(holds(p, 0, n, FRESH));
}

/*
 * A huge page has no room for a guard, so none is made. Catches a collapse
 * that takes a marker for an empty entry.
 */
TEST_F(guard_regions, collapse)
{
	const long n = table_pages();
	unsigned char *p;
	int error;

	if (!has_huge_pages())
		SKIP(return, "no transparent huge pages");
	p = fill(map_tables(1), n);
	EXPECT_EQ(0, install(p, 7, 2));
	EXPECT_EQ(EINVAL, collapse(p));
	EXPECT_EQ(2, count_marked(p, n));
	EXPECT_STREQ(".GG.", look(p + bytes(6), 4));
	EXPECT_FALSE(is_huge(p));
	EXPECT_TRUE(holds(p, 0, 7, DATA));
	EXPECT_TRUE(holds(p, 9, n, DATA));

	EXPECT_EQ(0, uninstall(p, 7, 2));
	error = collapse(fill(p, n));
	if (kind.huge) {
		EXPECT_EQ(0, error);
		EXPECT_TRUE(is_huge(p));
	}
	EXPECT_TRUE(holds(p, 0, n, DATA));
}

/*
 * A collapse through another mapping of a file takes page tables away from all
 * of them, since faults could fill them again; but not with guards. @guard is
 * the first of two guards in @p. To be told of, here and in a child.
 */
static void check_retract(struct __test_metadata *_metadata, unsigned char *p,
			  size_t guard)
{
	int child[2], error;
	unsigned char *q;
	pid_t pid;

	ASSERT_EQ(0, pipe(child));
	pid = fork();
	if (!pid) {
		wait_for(child);
		EXPECT_EQ(2, count_marked(p, table_pages()));
		EXPECT_STREQ(".GG.", look(p + bytes(guard - 1), 4));
		_exit(0);
	}
	q = fill(map_tables(1), table_pages());
	error = collapse(q);
	if (kind.huge)
		EXPECT_EQ(0, error);
	tell(child);
	EXPECT_TRUE(child_passed(pid));
	EXPECT_EQ(2, count_marked(p, table_pages()));
	EXPECT_STREQ(".GG.", look(p + bytes(guard - 1), 4));
	EXPECT_TRUE(holds(q, 0, table_pages(), DATA));
	if (kind.huge)
		EXPECT_TRUE(is_huge(q));
}

/* Catches a page table that goes although it has guards and no more. */
TEST_F(guard_regions, collapse_other_mapping)
{
	unsigned char *p;

	if (!has_huge_pages())
		SKIP(return, "no transparent huge pages");
	p = map_tables(1);
	EXPECT_EQ(0, install(p, 7, 2));
	check_retract(_metadata, p, 7);
}

/*
 * Catches the same where the VMA that was marked is now part of one that was
 * not, on either side.
 */
TEST_F(guard_regions, collapse_other_mapping_after_merge)
{
	const long n = table_pages();

	if (!has_huge_pages())
		SKIP(return, "no transparent huge pages");
	for (size_t half = 0; half <= 1; half++) {
		const size_t guard = half ? n - 7 : 7;
		unsigned char *p = map_tables(1);

		install_and_merge(p, n, half, guard);
		EXPECT_EQ(1, count_vmas(p, n));
		check_retract(_metadata, p, guard);
		/* What is in the file now cannot be collapsed again. */
		if (kind.cached)
			ASSERT_EQ(0, ftruncate(self->fd, 0));
	}
}

/* -- userfaultfd ---------------------------------------------------------- */

/* A descriptor with these features, or -1. */
static int uffd_open(__u64 features)
{
	struct uffdio_api api = { .api = UFFD_API, .features = features };
	int fd;

	fd = syscall(__NR_userfaultfd,
		     O_CLOEXEC | O_NONBLOCK | UFFD_USER_MODE_ONLY);
	if (fd >= 0 && ioctl(fd, UFFDIO_API, &api)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

/* Is there a fault to be served? */
static bool uffd_event(int fd, int milliseconds)
{
	struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
	struct uffd_msg msg;

	return poll(&poll_fd, 1, milliseconds) == 1 &&
	       read(fd, &msg, sizeof(msg)) == sizeof(msg);
}

/* Bytes copied, or the negative error. */
static long uffd_copy(int fd, unsigned char *to, size_t pages)
{
	struct uffdio_copy copy = {
		.dst = (uintptr_t)to, .len = bytes(pages),
		.src = (uintptr_t)map_anon(pages, RW),
	};

	memset((void *)(uintptr_t)copy.src, 0xdd, copy.len);
	if (ioctl(fd, UFFDIO_COPY, &copy) && errno != EAGAIN)
		return -errno;
	return copy.copy;
}

static struct uffdio_range uffd_range(unsigned char *p, size_t pages)
{
	return (struct uffdio_range){ (uintptr_t)p, bytes(pages) };
}

static long uffd_zeropage(int fd, unsigned char *to)
{
	struct uffdio_zeropage zero = { .range = uffd_range(to, 1) };

	return failed(ioctl(fd, UFFDIO_ZEROPAGE, &zero));
}

static long uffd_continue(int fd, unsigned char *to)
{
	struct uffdio_continue cont = { .range = uffd_range(to, 1) };

	return failed(ioctl(fd, UFFDIO_CONTINUE, &cont));
}

static long uffd_poison(int fd, unsigned char *to)
{
	struct uffdio_poison poison = { .range = uffd_range(to, 1) };

	return failed(ioctl(fd, UFFDIO_POISON, &poison));
}

static long uffd_move(int fd, unsigned char *to, unsigned char *from)
{
	struct uffdio_move move = {
		.dst = (uintptr_t)to, .src = (uintptr_t)from, .len = psize(),
	};

	return failed(ioctl(fd, UFFDIO_MOVE, &move));
}

static long uffd_protect(int fd, unsigned char *p, size_t pages, bool protect)
{
	struct uffdio_writeprotect wp = {
		.range = uffd_range(p, pages),
		.mode = protect ? UFFDIO_WRITEPROTECT_MODE_WP : 0,
	};

	return failed(ioctl(fd, UFFDIO_WRITEPROTECT, &wp));
}

/*
 * Untouched memory of which missing pages are @fd's to provide. Its first page
 * is a guard. No file has a page for what it returns.
 */
static unsigned char *map_missing(struct __test_metadata *_metadata, int fd)
{
	unsigned char *p = map(2 * PAGES) + bytes(PAGES);

	EXPECT_EQ(kind.uffd ? 0 : -EINVAL,
		  uffd_register(fd, p, bytes(PAGES), true, false, false));
	EXPECT_EQ(0, install(p, 0, 1));
	return p;
}

static void *load_page(void *p)
{
	return (void *)(long)try(p, LOAD).signal;
}

/*
 * A guard is no missing page: no event, but SIGSEGV. Catches a thread that
 * waits for somebody to fill a guard.
 */
TEST_F(guard_regions, uffd_missing)
{
	int fd = uffd_open(0);
	pthread_t thread;
	unsigned char *p;
	void *signal;

	if (fd < 0)
		SKIP(return, "no userfaultfd");
	p = map_missing(_metadata, fd);
	EXPECT_EQ('G', look_at(p));
	EXPECT_FALSE(uffd_event(fd, 0));
	/* The control: an access beside the guard is an event. */
	ASSERT_EQ(0, pthread_create(&thread, NULL, load_page, p + psize()));
	if (kind.uffd) {
		EXPECT_TRUE(uffd_event(fd, 10000));
		EXPECT_EQ(psize(), uffd_copy(fd, p + psize(), 1));
		EXPECT_TRUE(is_byte(p + psize(), 0xdd, psize()));
	}
	ASSERT_EQ(0, pthread_join(thread, &signal));
	EXPECT_EQ(NULL, signal);
	EXPECT_EQ(kind.uffd ? 0 : -EINVAL,
		  uffd_unregister(fd, p, bytes(PAGES)));
	EXPECT_STREQ("G...............", look(p, PAGES));
}

/*
 * UFFDIO_COPY fills what is missing, and a guard is not. Catches a check for
 * an empty entry that any marker passes: the guard would be replaced.
 */
TEST_F(guard_regions, uffd_copy)
{
	int fd = uffd_open(0);
	unsigned char *p;

	if (fd < 0)
		SKIP(return, "no userfaultfd");
	p = map_missing(_metadata, fd);
	EXPECT_EQ(kind.uffd ? -EEXIST : -ENOENT, uffd_copy(fd, p, 1));
	EXPECT_EQ('G', look_at(p));
	if (!kind.uffd)
		return;
	/* Up to the guard. */
	EXPECT_EQ(0, install(p, 5, 1));
	EXPECT_EQ(bytes(2), uffd_copy(fd, p + bytes(3), 4));
	EXPECT_TRUE(is_byte(p + bytes(3), 0xdd, bytes(2)));
	EXPECT_EQ('G', look_at(p + bytes(5)));
	/* What was a guard is missing. */
	EXPECT_EQ(0, uninstall(p, 0, 1));
	EXPECT_EQ(psize(), uffd_copy(fd, p, 1));
	EXPECT_TRUE(is_byte(p, 0xdd, psize()));
}

/* The same with a page of zeros. */
TEST_F(guard_regions, uffd_zeropage)
{
	int fd = uffd_open(0);
	unsigned char *p;

	if (fd < 0)
		SKIP(return, "no userfaultfd");
	p = map_missing(_metadata, fd);
	EXPECT_EQ(kind.uffd ? -EEXIST : -ENOENT, uffd_zeropage(fd, p));
	EXPECT_EQ('G', look_at(p));
	EXPECT_EQ(0, uninstall(p, 0, 1));
	EXPECT_EQ(kind.uffd ? 0 : -ENOENT, uffd_zeropage(fd, p));
}

/* The same with a page of poison, which is a marker, too. */
TEST_F(guard_regions, uffd_poison)
{
	int fd = uffd_open(UFFD_FEATURE_POISON);
	unsigned char *p;

	if (fd < 0)
		SKIP(return, "no userfaultfd, or no UFFDIO_POISON");
	p = map_missing(_metadata, fd);
	EXPECT_EQ(kind.uffd ? -EEXIST : -ENOENT, uffd_poison(fd, p));
	EXPECT_EQ('G', look_at(p));
	if (!kind.uffd)
		return;
	/* Poison can become a guard, and is gone then. */
	EXPECT_EQ(0, uffd_poison(fd, p + psize()));
	EXPECT_EQ(0, install(p, 1, 1));
	EXPECT_EQ('G', look_at(p + psize()));
	EXPECT_EQ(0, uninstall(p, 0, 2));
	EXPECT_EQ(0, uffd_unregister(fd, p, bytes(PAGES)));
	EXPECT_STREQ("................", look(p, PAGES));
}

/* The same with the page that the page cache has. */
TEST_F(guard_regions, uffd_continue)
{
	int fd = uffd_open(kind.uffd_minor ? UFFD_FEATURE_MINOR_SHMEM : 0);
	unsigned char *p = map(PAGES);

	if (fd < 0)
		SKIP(return, "no userfaultfd, or no minor mode");
	EXPECT_EQ(kind.uffd_minor ? 0 : -EINVAL,
		  uffd_register(fd, p, bytes(PAGES), false, false, true));
	install_some(p);
	EXPECT_EQ(kind.uffd_minor ? -EEXIST : -ENOENT,
		  uffd_continue(fd, p + bytes(2)));
	EXPECT_EQ('G', look_at(p + bytes(2)));
	EXPECT_FALSE(uffd_event(fd, 0));
	EXPECT_EQ(0, uninstall(p, 2, 1));
	EXPECT_EQ(kind.uffd_minor ? 0 : -ENOENT,
		  uffd_continue(fd, p + bytes(2)));
	EXPECT_EQ('.', look_at(p + bytes(2)));
}

/*
 * A page does not move over a guard, nor does a guard move. Catches a marker
 * treated as an empty entry, at either end. Only anonymous memory can be moved,
 * and only where it is writable.
 */
TEST_F(guard_regions, uffd_move)
{
	int fd = uffd_open(UFFD_FEATURE_MOVE);
	unsigned char *p, *from = map_filled();
	bool moves = kind.anon && writable();

	if (fd < 0)
		SKIP(return, "no userfaultfd, or no UFFDIO_MOVE");
	p = map_missing(_metadata, fd);
	EXPECT_EQ(0, install(from, 2, 1));
	EXPECT_EQ(moves ? -EEXIST : -EINVAL, uffd_move(fd, p, from));
	EXPECT_EQ('G', look_at(p));
	EXPECT_TRUE(holds(from, 0, 2, DATA));
	EXPECT_EQ(moves ? -EFAULT : -EINVAL,
		  uffd_move(fd, p + psize(), from + bytes(2)));
	EXPECT_EQ('G', look_at(from + bytes(2)));
	if (!moves)
		return;
	EXPECT_EQ(0, uffd_move(fd, p + psize(), from));
	EXPECT_TRUE(is_byte(p + psize(), content(DATA, 0)[0], psize()));
}

/*
 * A thread that waits for a page, which then becomes a guard, gets SIGSEGV when
 * it is woken. Catches one that goes on waiting.
 */
TEST_F(guard_regions, uffd_wake)
{
	int fd = uffd_open(0), tries;
	struct uffdio_range range;
	pthread_t thread;
	unsigned char *p;
	void *signal;

	if (fd < 0)
		SKIP(return, "no userfaultfd");
	p = map_missing(_metadata, fd);
	if (!kind.uffd)
		EXPECT_EQ(0, install(p, 1, 1));
	range = uffd_range(p + psize(), 1);
	ASSERT_EQ(0, pthread_create(&thread, NULL, load_page, p + psize()));
	if (kind.uffd) {
		EXPECT_TRUE(uffd_event(fd, 10000));
		EXPECT_EQ(0, install(p, 1, 1));
		EXPECT_EQ(0, ioctl(fd, UFFDIO_WAKE, &range));
	}
	for (tries = 0; tries < 1000; tries++) {
		if (!pthread_tryjoin_np(thread, &signal))
			break;
		usleep(10 * 1000);
		if (kind.uffd)
			EXPECT_EQ(0, ioctl(fd, UFFDIO_WAKE, &range));
	}
	ASSERT_GT(1000, tries);
	EXPECT_EQ(SIGSEGV, (long)signal);
	EXPECT_FALSE(uffd_event(fd, 0));
}

/* Write-protection that is possible with any memory, or the usual one. */
static int uffd_open_wp(__u64 features)
{
	features |= kind.uffd ? UFFD_FEATURE_PAGEFAULT_FLAG_WP :
				    UFFD_FEATURE_WP_ASYNC;
	if (kind.cached)
		features |= UFFD_FEATURE_WP_HUGETLBFS_SHMEM;
	return uffd_open(features);
}

enum wp_state { WP_PRESENT, WP_DROPPED, WP_UNPOPULATED };

/* In a child, since it may hang: protected pages become guards. */
static void wp_and_install(struct __test_metadata *_metadata, int fd,
			   enum wp_state state, bool vector)
{
	unsigned char *p = map(PAGES);
	struct iovec iov = { p + bytes(2), bytes(3) };

	if (state != WP_UNPOPULATED)
		fill(p, PAGES);
	ASSERT_EQ(0, uffd_register(fd, p, bytes(PAGES), false, true, false));
	ASSERT_EQ(0, uffd_protect(fd, p, 8, true));
	if (state == WP_DROPPED)
		EXPECT_EQ(0, advise(p, 0, PAGES, MADV_DONTNEED));
	if (vector) {
		EXPECT_EQ(bytes(3), advise_vector(getpid(), &iov, 1,
						  MADV_GUARD_INSTALL));
	} else {
		EXPECT_EQ(0, install(p, 2, 3));
	}
	EXPECT_STREQ("..GGG...........", look(p, PAGES));
	EXPECT_EQ(0, advise(p, 0, PAGES, MADV_DONTNEED));
	EXPECT_STREQ("..GGG...........", look(p, PAGES));
	EXPECT_EQ(0, uffd_protect(fd, p, 8, false));
	EXPECT_STREQ("..GGG...........", look(p, PAGES));
	EXPECT_EQ(0, uninstall(p, 0, PAGES));
	EXPECT_STREQ("................", look(p, PAGES));
	EXPECT_TRUE(holds(p, 2, 5, state == WP_UNPOPULATED ? FRESH : DROPPED));
}

static void check_wp(struct __test_metadata *_metadata, enum wp_state state)
{
	__u64 features = 0;
	int fd;

	if (state == WP_UNPOPULATED)
		features = UFFD_FEATURE_WP_UNPOPULATED;
	fd = uffd_open_wp(features);
	if (fd < 0)
		SKIP(return, "no userfaultfd, or no such write-protection");
	close(fd);
	for (int vector = 0; vector <= 1; vector++) {
		pid_t pid = fork();

		if (!pid) {
			fd = uffd_open_wp(features);
			wp_and_install(_metadata, fd, state, vector);
			_exit(0);
		}
		EXPECT_EQ(0, wait_status_for(pid, 5)) {
			TH_LOG("%s", vector ? "process_madvise" : "madvise");
		}
	}
}

/*
 * A page that is write-protected by userfaultfd can become a guard. Catches a
 * call that zaps the page, finds the marker that keeps the protection, zaps it
 * in vain and so on for ever: with madvise() restarts, with process_madvise()
 * a loop in the kernel.
 */
TEST_F_TIMEOUT(guard_regions, uffd_wp_present, 60)
{
	check_wp(_metadata, WP_PRESENT);
}

/* The same if only that marker is there. */
TEST_F_TIMEOUT(guard_regions, uffd_wp_dropped, 60)
{
	check_wp(_metadata, WP_DROPPED);
}

/* The same if the marker stands for a page that never was. */
TEST_F_TIMEOUT(guard_regions, uffd_wp_unpopulated, 60)
{
	check_wp(_metadata, WP_UNPOPULATED);
}

/*
 * Write-protection passes over guards, when it is set, resolved and left.
 * Catches a resolve that clears what it takes for its own marker.
 */
TEST_F(guard_regions, uffd_writeprotect)
{
	int fd = uffd_open_wp(UFFD_FEATURE_WP_UNPOPULATED);
	unsigned char *p = map_with_some();

	if (fd < 0)
		SKIP(return, "no userfaultfd, or no write-protection");
	ASSERT_EQ(0, uffd_register(fd, p, bytes(PAGES), false, true, false));
	for (int i = 0; i < 2; i++) {
		EXPECT_EQ(0, uffd_protect(fd, p, PAGES, true));
		EXPECT_STREQ(SOME, look_marks(p, PAGES));
		EXPECT_EQ(0, uffd_protect(fd, p, PAGES, i));
		EXPECT_STREQ(SOME, look_marks(p, PAGES));
		EXPECT_STREQ(SOME, look(p, PAGES));
	}
	EXPECT_EQ(0, uffd_unregister(fd, p, bytes(PAGES)));
	EXPECT_STREQ(SOME, look(p, PAGES));
	EXPECT_TRUE(others_hold(p, DATA));
	EXPECT_EQ(0, uninstall(p, 0, PAGES));
	EXPECT_TRUE(holds(p, 5, 7, DROPPED));
	EXPECT_TRUE(holds(fill(p, PAGES), 0, PAGES, DATA));
}

/* Protect all of a mapping, then make some of it guards. */
static int wp_with_some(struct __test_metadata *_metadata, unsigned char *p)
{
	int fd = uffd_open_wp(0);

	if (fd < 0)
		SKIP(return fd, "no userfaultfd, or no write-protection");
	EXPECT_EQ(0, uffd_register(fd, p, bytes(PAGES), false, true, false));
	install_some(p);
	EXPECT_EQ(0, uffd_protect(fd, p, PAGES, true));
	EXPECT_STREQ(SOME, look(p, PAGES));
	return fd;
}

/*
 * The child of a process that uses userfaultfd has the guards and nothing of
 * the rest. Catches a copy that is left out because the child's VMA, other than
 * the parent's, is not registered.
 */
TEST_F(guard_regions, uffd_fork)
{
	unsigned char *p = map(PAGES);
	pid_t pid;

	if (wp_with_some(_metadata, p) < 0)
		return;
	pid = fork();
	if (!pid) {
		EXPECT_STREQ(SOME, look(p, PAGES));
		EXPECT_TRUE(holds(p, 3, 5, FRESH));
		EXPECT_TRUE(holds(fill(p, 2), 0, 2, DATA));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_STREQ(SOME, look(p, PAGES));
}

/*
 * A mapping that moves leaves userfaultfd and takes its guards along. Catches
 * guards cleared with the markers of write-protection.
 */
TEST_F(guard_regions, uffd_mremap)
{
	unsigned char *p = map(PAGES), *to = map_anon(PAGES, PROT_NONE);

	if (wp_with_some(_metadata, p) < 0)
		return;
	ASSERT_EQ(to, mremap(p, bytes(PAGES), bytes(PAGES),
			     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	EXPECT_STREQ(SOME, look(to, PAGES));
	EXPECT_TRUE(others_hold(to, FRESH));
	EXPECT_TRUE(holds(fill(to, 2), 0, 2, DATA));
}

/* -- What is reported ----------------------------------------------------- */

/*
 * pagemap has a bit for guards, beside that of swap, which they always looked
 * like. Catches the bit on other pages, and guards without it, which CRIU would
 * read as swapped pages.
 */
TEST_F(guard_regions, pagemap)
{
	const __u64 bits = PM_GUARD_REGION | PM_SWAP | PM_PRESENT;
	unsigned char *p = map_with_some(), *untouched = map(2);

	for (size_t i = 0; i < PAGES; i++)
		EXPECT_EQ(SOME[i] == 'G' ? PM_GUARD_REGION | PM_SWAP :
					   PM_PRESENT,
			  pagemap_entry(p + bytes(i)) & bits);
	EXPECT_EQ(0, install(untouched, 0, 1));
	EXPECT_EQ(PM_GUARD_REGION | PM_SWAP, pagemap_entry(untouched) & bits);
	EXPECT_FALSE(!!(pagemap_entry(untouched + psize()) & bits));
	EXPECT_EQ(0, uninstall(untouched, 0, 1));
	EXPECT_FALSE(!!(pagemap_entry(untouched) & bits));
}

/* Run a scan for @arg's categories; the pages found, as a picture. */
static const char *scan(unsigned char *p, struct pm_scan_arg arg)
{
	static char picture[PAGES + 1];
	struct page_region region[PAGES];
	int fd = open("/proc/self/pagemap", O_RDONLY), n;

	arg.size = sizeof(arg);
	arg.start = (uintptr_t)p;
	arg.end = arg.start + bytes(PAGES);
	arg.vec = (uintptr_t)region;
	arg.vec_len = PAGES;
	n = ioctl(fd, PAGEMAP_SCAN, &arg);
	if (n < 0)
		return strerror(errno);
	memset(picture, '.', PAGES);
	for (int i = 0; i < n; i++) {
		uintptr_t at = region[i].start;

		for (; at < region[i].end; at += psize())
			picture[(at - (uintptr_t)p) / psize()] =
				region[i].categories & PAGE_IS_GUARD ? 'G' : 'x';
	}
	close(fd);
	return picture;
}

/*
 * PAGEMAP_SCAN can select by, and tells of, guards. Catches a category that is
 * refused, unknown to one of its masks, or not known to be inverted.
 */
TEST_F(guard_regions, pagemap_scan)
{
	unsigned char *p = map_with_some();

	EXPECT_STREQ(SOME, scan(p, (struct pm_scan_arg){
		.category_mask = PAGE_IS_GUARD,
		.return_mask = PAGE_IS_GUARD }));
	EXPECT_STREQ(SOME, scan(p, (struct pm_scan_arg){
		.category_anyof_mask = PAGE_IS_GUARD,
		.return_mask = PAGE_IS_GUARD | PAGE_IS_SWAPPED }));
	EXPECT_STREQ(SOME, scan(p, (struct pm_scan_arg){
		.category_mask = PAGE_IS_GUARD | PAGE_IS_SWAPPED,
		.return_mask = PAGE_IS_GUARD }));
	EXPECT_STREQ("xx.xx..xxxxxxxx.", scan(p, (struct pm_scan_arg){
		.category_inverted = PAGE_IS_GUARD,
		.category_mask = PAGE_IS_GUARD,
		.return_mask = PAGE_IS_GUARD | PAGE_IS_PRESENT }));
	EXPECT_STREQ("xxGxxGGxxxxxxxxG", scan(p, (struct pm_scan_arg){
		.return_mask = PAGE_IS_GUARD | PAGE_IS_PRESENT }));
	EXPECT_EQ(0, uninstall(p, 0, PAGES));
	EXPECT_STREQ("................", scan(p, (struct pm_scan_arg){
		.category_mask = PAGE_IS_GUARD,
		.return_mask = PAGE_IS_GUARD }));
}

/*
 * A scan that write-protects what it finds leaves guards alone. Catches a
 * marker made of a guard.
 */
TEST_F(guard_regions, pagemap_scan_wp)
{
	int fd = uffd_open(UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED);
	unsigned char *p = map_with_some();
	struct pm_scan_arg arg = {
		.flags = PM_SCAN_WP_MATCHING | PM_SCAN_CHECK_WPASYNC,
		.return_mask = PAGE_IS_GUARD | PAGE_IS_PRESENT,
	};

	if (fd < 0)
		SKIP(return, "no userfaultfd, or no asynchronous mode");
	ASSERT_EQ(0, uffd_register(fd, p, bytes(PAGES), false, true, false));
	for (int i = 0; i < 2; i++) {
		EXPECT_STREQ("xxGxxGGxxxxxxxxG", scan(p, arg));
		EXPECT_STREQ(SOME, look_marks(p, PAGES));
	}
	arg.category_mask = PAGE_IS_GUARD;
	EXPECT_STREQ(SOME, scan(p, arg));
	EXPECT_STREQ(SOME, look(p, PAGES));
	EXPECT_TRUE(others_hold(p, DATA));
	EXPECT_EQ(0, uffd_unregister(fd, p, bytes(PAGES)));
	EXPECT_STREQ(SOME, look(p, PAGES));
}

/*
 * Whatever clear_refs does to page tables, guards stay. Catches a walk that
 * takes a marker for a swapped page and makes another of it.
 */
TEST_F(guard_regions, clear_refs)
{
	unsigned char *p = map_with_some();

	for (int what = 1; what <= 5; what++) {
		char text[2] = { '0' + what };

		if (what != 4 || softdirty_supported())
			EXPECT_TRUE(file_write("/proc/self/clear_refs", text));
		EXPECT_STREQ(SOME, look(p, PAGES));
		EXPECT_TRUE(others_hold(p, DATA));
	}
}

/*
 * smaps shows that a VMA may have guards, from the first on and for good.
 * Catches a flag that is set too early or lost in a split, a merge or fork().
 */
TEST_F(guard_regions, smaps_flag)
{
	unsigned char *p = map_at(reserve(1), PAGES), *half = p + bytes(8);
	pid_t pid;

	EXPECT_FALSE(has_flag(p, "gu"));
	EXPECT_EQ(0, uninstall(p, 0, PAGES));
	EXPECT_FALSE(has_flag(p, "gu"));
	protect(p, 8, 8, PROT_NONE);
	EXPECT_EQ(0, install(p, 3, 1));
	EXPECT_TRUE(has_flag(p, "gu"));
	EXPECT_FALSE(has_flag(half, "gu"));
	protect(p, 8, 8, kind.prot);
	EXPECT_EQ(1, count_vmas(p, PAGES));
	EXPECT_TRUE(has_flag(p, "gu"));

	EXPECT_EQ(0, uninstall(p, 3, 1));
	EXPECT_TRUE(has_flag(p, "gu"));
	protect(p, 8, 8, PROT_NONE);
	EXPECT_EQ(2, count_vmas(p, PAGES));
	EXPECT_TRUE(has_flag(p, "gu"));
	EXPECT_TRUE(has_flag(half, "gu"));
	pid = fork();
	if (!pid) {
		EXPECT_TRUE(has_flag(p, "gu"));
		EXPECT_TRUE(has_flag(half, "gu"));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
}

/*
 * A guard is no memory and no swap. Catches counters that a marker is added to,
 * or a page that it replaces not subtracted from.
 */
TEST_F(guard_regions, rss)
{
	const long n = table_pages();
	unsigned char *p = fill(map_tables(2), n);
	long swap = file_number("/proc/self/status", "VmSwap:");
	long rss = smaps_pages(p, "Rss:");

	/* Pages of zeros and of content are nobody's. */
	EXPECT_EQ(writable() ? n : 0, rss);
	EXPECT_EQ(0, install(p, 0, n / 2));
	EXPECT_EQ(0, install(p, n, n));
	EXPECT_EQ(n / 2 + n, count_marked(p, 2 * n));
	EXPECT_EQ(rss / 2, smaps_pages(p, "Rss:"));
	EXPECT_EQ(0, smaps_pages(p, "Swap:"));
	EXPECT_GT(swap + bytes(n / 2) / 1024,
		  file_number("/proc/self/status", "VmSwap:"));
	EXPECT_EQ(0, uninstall(p, 0, 2 * n));
	EXPECT_EQ(rss / 2, smaps_pages(p, "Rss:"));
	EXPECT_EQ(0, smaps_pages(p, "Swap:"));
}

/*
 * What guards cost is page tables, which go with the mapping. Catches tables
 * that are not counted, or leaked.
 */
TEST_F(guard_regions, page_tables)
{
	const char *status = "/proc/self/status";
	const long n = table_pages(), tables = 16;
	const long table_kb = psize() / 1024;
	unsigned char *p = map_tables(tables);
	long before = file_number(status, "VmPTE:") / table_kb, after;

	for (long i = 0; i < tables; i++)
		EXPECT_EQ(0, install(p, i * n + i, 1));
	after = file_number(status, "VmPTE:") / table_kb;
	EXPECT_LE(before + tables, after);
	EXPECT_GE(before + tables + 4, after);
	EXPECT_EQ(1, count_vmas(p, tables * n));
	unmap(p, tables * n);
	after = file_number(status, "VmPTE:") / table_kb;
	EXPECT_GE(before + 4, after);
}

/* -- Core dump ------------------------------------------------------------ */

#define CORE_PATTERN "/proc/sys/kernel/core_pattern"

/* Abort, and leave a core with all that can be in one. */
static void abort_with_core(void)
{
	struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

	setrlimit(RLIMIT_CORE, &limit);
	file_write("/proc/self/coredump_filter", "0x7f");
	signal(SIGABRT, SIG_DFL);
	abort();
}

/*
 * The core of a child that has just aborted, mapped; NULL if it has none. The
 * pattern is the system's, and is restored.
 */
static unsigned char *dump_core(void)
{
	char dir[] = "/tmp/guard.XXXXXX", pattern[64], path[64], saved[256] = "";
	void *core = MAP_FAILED;
	struct stat stat;
	pid_t pid;
	int fd;

	fd = open(CORE_PATTERN, O_RDONLY);
	if (fd < 0 || read(fd, saved, sizeof(saved) - 1) <= 0 || !mkdtemp(dir))
		die(CORE_PATTERN);
	close(fd);
	sprintf(pattern, "%s/core.%%p", dir);
	if (!file_write(CORE_PATTERN, pattern))
		die(CORE_PATTERN);
	pid = fork();
	if (!pid)
		abort_with_core();
	if (!WCOREDUMP(wait_status(pid)))
		ksft_print_msg("the child left no core\n");
	file_write(CORE_PATTERN, saved);

	sprintf(path, "%s/core.%d", dir, pid);
	fd = open(path, O_RDONLY);
	if (fd >= 0 && !fstat(fd, &stat))
		core = mmap(NULL, stat.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	unlink(path);
	rmdir(dir);
	return core == MAP_FAILED ? NULL : core;
}

/* Where a core has the memory at @p, all @pages of it; NULL if nowhere. */
static unsigned char *core_find(unsigned char *core, void *p, size_t pages)
{
	struct elf64_hdr *header = (void *)core;
	struct elf64_phdr *segment = (void *)(core + header->e_phoff);
	unsigned long start = (unsigned long)p;

	for (int i = 0; i < header->e_phnum; i++, segment++) {
		if (segment->p_type == PT_LOAD && segment->p_vaddr <= start &&
		    start + bytes(pages) <= segment->p_vaddr + segment->p_filesz)
			return core + segment->p_offset + start -
			       segment->p_vaddr;
	}
	return NULL;
}

/*
 * In a core, guards are zeros and their neighbours are as they were. Catches
 * a dump that ends at a guard, or that populates it.
 */
TEST_F(guard_regions, core_dump)
{
	unsigned char *p = map_at(reserve(1), PAGES), *core, *found;

	fill(p, PAGES);
	install_some(p);
	if (geteuid() || access(CORE_PATTERN, W_OK))
		SKIP(return, "no core dumps, or not root");
	core = dump_core();
	ASSERT_NE(NULL, core);
	found = core_find(core, p, PAGES);
	/* Anonymous memory that was never written to need not be there. */
	if (!found && kind.anon && !writable())
		return;
	ASSERT_NE(NULL, found);
	EXPECT_TRUE(others_hold(found, DATA));
	EXPECT_TRUE(is_byte(found + bytes(2), 0, psize()));
	EXPECT_TRUE(is_byte(found + bytes(5), 0, bytes(2)));
	EXPECT_TRUE(is_byte(found + bytes(15), 0, psize()));
	EXPECT_STREQ(SOME, look(p, PAGES));
}

/* -- Races ---------------------------------------------------------------- */

/* Enough that an installation takes a while. */
#define RACE_PAGES	256
#define TOGGLED		(RACE_PAGES / 2)	/* The others stay as they are */
#define RACERS		3

static struct {
	unsigned char *p;
	unsigned char data[RACE_PAGES];		/* the first byte of each page */
	unsigned char fresh[RACE_PAGES];
	bool stop;
	bool ready;	/* of two threads in turn, it is the other's */
	long good;	/* accesses to a page */
	long faults;	/* accesses to a guard */
	long wrong;	/* values and faults that cannot be */
	long ticks;	/* signals handled */
	pthread_t threads[RACERS];
} race;

static bool racing(void)
{
	return !__atomic_load_n(&race.stop, __ATOMIC_RELAXED);
}

static void race_count(long *counter)
{
	__atomic_fetch_add(counter, 1, __ATOMIC_RELAXED);
}

static unsigned long next_random(unsigned long *state)
{
	*state = *state * 6364136223846793005UL + 1442695040888963407UL;
	return *state >> 33;
}

/* Some pages are guards for all of the test. */
static bool race_always_guard(size_t i)
{
	return i >= TOGGLED && i % 4 == 1;
}

/* Pages are told apart by their first byte. */
static void race_touch(size_t i, bool store)
{
	unsigned char *p = race.p + bytes(i);
	struct fault fault = { };

	if (store)
		fault = try_byte(p, STORE, race.data[i]);
	if (!fault.signal)
		fault = try(p, LOAD);
	if (fault.signal) {
		race_count(&race.faults);
		if (!is_maperr(fault, p) ||
		    (i >= TOGGLED && !race_always_guard(i)))
			race_count(&race.wrong);
		return;
	}
	race_count(&race.good);
	if (race_always_guard(i) ||
	    (fault.loaded != race.data[i] && fault.loaded != race.fresh[i]))
		race_count(&race.wrong);
}

static void *race_load(void *arg)
{
	unsigned long state = (unsigned long)arg;

	while (racing())
		race_touch(next_random(&state) % RACE_PAGES, false);
	return NULL;
}

static void *race_store(void *arg)
{
	unsigned long state = (unsigned long)arg;

	while (racing())
		race_touch(next_random(&state) % RACE_PAGES, writable());
	return NULL;
}

static void *race_dontneed(void *arg)
{
	unsigned long state = (unsigned long)arg;

	while (racing()) {
		size_t i = next_random(&state) % (RACE_PAGES - 4);

		if (advise(race.p, i, 4, MADV_DONTNEED))
			race_count(&race.wrong);
	}
	return NULL;
}

static void on_tick(int signal)
{
	(void)signal;
	race_count(&race.ticks);
}

/* The main thread gets a signal every few milliseconds. */
static void start_ticks(void)
{
	const struct itimerval interval = { { 0, 5000 }, { 0, 5000 } };
	struct sigaction action = {
		.sa_handler = on_tick, .sa_flags = SA_RESTART,
	};

	if (sigaction(SIGALRM, &action, NULL) ||
	    setitimer(ITIMER_REAL, &interval, NULL))
		die("setitimer");
}

static void start_race(void)
{
	void *(*const run[RACERS])(void *) = {
		race_load, race_store, race_dontneed,
	};
	sigset_t alarm;

	race.p = fill(map(RACE_PAGES), RACE_PAGES);
	for (size_t i = 0; i < RACE_PAGES; i++) {
		race.data[i] = content(DATA, i)[0];
		race.fresh[i] = content(FRESH, i)[0];
		if (race_always_guard(i) && install(race.p, i, 1))
			die("MADV_GUARD_INSTALL");
	}
	sigemptyset(&alarm);
	sigaddset(&alarm, SIGALRM);
	sigprocmask(SIG_BLOCK, &alarm, NULL);
	for (size_t i = 0; i < RACERS; i++) {
		if (pthread_create(&race.threads[i], NULL, run[i], (void *)i))
			die("pthread_create");
	}
	sigprocmask(SIG_UNBLOCK, &alarm, NULL);
	start_ticks();
}

static void stop_race(struct __test_metadata *_metadata)
{
	__atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < RACERS; i++)
		ASSERT_EQ(0, pthread_join(race.threads[i], NULL));
	EXPECT_NE(0, race.good);
	EXPECT_NE(0, race.faults);
	EXPECT_NE(0, race.ticks);
	EXPECT_EQ(0, race.wrong);
}

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static double race_seconds(void)
{
	const char *seconds = getenv("GUARD_SECONDS");

	return seconds ? strtod(seconds, NULL) : 2;
}

/*
 * Is it as race_touch() says, and the first half all guards or none? All of it
 * would take longer than the call that is tested.
 */
static bool race_sample(unsigned long *state, bool toggled)
{
	for (int k = 0; k < 8; k++) {
		size_t i = next_random(state) % RACE_PAGES;
		bool guard = i < TOGGLED ? toggled : race_always_guard(i);
		char found = look_at(race.p + bytes(i));

		if (found == (guard ? 'G' : '.'))
			continue;
		ksft_print_msg("page %zu is '%c', guards are %s\n", i, found,
			       toggled ? "installed" : "removed");
		return false;
	}
	return true;
}

/*
 * When a call returns, all it was asked for is done, whoever faults, stores or
 * drops meanwhile; when it has to start anew, signals are handled first and
 * the caller sees no error. Catches a page mapped into a range that was zapped
 * and not checked again, a guard that a racing fault replaces or a zap drops,
 * and -ERESTARTNOINTR in user space.
 */
TEST_F_TIMEOUT(guard_regions, race, 120)
{
	unsigned long state = 1;
	long rounds = 0;
	double end;

	start_race();
	for (end = now() + race_seconds(); now() < end; rounds++) {
		struct iovec iov = { race.p, bytes(TOGGLED) };

		if (rounds % 2) {
			ASSERT_EQ(0, install(race.p, 0, TOGGLED));
		} else {
			ASSERT_EQ(bytes(TOGGLED),
				  advise_vector(getpid(), &iov, 1,
						MADV_GUARD_INSTALL));
		}
		ASSERT_TRUE(race_sample(&state, true));
		ASSERT_EQ(0, uninstall(race.p, 0, TOGGLED));
		ASSERT_TRUE(race_sample(&state, false));
	}
	stop_race(_metadata);
	EXPECT_NE(0, rounds);
}

/*
 * The same while the process forks: a child sees all of the guards. Catches a
 * copy of page tables that misses some.
 */
TEST_F_TIMEOUT(guard_regions, race_fork, 120)
{
	unsigned long state = 1;
	long rounds = 0;
	double end;

	start_race();
	for (end = now() + race_seconds(); now() < end; rounds++) {
		bool toggled = rounds % 2;
		pid_t pid;

		ASSERT_EQ(0, toggled ? install(race.p, 0, TOGGLED) :
				       uninstall(race.p, 0, TOGGLED));
		pid = fork();
		if (!pid) {
			race.wrong = 0;
			EXPECT_TRUE(race_sample(&state, toggled));
			for (size_t i = 0; i < RACE_PAGES; i++)
				race_touch(i, false);
			EXPECT_EQ(0, race.wrong);
			_exit(0);
		}
		ASSERT_TRUE(child_passed(pid));
		next_random(&state);
	}
	stop_race(_metadata);
	EXPECT_NE(0, rounds);
}

/* Pages of the file come and go in another mapping of it. */
static void *race_other_mapping(void *arg)
{
	unsigned char *p = map(PAGES);
	unsigned long state = (unsigned long)arg;

	while (racing()) {
		size_t i = next_random(&state) % PAGES;

		if (try(p + bytes(i), TOUCH).signal == SIGBUS)
			race_count(&race.faults);
		else
			race_count(&race.good);
	}
	return NULL;
}

/*
 * A page that is truncated is unmapped wherever it is, except where there is a
 * guard. Catches the second look, for pages that a racing fault has mapped
 * again, dropping the markers of other mappings.
 */
TEST_F_TIMEOUT(guard_regions, race_truncate, 120)
{
	unsigned char *p = map(PAGES);
	double end = now() + race_seconds();
	pthread_t threads[2];

	install_some(p);
	if (!kind.cached) {
		EXPECT_EQ(-1, ftruncate(self->fd, 0));
		return;
	}
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL,
					    race_other_mapping, (void *)i));
	while (now() < end) {
		ASSERT_EQ(0, ftruncate(self->fd, 0));
		ASSERT_EQ(0, ftruncate(self->fd, bytes(PAGES)));
		ASSERT_STREQ(SOME, look_marks(p, PAGES));
	}
	__atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < ARRAY_SIZE(threads); i++)
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
	EXPECT_NE(0, race.good);
	EXPECT_STREQ(SOME, look(p, PAGES));
}

/* Collapse, and take a page out, so that there is something to collapse. */
static void *race_collapse(void *arg)
{
	const int take = shared() ? MADV_REMOVE : MADV_DONTNEED;
	unsigned char *q = fill(map_tables(1), table_pages());

	(void)arg;
	while (racing()) {
		/* Fails where there are guards. */
		advise(race.p, 0, table_pages(), MADV_COLLAPSE);
		if (!advise(q, 0, table_pages(), MADV_COLLAPSE))
			race_count(&race.good);
		advise(q, 9, 1, take);
		try_byte(q + bytes(9), STORE, 0);
	}
	return NULL;
}

/*
 * Guards are installed where a collapse, of the mapping or through another of
 * the same file, is under way. Catches a page table that was about to go when
 * it got its first guard.
 */
TEST_F_TIMEOUT(guard_regions, race_collapse, 120)
{
	const long n = table_pages();
	double end, seconds = race_seconds();
	unsigned long state = 1;
	pthread_t thread;

	if (!has_huge_pages())
		SKIP(return, "no transparent huge pages");
	/* What cannot be collapsed is refused, always in the same way. */
	if (!kind.huge)
		seconds /= 10;
	race.p = map_tables(1);
	ASSERT_EQ(0, pthread_create(&thread, NULL, race_collapse, NULL));
	for (end = now() + seconds; now() < end;) {
		size_t i = next_random(&state) % (n - 1);

		ASSERT_EQ(0, install(race.p, i, 2));
		ASSERT_STREQ("GG", look_marks(race.p + bytes(i), 2));
		usleep(next_random(&state) % 2000);
		ASSERT_STREQ("GG", look_marks(race.p + bytes(i), 2));
		/* Not unmapped first: the place must not be free. */
		map_at(race.p, n);
		/* Leave an empty page table, which a collapse may take. */
		ASSERT_EQ(0, install(race.p, n - 1, 1));
		ASSERT_EQ(0, uninstall(race.p, n - 1, 1));
		usleep(next_random(&state) % 1000);
	}
	__atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	if (kind.huge)
		EXPECT_NE(0, race.good);
}

/* Drop a few pages when told to, after which they are there again. */
static void *race_drop(void *arg)
{
	(void)arg;
	while (racing()) {
		for (size_t i = 0; i < 4; i++)
			try(race.p + bytes(i), TOUCH);
		__atomic_store_n(&race.ready, true, __ATOMIC_RELEASE);
		while (__atomic_load_n(&race.ready, __ATOMIC_ACQUIRE)) {
			if (!racing())
				return NULL;
		}
		advise(race.p, 0, 4, MADV_DONTNEED);
		__atomic_store_n(&race.ready, true, __ATOMIC_RELEASE);
		while (__atomic_load_n(&race.ready, __ATOMIC_ACQUIRE)) {
			if (!racing())
				return NULL;
		}
	}
	return NULL;
}

static void race_wait(void)
{
	while (!__atomic_load_n(&race.ready, __ATOMIC_ACQUIRE))
		;
}

/*
 * Another thread is dropping the pages that are to be guarded: their PTEs are
 * empty, but the TLB has not been flushed. Catches an access after the call
 * that still finds the old page there.
 */
TEST_F_TIMEOUT(guard_regions, race_flush, 120)
{
	unsigned long state = 1, rounds = 0;
	pthread_t thread;
	double end;

	race.p = map(4);
	ASSERT_EQ(0, pthread_create(&thread, NULL, race_drop, NULL));
	for (end = now() + race_seconds(); now() < end; rounds++) {
		race_wait();
		/* This processor has the page in its TLB. */
		try(race.p, TOUCH);
		__atomic_store_n(&race.ready, false, __ATOMIC_RELEASE);
		for (size_t i = next_random(&state) % 400; i; i--)
			__asm__ volatile("" : : : "memory");
		EXPECT_EQ(0, install(race.p, 0, 1));
		ASSERT_EQ(SIGSEGV, try(race.p, TOUCH).signal) {
			TH_LOG("after %lu rounds", rounds);
		}
		race_wait();
		EXPECT_EQ(0, uninstall(race.p, 0, 1));
		__atomic_store_n(&race.ready, false, __ATOMIC_RELEASE);
	}
	__atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_LT(10, rounds);
}

#endif /* GUARD_REGIONS_H */
