// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of refpage_create(2): private memory that is born with content.
 *
 * The property: whatever is done to a mapping, a page of it reads as the
 * content until something is stored there; a store changes the bytes stored to,
 * in one page of one process, and nothing ever changes the reference page. Each
 * test does one thing to a mapping that could break that, and is named after
 * it. What a comment below says to be caught is the mistake in the kernel that
 * makes the test fail.
 *
 * environment:
 *   REFPAGE_ROUNDS      rounds of the lifetime test (100000)
 *   REFPAGE_SECONDS     duration of each race test (3)
 *   REFPAGE_DIRECT_DIR  directory on a file system that has direct I/O (.)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/elf.h>
#include <linux/fs.h>
#include <linux/futex.h>
#include <linux/magic.h>
#include <linux/refpage.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../kselftest_harness.h"
#include "../../../../mm/gup_test.h"
#include "refpage-util.h"

/* Pages of most mappings; no more than a pipe holds. */
#define PAGES	16

static unsigned char *map_mixed(int fd)
{
	return mix(map(fd, PAGES, RW), PAGES);
}

static bool is_mixed(const unsigned char *p, size_t pages)
{
	return is_mixed_part(p, 0, pages);
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
	int byte;		/* all bytes are this one; -1: they differ */
	const char *kind;
};

FIXTURE_VARIANT_ADD(refpage, page)
{
	.whole_page = true, .byte = -1, .kind = "page",
};

/* The kernel finds that it could be filled like a byte pattern. */
FIXTURE_VARIANT_ADD(refpage, uniform_page)
{
	.whole_page = true, .byte = 0x5c, .kind = "byte",
};

FIXTURE_VARIANT_ADD(refpage, byte)
{
	.byte = 0xa5, .kind = "byte",
};

/* The content that could be mistaken for no content. */
FIXTURE_VARIANT_ADD(refpage, zero)
{
	.byte = 0, .kind = "byte",
};

FIXTURE_VARIANT_ADD(refpage, pattern_16)
{
	.n = 4, .byte = -1, .kind = "pattern",
};

FIXTURE_VARIANT_ADD(refpage, pattern_2048)
{
	.n = 11, .byte = -1, .kind = "pattern",
};

FIXTURE_SETUP(refpage)
{
	size_t size = variant->whole_page ? psize() : 1UL << variant->n;

	content = map_anon(1, RW);
	for (size_t i = 0; i < psize(); i++) {
		size_t at = i % size;

		content[i] = variant->byte;
		if (variant->byte < 0)
			content[i] = 29 + at * 131 + (at >> 8) * 17;
	}
	self->source = map_anon(1, RW);
	memcpy(self->source, content, size);

	self->flags = variant->whole_page ? 0 : REFPAGE_PATTERN_SIZE(variant->n);
	self->fd = refpage_create(self->source, self->flags);
	if (self->fd < 0 && syscall_is_absent())
		SKIP(return, "the kernel has no refpage_create()");
	ASSERT_LE(0, self->fd);
	self->witness = map(self->fd, 1, PROT_READ);
}

/* After every test: nothing has written to the reference page. */
FIXTURE_TEARDOWN(refpage)
{
	EXPECT_TRUE(is_content(self->witness, 1));
}

/* -- Descriptor ----------------------------------------------------------- */

/*
 * Later changes of the source are not seen. Catches a reference page that is
 * the source page itself.
 */
TEST_F(refpage, content_is_a_snapshot)
{
	unsigned char *p = map(self->fd, PAGES, RW);

	memset(self->source, 0x3e, psize());
	EXPECT_TRUE(is_content(p, PAGES / 2));
	unmap(self->source, 1);
	EXPECT_TRUE(is_content(p, PAGES));
}

/*
 * Read-only memory is a source, too. Catches access to the source for writing,
 * which a call that takes a const pointer has no business to do.
 */
TEST_F(refpage, content_from_read_only_memory)
{
	int fd;

	ASSERT_EQ(0, mprotect(self->source, psize(), PROT_READ));
	fd = refpage_create(self->source, self->flags);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(is_content(map(fd, 1, PROT_READ), 1));
}

/*
 * A refpage mapping is a source like any other. Catches content that is copied
 * from the reference page of the source where a private page has replaced it.
 */
TEST_F(refpage, content_from_refpage)
{
	unsigned char *p = map(self->fd, 2, RW);
	int fd;

	fd = refpage_create(p, self->flags);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(is_content(map(fd, 1, PROT_READ), 1));

	store(p + psize(), 0);
	fd = refpage_create(p + psize(), 0);
	ASSERT_LE(0, fd);
	EXPECT_TRUE(same(map(fd, 1, PROT_READ), altered(0, 1), psize()));
}

/*
 * The descriptor is O_RDONLY and close-on-exec. Catches one that is inherited
 * by a program which knows nothing of it.
 */
TEST_F(refpage, fd_flags)
{
	EXPECT_EQ(O_RDONLY, fcntl(self->fd, F_GETFL) & O_ACCMODE);
	EXPECT_EQ(FD_CLOEXEC, fcntl(self->fd, F_GETFD));
}

/*
 * Nothing but mmap() gets at the content. Catches file operations inherited
 * from the file system that the descriptor is on.
 */
TEST_F(refpage, fd_operations)
{
	struct iovec iov = { .iov_base = content, .iov_len = psize() };
	char buf[8];

	EXPECT_EQ(-1, read(self->fd, buf, sizeof(buf)));
	EXPECT_EQ(-1, pread(self->fd, buf, sizeof(buf), 0));
	EXPECT_EQ(-1, readv(self->fd, &iov, 1));
	EXPECT_EQ(-1, write(self->fd, buf, sizeof(buf)));
	EXPECT_EQ(-1, pwrite(self->fd, buf, sizeof(buf), 0));
	EXPECT_EQ(-1, writev(self->fd, &iov, 1));
	EXPECT_EQ(-1, ftruncate(self->fd, 0));
	EXPECT_EQ(-1, ftruncate(self->fd, psize()));
	EXPECT_EQ(-1, fallocate(self->fd, 0, 0, psize()));
	EXPECT_EQ(-1, lseek(self->fd, 0, SEEK_END));
	EXPECT_TRUE(is_content(map(self->fd, 1, PROT_READ), 1));
}

/*
 * Another open file of the same inode would have none of the content. Catches
 * an inode that can be opened: its file maps a NULL private_data.
 */
TEST_F(refpage, fd_reopen)
{
	static const int modes[] = { O_RDONLY, O_WRONLY, O_RDWR };
	char path[32];

	sprintf(path, "/proc/self/fd/%d", self->fd);
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++) {
		EXPECT_EQ(-1, open(path, modes[i]));
		EXPECT_EQ(ENXIO, errno);
	}
}

/*
 * fdinfo tells what the content is. Catches a size or a kind that was guessed
 * from the page and not kept from the call.
 */
TEST_F(refpage, fdinfo)
{
	char path[40], text[64];

	sprintf(path, "/proc/self/fdinfo/%d", self->fd);
	ASSERT_TRUE(file_text(path, "refpage-kind:", text));
	EXPECT_STREQ(variant->kind, text);
	EXPECT_EQ(variant->whole_page ? (long)psize() : 1L << variant->n,
		  file_number(path, "refpage-size:"));
	EXPECT_EQ(variant->byte, file_number(path, "refpage-byte:"));
}

/*
 * Another process can be given the descriptor. Catches content that is tied to
 * its creator.
 */
TEST_F(refpage, fd_scm_rights)
{
	int sockets[2];
	pid_t pid;
	int fd;

	ASSERT_EQ(0, socketpair(AF_UNIX, SOCK_STREAM, 0, sockets));
	pid = fork();
	if (!pid) {
		fd = pass_fd(sockets[0], -1);
		EXPECT_TRUE(is_mixed(map_mixed(fd), PAGES));
		_exit(0);
	}
	fd = refpage_create(self->source, self->flags);
	ASSERT_LE(0, fd);
	pass_fd(sockets[1], fd);
	EXPECT_TRUE(child_passed(pid));
}

/*
 * A mapping outlives the descriptor. Catches a reference page that is freed
 * with it; what the next descriptors hold would be seen.
 */
TEST_F(refpage, fd_close)
{
	int fd = refpage_create(self->source, self->flags);
	unsigned char *p = map(fd, PAGES, RW), *other = map_anon(1, RW);

	load(p);
	close(fd);
	memset(other, 0xc3, psize());
	for (int i = 0; i < 64; i++) {
		fd = refpage_create(other, 0);
		ASSERT_LE(0, fd);
		EXPECT_EQ(0xc3, load(map(fd, 1, PROT_READ)));
	}
	EXPECT_TRUE(is_content(p, 2));
	EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));
}

/* -- Loads and stores ----------------------------------------------------- */

/*
 * Every byte of every page reads as the content. The mapping crosses page
 * tables: catches a first fault that depends on where it is.
 */
TEST_F(refpage, load)
{
	size_t pages = 2 * read_pmd_pagesize() / psize() ?: 1024;

	EXPECT_TRUE(is_content(map(self->fd, pages, PROT_READ), pages));
	EXPECT_TRUE(is_content(map(self->fd, pages, RW), pages));
}

/*
 * The offset means nothing, but has to be one. Catches content that is looked
 * up at vm_pgoff, and arithmetic with the offset that overflows.
 */
TEST_F(refpage, load_at_offset)
{
	const off_t page = psize();
	const off_t offsets[] = {
		page, 3 * page, 1021 * page, 1L << 31, LONG_MAX & -page,
		LONG_MIN, -1021 * page, -page * (off_t)PAGES, -2 * page, -page,
	};

	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		void *p = mmap(NULL, PAGES * page, RW, MAP_PRIVATE, self->fd,
			       offsets[i]);

		ASSERT_NE(MAP_FAILED, p) {
			TH_LOG("offset %#lx: %m", (long)offsets[i]);
		}
		EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));
		ASSERT_EQ(0, munmap(p, PAGES * page));
	}
	EXPECT_EQ(MAP_FAILED, mmap(NULL, page, RW, MAP_PRIVATE, self->fd, 1));
	EXPECT_EQ(EINVAL, errno);
	EXPECT_EQ(MAP_FAILED, mmap(NULL, page, RW, MAP_PRIVATE, self->fd,
				   page / 2));
	EXPECT_EQ(EINVAL, errno);
}

