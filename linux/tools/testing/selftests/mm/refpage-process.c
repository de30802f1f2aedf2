// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of MAP_REFPAGE, which is refpage_create(2), mmap() and close() in one
 * call, and of what a process, its limits and its privileges do with refpage
 * mappings and their descriptors.
 *
 * The property: a refpage mapping, however it was made, is to a process what
 * anonymous memory is, born with content; it is allowed and refused where that
 * is. So tests of mappings run on anonymous memory as well, which tells whether
 * they are right, and each error of the one call is compared with that of the
 * two calls. Each test does one thing that could break the property, and is
 * named after it. What a comment below says to be caught is the mistake in the
 * kernel that makes the test fail.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/elf.h>
#include <linux/filter.h>
#include <linux/fs.h>
#include <linux/io_uring.h>
#include <linux/loop.h>
#include <linux/magic.h>
#include <linux/mman.h>
#include <linux/refpage.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/personality.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "refpage-system.h"

/* Pages of most mappings. */
#define PAGES	16

#define NOBODY	65534

/* -- Mappings, in the way that a variant has them -------------------------- */

static const struct kind kind_uniform_page = {
	.whole_page = true, .byte = 0xaa,
};

/* A page that holds the content, for MAP_REFPAGE. */
static unsigned char *source;

/* Make mappings with MAP_REFPAGE. */
static bool one_call;

/* mmap() of the kernel: that of libc looks at the offset. */
static void *raw_mmap(void *addr, size_t len, int prot, int flags, long fd,
		      const void *offset)
{
	return (void *)syscall(__NR_mmap, addr, len, prot, flags, fd, offset);
}

static void *map_refpage(const void *page, size_t len, int prot, int flags)
{
	return raw_mmap(NULL, len, prot, MAP_PRIVATE | MAP_REFPAGE | flags, -1,
			page);
}

static void *try_map(void *addr, size_t len, int prot, int flags)
{
	flags |= MAP_PRIVATE;
	if (one_call)
		return raw_mmap(addr, len, prot, flags | MAP_REFPAGE, -1,
				source);
	if (anon())
		flags |= MAP_ANONYMOUS;
	return mmap(addr, len, prot, flags, memory_fd, 0);
}

static unsigned char *fresh_at(void *addr, size_t pages, int prot, int flags)
{
	void *p = try_map(addr, bytes(pages), prot, flags);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

/* Fresh memory, which merges with nothing. */
static unsigned char *fresh(size_t pages, int prot)
{
	return fresh_at(reserve(pages, 0), pages, prot, MAP_FIXED);
}

static unsigned char *mixed(void)
{
	return mix(fresh(PAGES, RW), PAGES);
}

static bool is_mixed(const unsigned char *p)
{
	return is_mixed_part(p, 0, PAGES);
}

/* Are all pages the content, but for a store at the beginning of each? */
static bool is_stored(const unsigned char *p, size_t pages)
{
	for (size_t i = 0; i < pages; i++) {
		if (!same(p + bytes(i), altered(0, 1), psize()))
			return false;
	}
	return true;
}

/* Prepare for MAP_REFPAGE. Returns why not, if that is so. */
static const char *find_one_call(void)
{
	void *p;

	source = map_anon(1, RW);
	memcpy(source, content, psize());
	p = map_refpage(source, psize(), RW, 0);
	if (p == MAP_FAILED && errno == EBADF)
		return "the kernel has no MAP_REFPAGE";
	if (p == MAP_FAILED)
		die("MAP_REFPAGE");
	unmap(p, 1);
	return NULL;
}

/* -- Descriptors and processes -------------------------------------------- */

/* The open descriptors below 64, as bits. */
static __u64 open_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *entry;
	__u64 fds = 0;
	int fd;

	if (!dir)
		die("/proc/self/fd");
	while ((entry = readdir(dir))) {
		fd = atoi(entry->d_name);
		if (entry->d_name[0] != '.' && fd != dirfd(dir) && fd < 64)
			fds |= 1ULL << fd;
	}
	closedir(dir);
	return fds;
}

/* Give up all privileges, but not the view of oneself in /proc. */
static void become_nobody(void)
{
	if (setresgid(NOBODY, NOBODY, NOBODY) ||
	    setresuid(NOBODY, NOBODY, NOBODY) || prctl(PR_SET_DUMPABLE, 1))
		die("setresuid");
}

static void set_limit(int resource, unsigned long value)
{
	struct rlimit limit = { value, value };

	if (setrlimit(resource, &limit))
		die("setrlimit");
}

static long status_bytes(const char *field)
{
	return file_number("/proc/self/status", field) * 1024;
}

/*
 * The mapping at this address, the name of which goes to @name; or without an
 * address, the first that has that name.
 */
static unsigned char *find_vma(const void *p, char *name, size_t *len)
{
	FILE *file = fopen("/proc/self/maps", "r");
	unsigned char *found = NULL;
	unsigned long start, end;
	char line[512], path[64];

	while (file && !found && fgets(line, sizeof(line), file)) {
		path[0] = 0;
		if (sscanf(line, "%lx-%lx %*s %*s %*s %*s %63s", &start, &end,
			   path) < 2)
			continue;
		if (p && (start > (unsigned long)p || (unsigned long)p >= end))
			continue;
		if (!p && strcmp(path, name))
			continue;
		found = (unsigned char *)start;
		*len = end - start;
		memcpy(name, path, sizeof(path));
	}
	if (!file)
		die("/proc/self/maps");
	fclose(file);
	return found;
}

/* -- One call and two calls ------------------------------------------------ */

struct call {
	void *addr;
	size_t len;
	int prot;
	int flags;
	const void *page;
};

static struct call good_call(void)
{
	return (struct call){
		.len = psize(), .prot = RW, .flags = MAP_PRIVATE,
		.page = source,
	};
}

static int map_error(void *p, size_t len)
{
	if (p == MAP_FAILED)
		return errno;
	munmap(p, len);
	return 0;
}

static int one_call_error(const struct call *call)
{
	return map_error(raw_mmap(call->addr, call->len, call->prot,
				  call->flags | MAP_REFPAGE, -1, call->page),
			 call->len);
}

static int two_calls_error(const struct call *call)
{
	int fd = refpage_create(call->page, 0), err;

	if (fd < 0)
		return errno;
	err = map_error(raw_mmap(call->addr, call->len, call->prot,
				 call->flags, fd, NULL), call->len);
	close(fd);
	return err;
}

/* Do both ways end with this error, or 0, and leave no descriptor behind? */
static bool both_end(const struct call *call, int want)
{
	__u64 fds = open_fds(), left;
	int one = one_call_error(call), two;

	left = open_fds();
	two = two_calls_error(call);
	if (one == want && two == want && left == fds)
		return true;
	ksft_print_msg("errors: %d and %d, want %d\n", one, two, want);
	ksft_print_msg("descriptors: %#llx, then %#llx\n", (long long)fds,
		       (long long)left);
	return false;
}

/* -- Fixture: MAP_REFPAGE ------------------------------------------------- */

FIXTURE(one_call)
{
};

FIXTURE_VARIANT(one_call)
{
	const struct kind *kind;
};

/* It shares the page of all that have this byte. */
FIXTURE_VARIANT_ADD(one_call, byte)
{
	.kind = &kind_uniform_page,
};

FIXTURE_VARIANT_ADD(one_call, page)
{
	.kind = &kind_page,
};

FIXTURE_SETUP(one_call)
{
	const char *why;

	open_pagemap();
	make_content(variant->kind);
	why = make_descriptor(variant->kind) ?: find_one_call();
	if (why)
		SKIP(return, "%s", why);
	one_call = true;
}

FIXTURE_TEARDOWN(one_call)
{
	EXPECT_TRUE(finish());
}

/*
 * Every byte of every page reads as the page that the offset points at. The
 * mapping crosses page tables, and has no end. Catches an address that is taken
 * for an offset, and memory of zeros, which a kernel gives that takes the flag
 * for MAP_ANONYMOUS.
 */
TEST_F(one_call, content)
{
	const size_t many = (1UL << 40) / psize();
	size_t pages = 2 * pmd_pages() + 1;
	unsigned char *p;

	EXPECT_TRUE(is_content(fresh(pages, PROT_READ), pages));
	EXPECT_TRUE(is_content(fresh(pages, RW), pages));
	p = fresh_at(NULL, many, RW, MAP_NORESERVE);
	p += bytes(many - PAGES);
	EXPECT_TRUE(is_content(p, PAGES));
	EXPECT_TRUE(is_mixed(mix(p, PAGES)));
}

/*
 * Stores are seen where they were made and nowhere else, not even in the page
 * that the content came from. Catches a mapping of the source itself.
 */
TEST_F(one_call, store)
{
	unsigned char *p = fresh(PAGES, RW), *q = fresh(PAGES, RW);

	EXPECT_TRUE(is_mixed(mix(p, PAGES)));
	EXPECT_TRUE(is_content(q, PAGES));
	EXPECT_TRUE(is_content(source, 1));
	memset(p, 0x12, bytes(PAGES));
	EXPECT_TRUE(is_byte(p, 0x12, bytes(PAGES)));
	EXPECT_TRUE(is_content(source, 1));
	advise(p, PAGES, MADV_DONTNEED);
	EXPECT_TRUE(is_content(p, PAGES));
}

/*
 * Loads add nothing to RSS, stores one anonymous page each. Catches a mapping
 * that is filled when it is made.
 */
TEST_F(one_call, rss)
{
	unsigned char *p = fresh(PAGES, RW);

	EXPECT_EQ(0, smaps_pages(p, "Rss:"));
	load_pages(p, PAGES);
	EXPECT_EQ(0, smaps_pages(p, "Rss:"));
	store_pages(p, PAGES / 2);
	EXPECT_EQ(PAGES / 2, smaps_pages(p, "Rss:"));
	EXPECT_EQ(PAGES / 2, smaps_pages(p, "Anonymous:"));
}

/*
 * A child has the mapping as its parent has it, whatever becomes of that.
 * Catches a reference page that only the parent's mapping kept, since there is
 * no descriptor.
 */
TEST_F(one_call, fork)
{
	unsigned char *p = mixed();
	int child[2];
	pid_t pid;

	ASSERT_EQ(0, pipe(child));
	pid = fork();
	if (!pid) {
		EXPECT_TRUE(is_mixed(p));
		wait_for(child);
		EXPECT_TRUE(is_mixed(p));
		memset(p, 0x11, bytes(PAGES));
		advise(p, PAGES, MADV_DONTNEED);
		EXPECT_TRUE(is_content(p, PAGES));
		EXPECT_TRUE(is_content(fresh(PAGES, RW), PAGES));
		_exit(0);
	}
	memset(p, 0x22, bytes(PAGES));
	unmap(p, PAGES);
	memset(source, 0x33, psize());
	tell(child);
	EXPECT_TRUE(child_passed(pid));
}

/*
 * It is over when the call is: no descriptor is left that anybody could map or
 * inherit. Catches one that is installed and then forgotten.
 */
TEST_F(one_call, no_descriptor)
{
	__u64 fds = open_fds();
	unsigned char *p[8];

	for (size_t i = 0; i < ARRAY_SIZE(p); i++)
		p[i] = fresh(PAGES, RW);
	EXPECT_EQ(fds, open_fds());
	for (size_t i = 0; i < ARRAY_SIZE(p); i++)
		unmap(p[i], PAGES);
	EXPECT_EQ(fds, open_fds());
}

/*
 * A process that can have no more descriptors can have mappings. Catches a call
 * that needs a descriptor for a moment, which other threads could see, and in
 * whose absence it fails with EMFILE.
 */
TEST_F(one_call, no_free_descriptor)
{
	set_limit(RLIMIT_NOFILE, 0);
	EXPECT_EQ(-1, refpage_create(source, 0));
	EXPECT_EQ(EMFILE, errno);
	EXPECT_TRUE(is_mixed(mixed()));
}

/*
 * The system has no more files: ENFILE, for users without CAP_SYS_ADMIN, since
 * a mapping has a file. Catches an error path that frees the reference page
 * twice or not at all, which the checkers of a debug kernel see.
 */
TEST_F(one_call, enfile)
{
	const char *file_max = "/proc/sys/fs/file-max";
	char saved[64];
	pid_t pid;

	if (geteuid() || !file_text(file_max, "", saved))
		SKIP(return, "not root");
	ASSERT_TRUE(file_write(file_max, "1"));
	pid = fork();
	if (!pid) {
		struct call call = good_call();

		become_nobody();
		EXPECT_EQ(ENFILE, one_call_error(&call));
		EXPECT_EQ(ENFILE, two_calls_error(&call));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	ASSERT_TRUE(file_write(file_max, saved));
	EXPECT_TRUE(is_content(fresh(1, RW), 1));
}

/*
 * The mapping has the name that it would have with a descriptor. Catches one
 * that tools take for anonymous memory, or for a file that was deleted.
 */
TEST_F(one_call, name)
{
	unsigned char *p = fresh(PAGES, RW);
	char name[64];
	size_t len;

	EXPECT_EQ(p, find_vma(p, name, &len));
	EXPECT_EQ(bytes(PAGES), len);
	EXPECT_STREQ("anon_inode:[refpage]", name);
	find_vma(witness, name, &len);
	EXPECT_STREQ("anon_inode:[refpage]", name);
}

/*
 * A page of one byte is the page that descriptors of this byte have; other
 * content has a page for each call. Catches a page for each mapping of a heap
 * that is made with a call for each block.
 */
TEST_F(one_call, shared_page)
{
	const bool is_byte = variant->kind->byte >= 0;
	unsigned char byte = variant->kind->byte, *p;
	unsigned long pfn[4];
	int fd;

	if (!reference_pfn)
		SKIP(return, "page frame numbers need CAP_SYS_ADMIN");
	for (size_t i = 0; i < ARRAY_SIZE(pfn); i++) {
		p = fresh(1, RW);
		load(p);
		pfn[i] = pagemap_get_pfn(pagemap_fd, (char *)p);
		EXPECT_EQ(is_byte, pfn[i] == reference_pfn);
		if (i)
			EXPECT_EQ(is_byte, pfn[i] == pfn[i - 1]);
	}
	fd = refpage_create(&byte, REFPAGE_PATTERN_SIZE(0));
	ASSERT_LE(0, fd);
	p = map(fd, 1, PROT_READ);
	load(p);
	EXPECT_EQ(is_byte, pagemap_get_pfn(pagemap_fd, (char *)p) == pfn[0]);
}

/* -- MAP_REFPAGE: errors -------------------------------------------------- */

/*
 * The page has to be aligned. Catches a kernel that rounds the address down, to
 * a page that was not meant.
 */
TEST_F(one_call, page_unaligned)
{
	struct call call = good_call();

	for (long offset = 1; offset < psize(); offset *= 2) {
		call.page = source + offset;
		EXPECT_TRUE(both_end(&call, EINVAL));
		call.page = source - offset;
		EXPECT_TRUE(both_end(&call, EINVAL));
	}
}

/*
 * A page that cannot be read is EFAULT. A page is a page: one that the end of a
 * file is in is read as it is mapped, with zeros after the end. Catches SIGBUS
 * sent for a call, and a source that is accessed by another address than the
 * program's.
 */
TEST_F(one_call, page_unreadable)
{
	unsigned char *none = map_anon(1, PROT_NONE), *hole = map_anon(3, RW);
	unsigned char *guarded = map_anon(1, RW), *beyond;
	void *const unreadable[] = {
		NULL, (void *)(bytes(1L)), none, hole + psize(), guarded,
		(void *)(-bytes(1L)), (void *)(-bytes(2L)),
		(void *)(1UL << 63), (void *)(1UL << 62),
		(void *)((1UL << 56) - psize()),
	};
	struct call call = good_call();
	int fd = scratch_file(0);

	ASSERT_EQ(0, ftruncate(fd, psize() / 2));
	beyond = mmap(NULL, bytes(2), PROT_READ, MAP_PRIVATE, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)beyond);
	unmap(hole + psize(), 1);
	ASSERT_TRUE(guard(guarded, 1));

	for (size_t i = 0; i < ARRAY_SIZE(unreadable); i++) {
		call.page = unreadable[i];
		EXPECT_TRUE(both_end(&call, EFAULT)) {
			TH_LOG("page %p", call.page);
		}
	}
	call.page = beyond + psize();
	EXPECT_TRUE(both_end(&call, EFAULT));
	call.page = beyond;
	EXPECT_TRUE(both_end(&call, 0));
}

