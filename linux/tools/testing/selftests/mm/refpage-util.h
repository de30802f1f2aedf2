/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests of refpage_create(2) share that need no memory tags: comparing
 * memory with the content that it was born with, and touching it.
 */
#ifndef REFPAGE_UTIL_H
#define REFPAGE_UTIL_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <linux/elf.h>
#include <linux/fs.h>

#include "vm_util.h"
#include "refpage-base.h"

/*
 * What an untouched page reads. Global, so that the helpers need not be told;
 * each test runs in a process of its own.
 */
static unsigned char *content;

/* -- Comparing ------------------------------------------------------------ */

static inline bool same(const unsigned char *p, const unsigned char *want,
			size_t len)
{
	if (!memcmp(p, want, len))
		return true;
	for (size_t i = 0; i < len; i++) {
		if (p[i] == want[i])
			continue;
		ksft_print_msg("byte %#zx at %p is %02x and not %02x\n",
			       i, p, p[i], want[i]);
		return false;
	}
	return true;
}

static inline bool is_content(const unsigned char *p, size_t pages)
{
	for (size_t i = 0; i < pages; i++) {
		if (!same(p + bytes(i), content, psize()))
			return false;
	}
	return true;
}

static inline bool is_byte(const unsigned char *p, unsigned char byte,
			   size_t len)
{
	for (size_t i = 0; i < len; i++) {
		if (p[i] != byte)
			return same(p + i, &byte, 1);
	}
	return true;
}

/* A page of content in which @len bytes at @offset are inverted. */
static inline const unsigned char *altered(size_t offset, size_t len)
{
	static unsigned char *page;

	if (!page)
		page = malloc(psize());
	if (!page)
		die("malloc");
	memcpy(page, content, psize());
	for (size_t i = offset; i < offset + len; i++)
		page[i] = ~content[i];
	return page;
}

/* -- Touching ------------------------------------------------------------- */

static inline void store(unsigned char *p, size_t offset)
{
	__atomic_store_n(p + offset, ~content[offset], __ATOMIC_RELAXED);
}

static inline void load_pages(const unsigned char *p, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		load(p + bytes(i));
}

static inline void store_pages(unsigned char *p, size_t pages)
{
	for (size_t i = 0; i < pages; i++)
		store(p + bytes(i), 0);
}

/* -- Mappings ------------------------------------------------------------- */

/*
 * A mixed mapping has pages in every state: untouched, loaded from, stored to,
 * loaded from and then stored to, and so on.
 */
static inline bool mixed_stored(size_t i)
{
	return i % 4 >= 2;
}

static inline size_t mixed_offset(size_t i)
{
	return i * 1021 % psize();
}

/*
 * Loads come first: between pages that are there, no large folio fits. A load
 * also maps what is around it; let go of that.
 */
static inline unsigned char *mix(unsigned char *p, size_t pages)
{
	for (size_t i = 1; i < pages; i += 2)
		load(p + bytes(i));
	for (size_t i = 0; i < pages; i += 2) {
		/* EINVAL: it is locked, and populated in any case */
		if (madvise(p + bytes(i), psize(), MADV_DONTNEED) &&
		    errno != EINVAL)
			die("madvise(MADV_DONTNEED)");
	}
	for (size_t i = 0; i < pages; i++) {
		if (mixed_stored(i))
			store(p + bytes(i), mixed_offset(i));
	}
	return p;
}

/* Are pages @first to @last - 1 of a mixed mapping at @p as they were? */
static inline bool is_mixed_part(const unsigned char *p, size_t first,
				 size_t last)
{
	for (size_t i = first; i < last; i++) {
		const unsigned char *want = content;

		if (mixed_stored(i))
			want = altered(mixed_offset(i), 1);
		if (!same(p + bytes(i), want, psize()))
			return false;
	}
	return true;
}

/* -- Processes ------------------------------------------------------------ */

/* Allocations come from the lists and the node of one processor. */
static inline void stay_on_this_cpu(void)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(sched_getcpu(), &cpus);
	if (sched_setaffinity(0, sizeof(cpus), &cpus))
		die("sched_setaffinity");
}

enum touch { LOAD, STORE };

/* The signal that ends a process which does this; 0 if it survives. */
static inline int signal_of(unsigned char *p, enum touch touch)
{
	pid_t pid = fork();

	if (!pid) {
		struct rlimit no_core = {};

		setrlimit(RLIMIT_CORE, &no_core);
		if (touch == LOAD)
			load(p);
		else
			store(p, 0);
		_exit(0);
	}
	return WTERMSIG(wait_status(pid));
}