static void check_stores(struct __test_metadata *_metadata, int fd,
			 bool load_before)
{
	const size_t page = psize();
	const size_t offsets[] = { 0, 1, page / 2, page - 1 };

	for (size_t i = 0; i < ARRAY_SIZE(offsets); i++) {
		unsigned char *p = map(fd, 5, RW);

		if (load_before)
			load_pages(p, 5);
		store(p + 2 * page, offsets[i]);
		EXPECT_TRUE(is_content(p, 2));
		EXPECT_TRUE(same(p + 2 * page, altered(offsets[i], 1), page));
		EXPECT_TRUE(is_content(p + 3 * page, 2));
		/* Another mapping and another store see none of it. */
		EXPECT_TRUE(is_content(map(fd, 5, RW), 5));
		p[2 * page + offsets[i]] = content[offsets[i]];
		EXPECT_TRUE(is_content(p, 5));
	}
}

/*
 * A store changes what it stores to; its neighbours, in the page and around
 * it, stay the content. Catches a new page of zeros, and one that is filled
 * after the store.
 */
TEST_F(refpage, store_to_untouched)
{
	check_stores(_metadata, self->fd, false);
}

/* The same after a load; catches a wrong copy of the reference page. */
TEST_F(refpage, store_after_load)
{
	check_stores(_metadata, self->fd, true);
}

/*
 * One store can need two pages. Catches the second fault of an instruction
 * undoing what the first one did.
 */
TEST_F(refpage, store_across_pages)
{
	unsigned char *p = map(self->fd, 3, RW), word[8];

	memcpy(word, altered(psize() - 4, 4) + psize() - 4, 4);
	memcpy(word + 4, altered(0, 4), 4);
	load(p + psize());
	/* What the compiler makes of these is one store each. */
	memcpy(p + bytes(1) - 4, word, sizeof(word));
	memcpy(p + bytes(2) - 4, word, sizeof(word));
	EXPECT_TRUE(same(p, altered(psize() - 4, 4), psize()));
	EXPECT_TRUE(same(p + bytes(2), altered(0, 4), psize()));
}

/* -- Accounting ----------------------------------------------------------- */

/*
 * Loads add nothing to RSS, stores one anonymous page each. Catches a reference
 * page that is mapped as a normal one, and counters that are added to and not
 * subtracted from, which the log of the kernel reports, too.
 */
TEST_F(refpage, rss_of_mapping)
{
	unsigned char *p = map(self->fd, PAGES, RW);

	load_pages(p, PAGES);
	EXPECT_EQ(0, smaps_pages(p, "Rss:"));
	EXPECT_EQ(0, smaps_pages(p, "Pss:"));

	store_pages(p, PAGES / 2);
	EXPECT_EQ(PAGES / 2, smaps_pages(p, "Rss:"));
	EXPECT_EQ(PAGES / 2, smaps_pages(p, "Anonymous:"));
	EXPECT_EQ(PAGES / 2, smaps_pages(p, "Private_Dirty:"));

	ASSERT_EQ(0, madvise(p, bytes(2), MADV_DONTNEED));
	EXPECT_EQ(PAGES / 2 - 2, smaps_pages(p, "Rss:"));
	load_pages(p, PAGES);
	EXPECT_EQ(PAGES / 2 - 2, smaps_pages(p, "Anonymous:"));
}

/*
 * The counters of the process agree, to some pages per CPU. Catches the same
 * mistakes where page tables are not walked, and a page that counts as one of
 * a file.
 */
TEST_F(refpage, rss_of_process)
{
	const char *status = "/proc/self/status";
	const long many = 4096, slack = 512;
	const long kb = psize() / 1024;
	unsigned char *p = map(self->fd, many, RW);
	long rss = file_number(status, "VmRSS:") / kb;
	long anon = file_number(status, "RssAnon:") / kb;
	long file = file_number(status, "RssFile:") / kb;

	load_pages(p, many);
	EXPECT_GT(rss + slack, file_number(status, "VmRSS:") / kb);
	store_pages(p, many);
	EXPECT_LT(anon + many - slack, file_number(status, "RssAnon:") / kb);
	EXPECT_GT(anon + many + slack, file_number(status, "RssAnon:") / kb);
	EXPECT_GT(file + slack, file_number(status, "RssFile:") / kb);
	unmap(p, many);
	EXPECT_GT(rss + slack, file_number(status, "VmRSS:") / kb);
	EXPECT_LT(rss - slack, file_number(status, "VmRSS:") / kb);
}

/*
 * Pages that were only loaded from are one page frame, in every process.
 * Catches a copy that is made too early.
 */
TEST_F(refpage, pagemap)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	unsigned char *p = map(self->fd, 4, RW);
	char *page[4];
	unsigned long pfn;

	ASSERT_LE(0, pagemap);
	for (size_t i = 0; i < 4; i++)
		page[i] = (char *)p + bytes(i);
	load(p + psize());
	load(p + bytes(2));
	store(p + bytes(3), 0);
	/* The loads have mapped it, too */
	ASSERT_EQ(0, madvise(p, psize(), MADV_DONTNEED));

	for (size_t i = 0; i < 4; i++) {
		EXPECT_EQ(i > 0, pagemap_is_populated(pagemap, page[i]));
		EXPECT_FALSE(pagemap_is_swapped(pagemap, page[i]));
	}

	pfn = pagemap_get_pfn(pagemap, page[1]);
	if (!pfn)
		SKIP(return, "page frame numbers need CAP_SYS_ADMIN");
	load(self->witness);
	EXPECT_EQ(pfn, pagemap_get_pfn(pagemap, page[2]));
	EXPECT_EQ(pfn, pagemap_get_pfn(pagemap, (char *)self->witness));
	EXPECT_NE(pfn, pagemap_get_pfn(pagemap, page[3]));
}

static unsigned long pfn_of_fd(int fd)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	unsigned char *p = map(fd, 1, PROT_READ);
	unsigned long pfn;

	if (pagemap < 0)
		die("pagemap");
	load(p);
	pfn = pagemap_get_pfn(pagemap, (char *)p);
	munmap(p, psize());
	close(pagemap);
	return pfn;
}

/*
 * All descriptors of one byte, in whatever process, share a page, which outlives
 * each of them. Descriptors of other content do not. Catches a page per
 * descriptor, and a page that goes with one of them.
 */
TEST_F(refpage, shared_page)
{
	unsigned long pfn = pfn_of_fd(self->fd);
	unsigned char *other = map_anon(1, RW);
	bool shared = variant->byte >= 0;
	int fd[2];
	pid_t pid;

	if (!pfn)
		SKIP(return, "page frame numbers need CAP_SYS_ADMIN");

	/* Free pages are kept for the processor that they were freed on. */
	stay_on_this_cpu();
	pid = fork();
	if (!pid) {
		fd[0] = refpage_create(self->source, self->flags);
		EXPECT_EQ(shared, pfn_of_fd(fd[0]) == pfn);
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));

	for (size_t i = 0; i < ARRAY_SIZE(fd); i++) {
		fd[i] = refpage_create(self->source, self->flags);
		EXPECT_EQ(shared, pfn_of_fd(fd[i]) == pfn);
	}
	for (size_t i = 0; i < ARRAY_SIZE(fd); i++)
		close(fd[i]);

	/* A page that was freed is the next to become a reference page. */
	other[0] = 0x3e;
	for (size_t i = 0; i < 64; i++)
		EXPECT_LE(0, refpage_create(other, 0));
	EXPECT_EQ(pfn, pfn_of_fd(self->fd));
	EXPECT_TRUE(is_content(self->witness, 1));
}

/*
 * Soft-dirty pages are those stored to since the bits were cleared. Catches a
 * copy of the reference page that is not marked.
 */
TEST_F(refpage, soft_dirty)
{
	unsigned char *p = map(self->fd, 4, RW);
	int pagemap = open("/proc/self/pagemap", O_RDONLY);

	ASSERT_LE(0, pagemap);
	if (!softdirty_supported())
		SKIP(return, "no soft-dirty bits on this architecture");
	load(p);
	load(p + psize());
	store(p + bytes(2), 0);
	clear_softdirty();
	store(p + psize(), 0);
	store(p + bytes(3), 0);
	for (size_t i = 0; i < 4; i++)
		EXPECT_EQ(i % 2, pagemap_is_softdirty(pagemap, (char *)p + bytes(i)));
}

/*
 * Whatever /proc/PID/clear_refs does to page tables, pages stay as they are.
 * Catches a walk that takes the reference page for a page of the process.
 */
TEST_F(refpage, clear_refs)
{
	unsigned char *p = map_mixed(self->fd);

	for (int what = 1; what <= 5; what++) {
		char text[2] = { '0' + what };

		if (what != 4 || softdirty_supported())
			EXPECT_TRUE(file_write("/proc/self/clear_refs", text));
		EXPECT_TRUE(is_mixed(p, PAGES));
	}
}

/*
 * mincore() sees the pages that are there. Catches a search for untouched
 * pages in the page cache of a file that has none.
 */
TEST_F(refpage, mincore)
{
	unsigned char *p = map_mixed(self->fd), vec[PAGES];

	ASSERT_EQ(0, mincore(p, bytes(PAGES), vec));
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_EQ(i % 4 > 0, vec[i] & 1);
	EXPECT_TRUE(is_mixed(p, PAGES));
}

/* -- fork ----------------------------------------------------------------- */

/*
 * fork() copies private pages, and stores after it are seen by one side only.
 * Catches a reference page made writable in the child, and private pages that
 * stay writable in both.
 */
TEST_F(refpage, fork)
{
	unsigned char *p = map_mixed(self->fd);
	int parent[2], child[2];
	pid_t pid;

	ASSERT_EQ(0, pipe(parent));
	ASSERT_EQ(0, pipe(child));
	pid = fork();
	if (!pid) {
		EXPECT_TRUE(is_mixed(p, PAGES));
		EXPECT_TRUE(is_content(map(self->fd, 1, PROT_READ), 1));
		memset(p, 0x11, bytes(PAGES));
		tell(parent);
		wait_for(child);
		EXPECT_TRUE(is_byte(p, 0x11, bytes(PAGES)));
		madvise(p, bytes(PAGES), MADV_DONTNEED);
		EXPECT_TRUE(is_content(p, PAGES));
		_exit(0);
	}
	wait_for(parent);
	EXPECT_TRUE(is_mixed(p, PAGES));
	memset(p, 0x22, bytes(PAGES));
	tell(child);
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_byte(p, 0x22, bytes(PAGES)));
}

/*
 * The same for a mapping that has no private page yet, whose page tables are
 * not copied. Catches a child that faults as if on a file.
 */