/*
 * A kernel that does not know the flag sees a file mapping without a file, and
 * says EBADF; that is how programs find out. Shown with the flag that is next
 * to it and means nothing, and which is ignored where no file is needed.
 */
TEST_F(one_call, flag_unknown)
{
	const int flags = MAP_PRIVATE | MAP_REFPAGE << 1;
	void *p = raw_mmap(NULL, psize(), RW, flags, -1, source);

	EXPECT_EQ(EBADF, map_error(p, psize()));
	p = raw_mmap(NULL, psize(), RW, flags | MAP_ANONYMOUS, -1, source);
	EXPECT_EQ(0, map_error(p, psize()));
}

/*
 * There is no descriptor to give. Catches one that is ignored, so that nothing
 * could ever be meant by it, and one that is mapped.
 */
TEST_F(one_call, descriptor)
{
	const int flags = MAP_PRIVATE | MAP_REFPAGE;
	const long fds[] = {
		0, 1, memory_fd, scratch_file(1), INT32_MAX, INT32_MIN, -2,
	};
	void *p;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		p = raw_mmap(NULL, psize(), RW, flags, fds[i], source);
		EXPECT_EQ(EINVAL, map_error(p, psize())) {
			TH_LOG("descriptor %ld", fds[i]);
		}
	}
	/* It is an int, the sign of which a caller need not extend. */
	p = raw_mmap(NULL, psize(), RW, flags, 0xffffffff, source);
	EXPECT_EQ(0, map_error(p, psize()));
}

/*
 * The mapping is private, and is no other kind of memory. Catches flags of
 * which one wins: a shared mapping, zeros, or a huge page of them.
 */
TEST_F(one_call, type)
{
	static const int shared[] = {
		0, MAP_SHARED, MAP_SHARED_VALIDATE, MAP_SHARED | MAP_POPULATE,
	};
	static const int others[] = {
		MAP_PRIVATE | MAP_ANONYMOUS, MAP_SHARED | MAP_ANONYMOUS,
		MAP_PRIVATE | MAP_HUGETLB, MAP_DROPPABLE | MAP_HUGETLB,
		MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB,
		MAP_DROPPABLE | MAP_ANONYMOUS,
	};
	static const int prots[] = { PROT_NONE, PROT_READ, PROT_WRITE, RW };
	struct call call = good_call();

	for (size_t i = 0; i < ARRAY_SIZE(prots); i++) {
		call.prot = prots[i];
		for (size_t k = 0; k < ARRAY_SIZE(shared); k++) {
			call.flags = shared[k];
			EXPECT_TRUE(both_end(&call, EINVAL)) {
				TH_LOG("flags %#x", call.flags);
			}
		}
		for (size_t k = 0; k < ARRAY_SIZE(others); k++) {
			call.flags = others[k];
			EXPECT_EQ(EINVAL, one_call_error(&call)) {
				TH_LOG("flags %#x", call.flags);
			}
		}
		call.flags = MAP_PRIVATE;
		EXPECT_TRUE(both_end(&call, 0));
	}
}

/*
 * Content is data. Catches protection that is looked at before there is a file,
 * whose file system forbids it.
 */