/* -- Files --------------------------------------------------------------- */

static inline int scratch_file(size_t pages)
{
	int fd = memfd_create("refpage", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, bytes(pages)))
		die("memfd_create");
	return fd;
}

/* Where a core has the memory at @p, all @pages of it; NULL if nowhere. */
static inline unsigned char *core_find(unsigned char *core, void *p,
				       size_t pages)
{
	struct elf64_hdr *header = (void *)core;
	struct elf64_phdr *segment = (void *)(core + header->e_phoff);
	unsigned long start = (unsigned long)p;

	for (int i = 0; i < header->e_phnum; i++, segment++) {
		if (segment->p_type == PT_LOAD && segment->p_vaddr <= start &&
		    start + bytes(pages) <= segment->p_vaddr + segment->p_filesz)
			return core + segment->p_offset + start - segment->p_vaddr;
	}
	return NULL;
}

/* Send @fd to the peer, or receive one if @fd is negative. */
static inline int pass_fd(int socket, int fd)
{
	char byte = 0, control[CMSG_SPACE(sizeof(fd))] = {};
	struct iovec iov = { .iov_base = &byte, .iov_len = 1 };
	struct msghdr msg = {
		.msg_iov = &iov, .msg_iovlen = 1,
		.msg_control = control, .msg_controllen = sizeof(control),
	};
	struct cmsghdr *cmsg = CMSG_FIRSTHDR(&msg);

	if (fd < 0) {
		if (recvmsg(socket, &msg, 0) != 1 || msg.msg_flags & MSG_CTRUNC)
			die("recvmsg");
		memcpy(&fd, CMSG_DATA(cmsg), sizeof(fd));
		return fd;
	}
	cmsg->cmsg_level = SOL_SOCKET;
	cmsg->cmsg_type = SCM_RIGHTS;
	cmsg->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(cmsg), &fd, sizeof(fd));
	if (sendmsg(socket, &msg, 0) != 1)
		die("sendmsg");
	return fd;
}

/* -- Other users of page tables ------------------------------------------- */

/* Is the page at @p reported as written to since it was write-protected? */
static inline bool scan_written(int pagemap, unsigned char *p,
				unsigned long flags)
{
	struct page_region region;
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.flags = flags,
		.start = (uintptr_t)p,
		.end = (uintptr_t)p + psize(),
		.vec = (uintptr_t)&region,
		.vec_len = 1,
		.category_mask = PAGE_IS_WRITTEN,
		.return_mask = PAGE_IS_WRITTEN,
	};
	int ret = ioctl(pagemap, PAGEMAP_SCAN, &arg);

	if (ret < 0)
		die("PAGEMAP_SCAN");
	return ret;
}

#define LRU_GEN "/sys/kernel/debug/lru_gen"

/* Start an aging walk for each memcg and node, at the generation they are. */
static inline bool lru_gen_age(void)
{
	FILE *file = fopen(LRU_GEN, "r");
	unsigned long memcg = 0, node = 0, seq = 0;
	char line[256], command[80];

	if (!file || access(LRU_GEN, W_OK))
		return false;
	while (fgets(line, sizeof(line), file)) {
		if (sscanf(line, " %lu", &seq) == 1)
			continue;
		/* The last generation of what came before this heading */
		sprintf(command, "+ %lu %lu %lu 1 1", memcg, node, seq);
		file_write(LRU_GEN, command);
		if (sscanf(line, "memcg %lu", &memcg) != 1 &&
		    sscanf(line, " node %lu", &node) != 1)
			die(line);
	}
	sprintf(command, "+ %lu %lu %lu 1 1", memcg, node, seq);
	if (!file_write(LRU_GEN, command))
		die(LRU_GEN);
	fclose(file);
	return true;
}

/* -- Races ---------------------------------------------------------------- */

static inline unsigned long next_random(unsigned long *state)
{
	*state = *state * 6364136223846793005UL + 1442695040888963407UL;
	return *state ^ *state >> 29;
}

static inline unsigned long environment(const char *name, unsigned long value)
{
	return getenv(name) ? strtoul(getenv(name), NULL, 0) : value;
}

#endif /* REFPAGE_UTIL_H */