TEST_F(refpage, fork_untouched)
{
	unsigned char *p = map(self->fd, 2 * PAGES, RW);
	pid_t pid;

	load_pages(p, PAGES);
	pid = fork();
	if (!pid) {
		EXPECT_TRUE(is_mixed(mix(p, 2 * PAGES), 2 * PAGES));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_content(p, 2 * PAGES));
}

/*
 * A child's mapping outlives its parent's and the descriptor. Catches a
 * reference page that the parent's munmap() frees.
 */
TEST_F(refpage, fork_and_unmap)
{
	int fd = refpage_create(self->source, self->flags);
	unsigned char *p = map_mixed(fd);
	int child[2];
	pid_t pid;

	ASSERT_EQ(0, pipe(child));
	pid = fork();
	if (!pid) {
		close(fd);
		wait_for(child);
		EXPECT_TRUE(is_mixed(p, PAGES));
		EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));
		_exit(0);
	}
	unmap(p, PAGES);
	close(fd);
	tell(child);
	EXPECT_TRUE(child_passed(pid));
}

/* -- mremap and mprotect -------------------------------------------------- */

/*
 * What mremap() adds reads as the content; what was there stays. Catches
 * growth refused as beyond the end of the file, and zeros.
 */
TEST_F(refpage, mremap_grow_in_place)
{
	unsigned char *p = map(self->fd, 3 * PAGES, RW);

	unmap(p + bytes(PAGES), 2 * PAGES);
	mix(p, PAGES);
	ASSERT_EQ(p, mremap(p, bytes(PAGES), bytes(3 * PAGES), 0));
	EXPECT_TRUE(is_mixed(p, PAGES));
	EXPECT_TRUE(is_content(p + bytes(PAGES), PAGES));
	EXPECT_TRUE(is_mixed(mix(p, 3 * PAGES), 3 * PAGES));
}

/*
 * The same where there is no room. Catches private pages that are lost on the
 * way.
 */
TEST_F(refpage, mremap_grow_and_move)
{
	unsigned char *p = map(self->fd, PAGES + 1, RW), *q;

	map_at(p + bytes(PAGES), -1, 1, PROT_NONE, MAP_ANONYMOUS | MAP_FIXED);
	mix(p, PAGES);
	q = mremap(p, bytes(PAGES), bytes(3 * PAGES), MREMAP_MAYMOVE);
	ASSERT_NE(MAP_FAILED, (void *)q);
	ASSERT_NE(p, q);
	EXPECT_TRUE(is_mixed(q, PAGES));
	EXPECT_TRUE(is_content(q + bytes(PAGES), 2 * PAGES));
	EXPECT_TRUE(is_mixed(mix(q, 3 * PAGES), 3 * PAGES));
}

/*
 * Private pages move with their mapping, and untouched ones are still the
 * content. Catches PTEs left behind or lost, in both sizes of a move: by page
 * and by page table.
 */
TEST_F(refpage, mremap_move)
{
	size_t pmd = read_pmd_pagesize() ?: (size_t)bytes(PAGES);
	size_t pages = 2 * pmd / psize();
	unsigned char *p, *to;

	p = mix(map(self->fd, pages, RW), PAGES);
	mix(p + pmd, PAGES);
	to = map_anon(pages + 1, PROT_NONE);
	for (int i = 0; i < 2; i++) {
		ASSERT_EQ(to, mremap(p, bytes(pages), bytes(pages),
				     MREMAP_MAYMOVE | MREMAP_FIXED, to));
		EXPECT_TRUE(is_mixed(to, PAGES));
		EXPECT_TRUE(is_content(to + bytes(PAGES), 1));
		EXPECT_TRUE(is_mixed(to + pmd, PAGES));
		p = to;
		to = map_anon(pages + 1, PROT_NONE) + bytes(i);
	}
	EXPECT_TRUE(is_content(p + pmd + bytes(PAGES), PAGES));
}

/*
 * What mremap() cut off does not come back. Catches private pages left in the
 * page table.
 */
TEST_F(refpage, mremap_shrink)
{
	unsigned char *p = map_mixed(self->fd);

	ASSERT_EQ(p, mremap(p, bytes(PAGES), psize(), 0));
	EXPECT_TRUE(is_content(p, 1));
	EXPECT_EQ(SIGSEGV, signal_of(p + psize(), LOAD));
	ASSERT_EQ(p, mremap(p, psize(), bytes(PAGES), 0));
	EXPECT_TRUE(is_content(p, PAGES));
}

/*
 * The range that MREMAP_DONTUNMAP leaves behind reads as the content. Catches
 * zeros there, and private pages that two VMAs think are theirs.
 */
TEST_F(refpage, mremap_dontunmap)
{
	unsigned char *p = map_mixed(self->fd), *q;

	q = mremap(p, bytes(PAGES), bytes(PAGES),
		   MREMAP_MAYMOVE | MREMAP_DONTUNMAP, NULL);
	ASSERT_NE(MAP_FAILED, (void *)q);
	EXPECT_TRUE(is_mixed(q, PAGES));
	EXPECT_TRUE(is_content(p, PAGES));
	memset(p, 0x66, bytes(PAGES));
	EXPECT_TRUE(is_mixed(q, PAGES));
	unmap(q, PAGES);
	EXPECT_TRUE(is_byte(p, 0x66, bytes(PAGES)));
}

/*
 * mprotect() changes what may be done and not what is read. Catches a reference
 * page made writable in place of a fault.
 */
TEST_F(refpage, mprotect)
{
	unsigned char *p = map(self->fd, PAGES, PROT_READ);
	const size_t len = bytes(PAGES);

	load_pages(p, 3);
	EXPECT_EQ(SIGSEGV, signal_of(p, STORE));
	EXPECT_EQ(SIGSEGV, signal_of(p + bytes(4), STORE));
	ASSERT_EQ(0, mprotect(p, len, RW));
	EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));

	ASSERT_EQ(0, mprotect(p, len, PROT_NONE));
	EXPECT_EQ(SIGSEGV, signal_of(p, LOAD));
	EXPECT_EQ(SIGSEGV, signal_of(p + bytes(2), LOAD));
	ASSERT_EQ(0, mprotect(p, len, PROT_READ));
	EXPECT_TRUE(is_mixed(p, PAGES));
	EXPECT_EQ(SIGSEGV, signal_of(p, STORE));
	EXPECT_EQ(SIGSEGV, signal_of(p + bytes(2), STORE));
	EXPECT_EQ(0, signal_of(p, LOAD));

	ASSERT_EQ(0, mprotect(p, len, RW));
	memset(p, 0x77, len);
	EXPECT_TRUE(is_byte(p, 0x77, len));
}

/*
 * Content is data. Catches a mapping that becomes executable after mmap(),
 * which refuses that, is over.
 */
TEST_F(refpage, mprotect_exec)
{
	unsigned char *p = map_mixed(self->fd);

	EXPECT_EQ(-1, mprotect(p, psize(), PROT_READ | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
	EXPECT_EQ(-1, mprotect(p, psize(), RW | PROT_EXEC));
	EXPECT_EQ(EACCES, errno);
	EXPECT_TRUE(is_mixed(p, PAGES));
}

/*
 * Parts of a mapping are as good as the whole. Catches a reference page that
 * goes with the first part.
 */
TEST_F(refpage, munmap_part)
{
	unsigned char *p = map_mixed(self->fd);
	unsigned char *hole = p + bytes(4);

	unmap(hole, 4);
	EXPECT_EQ(2, count_vmas(p, PAGES, NULL));
	EXPECT_TRUE(is_mixed(p, 4));
	EXPECT_TRUE(is_mixed_part(p, 8, PAGES));
	map_at(hole, self->fd, 4, RW, MAP_FIXED);
	EXPECT_TRUE(is_content(hole, 4));
	EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));
}

/*
 * Address space is reserved by mprotect() to PROT_NONE: what has no private
 * page counts no longer towards the commit limit.
 */
TEST_F(refpage, mprotect_commit)
{
	const long many = (256L << 20) / psize(), kb = bytes(many) / 1024;
	const char *meminfo = "/proc/meminfo";
	long before = file_number(meminfo, "Committed_AS:");
	unsigned char *p = map(self->fd, many, RW);

	EXPECT_LT(before + kb / 2, file_number(meminfo, "Committed_AS:"));
	ASSERT_EQ(0, mprotect(p, bytes(many), PROT_NONE));
	EXPECT_GT(before + kb / 2, file_number(meminfo, "Committed_AS:"));
	ASSERT_EQ(0, mprotect(p, bytes(many), RW));
	EXPECT_LT(before + kb / 2, file_number(meminfo, "Committed_AS:"));
	EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));
}

/*
 * What is sealed and read-only cannot be discarded. Catches mseal() that takes
 * the descriptor for a file which holds the data.
 */
TEST_F(refpage, mseal)
{
	unsigned char *p = map_mixed(self->fd);

	ASSERT_EQ(0, mprotect(p, bytes(PAGES), PROT_READ));
	if (syscall(__NR_mseal, p, bytes(PAGES), 0) && syscall_is_absent())
		SKIP(return, "no mseal()");
	EXPECT_EQ(-1, madvise(p, bytes(PAGES), MADV_DONTNEED));
	EXPECT_EQ(EPERM, errno);
	EXPECT_EQ(-1, munmap(p, bytes(PAGES)));
	EXPECT_EQ(EPERM, errno);
	EXPECT_TRUE(is_mixed(p, PAGES));
}

/* -- mmap ----------------------------------------------------------------- */

static int mmap_errno(int fd, int prot, int flags)
{
	void *p = mmap(NULL, psize(), prot, flags, fd, 0);

	if (p == MAP_FAILED)
		return errno;
	munmap(p, psize());
	return 0;
}

/*
 * There are only private mappings. Catches a shared one, whose stores would go
 * to the reference page; a read-only one could become writable later.
 */
TEST_F(refpage, mmap_shared)
{
	static const int prots[] = { PROT_NONE, PROT_READ, PROT_WRITE, RW };
	static const int flags[] = {
		MAP_SHARED, MAP_SHARED | MAP_POPULATE, MAP_SHARED_VALIDATE,
	};

	for (size_t i = 0; i < ARRAY_SIZE(prots); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(flags); k++)
			EXPECT_EQ(EINVAL, mmap_errno(self->fd, prots[i], flags[k]));
		EXPECT_EQ(0, mmap_errno(self->fd, prots[i], MAP_PRIVATE));
	}
}

/*
 * Content is data. Catches a file that is on no noexec mount, as anonymous
 * inodes are.
 */