TEST_F(one_call, exec)
{
	struct call call = good_call();
	unsigned char *p = mixed();

	call.prot = PROT_EXEC;
	EXPECT_TRUE(both_end(&call, EPERM));
	call.prot = PROT_READ | PROT_EXEC;
	EXPECT_TRUE(both_end(&call, EPERM));
	call.prot = RW | PROT_EXEC;
	EXPECT_TRUE(both_end(&call, EPERM));
	EXPECT_EQ(-1, mprotect(p, bytes(PAGES), PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
	EXPECT_TRUE(is_mixed(p));
}

/*
 * The personality that makes readable memory executable makes an exception, as
 * for descriptors. Catches EPERM for all programs with it.
 */
TEST_F(one_call, read_implies_exec)
{
	unsigned char *p;
	char perms[5];

	ASSERT_NE(-1, personality(personality(0xffffffff) | READ_IMPLIES_EXEC));
	p = fresh_at(NULL, PAGES, RW, 0);
	EXPECT_TRUE(is_mixed(mix(p, PAGES)));
	EXPECT_EQ(1, count_vmas(p, PAGES, perms));
	EXPECT_STREQ("rw-p", perms);
}

/*
 * Length and address are checked as ever. Catches checks that are left out on
 * the way to the file.
 */
TEST_F(one_call, address)
{
	struct call call = good_call();

	call.len = 0;
	EXPECT_TRUE(both_end(&call, EINVAL));
	call.len = -1;
	EXPECT_TRUE(both_end(&call, ENOMEM));
	call.len = -bytes(1);
	EXPECT_TRUE(both_end(&call, ENOMEM));
	call.len = 1UL << 60;
	EXPECT_TRUE(both_end(&call, ENOMEM));

	call = good_call();
	call.flags |= MAP_GROWSDOWN;
	EXPECT_TRUE(both_end(&call, EINVAL));

	call.flags = MAP_PRIVATE | MAP_FIXED;
	call.addr = map_anon(2, RW) + 1;
	EXPECT_TRUE(both_end(&call, EINVAL));
	call.addr = (void *)(-bytes(2));
	EXPECT_TRUE(both_end(&call, ENOMEM));

	call.flags = MAP_PRIVATE | MAP_FIXED_NOREPLACE;
	call.addr = map_anon(1, RW);
	EXPECT_TRUE(both_end(&call, EEXIST));
	call.addr = source;
	EXPECT_TRUE(both_end(&call, EEXIST));
	call.addr = reserve(1, 0);
	unmap(call.addr, 1);
	EXPECT_TRUE(both_end(&call, 0));

	/* Without such a flag, it is a hint. */
	call = good_call();
	call.addr = source;
	EXPECT_TRUE(both_end(&call, 0));
	EXPECT_TRUE(is_content(source, 1));
}

/*
 * Flags that mean nothing here mean nothing. Catches a check that is meant for
 * MAP_SHARED_VALIDATE.
 */
TEST_F(one_call, flags_ignored)
{
	struct call call = good_call();

	call.flags |= MAP_STACK | MAP_NONBLOCK | MAP_DENYWRITE | MAP_SYNC |
		      MAP_EXECUTABLE | MAP_FILE;
	EXPECT_TRUE(both_end(&call, 0));
}

/*
 * The limits of a process are those of anonymous memory. Catches limits that
 * are checked by the caller of one of the two ways.
 */
TEST_F(one_call, limits)
{
	struct call call = good_call();
	pid_t pid;

	call.len = bytes(64);
	open_fds();	/* allocates */
	pid = fork();
	if (!pid) {
		set_limit(RLIMIT_AS, status_bytes("VmSize:") + bytes(48));
		EXPECT_TRUE(both_end(&call, ENOMEM));
		call.len = psize();
		EXPECT_TRUE(both_end(&call, 0));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));

	call.flags |= MAP_LOCKED;
	pid = fork();
	if (!pid) {
		if (!geteuid())
			become_nobody();
		call.len = bytes(64);
		set_limit(RLIMIT_MEMLOCK, bytes(32));
		EXPECT_TRUE(both_end(&call, EAGAIN));
		call.len = bytes(16);
		EXPECT_TRUE(both_end(&call, 0));
		set_limit(RLIMIT_MEMLOCK, 0);
		EXPECT_TRUE(both_end(&call, EPERM));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
}

static long reference_pages(void)
{
	file_write("/proc/sys/vm/stat_refresh", "1");
	return vm_counter("nr_refpage");
}

/*
 * Whether it fails or succeeds, the call leaves no reference page behind; its
 * mapping has one. Catches an error of mmap() after which nobody frees what the
 * first half made, and a file that has one reference too many.
 */
TEST_F(one_call, reference_pages)
{
	const bool is_byte = variant->kind->byte >= 0;
	unsigned char *p[PAGES], *none = map_anon(1, PROT_NONE);
	long before;

	if (geteuid())
		SKIP(return, "not root");
	before = reference_pages();
	ASSERT_LT(0, before);
	for (int i = 0; i < 1000; i++) {
		EXPECT_EQ(MAP_FAILED,
			  map_refpage(source, psize(), PROT_EXEC, 0));
		EXPECT_EQ(MAP_FAILED, map_refpage(none, psize(), RW, 0));
		EXPECT_EQ(MAP_FAILED, map_refpage(source, 0, RW, 0));
		EXPECT_EQ(MAP_FAILED, map_refpage(source, -bytes(1), RW, 0));
		unmap(map_refpage(source, psize(), RW, 0), 1);
	}
	EXPECT_EQ(before, reference_pages());

	for (size_t i = 0; i < PAGES; i++)
		p[i] = mix(fresh(4, RW), 4);
	EXPECT_EQ(before + (is_byte ? 0 : PAGES), reference_pages());
	for (size_t i = 0; i < PAGES; i++)
		unmap(p[i], 4);
	EXPECT_EQ(before, reference_pages());
}

#define CHARGED_PAGES	1024

/*
 * A reference page is charged to the memory cgroup of who made the mapping,
 * unless it is shared by all. Catches kernel memory that a process can have
 * without limit, and a page that a mapping is charged for and does not have.
 */
TEST_F(one_call, charged)
{
	const char *why = prepare_small(variant->kind) ?: memcg_create();
	const bool is_byte = variant->kind->byte >= 0;
	int child[2];
	pid_t pid;
	long kb;

	if (why)
		SKIP(return, "%s", why);
	ASSERT_EQ(0, pipe(child));
	pid = fork();
	if (!pid) {
		memcg_join();
		for (size_t i = 0; i < CHARGED_PAGES; i++)
			fresh_at(NULL, 1, RW, 0);
		tell(child);
		pause();
	}
	wait_for(child);
	kb = memcg_number("memory.stat", "kernel ") / 1024;
	EXPECT_EQ(is_byte, kb < bytes(CHARGED_PAGES) / 1024) {
		TH_LOG("%ld KiB", kb);
	}
	kill(pid, SIGKILL);
	EXPECT_FALSE(child_passed(pid));
}

/* -- MAP_REFPAGE: with other flags ---------------------------------------- */

/*
 * MAP_POPULATE makes the pages private at once, or maps the reference page if
 * nobody can store to it. Catches population that only files have, which reads.
 */
TEST_F(one_call, populate)
{
	unsigned char *p = reserve(PAGES, 0), *q = reserve(PAGES, 0);

	fresh_at(p, PAGES, RW, MAP_FIXED | MAP_POPULATE);
	EXPECT_EQ(PAGES, smaps_pages(p, "Anonymous:"));
	EXPECT_TRUE(is_content(p, PAGES));
	EXPECT_TRUE(is_mixed(mix(p, PAGES)));

	fresh_at(q, PAGES, PROT_READ, MAP_FIXED | MAP_POPULATE);
	EXPECT_EQ(0, smaps_pages(q, "Rss:"));
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_TRUE(pagemap_is_populated(pagemap_fd,
						 (char *)q + bytes(i)));
	EXPECT_TRUE(is_content(q, PAGES));
}

/*
 * The same with MADV_POPULATE_READ and MADV_POPULATE_WRITE, of mixed memory.
 * Catches a walk that stops at the reference page, or leaves it.
 */
TEST_F(one_call, madvise_populate)
{
	unsigned char *p = mixed();

	advise(p, PAGES, MADV_POPULATE_READ);
	EXPECT_EQ(PAGES / 2, smaps_pages(p, "Rss:"));
	EXPECT_TRUE(is_mixed(p));
	advise(p, PAGES, MADV_POPULATE_WRITE);
	EXPECT_EQ(PAGES, smaps_pages(p, "Anonymous:"));
	EXPECT_TRUE(is_mixed(p));
}

/*
 * MAP_LOCKED populates and locks. Catches a mapping that is locked in name
 * only, and a reference page that is counted as locked.
 */
TEST_F(one_call, locked)
{
	unsigned char *p = reserve(PAGES, 0), *q = reserve(PAGES, 0);

	fresh_at(p, PAGES, RW, MAP_FIXED | MAP_LOCKED);
	EXPECT_EQ(PAGES, smaps_pages(p, "Locked:"));
	EXPECT_TRUE(is_content(p, PAGES));
	EXPECT_TRUE(is_mixed(mix(p, PAGES)));
	fresh_at(q, PAGES, PROT_READ, MAP_FIXED | MAP_LOCKED);
	EXPECT_EQ(0, smaps_pages(q, "Rss:"));
	EXPECT_TRUE(is_content(q, PAGES));
}

/*
 * What was there is gone when the call succeeds, and stays when it fails.
 * Catches memory that is unmapped before the content is read.
 */
TEST_F(one_call, fixed_over_data)
{
	unsigned char *p = map_anon(PAGES, RW), *none = map_anon(1, PROT_NONE);
	struct call call = good_call();

	memset(p, 0x5e, bytes(PAGES));
	call.addr = p;
	call.len = bytes(PAGES);
	call.flags |= MAP_FIXED;
	call.page = none;
	EXPECT_TRUE(both_end(&call, EFAULT));
	call.page = source + 8;
	EXPECT_TRUE(both_end(&call, EINVAL));
	call.page = source;
	call.prot = PROT_EXEC;
	EXPECT_TRUE(both_end(&call, EPERM));
	EXPECT_TRUE(is_byte(p, 0x5e, bytes(PAGES)));

	fresh_at(p + bytes(4), 4, RW, MAP_FIXED);
	EXPECT_TRUE(is_byte(p, 0x5e, bytes(4)));
	EXPECT_TRUE(is_content(p + bytes(4), 4));
	EXPECT_TRUE(is_byte(p + bytes(8), 0x5e, bytes(PAGES - 8)));

	/* Over a mapping that was made in the same way, with private pages */
	fresh_at(p, PAGES, RW, MAP_FIXED);
	mix(p, PAGES);
	fresh_at(p + bytes(4), 4, RW, MAP_FIXED);
	EXPECT_TRUE(is_mixed_part(p, 0, 4));
	EXPECT_TRUE(is_content(p + bytes(4), 4));
	EXPECT_TRUE(is_mixed_part(p, 8, PAGES));
}

/*
 * The page may lie in the range that the mapping replaces, and may be all of
 * it. Catches content that is read after its memory is unmapped.
 */
static void check_over_source(struct __test_metadata *_metadata, size_t pages,
			      size_t at)
{
	unsigned char *p = map_anon(pages, RW);

	memset(p, 0x31, bytes(pages));
	source = p + bytes(at);
	memcpy(source, content, psize());
	ASSERT_EQ(p, fresh_at(p, pages, RW, MAP_FIXED));
	EXPECT_TRUE(is_content(p, pages));
	/* From the mapping that was just made, too */
	ASSERT_EQ(p, fresh_at(p, pages, RW, MAP_FIXED));
	EXPECT_TRUE(is_content(p, pages));
	store(source, 5);
	EXPECT_TRUE(same(source, altered(5, 1), psize()));
	unmap(p, pages);
}

TEST_F(one_call, fixed_over_source)
{
	for (size_t pages = 1; pages <= 5; pages++) {
		for (size_t at = 0; at < pages; at++)
			check_over_source(_metadata, pages, at);
	}
}

/*
 * Droppable memory is born with content, too. Catches a type that is turned
 * into MAP_PRIVATE.
 */
TEST_F(one_call, droppable)
{
	static const char *const flags[] = { " dp", " wf", " dd", " nr" };
	struct call call = good_call();
	unsigned char *p;
	pid_t pid;

	p = raw_mmap(reserve(PAGES, 0), bytes(PAGES), RW,
		     MAP_DROPPABLE | MAP_REFPAGE | MAP_FIXED, -1, source);
	ASSERT_NE(MAP_FAILED, (void *)p) {
		TH_LOG("%m");
	}
	EXPECT_TRUE(is_content(p, PAGES));
	EXPECT_TRUE(is_mixed(mix(p, PAGES)));
	for (size_t i = 0; i < ARRAY_SIZE(flags); i++) {
		EXPECT_TRUE(has_vm_flag(p, flags[i])) {
			TH_LOG("VmFlags lacks%s", flags[i]);
		}
	}
	pid = fork();
	if (!pid) {
		EXPECT_TRUE(is_content(p, PAGES));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_mixed(p));

	call.flags = MAP_DROPPABLE;
	EXPECT_TRUE(both_end(&call, 0));
	call.flags = MAP_DROPPABLE | MAP_LOCKED;
	EXPECT_TRUE(both_end(&call, EINVAL));
	call.flags = MAP_DROPPABLE | MAP_GROWSDOWN;
	EXPECT_TRUE(both_end(&call, EINVAL));
}

#ifdef MAP_32BIT
/*
 * MAP_32BIT places the mapping in the first 2 GiB. Catches a placement that
 * forgets the flag.
 */
TEST_F(one_call, low_address)
{
	unsigned char *p = fresh_at(NULL, PAGES, RW, MAP_32BIT);

	EXPECT_GE(1UL << 31, (unsigned long)p + bytes(PAGES));
	EXPECT_TRUE(is_mixed(mix(p, PAGES)));
}
#endif

/*
 * What is made by one call is one VMA until mprotect() splits it, and again
 * when the parts are the same. Mappings of two calls do not merge, since each
 * has a page of its own. Catches a merge of different content.
 */
TEST_F(one_call, merge)
{
	unsigned char *p = reserve(2 * PAGES, 0), *q = p + bytes(PAGES);

	fresh_at(p, PAGES, RW, MAP_FIXED);
	mix(p, PAGES);
	ASSERT_EQ(0, mprotect(p + bytes(4), bytes(4), PROT_READ));
	EXPECT_EQ(3, count_vmas(p, PAGES, NULL));
	ASSERT_EQ(0, mprotect(p + bytes(4), bytes(4), RW));
	EXPECT_EQ(1, count_vmas(p, PAGES, NULL));

	memset(source, 0x77, psize());
	fresh_at(q, PAGES, RW, MAP_FIXED);
	EXPECT_EQ(2, count_vmas(p, 2 * PAGES, NULL));
	EXPECT_TRUE(is_mixed(p));
	EXPECT_TRUE(is_byte(q, 0x77, bytes(PAGES)));
	/* It grows with what it is made of. */
	unmap(q, PAGES);
	ASSERT_EQ(p, mremap(p, bytes(PAGES), bytes(2 * PAGES), 0));
	EXPECT_TRUE(is_content(q, PAGES));
}

/* -- MAP_REFPAGE: the page that it is given ------------------------------- */

/*
 * The content is a snapshot: the page may be overwritten, moved, replaced, and
 * unmapped. Catches a reference page that is the page of the program.
 */
TEST_F(one_call, page_is_free)
{
	unsigned char *p = fresh(PAGES, RW), *moved;

	memset(source, 0x91, psize());
	EXPECT_TRUE(is_content(p, 1));
	moved = mremap(source, psize(), psize(), MREMAP_MAYMOVE | MREMAP_FIXED,
		       reserve(1, 0));
	ASSERT_NE(MAP_FAILED, (void *)moved);
	EXPECT_TRUE(is_content(p + psize(), 1));
	map_at(source, -1, 1, RW, MAP_ANONYMOUS | MAP_FIXED);
	memset(source, 0x92, psize());
	EXPECT_TRUE(is_content(p + bytes(2), 1));
	unmap(moved, 1);
	unmap(source, 1);
	EXPECT_TRUE(is_content(p, PAGES));
	EXPECT_TRUE(is_mixed(mix(p, PAGES)));
}

/*
 * The process that made the mapping may be gone. Catches content that its
 * address space keeps.
 */
TEST_F(one_call, maker_is_gone)
{
	int gone[2], told[2];
	unsigned char *p;
	char byte;

	ASSERT_EQ(0, pipe(gone));
	ASSERT_EQ(0, pipe(told));
	if (!fork()) {
		memcpy(source, altered(0, psize()), psize());
		p = fresh(PAGES, RW);
		memcpy(content, source, psize());
		mix(p, PAGES);
		if (fork())
			_exit(0);
		close(gone[1]);
		/* The end of file is that of the maker. */
		if (read(gone[0], &byte, 1))
			die("read from pipe");
		EXPECT_TRUE(is_mixed(p));
		EXPECT_TRUE(is_mixed(mix(p, PAGES)));
		tell(told);
		_exit(0);
	}
	close(gone[1]);
	close(told[1]);
	wait_for(told);
}

/*
 * A mapping gets large folios as others do. Catches a file of which it is not
 * known that its content is the same everywhere.
 */
TEST_F(one_call, large_folios)
{
	const char *why = prepare(variant->kind);
	unsigned int order[] = { 4, pmd_order };

	if (why)
		SKIP(return, "%s", why);
	for (size_t i = 0; i < ARRAY_SIZE(order); i++) {
		long pages = 1L << order[i];
		unsigned char *p = fresh(pages, RW);

		enable(order[i]);
		advise(p, pages, MADV_HUGEPAGE);
		store(p + bytes(2), mixed_offset(2));
		EXPECT_TRUE(is_folio(p, order[i]));
		EXPECT_TRUE(is_marked(p, pages, pages));
		set_order(order[i], "never");
	}
}

/* Make the page at @page the content of mappings that are stored to. */
static void check_source(struct __test_metadata *_metadata, void *page)
{
	unsigned char *wanted = content, *p;

	content = map_anon(1, RW);
	p = map_refpage(page, bytes(PAGES), RW, 0);
	ASSERT_NE(MAP_FAILED, (void *)p) {
		TH_LOG("%m");
	}
	memcpy(content, page, psize());
	EXPECT_TRUE(is_content(p, PAGES));
	EXPECT_TRUE(is_mixed(mix(p, PAGES)));
	EXPECT_TRUE(is_content(page, 1));
	unmap(p, PAGES);
	unmap(content, 1);
	content = wanted;
}

static unsigned char *map_file(int fd, int prot, int type)
{
	void *p = mmap(NULL, psize(), prot, type, fd, 0);

	if (p == MAP_FAILED)
		die("mmap of a file");
	return p;
}

static void check_file(struct __test_metadata *_metadata, int fd)
{
	ASSERT_EQ(psize(), pwrite(fd, content, psize(), 0));
	check_source(_metadata, map_file(fd, PROT_READ, MAP_SHARED));
	check_source(_metadata, map_file(fd, PROT_READ, MAP_PRIVATE));
	check_source(_metadata, map_file(fd, RW, MAP_SHARED));
	check_source(_metadata, map_file(fd, RW, MAP_PRIVATE));
	close(fd);
}

/*
 * Whatever can be read can be given: the page cache, shared and private, that
 * of memory and of a disk. Catches a source that has to be anonymous.
 */
TEST_F(one_call, page_of_file)
{
	char path[] = "./refpage.XXXXXX";
	int fd = mkstemp(path);
	unsigned char *p;

	if (fd < 0)
		SKIP(return, "cannot create a file in .");
	unlink(path);
	check_file(_metadata, fd);
	check_file(_metadata, scratch_file(1));
	/* Of a file with a hole */
	check_source(_metadata, map_file(scratch_file(1), PROT_READ,
					 MAP_SHARED));

	/* Memory that only the program itself can read, if there is that */
	fd = syscall(__NR_memfd_secret, O_CLOEXEC);
	if (fd >= 0 && !ftruncate(fd, psize())) {
		p = map_file(fd, RW, MAP_SHARED);
		memcpy(p, content, psize());
		check_source(_metadata, p);
	}
}

/*
 * Anonymous memory in all its states, the zero page included. Catches a source
 * that is written to, which its resident set would tell, and one that has to be
 * resident.
 */
TEST_F(one_call, page_of_memory)
{
	unsigned char *untouched = anon_memory(1), *shared;

	check_source(_metadata, untouched);
	EXPECT_EQ(0, smaps_pages(untouched, "Rss:"));
	check_source(_metadata, map_anon(1, PROT_READ));
	check_source(_metadata, source);
	ASSERT_EQ(0, mprotect(source, psize(), PROT_READ));
	check_source(_metadata, source);

	shared = mmap(NULL, psize(), RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)shared);
	memcpy(shared, content, psize());
	check_source(_metadata, shared);
}

/* A page at this address, or else at the next in this direction. */
static unsigned char *page_near(unsigned long addr, long step)
{
	for (int tries = 0; tries < 1024; tries++, addr += step) {
		void *p = mmap((void *)addr, psize(), RW, MAP_PRIVATE |
			       MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);

		if (p == (void *)addr)
			return p;
	}
	return NULL;
}

/*
 * The first and the last page of the address space are pages. Catches an offset
 * that overflows together with the length, as that of a file could.
 */
TEST_F(one_call, page_anywhere)
{
	static const unsigned long ends[] = { 1UL << 47, 1UL << 48 };
	unsigned char *p = page_near(0x10000, psize());

	ASSERT_NE(NULL, p);
	memcpy(p, content, psize());
	check_source(_metadata, p);
	for (size_t i = 0; i < ARRAY_SIZE(ends); i++) {
		p = page_near(ends[i] - psize(), -bytes(1));
		/* That is beyond what this processor has. */
		if (!p && i)
			continue;
		ASSERT_NE(NULL, p);
		memcpy(p, content, psize());
		check_source(_metadata, p);
		EXPECT_EQ(MAP_FAILED, map_refpage(p, -bytes(1), RW, 0));
		EXPECT_EQ(ENOMEM, errno);
	}
}

/*
 * A page on swap is a page. Catches a source that is only looked for where it
 * is mapped.
 */
TEST_F(one_call, page_on_swap)
{
	const char *why = prepare_small(variant->kind);
	unsigned char *p;

	if (why || no_swap())
		SKIP(return, "%s", why ?: "no swap space");
	ASSERT_TRUE(page_out(source, 1));
	p = fresh(PAGES, RW);
	EXPECT_TRUE(is_content(p, PAGES));
	EXPECT_TRUE(is_mixed(mix(p, PAGES)));
}

/*
 * A refpage mapping is a source, its untouched pages and its private ones.
 * Catches content that is taken from the reference page in either case.
 */
TEST_F(one_call, page_of_refpage)
{
	unsigned char *p = fresh(2, RW), *q = map(memory_fd, 2, RW);

	store(p + psize(), 7);
	store(q + psize(), 7);
	for (size_t i = 0; i < 2; i++) {
		check_source(_metadata, p + bytes(i));
		check_source(_metadata, q + bytes(i));
	}
}

/*
 * Pages of the kernel that a process may read are sources. What those of the
 * clock hold changes; only that nothing breaks is tested. Catches GUP, which
 * they are not for.
 */
TEST_F(one_call, page_of_vdso)
{
	char vdso_name[64] = "[vdso]", vvar_name[64] = "[vvar]";
	unsigned char *vdso, *vvar, *p;
	size_t len = 0;

	vdso = find_vma(NULL, vdso_name, &len);
	if (!vdso)
		SKIP(return, "no vDSO");
	for (size_t i = 0; i < len / psize(); i++)
		check_source(_metadata, vdso + bytes(i));

	vvar = find_vma(NULL, vvar_name, &len);
	if (!vvar || signal_of(vvar, LOAD))
		return;
	p = map_refpage(vvar, psize(), RW, 0);
	ASSERT_NE(MAP_FAILED, (void *)p);
	p[0]++;
	unmap(p, 1);
}

/* A few pages of a huge page are content, one after the other. */
static void check_huge_page(struct __test_metadata *_metadata, unsigned char *p,
			    long pages)
{
	for (long i = 0; i < pages; i++)
		memset(p + bytes(i), i * 7 + 1, psize());
	for (long i = 0; i < pages; i += pages / 4 - 1)
		check_source(_metadata, p + bytes(i));
}

/*
 * A page in the middle of a huge page is a page. Catches content of the head of
 * a folio, and a folio that is split for it, or kept.
 */
TEST_F(one_call, page_of_huge_page)
{
	const char *why = prepare(variant->kind);
	unsigned char *p, *q;
	unsigned long free;
	size_t len;

	if (why)
		SKIP(return, "%s", why);
	enable(pmd_order);
	p = anon_memory(pmd_pages());
	advise(p, pmd_pages(), MADV_HUGEPAGE);
	store(p, 0);
	ASSERT_TRUE(is_folio(p, pmd_order));
	check_huge_page(_metadata, p, pmd_pages());
	EXPECT_TRUE(is_folio(p, pmd_order));

	len = default_huge_page_size();
	p = mmap(NULL, len, RW, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB, -1,
		 0);
	if (!len || p == MAP_FAILED)
		SKIP(return, "no hugetlb pages");
	check_huge_page(_metadata, p, len / psize());
	free = get_free_hugepages();
	q = map_refpage(p + psize(), psize(), RW, 0);
	ASSERT_NE(MAP_FAILED, (void *)q);
	unmap(p, len / psize());
	EXPECT_EQ(free + 1, get_free_hugepages());
	EXPECT_EQ(8, load(q));
}

/*
 * The page stays what and where it was, and nothing holds it: when it is
 * unmapped, it is free, while the mapping lives on. Catches a source that is
 * stolen or pinned.
 */
TEST_F(one_call, page_is_freed)
{
	const char *why = prepare(variant->kind);
	const unsigned int order = 4;
	const long pages = 1L << order;
	unsigned char *p, *q;
	unsigned long pfn;
	long before;

	if (why)
		SKIP(return, "%s", why);
	enable(order);
	before = order_counter(order, "nr_anon");
	p = anon_memory(pages);
	advise(p, pages, MADV_HUGEPAGE);
	memset(p, 0x3b, bytes(pages));
	ASSERT_TRUE(is_folio(p, order));
	pfn = pagemap_get_pfn(pagemap_fd, (char *)p);

	q = map_refpage(p + psize(), bytes(PAGES), RW, 0);
	ASSERT_NE(MAP_FAILED, (void *)q);
	q[0] = 1;
	EXPECT_TRUE(is_folio(p, order));
	EXPECT_EQ(pfn, pagemap_get_pfn(pagemap_fd, (char *)p));
	EXPECT_EQ(before + 1, order_counter(order, "nr_anon"));
	unmap(p, pages);
	drain_batches();
	EXPECT_EQ(before, order_counter(order, "nr_anon"));
	EXPECT_TRUE(is_byte(q + 1, 0x3b, bytes(PAGES) - 1));
}

static int open_uffd(int flags, void *p)
{
	struct uffdio_api api = { .api = UFFD_API };
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC | flags);

	if (fd >= 0 && (ioctl(fd, UFFDIO_API, &api) ||
			uffd_register(fd, p, psize(), true, false, false)))
		die("userfaultfd");
	return fd;
}

