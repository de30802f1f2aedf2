// SPDX-License-Identifier: GPL-2.0
/*
 * Tests of refpage_create(2) and MAP_REFPAGE in a program of 32 bits, on a
 * kernel of 64 bits or of 32: pages beyond 2 GiB, whose addresses are negative
 * where they are signed. A program of 64 bits has nothing to test here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/mman.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest.h"

/* Those of 32 bits; the headers of a kernel of 64 may have others. */
#define NR_MMAP2		192
#define NR_REFPAGE_CREATE	500

#define PAGES	16
#define RW	(PROT_READ | PROT_WRITE)

static const unsigned long addresses[] = {
	0x20000000, 0x7ffff000, 0x80000000, 0xb0000000, 0xc0000000, 0xfff00000,
};

static size_t page_size;
static unsigned char *content;

static unsigned char *new_source(unsigned long addr)
{
	void *p = mmap((void *)addr, page_size, RW, MAP_PRIVATE | MAP_ANONYMOUS |
		       MAP_FIXED_NOREPLACE, -1, 0);

	if (p != (void *)addr) {
		ksft_print_msg("no page at %#lx: %s\n", addr, strerror(errno));
		return NULL;
	}
	memcpy(p, content, page_size);
	return p;
}

/* Is this memory that is born with the content? Unmaps it. */
static bool is_good(unsigned char *p)
{
	bool good = true;
	int status = 1;
	pid_t pid;

	if (p == MAP_FAILED) {
		ksft_print_msg("mmap: %s\n", strerror(errno));
		return false;
	}
	for (size_t i = 0; i < PAGES; i++)
		good &= !memcmp(p + i * page_size, content, page_size);
	p[page_size + 5] ^= 0xff;
	good &= !memcmp(p + page_size, content, 5);
	good &= p[page_size + 5] == (content[5] ^ 0xff);
	good &= !memcmp(p + page_size + 6, content + 6, page_size - 6);
	pid = fork();
	if (!pid)
		_exit(p[0] != content[0] || p[page_size + 5] == content[5]);
	good &= waitpid(pid, &status, 0) == pid && !status;
	munmap(p, PAGES * page_size);
	return good;
}

static void *mmap2(unsigned long offset, int flags)
{
	return (void *)syscall(NR_MMAP2, NULL, PAGES * page_size, RW,
			       MAP_PRIVATE | flags, -1, offset);
}

/* As a libc with an off_t that is signed, and one where it is not */
static void *one_call_signed(const unsigned char *page)
{
	return mmap2((long)page >> 12, MAP_REFPAGE);
}

static void *one_call_unsigned(const unsigned char *page)
{
	return mmap2((unsigned long)page >> 12, MAP_REFPAGE);
}

static void *one_call_libc(const unsigned char *page)
{
	return mmap(NULL, PAGES * page_size, RW, MAP_PRIVATE | MAP_REFPAGE, -1,
		    (off_t)(uintptr_t)page);
}

static void *one_call_libc_64(const unsigned char *page)
{
	return mmap64(NULL, PAGES * page_size, RW, MAP_PRIVATE | MAP_REFPAGE, -1,
		      (off64_t)(uintptr_t)page);
}

static void *two_calls(const unsigned char *page)
{
	int fd = syscall(NR_REFPAGE_CREATE, page, 0);
	void *p;

	if (fd < 0)
		return MAP_FAILED;
	p = mmap(NULL, PAGES * page_size, RW, MAP_PRIVATE, fd, 0);
	close(fd);
	return p;
}

static const struct {
	const char *name;
	void *(*map)(const unsigned char *page);
} ways[] = {
	{ "refpage_create", two_calls },
	{ "mmap2, signed", one_call_signed },
	{ "mmap2, unsigned", one_call_unsigned },
	{ "mmap of libc", one_call_libc },
	{ "mmap64 of libc", one_call_libc_64 },
};

int main(void)
{
	ksft_print_header();
	if (sizeof(void *) > 4)
		ksft_exit_skip("a program of 64 bits\n");
	page_size = sysconf(_SC_PAGESIZE);
	content = malloc(page_size);
	for (size_t i = 0; i < page_size; i++)
		content[i] = i * 131 + (i >> 8);
	if (syscall(NR_REFPAGE_CREATE, NULL, 0) < 0 && errno == ENOSYS)
		ksft_exit_skip("no refpage_create()\n");

	ksft_set_plan(ARRAY_SIZE(ways) * ARRAY_SIZE(addresses) + 1);
	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(ways); k++) {
			unsigned char *page = new_source(addresses[i]);
			bool good = page && is_good(ways[k].map(page));

			munmap(page, page_size);
			good &= ways[k].map((void *)addresses[i]) == MAP_FAILED &&
				errno == EFAULT;
			ksft_test_result(good, "%s, page at %#lx\n",
					 ways[k].name, addresses[i]);
		}
	}
	ksft_test_result(mmap2(0xc0000, MAP_REFPAGE << 1) == MAP_FAILED &&
			 errno == EBADF, "unknown flag\n");
	ksft_finished();
}