TEST_F(refpage, mmap_exec)
{
	static const int prots[] = {
		PROT_EXEC, PROT_READ | PROT_EXEC, RW | PROT_EXEC,
	};

	for (size_t i = 0; i < ARRAY_SIZE(prots); i++)
		EXPECT_EQ(EPERM, mmap_errno(self->fd, prots[i], MAP_PRIVATE));
}

/*
 * The personality that makes readable memory executable makes an exception.
 * Catches programs with it being refused all mappings.
 */
TEST_F(refpage, mmap_read_implies_exec)
{
	unsigned char *p;
	char perms[5];

	ASSERT_NE(-1, personality(personality(0xffffffff) | READ_IMPLIES_EXEC));
	p = map(self->fd, PAGES, RW);
	EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));
	EXPECT_EQ(1, count_vmas(p, PAGES, perms));
	EXPECT_STREQ("rw-p", perms);
	ASSERT_EQ(0, mprotect(p, bytes(PAGES), PROT_READ));
	EXPECT_EQ(1, count_vmas(p, PAGES, perms));
	EXPECT_STREQ("r--p", perms);
}

/*
 * A stack has no file. Catches VM_GROWSDOWN let through to the expansion of
 * stacks, which expects anonymous memory.
 */
TEST_F(refpage, mmap_growsdown)
{
	EXPECT_EQ(EINVAL, mmap_errno(self->fd, RW, MAP_PRIVATE | MAP_GROWSDOWN));
}

/*
 * MAP_POPULATE reads the reference page or copies it, as the mapping allows.
 * Catches a populate that fails, silently, on a special PTE.
 */
TEST_F(refpage, mmap_populate)
{
	unsigned char *p = map_at(NULL, self->fd, PAGES, PROT_READ, MAP_POPULATE);
	unsigned char *q = map_at(NULL, self->fd, PAGES, RW, MAP_POPULATE);

	EXPECT_EQ(0, smaps_pages(p, "Rss:"));
	EXPECT_TRUE(is_content(p, PAGES));
	EXPECT_EQ(PAGES, smaps_pages(q, "Anonymous:"));
	EXPECT_TRUE(is_content(q, PAGES));
	EXPECT_TRUE(is_mixed(mix(q, PAGES), PAGES));
}

/*
 * A mapping that could be huge is placed as anonymous memory would be. Catches
 * the placement of files, which large folios do not fit.
 */
TEST_F(refpage, mmap_placement)
{
	size_t pmd = read_pmd_pagesize();
	unsigned long addr;
	void *p;

	if (!pmd)
		SKIP(return, "no transparent huge pages");
	for (size_t len = pmd; len <= 4 * pmd; len += pmd) {
		p = map_anon(len / psize(), RW);
		addr = (unsigned long)p;
		unmap(p, len / psize());
		p = map(self->fd, len / psize(), RW);
		EXPECT_EQ(addr % pmd, (unsigned long)p % pmd);
		EXPECT_TRUE(is_content((unsigned char *)p + len - psize(), 1));
		unmap(p, len / psize());
	}
}

/* -- Merging -------------------------------------------------------------- */

enum order { BOTTOM_UP, TOP_DOWN, INSIDE_OUT, ORDERS };

/* Map PAGES neighbours, one by one, each with another offset. */
static unsigned char *map_neighbours(int fd, enum order order, bool touch)
{
	unsigned char *p = map_anon(PAGES, PROT_NONE);

	for (size_t i = 0; i < PAGES; i++) {
		size_t at = i;

		if (order == TOP_DOWN)
			at = PAGES - 1 - i;
		else if (order == INSIDE_OUT)
			at = PAGES / 2 + (i % 2 ? i / 2 : -1 - i / 2);
		if (mmap(p + bytes(at), psize(), RW, MAP_PRIVATE | MAP_FIXED,
			 fd, bytes(i * 7)) == MAP_FAILED)
			die("mmap");
		if (touch)
			load(p + bytes(at));
	}
	return p;
}

/*
 * Adjacent mappings become one VMA. Catches a vm_pgoff that tells them apart:
 * a heap made of many mappings would run into the limit on their number.
 */
TEST_F(refpage, merge)
{
	for (int i = 0; i < 2 * ORDERS; i++) {
		unsigned char *p = map_neighbours(self->fd, i / 2, i % 2);

		EXPECT_EQ(1, count_vmas(p, PAGES, NULL)) {
			TH_LOG("order %d, touched %d", i / 2, i % 2);
		}
		EXPECT_TRUE(is_content(p, PAGES));
		EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));
	}
}

/*
 * A heap that is used while it grows is one VMA, too. Catches a merge that an
 * anon_vma on one side prevents.
 */
TEST_F(refpage, merge_with_private_pages)
{
	unsigned char *p = map_anon(PAGES, PROT_NONE);

	for (size_t i = 0; i < PAGES; i++) {
		map_at(p + bytes(i), self->fd, 1, RW, MAP_FIXED);
		if (!i)
			store(p, 0);
	}
	EXPECT_EQ(1, count_vmas(p, PAGES, NULL));
	EXPECT_TRUE(same(p, altered(0, 1), psize()));
	EXPECT_TRUE(is_content(p + psize(), PAGES - 1));
}

/*
 * An untouched mapping that is moved beside another merges with it. Catches a
 * vm_pgoff left at that of the old address.
 */
TEST_F(refpage, merge_after_mremap)
{
	unsigned char *to = map_anon(2 * PAGES, PROT_NONE), *p;

	map_at(to, self->fd, PAGES, RW, MAP_FIXED);
	p = map(self->fd, PAGES, RW);
	load_pages(p, 2);
	ASSERT_EQ(to + bytes(PAGES),
		  mremap(p, bytes(PAGES), bytes(PAGES),
			 MREMAP_MAYMOVE | MREMAP_FIXED, to + bytes(PAGES)));
	EXPECT_EQ(1, count_vmas(to, 2 * PAGES, NULL));
	EXPECT_TRUE(is_mixed(mix(to, 2 * PAGES), 2 * PAGES));
}

/* What mprotect() split it joins again. Catches a ->close that forbids it. */
TEST_F(refpage, merge_after_mprotect)
{
	unsigned char *p = map_mixed(self->fd);

	ASSERT_EQ(0, mprotect(p + bytes(4), bytes(4), PROT_READ));
	EXPECT_EQ(3, count_vmas(p, PAGES, NULL));
	EXPECT_TRUE(is_mixed(p, PAGES));
	ASSERT_EQ(0, mprotect(p + bytes(4), bytes(4), RW));
	EXPECT_EQ(1, count_vmas(p, PAGES, NULL));
	EXPECT_TRUE(is_mixed(p, PAGES));
}

/*
 * Mappings of two descriptors do not merge, not even with equal content, nor
 * with anonymous memory. Catches one that takes the content of the other.
 */
TEST_F(refpage, merge_not_with_others)
{
	unsigned char *p = map_anon(3 * PAGES, RW), *q;
	int fd;

	memcpy(self->source, altered(0, psize()), psize());
	fd = refpage_create(self->source, self->flags);
	ASSERT_LE(0, fd);
	map_at(p, self->fd, PAGES, RW, MAP_FIXED);
	q = map_at(p + bytes(PAGES), fd, PAGES, RW, MAP_FIXED);
	EXPECT_EQ(3, count_vmas(p, 3 * PAGES, NULL));
	EXPECT_TRUE(is_content(p, PAGES));
	for (size_t i = 0; i < PAGES; i++)
		EXPECT_TRUE(same(q + bytes(i), altered(0, psize()), psize()));
	EXPECT_TRUE(is_byte(p + bytes(2 * PAGES), 0, bytes(PAGES)));
}

/* -- mlock and madvise ---------------------------------------------------- */

/*
 * Locked memory is all there, and is the content. Catches populating that
 * stops at a special PTE, and a reference page that is counted as locked.
 */
TEST_F(refpage, mlock)
{
	unsigned char *p = map(self->fd, PAGES, RW);
	unsigned char *q = map(self->fd, PAGES, PROT_READ);

	load_pages(p, 3);
	ASSERT_EQ(0, mlock(p, bytes(PAGES)));
	EXPECT_EQ(PAGES, smaps_pages(p, "Anonymous:"));
	EXPECT_EQ(PAGES, smaps_pages(p, "Locked:"));
	EXPECT_TRUE(is_content(p, PAGES));
	EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));
	ASSERT_EQ(0, munlock(p, bytes(PAGES)));
	EXPECT_TRUE(is_mixed(p, PAGES));

	/* Read-only: the reference page will do, and is not ours to lock. */
	ASSERT_EQ(0, mlock(q, bytes(PAGES)));
	EXPECT_EQ(0, smaps_pages(q, "Rss:"));
	EXPECT_TRUE(is_content(q, PAGES));
}

/*
 * MLOCK_ONFAULT locks private pages as they come. Catches mlock() of the
 * reference page on a load.
 */
TEST_F(refpage, mlock_onfault)
{
	unsigned char *p = map(self->fd, PAGES, RW);

	ASSERT_EQ(0, mlock2(p, bytes(PAGES), MLOCK_ONFAULT));
	EXPECT_EQ(0, smaps_pages(p, "Rss:"));
	EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));
	EXPECT_EQ(PAGES / 2, smaps_pages(p, "Locked:"));
}

/*
 * MCL_FUTURE populates a mapping when it is made. Catches a mapping that is
 * exempt because it has a file.
 */
TEST_F(refpage, mlockall_future)
{
	unsigned char *p;

	ASSERT_EQ(0, mlockall(MCL_FUTURE));
	p = map(self->fd, PAGES, RW);
	EXPECT_EQ(PAGES, smaps_pages(p, "Anonymous:"));
	EXPECT_TRUE(is_content(p, PAGES));
	EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));
	ASSERT_EQ(0, munlockall());
}

/*
 * MADV_POPULATE_READ adds nothing to RSS. Catches a reference page that the
 * walk takes for a failure.
 */
TEST_F(refpage, madvise_populate_read)
{
	unsigned char *p = map_mixed(self->fd);

	ASSERT_EQ(0, madvise(p, bytes(PAGES), MADV_POPULATE_READ));
	EXPECT_EQ(PAGES / 2, smaps_pages(p, "Rss:"));
	EXPECT_TRUE(is_mixed(p, PAGES));
}

/*
 * MADV_POPULATE_WRITE copies. Catches a populate that is content with the
 * reference page, and one that ignores protection.
 */