static void *provide_page(void *arg)
{
	struct uffdio_copy copy = { .len = psize(), .src = (uintptr_t)content };
	struct uffd_msg msg;
	int fd = *(int *)arg;

	if (read(fd, &msg, sizeof(msg)) != sizeof(msg) ||
	    msg.event != UFFD_EVENT_PAGEFAULT)
		die("read from userfaultfd");
	copy.dst = msg.arg.pagefault.address & -(unsigned long)psize();
	if (ioctl(fd, UFFDIO_COPY, &copy))
		die("UFFDIO_COPY");
	return NULL;
}

/*
 * Somebody else may provide the page, while the call waits. It is EFAULT if
 * that is for faults of user space only. Catches a source that is read with a
 * lock held which the other thread needs.
 */
TEST_F(one_call, page_of_userfaultfd)
{
	unsigned char *p = anon_memory(1);
	struct call call = good_call();
	pthread_t thread;
	int fd;

	fd = open_uffd(UFFD_USER_MODE_ONLY, p);
	if (fd < 0)
		SKIP(return, "no userfaultfd");
	call.page = p;
	EXPECT_TRUE(both_end(&call, EFAULT));
	close(fd);

	fd = open_uffd(0, p);
	if (fd < 0)
		SKIP(return, "no userfaultfd for faults in the kernel");
	ASSERT_EQ(0, pthread_create(&thread, NULL, provide_page, &fd));
	source = p;
	p = fresh(PAGES, RW);
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_TRUE(is_mixed(mix(p, PAGES)));
}

/* -- MAP_REFPAGE: 32-bit system calls ------------------------------------- */

#ifdef __x86_64__
#define COMPAT_MMAP		90
#define COMPAT_MMAP2		192
#define COMPAT_REFPAGE_CREATE	500
#define COMPAT_ADDRESS		0xc0000000UL

struct compat_mmap_args {
	__u32 addr, len, prot, flags, fd, offset;
};

/* As a 32-bit program makes them. Returns a negative error as such. */
static long compat_call(long nr, __u32 a, __u32 b, __u32 c, __u32 d, __u32 e,
			__u32 f)
{
	register unsigned long sixth asm("r8") = f;

	asm volatile("xchg %%rbp, %%r8\n\t"
		     "int $0x80\n\t"
		     "xchg %%rbp, %%r8"
		     : "+a" (nr), "+r" (sixth)
		     : "b" ((unsigned long)a), "c" ((unsigned long)b),
		       "d" ((unsigned long)c), "S" ((unsigned long)d),
		       "D" ((unsigned long)e)
		     : "memory", "cc", "r9", "r10", "r11");
	return (__u32)nr > -4096U ? (long)(int)nr : (long)(__u32)nr;
}

static long compat_mmap2(__u32 offset, int flags)
{
	return compat_call(COMPAT_MMAP2, 0, bytes(PAGES), RW,
			   MAP_PRIVATE | flags, -1, offset);
}

static long compat_create(const void *page)
{
	return compat_call(COMPAT_REFPAGE_CREATE, (long)page, 0, 0, 0, 0, 0);
}

/* Pages at addresses that are negative, for a 32-bit off_t, and are not. */
static void *const compat_addresses[] = {
	(void *)COMPAT_ADDRESS, (void *)0x80000000UL, (void *)0x7ffff000UL,
	(void *)0x20000000UL, (void *)0xffff0000UL,
};

static void *compat_source(void *addr)
{
	void *p = map_at(addr, -1, 1, RW, MAP_ANONYMOUS | MAP_FIXED_NOREPLACE);

	if (p != addr)
		die("mmap at a low address");
	memcpy(p, content, psize());
	return p;
}

static void check_compat(struct __test_metadata *_metadata, long ret)
{
	unsigned char *p = (unsigned char *)ret;

	ASSERT_LT(0, ret) {
		TH_LOG("%s", strerror(-ret));
	}
	EXPECT_GT(1UL << 32, (unsigned long)p);
	EXPECT_TRUE(is_content(p, PAGES));
	EXPECT_TRUE(is_mixed(mix(p, PAGES)));
	unmap(p, PAGES);
}

/*
 * A 32-bit program gives the address in pages, from an off_t that may be signed
 * and 32 or 64 bits wide. Catches an address with bits that the program does
 * not have, at which nothing can be read.
 */
TEST_F(one_call, compat_mmap2)
{
	for (size_t i = 0; i < ARRAY_SIZE(compat_addresses); i++) {
		void *page = compat_source(compat_addresses[i]);
		int offset = (int)(long)page;

		check_compat(_metadata, compat_mmap2((__u32)offset >> 12,
						     MAP_REFPAGE));
		check_compat(_metadata, compat_mmap2(offset >> 12,
						     MAP_REFPAGE));
		unmap(page, 1);
		EXPECT_EQ(-EFAULT, compat_mmap2((__u32)offset >> 12,
						MAP_REFPAGE));
		EXPECT_EQ(-EFAULT, compat_mmap2(offset >> 12, MAP_REFPAGE));
	}
	EXPECT_EQ(-EBADF, compat_mmap2(COMPAT_ADDRESS >> 12,
				       MAP_REFPAGE << 1));
	EXPECT_EQ(-EINVAL, compat_mmap2(COMPAT_ADDRESS >> 12,
					MAP_REFPAGE | MAP_ANONYMOUS));
}

/*
 * The oldest mmap() has its arguments in memory, and the offset in bytes.
 * Catches a call that is forgotten.
 */
TEST_F(one_call, compat_old_mmap)
{
	struct compat_mmap_args *args = compat_source((void *)0x30000000UL);
	unsigned char *page = compat_source((void *)COMPAT_ADDRESS);

	*args = (struct compat_mmap_args){
		.len = bytes(PAGES), .prot = RW,
		.flags = MAP_PRIVATE | MAP_REFPAGE, .fd = -1,
		.offset = COMPAT_ADDRESS,
	};
	check_compat(_metadata, compat_call(COMPAT_MMAP, (long)args, 0, 0, 0, 0,
					    0));
	args->offset += 16;
	EXPECT_EQ(-EINVAL, compat_call(COMPAT_MMAP, (long)args, 0, 0, 0, 0, 0));
	unmap(page, 1);
	args->offset = COMPAT_ADDRESS;
	EXPECT_EQ(-EFAULT, compat_call(COMPAT_MMAP, (long)args, 0, 0, 0, 0, 0));
	unmap(args, 1);
}

/*
 * refpage_create() has the same number, and takes a pointer that is not to be
 * extended by its sign. Catches a table without it.
 */
TEST_F(one_call, compat_create)
{
	for (size_t i = 0; i < ARRAY_SIZE(compat_addresses); i++) {
		unsigned char *page = compat_source(compat_addresses[i]);
		long fd = compat_create(page);

		ASSERT_LE(0, fd) {
			TH_LOG("%s", strerror(-fd));
		}
		unmap(page, 1);
		EXPECT_TRUE(is_mixed(mix(map(fd, PAGES, RW), PAGES)));
		close(fd);
		EXPECT_EQ(-EFAULT, compat_create(page));
	}
}
#endif /* __x86_64__ */

/* -- Fixture: what a process has, of each kind ----------------------------- */

FIXTURE(process)
{
};

FIXTURE_VARIANT(process)
{
	const struct kind *kind;
	bool one_call;
};

FIXTURE_VARIANT_ADD(process, anon)
{
	.kind = &kind_anon,
};

FIXTURE_VARIANT_ADD(process, byte)
{
	.kind = &kind_byte,
};

FIXTURE_VARIANT_ADD(process, page)
{
	.kind = &kind_page,
};

FIXTURE_VARIANT_ADD(process, one_call)
{
	.kind = &kind_uniform_page, .one_call = true,
};

FIXTURE_SETUP(process)
{
	const char *why = prepare_small(variant->kind);

	if (!why && variant->one_call)
		why = find_one_call();
	if (why)
		SKIP(return, "%s", why);
	one_call = variant->one_call;
}

FIXTURE_TEARDOWN(process)
{
	EXPECT_TRUE(finish());
}

/* New mappings are as good as those that were there before. */
static bool can_map(void)
{
	unsigned char *p = mixed();
	bool good = is_mixed(p);

	unmap(p, PAGES);
	return good;
}

/* -- madvise -------------------------------------------------------------- */

/*
 * A child finds memory that was never stored to, and so does its child. Catches
 * zeros, private pages of the parent, and a flag that is lost on the way.
 */
TEST_F(process, wipeonfork)
{
	unsigned char *p = mixed();
	pid_t pid;

	advise(p, PAGES, MADV_WIPEONFORK);
	EXPECT_TRUE(has_vm_flag(p, " wf"));
	EXPECT_TRUE(is_mixed(p));
	pid = fork_child();
	if (!pid) {
		EXPECT_EQ(0, smaps_pages(p, "Rss:"));
		EXPECT_TRUE(is_content(p, PAGES));
		EXPECT_TRUE(is_mixed(mix(p, PAGES)));
		pid = fork();
		if (!pid) {
			EXPECT_TRUE(is_content(p, PAGES));
			_exit(0);
		}
		EXPECT_TRUE(child_passed(pid));
		EXPECT_TRUE(is_mixed(p));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_mixed(p));
	memset(p, 0x29, bytes(PAGES));
	pid = fork_child();
	if (!pid) {
		EXPECT_TRUE(is_content(p, PAGES));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
}

/*
 * It concerns the range that it was given for, until MADV_KEEPONFORK. Catches a
 * whole mapping that is wiped, and one that is wiped for good.
 */
TEST_F(process, keeponfork)
{
	unsigned char *p = mixed(), *middle = p + bytes(4);
	pid_t pid;

	advise(middle, 8, MADV_WIPEONFORK);
	EXPECT_EQ(3, count_vmas(p, PAGES, NULL));
	pid = fork_child();
	if (!pid) {
		EXPECT_TRUE(is_mixed_part(p, 0, 4));
		EXPECT_TRUE(is_content(middle, 8));
		EXPECT_TRUE(is_mixed_part(p, 12, PAGES));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));

	advise(p, PAGES, MADV_KEEPONFORK);
	EXPECT_FALSE(has_vm_flag(middle, " wf"));
	EXPECT_EQ(1, count_vmas(p, PAGES, NULL));
	pid = fork_child();
	if (!pid) {
		EXPECT_TRUE(is_mixed(p));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_mixed(p));
}

/*
 * The same for memory that is locked, protected, or swapped out when the
 * process forks. Catches a page of the parent's that is copied because of its
 * state.
 */
TEST_F(process, wipeonfork_states)
{
	unsigned char *locked = mixed(), *read_only = mixed();
	unsigned char *swapped = mixed();
	pid_t pid;

	if (no_swap())
		SKIP(return, "no swap space");
	advise(locked, PAGES, MADV_WIPEONFORK);
	advise(read_only, PAGES, MADV_WIPEONFORK);
	advise(swapped, PAGES, MADV_WIPEONFORK);
	ASSERT_EQ(0, mlock(locked, bytes(PAGES)));
	ASSERT_EQ(0, mprotect(read_only, bytes(PAGES), PROT_READ));
	ASSERT_TRUE(page_out(swapped, PAGES));
	pid = fork_child();
	if (!pid) {
		EXPECT_TRUE(is_content(locked, PAGES));
		EXPECT_TRUE(is_content(read_only, PAGES));
		EXPECT_EQ(SIGSEGV, signal_of(read_only, STORE));
		EXPECT_TRUE(is_content(swapped, PAGES));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_mixed(locked));
	EXPECT_TRUE(is_mixed(read_only));
	EXPECT_TRUE(is_mixed(swapped));
}

/*
 * A child does not have what is not for it. Catches a mapping that is there
 * with its content, since that needs no page of the parent.
 */