TEST_F(refpage, madvise_populate_write)
{
	unsigned char *p = map_mixed(self->fd);

	ASSERT_EQ(0, madvise(p, bytes(PAGES), MADV_POPULATE_WRITE));
	EXPECT_EQ(PAGES, smaps_pages(p, "Anonymous:"));
	EXPECT_TRUE(is_mixed(p, PAGES));
	ASSERT_EQ(0, mprotect(p, bytes(PAGES), PROT_READ));
	EXPECT_EQ(-1, madvise(p, bytes(PAGES), MADV_POPULATE_WRITE));
	EXPECT_EQ(EINVAL, errno);
}

/* Dropped pages read as the content again; catches zeros. */
TEST_F(refpage, madvise_dontneed)
{
	unsigned char *p = map_mixed(self->fd);

	ASSERT_EQ(0, madvise(p + bytes(4), bytes(4), MADV_DONTNEED));
	EXPECT_TRUE(is_mixed(p, 4));
	EXPECT_TRUE(is_content(p + bytes(4), 4));
	EXPECT_TRUE(is_mixed_part(p, 8, PAGES));

	ASSERT_EQ(0, madvise(p, bytes(PAGES), MADV_DONTNEED));
	EXPECT_EQ(0, smaps_pages(p, "Rss:"));
	store_pages(p, 2);
	EXPECT_TRUE(same(p, altered(0, 1), psize()));
	ASSERT_EQ(0, madvise(p, bytes(PAGES), MADV_DONTNEED));
	EXPECT_TRUE(is_content(p, PAGES));
	EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));
}

/*
 * Cold pages lose nothing. Catches the reference page being moved to a list.
 */
TEST_F(refpage, madvise_cold)
{
	unsigned char *p = map_mixed(self->fd);

	ASSERT_EQ(0, madvise(p, bytes(PAGES), MADV_COLD));
	EXPECT_TRUE(is_mixed(p, PAGES));
}

/*
 * Private pages survive swap, and the others never go there. Catches reclaim
 * that takes the reference page for a page of the process.
 */
TEST_F(refpage, madvise_pageout)
{
	unsigned char *p = map_mixed(self->fd);
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	int swapped = 0;

	ASSERT_LE(0, pagemap);
	ASSERT_EQ(0, madvise(p, bytes(PAGES), MADV_PAGEOUT));
	EXPECT_TRUE(is_mixed(p, PAGES));
	if (file_number("/proc/meminfo", "SwapFree:") <= 0)
		SKIP(return, "no swap space");

	/* A page that is busy stays; that of another CPU's batch, too. */
	for (int tries = 0; tries < 100 && swapped < PAGES / 2; tries++) {
		ASSERT_EQ(0, madvise(p, bytes(PAGES), MADV_PAGEOUT));
		swapped = 0;
		for (size_t i = 0; i < PAGES; i++)
			swapped += pagemap_is_swapped(pagemap,
						      (char *)p + bytes(i));
	}
	EXPECT_EQ(PAGES / 2, swapped);
	EXPECT_TRUE(is_mixed(p, PAGES));
	EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));
}

/* -- Other users of page tables ------------------------------------------- */

/*
 * Nobody can be asked to provide pages that the kernel has. Catches
 * userfaultfd taking the mapping for anonymous memory and putting zeros there.
 */
TEST_F(refpage, userfaultfd_register)
{
	struct uffdio_api api = { .api = UFFD_API };
	unsigned char *p = map_mixed(self->fd), *anon = map_anon(PAGES, RW);
	const size_t len = bytes(PAGES);
	int fd;

	fd = syscall(__NR_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (fd < 0 && syscall_is_absent())
		SKIP(return, "no userfaultfd");
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ioctl(fd, UFFDIO_API, &api));

	ASSERT_EQ(0, uffd_register(fd, anon, len, true, false, false));
	EXPECT_EQ(-EINVAL, uffd_register(fd, p, len, true, false, false));
	if (api.features & UFFD_FEATURE_MINOR_SHMEM)
		EXPECT_EQ(-EINVAL, uffd_register(fd, p, len, false, false, true));
	if (api.features & UFFD_FEATURE_PAGEFAULT_FLAG_WP)
		EXPECT_EQ(-EINVAL, uffd_register(fd, p, len, false, true, false));
	EXPECT_TRUE(is_mixed(p, PAGES));
}

/*
 * PAGEMAP_SCAN reports what changed, and a dropped page has changed. Catches a
 * marker that is kept, as in file mappings, where a dropped page reads as
 * before.
 */
TEST_F(refpage, pagemap_scan)
{
	struct uffdio_api api = {
		.api = UFFD_API,
		.features = UFFD_FEATURE_WP_ASYNC | UFFD_FEATURE_WP_UNPOPULATED,
	};
	unsigned char *p = map(self->fd, 4, RW);
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	int fd;

	ASSERT_LE(0, pagemap);
	fd = syscall(__NR_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (fd < 0 || ioctl(fd, UFFDIO_API, &api))
		SKIP(return, "no userfaultfd, or no asynchronous mode");
	ASSERT_EQ(0, uffd_register(fd, p, bytes(4), false, true, false));

	load(p);
	for (size_t i = 1; i < 4; i++)
		store(p + bytes(i), 0);
	for (size_t i = 0; i < 4; i++)
		scan_written(pagemap, p + bytes(i), PM_SCAN_WP_MATCHING |
			     PM_SCAN_CHECK_WPASYNC);
	for (size_t i = 0; i < 4; i++)
		EXPECT_FALSE(scan_written(pagemap, p + bytes(i), 0));

	store(p, 0);
	store(p + psize(), 1);
	ASSERT_EQ(0, madvise(p + bytes(2), psize(), MADV_DONTNEED));
	EXPECT_TRUE(scan_written(pagemap, p, 0));
	EXPECT_TRUE(scan_written(pagemap, p + psize(), 0));
	EXPECT_TRUE(scan_written(pagemap, p + bytes(2), 0));
	EXPECT_FALSE(scan_written(pagemap, p + bytes(3), 0));

	EXPECT_TRUE(same(p, altered(0, 1), psize()));
	EXPECT_TRUE(same(p + psize(), altered(0, 2), psize()));
	EXPECT_TRUE(is_content(p + bytes(2), 1));
	EXPECT_TRUE(same(p + bytes(3), altered(0, 1), psize()));
}

/*
 * Equal private pages merge and keep what they hold. Catches KSM merging the
 * reference page, which is not in its trees.
 */
TEST_F(refpage, ksm)
{
	unsigned char *p = map_mixed(self->fd), *q;
	size_t len = bytes(PAGES);

	if (access(KSM "run", W_OK))
		SKIP(return, "no KSM, or not root");
	q = map(self->fd, PAGES, RW);
	load_pages(q, 2);
	memset(q + bytes(2), 0x99, len - bytes(2));
	ASSERT_EQ(0, madvise(p, len, MADV_MERGEABLE));
	ASSERT_EQ(0, madvise(q, len, MADV_MERGEABLE));
	EXPECT_TRUE(ksm_scan_until("ksm_merging_pages", PAGES - 4));
	EXPECT_TRUE(is_mixed(p, PAGES));
	EXPECT_TRUE(is_content(q, 2));
	EXPECT_TRUE(is_byte(q + bytes(2), 0x99, len - bytes(2)));

	memset(q + bytes(4), 0x88, psize());
	EXPECT_TRUE(is_byte(q + bytes(3), 0x99, psize()));
	EXPECT_TRUE(is_byte(q + bytes(4), 0x88, psize()));
	ASSERT_EQ(0, madvise(q, len, MADV_UNMERGEABLE));
	EXPECT_TRUE(is_byte(q + bytes(5), 0x99, len - bytes(5)));
	ASSERT_EQ(0, madvise(q, len, MADV_DONTNEED));
	EXPECT_TRUE(is_content(q, PAGES));
}

/*
 * A private page of zeros that KSM replaced by the zero page is still a page of
 * zeros. Catches the zero page being taken for the reference page, both of
 * which are special PTEs: the bytes around a store would turn into content.
 */
TEST_F(refpage, ksm_zero_page)
{
	unsigned char *p = map(self->fd, 8, RW), *copy = malloc(bytes(8));
	struct iovec local = { copy, bytes(8) }, remote = { p, bytes(8) };
	char use_zero_pages[64];
	bool merged;
	pid_t pid;

	if (!file_text(KSM "use_zero_pages", "", use_zero_pages) ||
	    !file_write(KSM "use_zero_pages", "1"))
		SKIP(return, "no KSM, or not root");
	memset(p, 0, bytes(8));
	ASSERT_EQ(0, madvise(p, bytes(8), MADV_MERGEABLE));
	merged = ksm_scan_until("ksm_zero_pages", 8);
	file_write(KSM "use_zero_pages", use_zero_pages);
	ASSERT_TRUE(merged);

	EXPECT_TRUE(is_byte(p, 0, bytes(8)));
	ASSERT_EQ(bytes(8),
		  process_vm_readv(getpid(), &local, 1, &remote, 1, 0));
	EXPECT_TRUE(is_byte(copy, 0, bytes(8)));

	p[0] = 1;
	EXPECT_TRUE(is_byte(p + 1, 0, bytes(8) - 1));
	pid = fork();
	if (!pid) {
		p[psize()] = 1;
		EXPECT_TRUE(is_byte(p + psize() + 1, 0, bytes(7) - 1));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	/* Half of what is left is unmerged by advice, half is dropped. */
	ASSERT_EQ(0, madvise(p, bytes(4), MADV_UNMERGEABLE));
	EXPECT_TRUE(is_byte(p + psize(), 0, bytes(7)));
	ASSERT_EQ(0, madvise(p + bytes(2), bytes(4), MADV_DONTNEED));
	EXPECT_TRUE(is_byte(p + psize(), 0, psize()));
	EXPECT_TRUE(is_content(p + bytes(2), 4));
	EXPECT_TRUE(is_byte(p + bytes(6), 0, bytes(2)));
}

/*
 * Migration takes private pages along; the reference page stays. Catches it
 * being isolated from a list on which it is not.
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
		ASSERT_LE(0, syscall(__NR_move_pages, 0, (long)PAGES, pages, nodes,
				     status, 2));
		for (size_t i = 0; i < PAGES; i++)
			EXPECT_EQ(mixed_stored(i), status[i] == to);
		EXPECT_TRUE(is_mixed(p, PAGES));
	}
	EXPECT_TRUE(is_mixed(mix(p, PAGES), PAGES));
}

/*
 * Compaction moves what it finds. Catches it finding the reference page, to
 * which there is no way back from the page.
 */
TEST_F(refpage, compaction)
{
	const size_t pages = 64 * PAGES;
	unsigned char *p = mix(map(self->fd, pages, RW), pages);

	if (!file_write("/proc/sys/vm/compact_memory", "1"))
		SKIP(return, "no compaction, or not root");
	EXPECT_TRUE(is_mixed(p, pages));
}

/*
 * The multi-gen LRU walks page tables. Catches its warning about special PTEs,
 * which is in the log, and a reference page that is put into a generation.
 */
TEST_F(refpage, lru_gen)
{
	const size_t pages = 64 * PAGES;
	unsigned char *p = mix(map(self->fd, pages, RW), pages);

	/* Without this bit, aging leaves page tables alone. */
	if (file_number("/sys/kernel/mm/lru_gen/enabled", "") < 2)
		SKIP(return, "no walks by the multi-gen LRU");
	for (int i = 0; i < 4; i++) {
		if (!lru_gen_age())
			SKIP(return, "no " LRU_GEN ", or not root");
		EXPECT_TRUE(is_mixed(p, pages));
	}
}

/* -- Access by the kernel ------------------------------------------------- */

typedef ssize_t access_fn(void *p, void *buf, size_t len);

/*
 * What the kernel gets from a mapping is what a load gets. What it puts there
 * is copied into a private page first, around which the content remains.
 */
static void check_access(struct __test_metadata *_metadata, int fd,
			 access_fn *get, access_fn *set, size_t offset,
			 size_t len)
{
	unsigned char *p = map_mixed(fd), *q = map(fd, 4, RW);
	unsigned char *buf = map_anon(PAGES, RW);

	ASSERT_EQ(bytes(PAGES), get(p, buf, bytes(PAGES))) {
		TH_LOG("%m");
	}
	EXPECT_TRUE(is_mixed(buf, PAGES));
	EXPECT_TRUE(is_mixed(p, PAGES));

	load(q + bytes(2));
	memcpy(buf, altered(offset, len) + offset, len);
	for (size_t i = 1; i <= 2; i++) {
		unsigned char *page = q + bytes(i);

		ASSERT_EQ((ssize_t)len, set(page + offset, buf, len)) {
			TH_LOG("%m");
		}
		EXPECT_TRUE(same(page, altered(offset, len), psize()));
	}
	EXPECT_TRUE(is_content(q, 1));
	EXPECT_TRUE(is_content(q + bytes(3), 1));
	EXPECT_TRUE(is_content(map(fd, 1, RW), 1));
}

static ssize_t syscall_get(void *p, void *buf, size_t len)
{
	int fd = scratch_file(0);

	if (write(fd, p, len) != (ssize_t)len)
		return -1;
	return pread(fd, buf, len, 0);
}

static ssize_t syscall_set(void *p, void *buf, size_t len)
{
	int fd = scratch_file(0);

	if (write(fd, buf, len) != (ssize_t)len)
		return -1;
	return pread(fd, p, len, 0);
}

/*
 * write(2) from and read(2) into a mapping. Catches a fault in the kernel that
 * is not handled like one in the program.
 */
TEST_F(refpage, read_and_write)
{
	check_access(_metadata, self->fd, syscall_get, syscall_set, 100, 300);
}

static ssize_t process_vm_get(void *p, void *buf, size_t len)
{
	struct iovec local = { buf, len }, remote = { p, len };

	return process_vm_readv(getpid(), &local, 1, &remote, 1, 0);
}

static ssize_t process_vm_set(void *p, void *buf, size_t len)
{
	struct iovec local = { buf, len }, remote = { p, len };

	return process_vm_writev(getpid(), &local, 1, &remote, 1, 0);
}

/*
 * process_vm_readv() and process_vm_writev() pin pages. Catches -EFAULT for a
 * special PTE, and stores through it.
 */
TEST_F(refpage, process_vm)
{
	check_access(_metadata, self->fd, process_vm_get, process_vm_set, 100, 300);
}

static ssize_t proc_mem_get(void *p, void *buf, size_t len)
{
	int fd = open("/proc/self/mem", O_RDONLY);

	return pread(fd, buf, len, (off_t)(unsigned long)p);
}

static ssize_t proc_mem_set(void *p, void *buf, size_t len)
{
	int fd = open("/proc/self/mem", O_RDWR);

	return pwrite(fd, buf, len, (off_t)(unsigned long)p);
}

/*
 * The same through /proc/PID/mem, the way of debuggers. Catches a remote
 * access that maps the reference page and writes to it.
 */
TEST_F(refpage, proc_mem)
{
	check_access(_metadata, self->fd, proc_mem_get, proc_mem_set, 100, 300);
}

/*
 * A debugger may write to read-only memory. Catches a forced write (FOLL_FORCE)
 * that takes the PTE, which is not writable either way, as it is.
 */
TEST_F(refpage, proc_mem_forced_write)
{
	unsigned char *p = map(self->fd, 3, PROT_READ);
	unsigned char *anon = map_anon(1, PROT_READ);
	unsigned char buf[300];

	if (proc_mem_set(anon, buf, 1) != 1)
		SKIP(return, "forced writes are disabled");
	load(p + psize());
	memcpy(buf, altered(100, 300) + 100, 300);
	for (size_t i = 0; i < 2; i++) {
		ASSERT_EQ(300, proc_mem_set(p + bytes(i) + 100, buf, 300));
		EXPECT_TRUE(same(p + bytes(i), altered(100, 300), psize()));
	}
	EXPECT_TRUE(is_content(p + bytes(2), 1));
	EXPECT_EQ(SIGSEGV, signal_of(p, STORE));
	EXPECT_EQ(2, smaps_pages(p, "Anonymous:"));
}

/*
 * A tracer sees what its child sees, and changes the child's memory only.
 * Catches POKEDATA, a forced write, to the page that all share.
 */
TEST_F(refpage, ptrace)
{
	const size_t word = sizeof(long), at = 8 * word;
	unsigned char *p = map_mixed(self->fd);
	unsigned char *ro = map(self->fd, 1, PROT_READ);
	unsigned char *poked[] = { p, p + psize(), ro };
	pid_t pid = fork();
	long value;

	if (!pid) {
		ptrace(PTRACE_TRACEME, 0, NULL, NULL);
		raise(SIGSTOP);
		for (size_t i = 0; i < ARRAY_SIZE(poked); i++)
			EXPECT_TRUE(same(poked[i], altered(at, word), psize()));
		_exit(0);
	}
	ASSERT_TRUE(WIFSTOPPED(wait_status(pid)));
	for (size_t i = 0; i < PAGES; i++) {
		size_t offset = mixed_offset(i) & -word;

		value = ptrace(PTRACE_PEEKDATA, pid, p + bytes(i) + offset, NULL);
		EXPECT_TRUE(same((unsigned char *)&value,
				 p + bytes(i) + offset, word));
	}
	memcpy(&value, altered(at, word) + at, word);
	for (size_t i = 0; i < ARRAY_SIZE(poked); i++)
		EXPECT_EQ(0, ptrace(PTRACE_POKEDATA, pid, poked[i] + at, value));
	EXPECT_EQ(0, ptrace(PTRACE_CONT, pid, NULL, NULL));
	EXPECT_TRUE(child_passed(pid));
	EXPECT_TRUE(is_mixed(p, PAGES));
	EXPECT_TRUE(is_content(ro, 1));
}

static void read_full(int fd, unsigned char *buf, size_t len)
{
	while (len) {
		ssize_t got = read(fd, buf, len);

		if (got <= 0)
			die("read from pipe");
		buf += got;
		len -= got;
	}
}

static void check_vmsplice(struct __test_metadata *_metadata, int fd,
			   unsigned int flags)
{
	unsigned char *p = map(fd, 4, RW), *buf = map_anon(4, RW);
	struct iovec iov = { p, bytes(4) };
	int pipes[2];

	ASSERT_EQ(0, pipe(pipes));
	load_pages(p, 2);
	store(p + bytes(3), 1);
	ASSERT_EQ(bytes(4), vmsplice(pipes[1], &iov, 1, flags)) {
		TH_LOG("%m");
	}
	memset(p, 0x44, bytes(3));
	unmap(p, 4);
	close(fd);

	/* If the page in the pipe was freed, others fill it now. */
	for (int i = 0; i < 64; i++) {
		memset(map_anon(1, RW), 0x55, psize());
		close(refpage_create(buf, 0));
	}
	read_full(pipes[0], buf, bytes(4));
	EXPECT_TRUE(is_content(buf, 3));
	EXPECT_TRUE(same(buf + bytes(3), altered(1, 1), psize()));
}

/*
 * What was put into a pipe stays the content: while the mapping is stored to,
 * and after it and the descriptor are gone. Catches a reference to the page
 * that is not counted.
 */
TEST_F(refpage, vmsplice)
{
	check_vmsplice(_metadata, refpage_create(self->source, self->flags), 0);
}

/*
 * Nobody can give away what is not theirs. Catches a pipe that takes the
 * reference page for its own.
 */
TEST_F(refpage, vmsplice_gift)
{
	check_vmsplice(_metadata, refpage_create(self->source, self->flags),
		       SPLICE_F_GIFT);
}

static int direct_fd = -1;

static bool direct_open(void)
{
	const char *dir = getenv("REFPAGE_DIRECT_DIR") ?: ".";
	struct statfs fs;
	char path[256];

	snprintf(path, sizeof(path), "%s/refpage.XXXXXX", dir);
	direct_fd = mkostemp(path, O_DIRECT);
	if (direct_fd < 0)
		return false;
	unlink(path);
	/* tmpfs takes the flag, but copies. */
	return !fstatfs(direct_fd, &fs) && fs.f_type != TMPFS_MAGIC;
}

static ssize_t direct_get(void *p, void *buf, size_t len)
{
	if (pwrite(direct_fd, p, len, 0) != (ssize_t)len)
		return -1;
	return pread(direct_fd, buf, len, 0);
}

static ssize_t direct_set(void *p, void *buf, size_t len)
{
	if (pwrite(direct_fd, buf, len, 0) != (ssize_t)len)
		return -1;
	return pread(direct_fd, p, len, 0);
}

/* Direct I/O pins pages. Catches a device that writes to the reference page. */
TEST_F(refpage, direct_io)
{
	if (!direct_open())
		SKIP(return, "no direct I/O in $REFPAGE_DIRECT_DIR or .");
	check_access(_metadata, self->fd, direct_get, direct_set, 0, psize());
}

/*
 * A long-term pin, for reading, too, is a pin of a private page: what is stored
 * later is seen through it. Catches a pin of the reference page, from which the
 * next store parts the mapping.
 */
TEST_F(refpage, pin_longterm)
{
	int gup = open("/sys/kernel/debug/gup_test", O_RDWR);
	const size_t len = bytes(PAGES);
	unsigned char *buf = map_anon(PAGES, RW);
	const __u64 dest = (unsigned long)buf;

	if (gup < 0)
		SKIP(return, "no /sys/kernel/debug/gup_test, or not root");
	for (__u32 flags = 0; flags <= 3; flags++) {
		unsigned char *p = map_mixed(self->fd);
		struct pin_longterm_test pin = {
			.addr = (unsigned long)p, .size = len, .flags = flags,
		};

		ASSERT_EQ(0, ioctl(gup, PIN_LONGTERM_TEST_START, &pin)) {
			TH_LOG("flags %d: %m", flags);
		}
		ASSERT_EQ(0, ioctl(gup, PIN_LONGTERM_TEST_READ, &dest));
		EXPECT_TRUE(is_mixed(buf, PAGES));
		EXPECT_EQ(PAGES, smaps_pages(p, "Anonymous:"));

		memset(p, 0xb0 + flags, len);
		ASSERT_EQ(0, ioctl(gup, PIN_LONGTERM_TEST_READ, &dest));
		EXPECT_TRUE(is_byte(buf, 0xb0 + flags, len));
		ASSERT_EQ(0, ioctl(gup, PIN_LONGTERM_TEST_STOP));
		unmap(p, PAGES);
	}
}

static long futex(void *p, int op, __u32 value, void *p2, __u32 value3)
{
	/* The timeout of FUTEX_WAKE_OP is a count. */
	return syscall(__NR_futex, p, op, value, 0, p2, value3);
}

/*
 * A futex can be in an untouched page. Catches the kernel's own load and atomic
 * store missing the content.
 */
TEST_F(refpage, futex)
{
	static const int scopes[] = { 0, FUTEX_PRIVATE_FLAG };
	unsigned char *p = map(self->fd, 8, RW);

	for (size_t i = 0; i < ARRAY_SIZE(scopes); i++) {
		unsigned char *q = p + bytes(4 * i);
		__u32 word, got;

		memcpy(&word, content, sizeof(word));
		EXPECT_EQ(-1, futex(q, FUTEX_WAIT | scopes[i], word + 1, NULL, 0));
		EXPECT_EQ(EAGAIN, errno);
		EXPECT_EQ(0, futex(q + psize(), FUTEX_WAKE | scopes[i], 1, NULL, 0));
		load(q + bytes(3));
		for (size_t k = 2; k <= 3; k++) {
			EXPECT_EQ(0, futex(q, FUTEX_WAKE_OP | scopes[i], 1,
					   q + bytes(k),
					   FUTEX_OP(FUTEX_OP_ADD, 1,
						    FUTEX_OP_CMP_EQ, 0)));
			memcpy(&got, q + bytes(k), sizeof(got));
			EXPECT_EQ(word + 1, got);
			EXPECT_TRUE(same(q + bytes(k) + 4, content + 4,
					 psize() - 4));
		}
		EXPECT_TRUE(is_content(q, 2));
	}
}

/* -- Core dump ------------------------------------------------------------ */

/*
 * A core has what the process saw. Catches untouched pages left out as holes,
 * which read as zeros, and a mapping without a private page left out as a
 * mapping of a file, from which it could be read.
 */
TEST_F(refpage, core_dump)
{
	unsigned char *mixed = map_mixed(self->fd);
	unsigned char *untouched, *reserved, *core, *found;

	reserved = map(self->fd, PAGES, PROT_NONE);
	map_anon(1, PROT_NONE);
	untouched = map(self->fd, PAGES, PROT_READ);
	load(untouched);
	if (geteuid() || access(CORE_PATTERN, W_OK))
		SKIP(return, "no core dumps, or not root");
	core = dump_core();
	ASSERT_NE(NULL, core);

	found = core_find(core, mixed, PAGES);
	ASSERT_NE(NULL, found);
	EXPECT_TRUE(is_mixed(found, PAGES));
	found = core_find(core, untouched, PAGES);
	ASSERT_NE(NULL, found);
	EXPECT_TRUE(is_content(found, PAGES));
	/* What nobody may read is not worth the space. */
	EXPECT_EQ(NULL, core_find(core, reserved, PAGES));
}

/* -- Races ---------------------------------------------------------------- */

#define STORERS		2
#define STEP		(~0UL / 0xff)	/* 0x01 in every byte */

static struct {
	unsigned long *p;
	bool stop;
	int loads;
	int wrong;
	unsigned long wrong_value;
} race;

static unsigned long *race_page(unsigned long i)
{
	return race.p + bytes(i % PAGES) / sizeof(unsigned long);
}

static unsigned long race_content(size_t i)
{
	return ((unsigned long *)content)[i];
}

/* The first word of a page is stored to, the others never are. */
static void race_check(unsigned long random)
{
	unsigned long *page = race_page(random >> 32);
	size_t i = 1 + random % (psize() / sizeof(unsigned long) - 1);
	unsigned long first = __atomic_load_n(page, __ATOMIC_RELAXED);
	unsigned long other = __atomic_load_n(page + i, __ATOMIC_RELAXED);
	unsigned long difference = first ^ race_content(0);

	__atomic_fetch_add(&race.loads, 1, __ATOMIC_RELAXED);
	if (difference % STEP || difference / STEP > STORERS) {
		__atomic_fetch_add(&race.wrong, 1, __ATOMIC_RELAXED);
		race.wrong_value = first;
	}
	if (other != race_content(i)) {
		__atomic_fetch_add(&race.wrong, 1, __ATOMIC_RELAXED);
		race.wrong_value = other;
	}
}

static bool racing(void)
{
	return !__atomic_load_n(&race.stop, __ATOMIC_RELAXED);
}

static void *race_load(void *arg)
{
	unsigned long state = (unsigned long)arg;

	while (racing())
		race_check(next_random(&state));
	return NULL;
}

static void *race_store(void *arg)
{
	unsigned long value = race_content(0) ^ (unsigned long)arg * STEP;
	unsigned long state = (unsigned long)arg;

	while (racing())
		__atomic_store_n(race_page(next_random(&state) >> 32), value,
				 __ATOMIC_RELAXED);
	return NULL;
}

static void *race_dontneed(void *arg)
{
	unsigned long state = (unsigned long)arg;

	while (racing())
		madvise(race_page(next_random(&state) >> 32), psize(), MADV_DONTNEED);
	return NULL;
}

/*
 * Threads load, store and drop the same pages while the process forks: every
 * load sees the content or a value that was stored. Catches a page that is
 * mapped before it is filled, and one that is filled after it was stored to.
 */
TEST_F_TIMEOUT(refpage, race, 120)
{
	void *(*const run[])(void *) = {
		race_load, race_store, race_store, race_dontneed, race_load,
	};
	time_t end = time(NULL) + environment("REFPAGE_SECONDS", 3);
	pthread_t threads[ARRAY_SIZE(run)];

	race.p = (unsigned long *)map(self->fd, PAGES, RW);
	for (size_t i = 0; i < ARRAY_SIZE(run); i++)
		ASSERT_EQ(0, pthread_create(&threads[i], NULL, run[i], (void *)i));
	for (unsigned long round = 1; time(NULL) < end; round++) {
		pid_t pid = fork();

		if (!pid) {
			race.wrong = 0;
			for (unsigned long i = 0; i < PAGES; i++) {
				race_check(i << 32 | round);
				*race_page(i) = race_content(0) ^ STEP;
				race_check(i << 32 | round);
			}
			_exit(race.wrong != 0);
		}
		ASSERT_TRUE(child_passed(pid));
	}
	__atomic_store_n(&race.stop, true, __ATOMIC_RELAXED);
	for (size_t i = 0; i < ARRAY_SIZE(run); i++)
		ASSERT_EQ(0, pthread_join(threads[i], NULL));
	EXPECT_NE(0, race.loads);
	EXPECT_EQ(0, race.wrong) {
		TH_LOG("of %d loads; the last wrong one was %#lx",
		       race.loads, race.wrong_value);
	}
}

/* -- Fixture: the call itself --------------------------------------------- */

FIXTURE(create)
{
	unsigned char *page;
};

FIXTURE_SETUP(create)
{
	int fd;

	self->page = map_anon(2, RW);
	memset(self->page, 0xee, psize());
	fd = refpage_create(self->page, 0);
	if (fd < 0 && syscall_is_absent())
		SKIP(return, "the kernel has no refpage_create()");
	ASSERT_LE(0, fd);
	close(fd);
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
 * Flags are 0, or REFPAGE_PATTERN with a size up to a page. Tries every single
 * bit and every size. Catches a bit that is ignored and so can never get a
 * meaning, and a shift by too much.
 */
TEST_F(create, flags)
{
	const unsigned int bits = REFPAGE_PATTERN_SHIFT;

	for (unsigned int n = 0; n <= REFPAGE_PATTERN_MASK; n++) {
		for (unsigned int i = 0; i <= 2 * bits + 1; i++) {
			unsigned int low, flags;
			bool good;

			low = i < 2 * bits ? 1U << i / 2 | i % 2 : i % 2;
			flags = n << REFPAGE_PATTERN_SHIFT | low;
			good = !flags || (low == REFPAGE_PATTERN && n <= pshift());
			EXPECT_EQ(good ? 0 : EINVAL, create_errno(self->page, flags)) {
				TH_LOG("flags %#x", flags);
			}
		}
	}
	EXPECT_EQ(EINVAL, create_errno(self->page, -1));
}

/*
 * A pattern has the size that the flags say and is repeated to fill a page.
 * Catches a repetition that is off by a factor, and one that starts at the
 * wrong place.
 */
TEST_F(create, pattern_sizes)
{
	content = map_anon(1, RW);
	for (unsigned int n = 0; n <= pshift(); n++) {
		unsigned char *from = self->page + (psize() >> n > 1 ? 1UL << n : 0);
		int fd;

		for (size_t i = 0; i < psize(); i++)
			content[i] = 7 + n + (i & ((1UL << n) - 1)) * 37;
		memcpy(from, content, 1UL << n);
		fd = refpage_create(from, REFPAGE_PATTERN_SIZE(n));
		ASSERT_LE(0, fd);
		EXPECT_TRUE(is_content(map(fd, 2, PROT_READ), 2));
	}
}

/*
 * The content is aligned to its size, even where it could not be read. Catches
 * a mask that is off by a factor of two.
 */
TEST_F(create, alignment)
{
	unsigned char *none = map_anon(2, PROT_NONE);

	for (unsigned int n = 0; n <= pshift(); n++) {
		unsigned int flags = REFPAGE_PATTERN_SIZE(n);
		size_t size = 1UL << n;

		for (size_t off = 1; off < size; off *= 2) {
			EXPECT_EQ(EINVAL, create_errno(self->page + off, flags));
			EXPECT_EQ(EINVAL, create_errno(self->page + size - off, flags));
			EXPECT_EQ(EINVAL, create_errno(none + off, flags));
			EXPECT_EQ(EINVAL, create_errno(self->page + psize() - off, 0));
		}
		EXPECT_EQ(0, create_errno(self->page + size, flags));
		EXPECT_EQ(0, create_errno(self->page + psize() - size, flags));
	}
}

/*
 * Content that cannot be read is EFAULT. Catches a return value of
 * copy_from_user() that is passed on, and SIGBUS sent for a call.
 */
TEST_F(create, efault)
{
	unsigned char *none = map_anon(1, PROT_NONE), *hole = map_anon(1, RW);
	unsigned char *beyond;
	int fd = scratch_file(0);

	ASSERT_EQ(0, ftruncate(fd, psize()));
	/* Readable up to the end of the file, SIGBUS after it. */
	beyond = mmap(NULL, bytes(2), PROT_READ, MAP_PRIVATE, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)beyond);
	unmap(hole, 1);
	for (unsigned int n = 0; n <= pshift() + 1; n++) {
		unsigned int flags = n > pshift() ? 0 : REFPAGE_PATTERN_SIZE(n);
		size_t size = n > pshift() ? psize() : 1UL << n;

		EXPECT_EQ(EFAULT, create_errno(NULL, flags));
		EXPECT_EQ(EFAULT, create_errno(none, flags));
		EXPECT_EQ(EFAULT, create_errno(none + psize() - size, flags));
		EXPECT_EQ(EFAULT, create_errno(hole, flags));
		EXPECT_EQ(EFAULT, create_errno(beyond + psize(), flags));
		EXPECT_EQ(EFAULT, create_errno((void *)(-bytes(2UL)), flags));
		EXPECT_EQ(0, create_errno(beyond + psize() - size, flags));
	}
}

/*
 * No descriptor is free: EMFILE. Catches an error path that frees what it did
 * not allocate, which the checkers of a debug kernel see.
 */
TEST_F(create, emfile)
{
	int next = dup(0);
	struct rlimit limit, none;

	ASSERT_LE(0, next);
	close(next);
	ASSERT_EQ(0, getrlimit(RLIMIT_NOFILE, &limit));
	none = limit;
	none.rlim_cur = next;
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &none));
	EXPECT_EQ(EMFILE, create_errno(self->page, 0));
	EXPECT_EQ(EMFILE, create_errno(self->page, REFPAGE_PATTERN_SIZE(0)));
	ASSERT_EQ(0, setrlimit(RLIMIT_NOFILE, &limit));
	EXPECT_EQ(0, create_errno(self->page, 0));
}