TEST_F(process, dontfork)
{
	unsigned char *p = mixed();
	pid_t pid;

	advise(p, PAGES, MADV_DONTFORK);
	EXPECT_EQ(SIGSEGV, signal_of(p, LOAD));
	EXPECT_EQ(SIGSEGV, signal_of(p + bytes(2), STORE));
	EXPECT_TRUE(is_mixed(p));
	advise(p, PAGES, MADV_DOFORK);
	pid = fork_child();
	if (!pid) {
		EXPECT_TRUE(is_mixed(p));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
}

/*
 * A core leaves out what it was told to leave out. Catches memory that is
 * dumped because it has content without anybody storing to it.
 */
TEST_F(process, dontdump)
{
	unsigned char *p = mixed(), *q = mixed(), *r = mixed(), *core, *found;

	if (access(CORE_PATTERN, W_OK))
		SKIP(return, "no core dumps");
	advise(q, PAGES, MADV_DONTDUMP);
	advise(r, PAGES, MADV_DONTDUMP);
	advise(r, PAGES, MADV_DODUMP);
	EXPECT_TRUE(has_vm_flag(q, " dd"));
	EXPECT_FALSE(has_vm_flag(r, " dd"));
	core = dump_core();
	ASSERT_NE(NULL, core);
	found = core_find(core, p, PAGES);
	ASSERT_NE(NULL, found);
	EXPECT_TRUE(is_mixed(found));
	EXPECT_EQ(NULL, core_find(core, q, 1));
	found = core_find(core, r, PAGES);
	ASSERT_NE(NULL, found);
	EXPECT_TRUE(is_mixed(found));
	EXPECT_TRUE(is_mixed(q));
}

/*
 * /proc/PID/coredump_filter has a bit for this memory, that of anonymous
 * memory. Catches memory that is dumped with files, and without a bit.
 */
TEST_F(process, coredump_filter)
{
	static const char *const filters[] = { "0x1", "0x4", "0x0" };
	unsigned char *p = mixed(), *q = fresh(PAGES, RW), *core;

	if (access(CORE_PATTERN, W_OK))
		SKIP(return, "no core dumps");
	for (size_t i = 0; i < ARRAY_SIZE(filters); i++) {
		ASSERT_TRUE(file_write("/proc/self/coredump_filter",
				       filters[i]));
		core = dump_core();
		ASSERT_NE(NULL, core);
		EXPECT_EQ(!i, !!core_find(core, p, PAGES));
		/* Zeros that nobody stored are left out. */
		EXPECT_EQ(!i && !anon(), !!core_find(core, q, PAGES));
	}
}

/*
 * Locked memory is dropped by those who say that they know. Catches a page that
 * comes back as zeros, and one that stays counted as locked.
 */
TEST_F(process, dontneed_locked)
{
	unsigned char *p = mixed();

	ASSERT_EQ(0, mlock2(p, bytes(PAGES), MLOCK_ONFAULT));
	EXPECT_EQ(-1, madvise(p, bytes(PAGES), MADV_DONTNEED));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, madvise(p, bytes(PAGES), MADV_FREE));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_TRUE(is_mixed(p));
	advise(p, 8, MADV_DONTNEED_LOCKED);
	EXPECT_EQ(4, smaps_pages(p, "Locked:"));
	EXPECT_TRUE(is_content(p, 8));
	EXPECT_TRUE(is_mixed_part(p, 8, PAGES));
	EXPECT_TRUE(is_mixed(mix(p, PAGES)));
	EXPECT_EQ(PAGES / 2, smaps_pages(p, "Locked:"));
	ASSERT_EQ(0, munlock(p, bytes(PAGES)));
	advise(p, PAGES, MADV_DONTNEED_LOCKED);
	EXPECT_TRUE(is_content(p, PAGES));
}

/*
 * There is no file to make a hole in. Catches one in the reference page, and
 * private pages that go with it.
 */
TEST_F(process, remove)
{
	unsigned char *p = mixed();

	EXPECT_EQ(-1, madvise(p, bytes(PAGES), MADV_REMOVE));
	EXPECT_EQ(anon() ? EINVAL : EACCES, errno);
	ASSERT_EQ(0, mlock2(p, bytes(PAGES), MLOCK_ONFAULT));
	EXPECT_EQ(-1, madvise(p, bytes(PAGES), MADV_REMOVE));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_TRUE(is_mixed(p));
}

/*
 * msync() and remap_file_pages() have nothing to do. Catches a file that is
 * asked to write what it has not, and pages of the content in another place.
 */
TEST_F(process, msync_and_remap)
{
	unsigned char *p = mixed();

	EXPECT_EQ(0, msync(p, bytes(PAGES), MS_SYNC));
	EXPECT_EQ(0, msync(p, bytes(PAGES), MS_ASYNC | MS_INVALIDATE));
	EXPECT_EQ(-1, remap_file_pages(p, bytes(4), 0, 4, 0));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_TRUE(is_mixed(p));
	ASSERT_EQ(0, mlock2(p, bytes(PAGES), MLOCK_ONFAULT));
	EXPECT_EQ(-1, msync(p, bytes(PAGES), MS_INVALIDATE));
	EXPECT_EQ(EBUSY, errno);
	EXPECT_TRUE(is_mixed(p));
}

/*
 * Hints change no byte and, where no page is swapped out, no page. Advice that
 * there is not is refused, before anything is done. Catches reading ahead in a
 * file that has no pages.
 */
TEST_F(process, hints)
{
	static const int hints[] = {
		MADV_WILLNEED, MADV_SEQUENTIAL, MADV_RANDOM, MADV_WILLNEED,
		MADV_NORMAL, MADV_COLD, MADV_WILLNEED,
	};
	static const int unknown[] = {
		-1, 5, 6, 7, 27, 99, 104, 1000, INT32_MAX,
	};
	unsigned char *p = mixed();

	for (size_t i = 0; i < ARRAY_SIZE(hints); i++) {
		EXPECT_EQ(0, madvise(p, bytes(PAGES), hints[i])) {
			TH_LOG("advice %d: %m", hints[i]);
		}
		EXPECT_EQ(hints[i] == MADV_SEQUENTIAL, has_vm_flag(p, " sr"));
		EXPECT_EQ(hints[i] == MADV_RANDOM ||
			  (i && hints[i - 1] == MADV_RANDOM),
			  has_vm_flag(p, " rr"));
		EXPECT_EQ(PAGES / 2, count(p, PAGES, PRIVATE));
		EXPECT_TRUE(is_mixed(p));
	}
	for (size_t i = 0; i < ARRAY_SIZE(unknown); i++) {
		EXPECT_EQ(-1, madvise(p, bytes(PAGES), unknown[i]));
		EXPECT_EQ(EINVAL, errno);
	}
	EXPECT_TRUE(is_mixed(p));
}

/*
 * A page that is about to have a memory error moves and keeps its bytes; the
 * one page that all share cannot move, and is refused as the zero page is.
 * Catches a page that the content is put in the place of, and a reference page
 * that is taken from everybody else.
 */
TEST_F(process, soft_offline)
{
	unsigned char *p = mixed(), *page = p + bytes(2);
	unsigned char *untouched = p + psize();
	unsigned long pfn;

	if (access(UNPOISON, W_OK))
		SKIP(return, "no " UNPOISON);
	pfn = pagemap_get_pfn(pagemap_fd, (char *)page);
	EXPECT_EQ(0, madvise(page, psize(), MADV_SOFT_OFFLINE));
	EXPECT_NE(pfn, pagemap_get_pfn(pagemap_fd, (char *)page));
	EXPECT_TRUE(is_mixed(p));
	unpoison(pfn);

	load(untouched);
	ASSERT_EQ(FRESH, page_state(untouched));
	pfn = pagemap_get_pfn(pagemap_fd, (char *)untouched);
	EXPECT_EQ(-1, madvise(untouched, psize(), MADV_SOFT_OFFLINE));
	EXPECT_EQ(EIO, errno);
	EXPECT_EQ(pfn, pagemap_get_pfn(pagemap_fd, (char *)untouched));
	EXPECT_FALSE(page_flags(pfn) & BIT_ULL(KPF_HWPOISON));
	EXPECT_TRUE(is_mixed(p));
	EXPECT_TRUE(is_mixed(mix(p, PAGES)));
	EXPECT_TRUE(can_map());
}

/* -- Overcommit ----------------------------------------------------------- */

/* Pages; what others do meanwhile is much less. */
#define COMMIT_PAGES	((256L << 20) / psize())
#define COMMIT_SLACK	((16L << 20) / psize())

static long meminfo_pages(const char *field)
{
	return file_number("/proc/meminfo", field) * 1024 / psize();
}

static long committed(void)
{
	return meminfo_pages("Committed_AS:");
}

static bool grew_by(long before, long pages)
{
	long grown = committed() - before;

	if (labs(grown - pages) < COMMIT_SLACK)
		return true;
	ksft_print_msg("Committed_AS has grown by %ld and not %ld pages\n",
		       grown, pages);
	return false;
}

/*
 * What may be stored to counts towards the commit limit, to the page, from when
 * it may be until it is unmapped. Catches a mapping that is free because it has
 * a file, and one that is paid for twice.
 */
TEST_F(process, committed)
{
	const long many = COMMIT_PAGES;
	unsigned char *p = reserve(many, 0);
	long before = committed();

	fresh_at(p, many, PROT_READ, MAP_FIXED);
	EXPECT_TRUE(grew_by(before, 0));
	ASSERT_EQ(0, mprotect(p, bytes(many), RW));
	EXPECT_TRUE(grew_by(before, many));
	EXPECT_TRUE(has_vm_flag(p, " ac"));
	ASSERT_EQ(0, mprotect(p, bytes(many), RW));
	EXPECT_TRUE(grew_by(before, many));
	unmap(p, many / 2);
	EXPECT_TRUE(grew_by(before, many / 2));
	unmap(p + bytes(many / 2), many / 2);
	EXPECT_TRUE(grew_by(before, 0));

	p = fresh(many, RW);
	EXPECT_TRUE(grew_by(before, many));
	/* Untouched, it can be given back. */
	ASSERT_EQ(0, mprotect(p, bytes(many), PROT_READ));
	EXPECT_TRUE(grew_by(before, 0));
	ASSERT_EQ(0, mprotect(p, bytes(many), RW));
	mix(p, PAGES);
	/* Stored to, it cannot. */
	ASSERT_EQ(0, mprotect(p, bytes(many), PROT_READ));
	EXPECT_TRUE(grew_by(before, many));
	EXPECT_TRUE(is_mixed(p));
	unmap(p, many);
	EXPECT_TRUE(grew_by(before, 0));
}

/*
 * The same for what replaces, moves, grows and is inherited. Catches a mapping
 * whose price is lost or doubled on the way.
 */