/*
 * The system has no more files: ENFILE, for users without CAP_SYS_ADMIN.
 * Catches an error path that keeps the descriptor or the inode.
 */
TEST_F(create, enfile)
{
	const char *file_max = "/proc/sys/fs/file-max";
	int next = dup(0);
	char saved[64];
	pid_t pid;

	close(next);
	if (geteuid() || !file_text(file_max, "", saved))
		SKIP(return, "not root");
	ASSERT_TRUE(file_write(file_max, "1"));
	pid = fork();
	if (!pid) {
		if (setresuid(65534, 65534, 65534))
			die("setresuid");
		EXPECT_EQ(ENFILE, create_errno(self->page, 0));
		EXPECT_EQ(ENFILE, create_errno(self->page, REFPAGE_PATTERN_SIZE(0)));
		EXPECT_EQ(next, dup(0));
		_exit(0);
	}
	EXPECT_TRUE(child_passed(pid));
	ASSERT_TRUE(file_write(file_max, saved));
	EXPECT_EQ(0, create_errno(self->page, 0));
}

/*
 * A call that fails takes no descriptor. Catches an error path that forgets
 * the one reserved first.
 */
TEST_F(create, failure_leaves_no_descriptor)
{
	unsigned char *none = map_anon(1, PROT_NONE);
	int next = dup(0), fd;

	close(next);
	for (int i = 0; i < 100; i++) {
		EXPECT_EQ(EFAULT, create_errno(none, 0));
		EXPECT_EQ(EFAULT, create_errno(none, REFPAGE_PATTERN_SIZE(4)));
		EXPECT_EQ(EINVAL, create_errno(self->page, 2));
	}
	fd = refpage_create(self->page, 0);
	EXPECT_EQ(next, fd);
}

/*
 * Small patterns are looked at, larger ones are not: those that are one byte
 * share its page. Catches a page per descriptor, and a search of large content.
 */
TEST_F(create, uniform_patterns)
{
	unsigned char *source = map_anon(1, RW);
	unsigned int n;
	int fd, same;

	memset(source, 0x6d, psize());
	same = refpage_create(source, REFPAGE_PATTERN_SIZE(0));
	ASSERT_LE(0, same);
	for (n = 0; n <= 11; n++) {
		fd = refpage_create(source, REFPAGE_PATTERN_SIZE(n));
		ASSERT_LE(0, fd);
		EXPECT_EQ(n <= 4, pfn_of_fd(fd) == pfn_of_fd(same)) {
			TH_LOG("pattern of %u bytes", 1 << n);
		}
		close(fd);
	}
	for (n = 1; n <= 4; n++) {
		source[(1 << n) - 1] = 0x6e;
		fd = refpage_create(source, REFPAGE_PATTERN_SIZE(n));
		EXPECT_NE(pfn_of_fd(fd), pfn_of_fd(same));
		close(fd);
	}
}

/*
 * A page with a memory error is given to nobody else. Catches one that every
 * new descriptor gets for as long as anybody has the old one.
 */
TEST_F(create, poisoned_page)
{
	static const unsigned char byte = 0x77;
	const unsigned int flags = REFPAGE_PATTERN_SIZE(0);
	int fd = refpage_create(&byte, flags), other;
	unsigned char *p = map(fd, 1, PROT_READ);
	unsigned long pfn = pfn_of_fd(fd);

	load(p);
	if (madvise(p, psize(), MADV_HWPOISON) &&
	    (errno == EINVAL || errno == EPERM))
		SKIP(return, "no CONFIG_MEMORY_FAILURE, or not root");

	other = refpage_create(&byte, flags);
	ASSERT_LE(0, other);
	EXPECT_NE(pfn, pfn_of_fd(other));
	EXPECT_EQ(byte, load(map(other, 1, PROT_READ)));
	close(fd);
	unmap(p, 1);

	fd = refpage_create(&byte, flags);
	EXPECT_EQ(pfn_of_fd(other), pfn_of_fd(fd));
}

/*
 * Pins count for 1024 references each, and the page is the same in all of a
 * mapping: before its count overflows, pins get copies. Catches a WARN, and pins
 * that fail, of a page that other processes have as well.
 */
TEST_F_TIMEOUT(create, many_pins, 300)
{
	const size_t limit = (1UL << 30) / 1024, pages = limit + 64;
	int gup = open("/sys/kernel/debug/gup_test", O_RDWR);
	int fd = refpage_create(self->page, 0);
	unsigned char *p = map(fd, pages, PROT_READ);
	struct gup_test pin = {
		.addr = (unsigned long)p, .size = bytes(pages),
		.nr_pages_per_call = 512,
	};

	if (gup < 0)
		SKIP(return, "no /sys/kernel/debug/gup_test, or not root");
	ASSERT_EQ(0, ioctl(gup, PIN_BASIC_TEST, &pin));
	EXPECT_LE(64 - 8, smaps_pages(p, "Anonymous:"));
	EXPECT_GE(64 + 8, smaps_pages(p, "Anonymous:"));
}

/* One descriptor's life, in one of several orders; returns what was wrong. */
static const char *live(unsigned char *source, unsigned long round)
{
	static const unsigned int flags[] = {
		0, REFPAGE_PATTERN_SIZE(0), REFPAGE_PATTERN_SIZE(4),
	};
	int fd = refpage_create(source, flags[round % ARRAY_SIZE(flags)]);
	unsigned char *p, got = ~source[0];
	int pipes[2];

	if (fd < 0)
		return "refpage_create";
	p = mmap(NULL, bytes(4), RW, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return "mmap";
	if (load(p) != source[0])
		return "load";
	p[psize()] = ~source[0];
	p[bytes(2)] = p[bytes(3)];
	switch (round % 4) {
	case 0:
		close(fd);
		unmap(p, 4);
		break;
	case 1:
		unmap(p, 4);
		close(fd);
		break;
	case 2:
		close(fd);
		if (load(p + bytes(3)) != source[0])
			return "load after close";
		unmap(p, 4);
		break;
	case 3:
		if (pipe(pipes) ||
		    vmsplice(pipes[1], &(struct iovec){ p, 1 }, 1, 0) != 1)
			return "vmsplice";
		close(fd);
		unmap(p, 4);
		if (read(pipes[0], &got, 1) != 1 || got != source[0])
			return "page in pipe";
		close(pipes[0]);
		close(pipes[1]);
		break;
	}
	return NULL;
}

/* Pages in use for good; per-CPU caches and deferred work make it vague. */
static long used_pages(void)
{
	const char *meminfo = "/proc/meminfo";

	file_write("/proc/sys/vm/drop_caches", "3");
	return (file_number(meminfo, "MemTotal:") -
		file_number(meminfo, "MemFree:")) * 1024 / psize();
}

/*
 * A descriptor, its mappings and its pins leave nothing behind, in whatever
 * order they go. Catches a page, an inode or a file that is not freed.
 */
TEST_F_TIMEOUT(create, lifetime, 900)
{
	unsigned long rounds = environment("REFPAGE_ROUNDS", 100000), round;
	long before = 0, used, bound = 1024 + rounds / 50;
	const char *wrong = NULL;

	for (round = 0; !wrong && round < rounds; round++) {
		if (round == rounds / 20)
			before = used_pages();
		memset(self->page, round / 7, 64);
		wrong = live(self->page, round);
	}
	ASSERT_EQ(NULL, wrong) {
		TH_LOG("round %lu: %s: %m", round, wrong);
	}

	for (int tries = 0; tries < 20; tries++) {
		used = used_pages();
		if (used < before + bound)
			break;
		sched_yield();
	}
	EXPECT_GT(before + bound, used);
}

TEST_HARNESS_MAIN