TEST_F(process, committed_elsewhere)
{
	const long many = COMMIT_PAGES;
	unsigned char *p = fresh(many, RW), *to = reserve(2 * many, 0);
	long before = committed() - many;
	pid_t pid;

	fresh_at(p, many, RW, MAP_FIXED);
	EXPECT_TRUE(grew_by(before, many));
	ASSERT_EQ(to, mremap(p, bytes(many), bytes(2 * many),
			     MREMAP_MAYMOVE | MREMAP_FIXED, to));
	EXPECT_TRUE(grew_by(before, 2 * many));
	pid = fork_child();
	if (!pid) {
		EXPECT_TRUE(grew_by(before, 4 * many));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(grew_by(before, 2 * many));
	ASSERT_EQ(to, mremap(to, bytes(2 * many), bytes(many), 0));
	EXPECT_TRUE(grew_by(before, many));
	unmap(to, many);
	EXPECT_TRUE(grew_by(before, 0));
}

/* Is memory of this size allowed, or refused with ENOMEM? */
static bool allowed(long pages, int prot, int flags)
{
	int err = map_error(try_map(NULL, bytes(pages), prot, flags),
			    bytes(pages));

	if (err && err != ENOMEM)
		die("mmap");
	return !err;
}

static long memory_and_swap(void)
{
	return meminfo_pages("MemTotal:") + meminfo_pages("SwapTotal:");
}

/*
 * In mode 0, what is obviously too much is refused, if it may be stored to and
 * MAP_NORESERVE does not say that it will not all be. Catches a limit that
 * files do not have.
 */
TEST_F(process, overcommit_guess)
{
	const long many = memory_and_swap() + 1;
	unsigned char *p;
	long before;

	set(OVERCOMMIT, "0");
	EXPECT_TRUE(allowed(many / 2, RW, 0));
	EXPECT_FALSE(allowed(many, RW, 0));
	EXPECT_TRUE(allowed(many, PROT_READ, 0));
	EXPECT_TRUE(allowed(many, RW, MAP_NORESERVE));

	before = committed();
	p = fresh_at(NULL, many, RW, MAP_NORESERVE);
	EXPECT_TRUE(grew_by(before, 0));
	EXPECT_TRUE(has_vm_flag(p, " nr"));
	EXPECT_FALSE(has_vm_flag(p, " ac"));
	EXPECT_TRUE(is_mixed(mix(p, PAGES)));
	EXPECT_TRUE(is_content(p + bytes(many - 1), 1));
	unmap(p, many);

	p = fresh_at(NULL, many, PROT_READ, 0);
	EXPECT_EQ(-1, mprotect(p, bytes(many), RW));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_EQ(0, mprotect(p, bytes(many / 2), RW));
	unmap(p, many);
}

/*
 * In mode 1, nothing is refused, and all is counted. Catches memory that is
 * counted where it is checked, only.
 */
TEST_F(process, overcommit_always)
{
	const long many = 4 * memory_and_swap();
	unsigned char *p;
	long before;

	set(OVERCOMMIT, "1");
	before = committed();
	p = fresh_at(NULL, many, RW, 0);
	EXPECT_TRUE(grew_by(before, many));
	EXPECT_TRUE(is_mixed(mix(p, PAGES)));
	EXPECT_TRUE(is_content(p + bytes(many - 1), 1));
	unmap(p, many);
	EXPECT_TRUE(grew_by(before, 0));
	p = fresh_at(NULL, many, RW, MAP_NORESERVE);
	EXPECT_TRUE(grew_by(before, 0));
	unmap(p, many);
}

/*
 * In mode 2, the sum of what may be stored to has a limit, and MAP_NORESERVE
 * is no way around it. Catches memory that is outside of the sum: the limit
 * would be worth nothing.
 */
TEST_F(process, overcommit_never)
{
	unsigned char *p;
	long limit;
	pid_t pid;

	set(OVERCOMMIT_RATIO, "50");
	set(OVERCOMMIT, "2");
	limit = meminfo_pages("CommitLimit:");
	EXPECT_FALSE(allowed(limit, RW, 0));
	EXPECT_FALSE(allowed(limit, RW, MAP_NORESERVE));
	EXPECT_FALSE(allowed(limit, PROT_WRITE, 0));
	EXPECT_TRUE(allowed(limit, PROT_READ, 0));
	EXPECT_TRUE(allowed(limit, PROT_NONE, 0));
	EXPECT_TRUE(allowed(limit / 2, RW, MAP_NORESERVE));

	p = fresh(limit / 2, RW);
	EXPECT_FALSE(allowed(limit / 2, RW, 0));
	EXPECT_TRUE(allowed(limit / 4, RW, 0));
	EXPECT_TRUE(is_mixed(mix(p, PAGES)));
	/* A child would be too much, and so would growth. */
	pid = fork();
	if (!pid)
		_exit(0);
	EXPECT_EQ(-1, pid);
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_EQ(MAP_FAILED, mremap(p, bytes(limit / 2), bytes(limit),
				     MREMAP_MAYMOVE));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_TRUE(is_mixed(p));
	unmap(p, limit / 2);

	/* What is taken by MAP_NORESERVE counts. */
	p = fresh_at(NULL, limit / 2, RW, MAP_NORESERVE);
	EXPECT_FALSE(allowed(limit / 2, RW, 0));
	unmap(p, limit / 2);

	p = fresh(limit, PROT_READ);
	EXPECT_EQ(-1, mprotect(p, bytes(limit), RW));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_EQ(0, mprotect(p, bytes(limit / 4), RW));
	EXPECT_TRUE(is_mixed(mix(p, PAGES)));
	unmap(p, limit);
}

/* -- Limits of a process -------------------------------------------------- */

/*
 * Address space is address space, whatever may be done there. Catches mappings
 * that are not counted, and content that counts on top.
 */
TEST_F(process, rlimit_as)
{
	long before = status_bytes("VmSize:");
	unsigned char *p = try_map(NULL, bytes(64), RW, 0);

	EXPECT_EQ(before + bytes(64), status_bytes("VmSize:"));
	unmap(p, 64);
	set_limit(RLIMIT_AS, status_bytes("VmSize:") + bytes(63));
	EXPECT_FALSE(allowed(64, RW, 0));
	EXPECT_FALSE(allowed(64, RW, MAP_NORESERVE));
	EXPECT_FALSE(allowed(64, PROT_READ, 0));
	EXPECT_FALSE(allowed(64, PROT_NONE, 0));
	EXPECT_TRUE(allowed(32, RW, 0));
}

/*
 * Data is what may be stored to, privately. Catches a heap in refpage mappings
 * that RLIMIT_DATA does not see.
 */
TEST_F(process, rlimit_data)
{
	long before = status_bytes("VmData:");
	unsigned char *p = fresh(64, RW);

	EXPECT_EQ(before + bytes(64), status_bytes("VmData:"));
	ASSERT_EQ(0, mprotect(p, bytes(64), PROT_READ));
	EXPECT_EQ(before, status_bytes("VmData:"));
	set_limit(RLIMIT_DATA, before + bytes(63));
	EXPECT_FALSE(allowed(64, RW, 0));
	EXPECT_FALSE(allowed(64, RW, MAP_NORESERVE));
	EXPECT_TRUE(allowed(64, PROT_READ, 0));
	EXPECT_EQ(-1, mprotect(p, bytes(64), RW));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_EQ(0, mprotect(p, bytes(32), RW));
	EXPECT_TRUE(is_mixed(mix(p, PAGES)));
}

/*
 * Locked memory is limited by its length, touched or not. Catches a limit that
 * counts pages which the reference page is not one of.
 */
TEST_F(process, rlimit_memlock)
{
	unsigned char *p = fresh(64, RW), *q = fresh(64, PROT_READ);
	pid_t pid = fork_child();

	if (!pid) {
		become_nobody();
		set_limit(RLIMIT_MEMLOCK, bytes(32));
		EXPECT_EQ(-1, mlock(p, bytes(33)));
		EXPECT_EQ(ENOMEM, errno);
		EXPECT_EQ(-1, mlock(q, bytes(33)));
		EXPECT_EQ(ENOMEM, errno);
		EXPECT_EQ(MAP_FAILED, try_map(NULL, bytes(33), RW, MAP_LOCKED));
		EXPECT_EQ(EAGAIN, errno);
		EXPECT_EQ(0, mlock(p, bytes(16)));
		EXPECT_EQ(0, mlock(q, bytes(16)));
		EXPECT_EQ(bytes(32), status_bytes("VmLck:"));
		EXPECT_EQ(-1, mlock2(p + bytes(16), psize(), MLOCK_ONFAULT));
		EXPECT_EQ(ENOMEM, errno);
		EXPECT_EQ(0, munlock(q, bytes(16)));
		EXPECT_EQ(0, munlock(p, bytes(16)));
		EXPECT_EQ(0, status_bytes("VmLck:"));
		EXPECT_TRUE(is_mixed(mix(p, PAGES)));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
}

/*
 * All of a process is locked, what it has and what it will have. Catches
 * mappings that are exempt because they have a file.
 */
TEST_F(process, mlockall)
{
	unsigned char *p = mixed(), *q = fresh(PAGES, PROT_READ), *r;

	ASSERT_EQ(0, mlockall(MCL_CURRENT));
	EXPECT_EQ(PAGES, smaps_pages(p, "Locked:"));
	EXPECT_EQ(0, smaps_pages(q, "Rss:"));
	EXPECT_TRUE(is_mixed(p));
	EXPECT_TRUE(is_content(q, PAGES));
	r = fresh(PAGES, RW);
	EXPECT_EQ(0, smaps_pages(r, "Rss:"));

	ASSERT_EQ(0, mlockall(MCL_CURRENT | MCL_FUTURE));
	EXPECT_EQ(PAGES, smaps_pages(r, "Locked:"));
	EXPECT_TRUE(is_content(r, PAGES));
	p = fresh(PAGES, RW);
	EXPECT_EQ(PAGES, smaps_pages(p, "Locked:"));
	EXPECT_TRUE(is_content(p, PAGES));
	ASSERT_EQ(0, munlockall());
	EXPECT_EQ(0, smaps_pages(p, "Locked:"));
	EXPECT_TRUE(is_mixed(mix(p, PAGES)));
}

/*
 * With MCL_ONFAULT, private pages are locked as they come. Catches mappings
 * that are populated in full, which is what the flag is to prevent.
 */
TEST_F(process, mlockall_onfault)
{
	unsigned char *p = mixed(), *q;

	ASSERT_EQ(0, mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT));
	EXPECT_EQ(PAGES / 2, smaps_pages(p, "Locked:"));
	EXPECT_TRUE(is_mixed(p));
	q = fresh(PAGES, RW);
	EXPECT_EQ(0, smaps_pages(q, "Rss:"));
	EXPECT_TRUE(is_mixed(mix(q, PAGES)));
	EXPECT_EQ(PAGES / 2, smaps_pages(q, "Locked:"));
	ASSERT_EQ(0, munlockall());
}

/* -- mseal ---------------------------------------------------------------- */

static bool seal(void *p, size_t pages)
{
	return !syscall(__NR_mseal, p, bytes(pages), 0);
}

static void check_sealed(struct __test_metadata *_metadata, unsigned char *p)
{
	const size_t len = bytes(PAGES);

	EXPECT_EQ(-1, munmap(p, len));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, munmap(p + psize(), psize()));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, mprotect(p, psize(), PROT_NONE));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(MAP_FAILED, mremap(p, len, 2 * len, MREMAP_MAYMOVE));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(MAP_FAILED, mremap(p, len, psize(), 0));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(MAP_FAILED, try_map(p, len, RW, MAP_FIXED));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(MAP_FAILED, mmap(p, len, RW, MAP_PRIVATE | MAP_ANONYMOUS |
				   MAP_FIXED, -1, 0));
	EXPECT_EQ(EPERM, errno);
}

/*
 * A sealed mapping cannot be changed, removed or replaced. What may be stored
 * to may also be dropped. Catches a seal that anonymous memory only has.
 */
TEST_F(process, mseal_writable)
{
	unsigned char *p = mixed();

	if (!seal(p, PAGES))
		SKIP(return, "no mseal()");
	check_sealed(_metadata, p);
	EXPECT_TRUE(is_mixed(p));
	advise(p, 4, MADV_DONTNEED);
	EXPECT_TRUE(is_content(p, 4));
	EXPECT_TRUE(is_mixed_part(p, 4, PAGES));
	EXPECT_EQ(0, madvise(p, bytes(PAGES), MADV_FREE));
	EXPECT_TRUE(is_mixed(mix(p, PAGES)));
}

/*
 * A sealed mapping that is read-only keeps its data against every advice that
 * discards it; other advice is free. Catches a file, whose data could be read
 * again; this could not.
 */
TEST_F(process, mseal_read_only)
{
	static const int discard[] = {
		MADV_DONTNEED, MADV_FREE, MADV_DONTNEED_LOCKED, MADV_REMOVE,
		MADV_DONTFORK, MADV_WIPEONFORK, MADV_GUARD_INSTALL,
	};
	static const int harmless[] = {
		MADV_NORMAL, MADV_RANDOM, MADV_WILLNEED, MADV_COLD,
		MADV_DONTDUMP, MADV_POPULATE_READ, MADV_GUARD_REMOVE,
	};
	unsigned char *p = mixed();
	/* The control may run on a kernel that has none. */
	bool no_guards = madvise(p, bytes(PAGES), MADV_GUARD_REMOVE) && anon();

	ASSERT_EQ(0, mprotect(p, bytes(PAGES), PROT_READ));
	if (!seal(p, PAGES))
		SKIP(return, "no mseal()");
	check_sealed(_metadata, p);
	for (size_t i = 0; i < ARRAY_SIZE(discard) - no_guards; i++) {
		EXPECT_EQ(-1, madvise(p, bytes(PAGES), discard[i])) {
			TH_LOG("advice %d", discard[i]);
		}
		EXPECT_EQ(EPERM, errno);
		EXPECT_TRUE(is_mixed(p));
	}
	for (size_t i = 0; i < ARRAY_SIZE(harmless) - no_guards; i++) {
		EXPECT_EQ(0, madvise(p, bytes(PAGES), harmless[i])) {
			TH_LOG("advice %d: %m", harmless[i]);
		}
		EXPECT_TRUE(is_mixed(p));
	}
}

/*
 * Part of a mapping may be sealed, and a child has the seal. Catches one that
 * is on all of it, or lost with the copy.
 */
TEST_F(process, mseal_part)
{
	unsigned char *p = mixed();
	pid_t pid;

	if (!seal(p + bytes(4), 4))
		SKIP(return, "no mseal()");
	EXPECT_EQ(3, count_vmas(p, PAGES, NULL));
	pid = fork_child();
	if (!pid) {
		EXPECT_EQ(-1, munmap(p + bytes(4), psize()));
		EXPECT_EQ(EPERM, errno);
		EXPECT_TRUE(is_mixed(p));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	unmap(p, 4);
	unmap(p + bytes(8), PAGES - 8);
	EXPECT_TRUE(is_mixed_part(p, 4, 8));
}

/* -- Privileges ----------------------------------------------------------- */

/* A new descriptor, if the variant has one, and a new mapping are good. */
static bool can_create(void)
{
	unsigned char *p;
	bool good;
	int fd;

	if (anon())
		return can_map();
	fd = refpage_create(content, 0);
	if (fd < 0)
		return false;
	p = mix(map(fd, PAGES, RW), PAGES);
	close(fd);
	good = is_mixed(p);
	advise(p, PAGES, MADV_DONTNEED);
	good &= is_content(p, PAGES);
	unmap(p, PAGES);
	return good && can_map();
}

/* What becomes of these calls, and what of all others. */
static void filter_calls(const int *calls, size_t nr_calls, __u32 these,
			 __u32 others)
{
	struct sock_filter filter[32];
	struct sock_fprog program = { .filter = filter };
	size_t len = 0;

	filter[len++] = (struct sock_filter)
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
			 offsetof(struct seccomp_data, nr));
	for (size_t i = 0; i < nr_calls; i++) {
		filter[len++] = (struct sock_filter)
			BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], 0, 1);
		filter[len++] = (struct sock_filter)
			BPF_STMT(BPF_RET | BPF_K, these);
	}
	filter[len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, others);
	program.len = len;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
		die("seccomp");
}

/*
 * A filter may forbid the call; what was made before is as it was, and
 * MAP_REFPAGE is a flag of mmap(), as which a filter may tell it. Catches
 * faults that look at who may make descriptors.
 */
TEST_F(process, seccomp_denied)
{
	static const int denied[] = { __NR_refpage_create };
	unsigned char *p = mixed();
	pid_t pid = fork_child();

	if (!pid) {
		filter_calls(denied, ARRAY_SIZE(denied),
			     SECCOMP_RET_ERRNO | EPERM, SECCOMP_RET_ALLOW);
		EXPECT_EQ(-1, refpage_create(content, 0));
		EXPECT_EQ(EPERM, errno);
		EXPECT_TRUE(is_mixed(p));
		EXPECT_TRUE(can_map());
		advise(p, PAGES, MADV_DONTNEED);
		EXPECT_TRUE(is_mixed(mix(p, PAGES)));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
}

/*
 * A program that may make a few calls only may have this among them. Catches
 * another system call that it would be filtered as.
 */
TEST_F(process, seccomp_allowed)
{
	static const int allowed[] = {
		__NR_refpage_create, __NR_mmap, __NR_munmap, __NR_madvise,
		__NR_close, __NR_write, __NR_exit_group,
	};
	pid_t pid;

	altered(0, 1);	/* allocates */
	pid = fork_child();
	if (!pid) {
		filter_calls(allowed, ARRAY_SIZE(allowed), SECCOMP_RET_ALLOW,
			     SECCOMP_RET_KILL_PROCESS);
		EXPECT_TRUE(can_create());
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
}

/*
 * A program that may do nothing but compute can use the memory that it has.
 * Catches a fault that ends in what only a system call may do.
 */
TEST_F(process, seccomp_strict)
{
	unsigned char *p = mixed(), *q = fresh(PAGES, RW);
	pid_t pid;

	altered(0, 1);
	pid = fork();
	if (!pid) {
		bool good;

		if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
			die("seccomp");
		good = is_mixed(p) && is_content(q, PAGES);
		store_pages(q, PAGES);
		good &= is_stored(q, PAGES);
		syscall(__NR_exit, !good);
	}
	EXPECT_TRUE(child_passed(pid));
}

/*
 * Nobody needs privileges for this. Catches a check that a test by root does
 * not meet.
 */
TEST_F(process, unprivileged)
{
	unsigned char *p = mixed();
	pid_t pid = fork();

	if (!pid) {
		become_nobody();
		EXPECT_TRUE(is_mixed(p));
		EXPECT_TRUE(can_create());
		EXPECT_EQ(0, prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
		EXPECT_TRUE(can_create());
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_mixed(p));
}

/*
 * The same in a user namespace of its own, in which the file system of the
 * descriptors is not owned by anybody. Catches inodes with an owner that cannot
 * be represented there.
 */
TEST_F(process, user_namespace)
{
	unsigned char *p = mixed();
	pid_t pid = fork();

	if (!pid) {
		become_nobody();
		if (unshare(CLONE_NEWUSER | CLONE_NEWNS))
			die("unshare");
		EXPECT_TRUE(is_mixed(p));
		EXPECT_TRUE(can_create());
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
}

/* -- Address spaces with several tasks ------------------------------------ */

/*
 * What a child of vfork() stores, its parent sees. Catches a child that is
 * given copies.
 */
TEST_F(process, vfork)
{
	unsigned char *p = mixed(), *q = fresh(PAGES, RW);
	pid_t pid = vfork();

	if (!pid) {
		store_pages(q, PAGES);
		memset(p, 0x47, bytes(PAGES));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_byte(p, 0x47, bytes(PAGES)));
	EXPECT_TRUE(is_stored(q, PAGES));
}

static struct {
	unsigned char *p;
	unsigned char *q;
	uintptr_t local;
} shared;

static int share_memory(void *arg)
{
	store_pages(shared.p, PAGES);
	shared.q = mixed();
	return !!arg;
}

/*
 * The same for a process that shares the address space for longer, makes a
 * mapping there, and has its stack and the words that clone() stores in such
 * memory. Catches a mapping that goes with the process that made it, and stores
 * by the kernel at its end that miss the content.
 */
TEST_F(process, clone_vm)
{
	const size_t pages = 64;
	unsigned char *stack = fresh(pages, RW), *words = fresh(2, RW);
	pid_t *ptid = (pid_t *)words, *ctid = (pid_t *)(words + psize());
	pid_t pid;

	shared.p = fresh(PAGES, RW);
	pid = clone(share_memory, stack + bytes(pages),
		    CLONE_VM | CLONE_PARENT_SETTID | CLONE_CHILD_CLEARTID |
		    SIGCHLD, NULL, ptid, NULL, ctid);
	ASSERT_LT(0, pid);
	EXPECT_TRUE(child_passed(pid));
	EXPECT_EQ(pid, *ptid);
	EXPECT_EQ(0, *ctid);
	for (size_t i = 0; i < 2; i++)
		EXPECT_TRUE(same(words + bytes(i) + sizeof(pid),
				 content + sizeof(pid), psize() - sizeof(pid)));
	EXPECT_TRUE(is_content(stack, 1));
	EXPECT_TRUE(is_stored(shared.p, PAGES));
	EXPECT_TRUE(is_mixed(shared.q));
}

static void *share_with_thread(void *arg)
{
	share_memory(NULL);
	return arg;
}

/* The same for a thread, which all of its process has the mappings of. */
TEST_F(process, thread)
{
	pthread_t thread;

	shared.p = fresh(PAGES, RW);
	ASSERT_EQ(0, pthread_create(&thread, NULL, share_with_thread, NULL));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_TRUE(is_stored(shared.p, PAGES));
	EXPECT_TRUE(is_mixed(shared.q));
}

static void use_stack(int signal)
{
	unsigned char local[3 * 4096];

	for (size_t i = 0; i < sizeof(local); i += 64)
		__atomic_store_n(local + i, signal, __ATOMIC_RELAXED);
	shared.local = (uintptr_t)local;
	for (size_t i = 0; i < sizeof(local); i += 64) {
		if (load(local + i) != signal)
			_exit(1);
	}
}

static void *use_thread_stack(void *arg)
{
	use_stack(7);
	return arg;
}

static bool was_used(const unsigned char *p, size_t pages)
{
	uintptr_t first = (uintptr_t)p, last = first + bytes(pages);

	return first < shared.local && shared.local < last && is_content(p, 1);
}

/*
 * Such memory is a stack, of a signal handler or a thread, as good as any.
 * Catches a frame that the kernel stores, and around which the content is lost.
 */
TEST_F(process, stack)
{
	const size_t pages = 64;
	unsigned char *p = fresh(pages, RW), *q = fresh(pages, RW);
	stack_t stack = { .ss_sp = p, .ss_size = bytes(pages) };
	struct sigaction action = {
		.sa_handler = use_stack, .sa_flags = SA_ONSTACK,
	};
	pthread_attr_t attr;
	pthread_t thread;

	ASSERT_EQ(0, sigaltstack(&stack, NULL));
	ASSERT_EQ(0, sigaction(SIGUSR1, &action, NULL));
	ASSERT_EQ(0, raise(SIGUSR1));
	EXPECT_TRUE(was_used(p, pages));

	ASSERT_EQ(0, pthread_attr_init(&attr));
	ASSERT_EQ(0, pthread_attr_setstack(&attr, q, bytes(pages)));
	ASSERT_EQ(0, pthread_create(&thread, &attr, use_thread_stack, NULL));
	ASSERT_EQ(0, pthread_join(thread, NULL));
	EXPECT_TRUE(was_used(q, pages));
}

/*
 * exec() leaves no mapping. Catches one that is in the new program, as its file
 * is no file of the old one.
 */
TEST_F(process, execve)
{
	char *const argv[] = { "refpage-process", NULL };
	char *const envp[] = { "REFPAGE_EXEC=", NULL };
	unsigned char *p = mixed();
	pid_t pid = fork();

	if (!pid) {
		execve("/proc/self/exe", argv, envp);
		die("execve");
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_mixed(p));
}

/* What is wrong with the descriptor that was inherited, as a number; or 0 */
static int check_inherited(int fd, int byte)
{
	unsigned char *p = map(fd, PAGES, RW);
	char path[32], name[64];

	if (fcntl(fd, F_GETFD) || load(p) != byte ||
	    load(p + bytes(PAGES) - 1) != load(p + psize() - 1))
		return 2;
	p[psize()] = ~byte;
	if (load(p + psize() + 1) != load(p + 1))
		return 3;
	close(fd);
	/* There is no other. */
	for (fd = 3; fd < 64; fd++) {
		ssize_t len;

		sprintf(path, "/proc/self/fd/%d", fd);
		len = readlink(path, name, sizeof(name) - 1);
		name[len < 0 ? 0 : len] = 0;
		if (!strcmp(name, "anon_inode:[refpage]"))
			return 4;
	}
	return 0;
}

/*
 * The program that is executed: a descriptor that it has inherited can be
 * mapped, one that is close-on-exec is closed, and nothing is mapped.
 */
static void __attribute__((constructor)) executed(void)
{
	const char *text = getenv("REFPAGE_EXEC");
	char name[64] = "anon_inode:[refpage]";
	int fd, byte;
	size_t len;

	if (!text)
		return;
	if (find_vma(NULL, name, &len))
		_exit(1);
	if (sscanf(text, "%d %d", &fd, &byte) == 2)
		_exit(check_inherited(fd, byte));
	_exit(0);
}

/* -- Fixture: a descriptor ------------------------------------------------ */

FIXTURE(descriptor)
{
	int fd;
};

FIXTURE_VARIANT(descriptor)
{
	const struct kind *kind;
};

FIXTURE_VARIANT_ADD(descriptor, byte)
{
	.kind = &kind_byte,
};

FIXTURE_VARIANT_ADD(descriptor, page)
{
	.kind = &kind_page,
};

FIXTURE_SETUP(descriptor)
{
	const char *why = prepare_small(variant->kind);

	if (why)
		SKIP(return, "%s", why);
	self->fd = memory_fd;
}

/* Nothing that was done to the descriptor has done anything to its mappings. */
FIXTURE_TEARDOWN(descriptor)
{
	EXPECT_TRUE(can_map());
	EXPECT_TRUE(finish());
}

/* A descriptor of the content, with a page of its own. */
static int new_descriptor(void)
{
	int fd = refpage_create(content, REFPAGE_PATTERN_SIZE(pshift()));

	if (fd < 0)
		die("refpage_create");
	return fd;
}

static bool maps(int fd)
{
	unsigned char *p = mix(map(fd, PAGES, RW), PAGES);
	bool good = is_mixed(p);

	unmap(p, PAGES);
	return good;
}

/*
 * Who is given a descriptor can map it, whatever else that process may do, and
 * its mapping is its own. Catches a check of who made it, or of the mode of its
 * inode: what mincore() tells and MADV_PAGEOUT does would depend on that, as
 * for files.
 */
TEST_F(descriptor, given_to_nobody)
{
	int sockets[2];
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	pid = fork_child();
	if (!pid) {
		unsigned char vec[PAGES], *p;
		int fd;

		close(self->fd);
		become_nobody();
		fd = pass_fd(sockets[0], -1);
		EXPECT_TRUE(maps(fd));
		p = map(fd, PAGES, RW);
		store_pages(p, 4);
		EXPECT_EQ(0, mincore(p, bytes(PAGES), vec));
		for (size_t i = 0; i < PAGES; i++)
			EXPECT_EQ(i < 4, vec[i] & 1);
		if (!no_swap())
			EXPECT_TRUE(page_out(p, 4));
		EXPECT_TRUE(is_stored(p, 4));
		EXPECT_EQ(-1, write(fd, content, 1));
		EXPECT_EQ(-1, fchmod(fd, 0777));
		EXPECT_EQ(EPERM, errno);
		_exit(0);
	}
	pass_fd(sockets[1], new_descriptor());
	EXPECT_TRUE(child_passed(pid));
}

/*
 * A descriptor outlives its maker, on its way to somebody else. Catches content
 * that goes with the process that made it.
 */
TEST_F(descriptor, maker_is_gone)
{
	int sockets[2], fd;
	pid_t pid;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	pid = fork();
	if (!pid) {
		pass_fd(sockets[0], new_descriptor());
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	fd = pass_fd(sockets[1], -1);
	EXPECT_TRUE(maps(fd));
}

/*
 * A tracer can take a descriptor. Catches a file that is found by its process
 * only.
 */
TEST_F(descriptor, pidfd_getfd)
{
	int child[2], parent[2], pidfd, fd;
	pid_t pid;

	ASSERT_EQ(0, pipe(child));
	ASSERT_EQ(0, pipe(parent));
	pid = fork();
	if (!pid) {
		fd = new_descriptor();
		if (dup2(fd, 50) != 50)
			die("dup2");
		tell(parent);
		wait_for(child);
		_exit(0);
	}
	wait_for(parent);
	pidfd = syscall(__NR_pidfd_open, pid, 0);
	ASSERT_LE(0, pidfd);
	fd = syscall(__NR_pidfd_getfd, pidfd, 50, 0);
	ASSERT_LE(0, fd);
	tell(child);
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(maps(fd));
	EXPECT_EQ(FD_CLOEXEC, fcntl(fd, F_GETFD));
	EXPECT_EQ(O_RDONLY, fcntl(fd, F_GETFL) & O_ACCMODE);
}

/* Opening this is refused, however it is tried. */
static void check_unopenable(struct __test_metadata *_metadata,
			     const char *path)
{
	static const int modes[] = {
		O_RDONLY, O_WRONLY, O_RDWR, O_RDWR | O_TRUNC, O_CREAT | O_RDWR,
		O_RDONLY | O_NONBLOCK, O_RDONLY | O_DIRECT,
	};

	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		EXPECT_EQ(-1, open(path, modes[i], 0600)) {
			TH_LOG("%s, flags %#x", path, modes[i]);
		}
	}
	EXPECT_EQ(-1, truncate(path, 0));
}

/*
 * Nobody gets another open file of it, which would have none of the content:
 * not another process, not by the mapping in place of the descriptor, not by
 * way of an O_PATH descriptor, which is harmless. Catches an inode that can be
 * opened.
 */
TEST_F(descriptor, reopen)
{
	char path[80], name[64] = "";
	unsigned long start;
	pid_t pid;
	int fd;

	sprintf(path, "/proc/%d/fd/%d", getpid(), self->fd);
	pid = fork();
	if (!pid) {
		check_unopenable(_metadata, path);
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));

	start = (unsigned long)fresh(PAGES, RW);
	sprintf(path, "/proc/self/map_files/%lx-%lx", start,
		start + bytes(PAGES));
	EXPECT_LT(0, readlink(path, name, sizeof(name) - 1));
	EXPECT_STREQ("anon_inode:[refpage]", name);
	check_unopenable(_metadata, path);

	sprintf(path, "/proc/self/fd/%d", self->fd);
	fd = open(path, O_PATH);
	ASSERT_LE(0, fd);
	EXPECT_EQ(MAP_FAILED,
		  mmap(NULL, psize(), PROT_READ, MAP_PRIVATE, fd, 0));
	EXPECT_EQ(EBADF, errno);
	EXPECT_EQ(-1, openat(fd, "", O_RDONLY));
	sprintf(path, "/proc/self/fd/%d", fd);
	check_unopenable(_metadata, path);
	close(fd);
}

/*
 * It gets no name, and no handle. Catches a file that becomes reachable by
 * path, for those who are not given it.
 */
TEST_F(descriptor, link)
{
	static const char *const dirs[] = { "/tmp", ".", "/dev/shm" };
	struct {
		struct file_handle handle;
		unsigned char space[128];
	} buf = { .handle.handle_bytes = 128 };
	char path[64];
	int mount;

	for (size_t i = 0; i < ARRAY_SIZE(dirs); i++) {
		sprintf(path, "%s/refpage-link", dirs[i]);
		EXPECT_EQ(-1, linkat(self->fd, "", AT_FDCWD, path,
				     AT_EMPTY_PATH));
		EXPECT_EQ(-1, access(path, F_OK));
	}
	sprintf(path, "/proc/self/fd/%d", self->fd);
	EXPECT_EQ(-1, linkat(AT_FDCWD, path, AT_FDCWD, "/tmp/refpage-link",
			     AT_SYMLINK_FOLLOW));
	EXPECT_EQ(-1, access("/tmp/refpage-link", F_OK));
	EXPECT_EQ(-1, name_to_handle_at(self->fd, "", &buf.handle, &mount,
					AT_EMPTY_PATH));
}

/*
 * Root cannot make more of it than a descriptor to map, either: no program, no
 * mount, no disk, no swap. Catches an inode that is taken for a regular file.
 */
TEST_F(descriptor, no_file_system)
{
	const char *target = "/tmp/refpage-target";
	char *const argv[] = { "refpage", NULL };
	int loop = open("/dev/loop0", O_RDONLY);
	char path[32];

	sprintf(path, "/proc/self/fd/%d", self->fd);
	close(open(target, O_CREAT | O_RDWR, 0600));
	EXPECT_EQ(-1, mount(path, target, NULL, MS_BIND, NULL));
	EXPECT_EQ(-1, mount(target, path, NULL, MS_BIND, NULL));
	EXPECT_EQ(-1, umount2(path, 0));
	unlink(target);
	EXPECT_EQ(-1, syscall(__NR_open_tree, self->fd, "",
			      OPEN_TREE_CLONE | AT_EMPTY_PATH));
	EXPECT_EQ(-1, syscall(__NR_execveat, self->fd, "", argv, argv,
			      AT_EMPTY_PATH));
	EXPECT_EQ(-1, syscall(__NR_swapon, path, 0));
	EXPECT_EQ(-1, syscall(__NR_setns, self->fd, 0));
	if (loop >= 0) {
		EXPECT_EQ(-1, ioctl(loop, LOOP_SET_FD, self->fd));
		close(loop);
	}
	syncfs(self->fd);
	for (int advice = 0; advice < 8; advice++)
		posix_fadvise(self->fd, 0, psize(), advice);
	EXPECT_TRUE(maps(self->fd));
}

/*
 * No data goes out or in by the descriptor, whoever carries it. Catches a
 * splice from a page cache that the file does not have, or to it.
 */
TEST_F(descriptor, transfer)
{
	int file = scratch_file(1), other = new_descriptor(), pipes[2];
	struct iovec iov = { content, psize() };

	ASSERT_EQ(0, pipe(pipes));
	ASSERT_EQ(64, write(pipes[1], content, 64));
	EXPECT_EQ(-1, sendfile(file, self->fd, NULL, psize()));
	EXPECT_EQ(-1, sendfile(self->fd, file, NULL, psize()));
	EXPECT_EQ(-1, sendfile(other, self->fd, NULL, psize()));
	EXPECT_EQ(-1, copy_file_range(self->fd, NULL, file, NULL, psize(), 0));
	EXPECT_EQ(-1, copy_file_range(file, NULL, self->fd, NULL, psize(), 0));
	EXPECT_EQ(-1, copy_file_range(self->fd, NULL, other, NULL, psize(), 0));
	EXPECT_EQ(-1, splice(self->fd, NULL, pipes[1], NULL, psize(), 0));
	EXPECT_EQ(-1, splice(pipes[0], NULL, self->fd, NULL, 64, 0));
	EXPECT_EQ(-1, tee(self->fd, pipes[1], 64, 0));
	EXPECT_EQ(-1, vmsplice(self->fd, &iov, 1, 0));
	EXPECT_EQ(-1, preadv2(self->fd, &iov, 1, 0, RWF_NOWAIT));
	EXPECT_EQ(-1, pwritev2(self->fd, &iov, 1, 0, RWF_APPEND));
	EXPECT_EQ(-1, ioctl(self->fd, FICLONE, file));
	EXPECT_EQ(-1, ioctl(file, FICLONE, self->fd));
	EXPECT_EQ(-1, readahead(self->fd, 0, psize()));
	EXPECT_EQ(-1, fsync(self->fd));
	EXPECT_EQ(-1, getdents64(self->fd, content, 0));
	EXPECT_EQ(-1, fchdir(self->fd));
}

/*
 * fcntl() and ioctl() have nothing that is of this file. Catches seals, which
 * would be those of a memfd, and requests that mean something to a regular
 * file.
 */
TEST_F(descriptor, fcntl_and_ioctl)
{
	const unsigned long requests[] = {
		TCGETS, FS_IOC_GETFLAGS, FS_IOC_SETFLAGS, FIGETBSZ, FIBMAP,
		FICLONE, FIFREEZE, FITHAW, BLKGETSIZE64, 0, 0x12345678, ~0UL,
	};
	unsigned char arg[256] = {};

	EXPECT_EQ(-1, fcntl(self->fd, F_ADD_SEALS, F_SEAL_WRITE));
	EXPECT_EQ(-1, fcntl(self->fd, F_GET_SEALS));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(-1, fcntl(self->fd, F_SETPIPE_SZ, psize()));
	EXPECT_EQ(-1, fcntl(self->fd, F_SETLEASE, F_WRLCK));

	/* What it is open for cannot be changed. */
	fcntl(self->fd, F_SETFL, O_RDWR | O_APPEND | O_NONBLOCK);
	EXPECT_EQ(O_RDONLY, fcntl(self->fd, F_GETFL) & O_ACCMODE);
	EXPECT_EQ(-1, write(self->fd, content, 1));

	for (size_t i = 0; i < ARRAY_SIZE(requests); i++) {
		int ret = ioctl(self->fd, requests[i], arg);

		/* The size of a block is that of any file system. */
		if (requests[i] == FIGETBSZ && !ret)
			continue;
		EXPECT_EQ(-1, ret) {
			TH_LOG("request %#lx", requests[i]);
		}
	}
	EXPECT_EQ(-1, ioctl(self->fd, 0x12345678, arg));
	EXPECT_EQ(ENOTTY, errno);
	EXPECT_EQ(-1, ioctl(self->fd, TCGETS, arg));
	EXPECT_EQ(ENOTTY, errno);
}

/*
 * Locks are about the open file and nothing else. Catches a lock that waits for
 * what is mapped.
 */
TEST_F(descriptor, locks)
{
	struct flock lock = { .l_type = F_RDLCK };
	int other = new_descriptor();

	EXPECT_EQ(0, flock(self->fd, LOCK_EX | LOCK_NB));
	EXPECT_EQ(0, flock(other, LOCK_EX | LOCK_NB));
	EXPECT_TRUE(maps(self->fd));
	EXPECT_EQ(0, flock(self->fd, LOCK_UN));
	EXPECT_EQ(0, fcntl(self->fd, F_SETLK, &lock));
	lock.l_type = F_WRLCK;
	EXPECT_EQ(-1, fcntl(self->fd, F_SETLK, &lock));
	EXPECT_EQ(EBADF, errno);
	EXPECT_TRUE(maps(self->fd));
}

/*
 * There is nothing to wait for: poll() does not, and epoll_ctl() says so.
 * Catches a wait without end.
 */
TEST_F(descriptor, poll)
{
	struct pollfd pollfd = { .fd = self->fd, .events = POLLIN | POLLOUT };
	struct epoll_event event = { .events = EPOLLIN };
	int epoll = epoll_create1(EPOLL_CLOEXEC);

	ASSERT_LE(0, epoll);
	EXPECT_EQ(1, poll(&pollfd, 1, 10000));
	EXPECT_EQ(-1, epoll_ctl(epoll, EPOLL_CTL_ADD, self->fd, &event));
	EXPECT_EQ(EPERM, errno);
}

/* -- io_uring ------------------------------------------------------------- */

static struct {
	int fd;
	struct io_uring_params params;
	unsigned char *ring;
	struct io_uring_sqe *sqes;
} uring;

static bool uring_open(void)
{
	struct io_uring_params *params = &uring.params;
	const int flags = MAP_SHARED | MAP_POPULATE;
	size_t len;

	uring.fd = syscall(__NR_io_uring_setup, 4, params);
	if (uring.fd < 0)
		return false;
	len = params->cq_off.cqes +
	      params->cq_entries * sizeof(struct io_uring_cqe);
	uring.ring = mmap(NULL, len, RW, flags, uring.fd, IORING_OFF_SQ_RING);
	uring.sqes = mmap(NULL, params->sq_entries * sizeof(*uring.sqes), RW,
			  flags, uring.fd, IORING_OFF_SQES);
	if (uring.ring == MAP_FAILED || uring.sqes == MAP_FAILED)
		die("mmap of io_uring");
	return true;
}

static unsigned int *uring_word(unsigned int offset)
{
	return (unsigned int *)(uring.ring + offset);
}

/* Submit one request, and wait for it. Returns what came of it. */
static int uring_do(__u8 opcode, int fd, void *addr, unsigned int len)
{
	unsigned int *tail = uring_word(uring.params.sq_off.tail);
	unsigned int *head = uring_word(uring.params.cq_off.head);
	unsigned int mask = *uring_word(uring.params.sq_off.ring_mask);
	unsigned int i = *tail & mask;
	struct io_uring_cqe *cqe;

	memset(&uring.sqes[i], 0, sizeof(uring.sqes[i]));
	uring.sqes[i].opcode = opcode;
	uring.sqes[i].fd = fd;
	uring.sqes[i].addr = (uintptr_t)addr;
	uring.sqes[i].len = len;
	uring_word(uring.params.sq_off.array)[i] = i;
	if (opcode == IORING_OP_POLL_ADD)
		uring.sqes[i].poll32_events = POLLIN;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(__NR_io_uring_enter, uring.fd, 1, 1, IORING_ENTER_GETEVENTS,
		    NULL, 0) != 1)
		die("io_uring_enter");
	cqe = (void *)(uring.ring + uring.params.cq_off.cqes);
	cqe += *head & *uring_word(uring.params.cq_off.ring_mask);
	__atomic_store_n(head, *head + 1, __ATOMIC_RELEASE);
	return cqe->res;
}

/*
 * io_uring has its own way to files. Catches one that takes a file without
 * operations for a file with those of a default.
 */
TEST_F(descriptor, io_uring)
{
	unsigned char *buf = map_anon(1, RW);

	if (!uring_open())
		SKIP(return, "no io_uring");
	EXPECT_EQ(0, uring_do(IORING_OP_NOP, -1, NULL, 0));
	EXPECT_GT(0, uring_do(IORING_OP_READ, self->fd, buf, psize()));
	EXPECT_GT(0, uring_do(IORING_OP_WRITE, self->fd, buf, psize()));
	EXPECT_GT(0, uring_do(IORING_OP_FALLOCATE, self->fd, NULL, 0));
	EXPECT_GT(0, uring_do(IORING_OP_FTRUNCATE, self->fd, NULL, 0));
	EXPECT_GT(0, uring_do(IORING_OP_FSYNC, self->fd, NULL, 0));
	/* Ready at once, or refused */
	uring_do(IORING_OP_POLL_ADD, self->fd, NULL, 0);
	EXPECT_TRUE(is_byte(buf, 0, psize()));
}

/*
 * Buffers that io_uring keeps are pages of the process for long: what is read
 * to them is seen, and what is stored is written. Catches a buffer that is the
 * reference page.
 */
TEST_F(descriptor, io_uring_buffers)
{
	unsigned char *p = fresh(PAGES, RW), *buf = map_anon(PAGES, RW);
	struct iovec iov = { p, bytes(PAGES) };
	int file = scratch_file(PAGES);

	if (!uring_open())
		SKIP(return, "no io_uring");
	load_pages(p, PAGES / 2);
	ASSERT_EQ(0, syscall(__NR_io_uring_register, uring.fd,
			     IORING_REGISTER_BUFFERS, &iov, 1));
	EXPECT_EQ(PAGES, smaps_pages(p, "Anonymous:"));
	for (long step = PAGES; step; step /= 4) {
		ASSERT_EQ(bytes(PAGES), uring_do(IORING_OP_WRITE_FIXED, file, p,
						 bytes(PAGES)));
		ASSERT_EQ(bytes(PAGES), pread(file, buf, bytes(PAGES), 0));
		EXPECT_TRUE(step == PAGES ? is_content(buf, PAGES) :
					    is_marked(buf, PAGES, 4 * step));
		mark(p, PAGES, step);
	}

	memset(buf, 0x6c, bytes(4));
	ASSERT_EQ(bytes(4), pwrite(file, buf, bytes(4), 0));
	ASSERT_EQ(bytes(4), uring_do(IORING_OP_READ_FIXED, file, p, bytes(4)));
	EXPECT_TRUE(is_byte(p, 0x6c, bytes(4)));
	EXPECT_TRUE(is_marked_part(p, 4, PAGES, 1));
	EXPECT_TRUE(is_content(fresh(PAGES, RW), PAGES));
}

/* -- The inode ------------------------------------------------------------ */

/*
 * What stat() tells is true of each descriptor: an empty file of its own, of
 * who made it, on a file system of its own. Catches an inode that all have in
 * common.
 */
TEST_F(descriptor, stat)
{
	int other = new_descriptor();
	struct stat stat, stat2;
	struct statfs fs;

	ASSERT_EQ(0, fstat(self->fd, &stat));
	ASSERT_EQ(0, fstat(other, &stat2));
	EXPECT_EQ(0, stat.st_size);
	EXPECT_EQ(0, stat.st_blocks);
	EXPECT_EQ(1, stat.st_nlink);
	EXPECT_EQ(geteuid(), stat.st_uid);
	EXPECT_EQ(getegid(), stat.st_gid);
	EXPECT_EQ(0, stat.st_mode & 0177);
	EXPECT_FALSE(S_ISDIR(stat.st_mode) || S_ISLNK(stat.st_mode) ||
		     S_ISBLK(stat.st_mode) || S_ISCHR(stat.st_mode));
	EXPECT_EQ(stat.st_dev, stat2.st_dev);
	EXPECT_NE(stat.st_ino, stat2.st_ino);
	ASSERT_EQ(0, fstatfs(self->fd, &fs));
	EXPECT_EQ(REFPAGE_MAGIC, fs.f_type);
	EXPECT_NE(0, fs.f_bsize);
}

/*
 * Mode, owner and times of the inode mean nothing to mappings, and open no way
 * to the content. Catches a descriptor that root can chmod() into a file.
 */
TEST_F(descriptor, chmod_and_chown)
{
	char path[32];
	pid_t pid;

	fchmod(self->fd, 0);
	EXPECT_TRUE(maps(self->fd));
	fchmod(self->fd, 0777);
	fchown(self->fd, NOBODY, NOBODY);
	futimens(self->fd, NULL);
	EXPECT_EQ(-1, fsetxattr(self->fd, "user.refpage", "1", 1, 0));
	EXPECT_TRUE(maps(self->fd));
	EXPECT_EQ(-1, write(self->fd, content, 1));
	EXPECT_EQ(MAP_FAILED, mmap(NULL, psize(), PROT_READ | PROT_EXEC,
				   MAP_PRIVATE, self->fd, 0));
	EXPECT_EQ(EPERM, errno);
	sprintf(path, "/proc/self/fd/%d", self->fd);
	check_unopenable(_metadata, path);

	pid = fork();
	if (!pid) {
		become_nobody();
		check_unopenable(_metadata, path);
		EXPECT_TRUE(maps(self->fd));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
}

/*
 * Duplicates are the same file, whose mappings merge, and each of which is
 * enough. Catches content that goes with the first descriptor that is closed.
 */
TEST_F(descriptor, dup)
{
	int fd = new_descriptor(), copy = dup(fd);
	unsigned char *p = reserve(2 * PAGES, 0);

	map_at(p, fd, PAGES, RW, MAP_FIXED);
	map_at(p + bytes(PAGES), copy, PAGES, RW, MAP_FIXED);
	EXPECT_EQ(1, count_vmas(p, 2 * PAGES, NULL));
	close(fd);
	EXPECT_TRUE(maps(copy));
	EXPECT_EQ(0, fcntl(copy, F_GETFD));
	fd = fcntl(copy, F_DUPFD_CLOEXEC, 40);
	EXPECT_LE(40, fd);
	close(copy);
	unmap(p, 2 * PAGES);
	EXPECT_TRUE(maps(fd));
}

/*
 * exec() closes the descriptor, unless it was told not to; then the new program
 * can map it. Catches a descriptor that is inherited by a program which knows
 * nothing of it.
 */
TEST_F(descriptor, execve)
{
	char text[40], *const argv[] = { "refpage-process", NULL };
	char *const envp[] = { text, NULL };
	int kept = new_descriptor();
	pid_t pid = fork();

	if (!pid) {
		sprintf(text, "REFPAGE_EXEC=%d %d", kept, content[0]);
		if (fcntl(kept, F_SETFD, 0))
			die("fcntl");
		execve("/proc/self/exe", argv, envp);
		die("execve");
	}
	EXPECT_TRUE(child_passed(pid));
}

TEST_HARNESS_MAIN
