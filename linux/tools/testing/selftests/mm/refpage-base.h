/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What all tests of refpage_create(2) share, those of memory tags included:
 * mapping memory, and looking at it from the outside. Before this header there
 * has to be a psize(), the size of a page.
 */
#ifndef REFPAGE_BASE_H
#define REFPAGE_BASE_H

#include <errno.h>
#include <fcntl.h>
#include <linux/refpage.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../kselftest.h"

#define RW	(PROT_READ | PROT_WRITE)

static inline int refpage_create(const void *from, unsigned int flags)
{
	return syscall(__NR_refpage_create, from, flags);
}

static inline bool syscall_is_absent(void)
{
	return errno == ENOSYS;
}

/* For what the tests need and what is not tested. */
static inline void die(const char *what)
{
	ksft_print_msg("%s: %s\n", what, strerror(errno));
	_exit(KSFT_FAIL);
}

static inline long bytes(long pages)
{
	return pages * psize();
}

/* -- Memory --------------------------------------------------------------- */

/* The compiler must neither leave out a load nor add one before a store. */
static inline unsigned char load(const unsigned char *p)
{
	return __atomic_load_n(p, __ATOMIC_RELAXED);
}

/* The flags include the type, which may be MAP_DROPPABLE. */
static inline unsigned char *map_type_at(void *addr, int fd, size_t pages,
					 int prot, int flags)
{
	void *p = mmap(addr, bytes(pages), prot, flags, fd, 0);

	if (p == MAP_FAILED)
		die("mmap");
	return p;
}

static inline unsigned char *map_at(void *addr, int fd, size_t pages, int prot,
				    int flags)
{
	return map_type_at(addr, fd, pages, prot, MAP_PRIVATE | flags);
}

static inline unsigned char *map(int fd, size_t pages, int prot)
{
	return map_at(NULL, fd, pages, prot, 0);
}

static inline unsigned char *map_anon(size_t pages, int prot)
{
	return map_at(NULL, -1, pages, prot, MAP_ANONYMOUS);
}

static inline void unmap(void *p, size_t pages)
{
	if (munmap(p, bytes(pages)))
		die("munmap");
}

/* -- Processes ------------------------------------------------------------ */

static inline int wait_status(pid_t pid)
{
	int status;

	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		die("fork or waitpid");
	return status;
}

/* What a child expected in vain is in the metadata, which it shares with us. */
static inline bool child_passed(pid_t pid)
{
	return wait_status(pid) == 0;
}

/* One process waits for another at a pipe. */
static inline void tell(const int *pipe)
{
	if (write(pipe[1], "", 1) != 1)
		die("write to pipe");
}

static inline void wait_for(const int *pipe)
{
	char byte;

	if (read(pipe[0], &byte, 1) != 1)
		die("read from pipe");
}

/* -- /proc and /sys ------------------------------------------------------- */

/* What follows @field in a file of lines; false if nothing does. */
static inline bool file_text(const char *path, const char *field, char *text)
{
	FILE *file = fopen(path, "r");
	bool found = false;
	char line[256];

	while (file && !found && fgets(line, sizeof(line), file)) {
		if (strncmp(line, field, strlen(field)))
			continue;
		found = sscanf(line + strlen(field), "%63s", text) == 1;
	}
	if (file)
		fclose(file);
	return found;
}

/* The number that follows @field; -1 if there is no such file or field. */
static inline long file_number(const char *path, const char *field)
{
	char text[64];

	return file_text(path, field, text) ? strtol(text, NULL, 0) : -1;
}

static inline bool file_write(const char *path, const char *text)
{
	ssize_t len = strlen(text);
	int fd = open(path, O_WRONLY);
	bool done = fd >= 0 && write(fd, text, len) == len;

	if (fd >= 0)
		close(fd);
	return done;
}

/* Of several words, the one in brackets is the value. */
static inline bool get_setting(const char *path, char *value)
{
	int fd = open(path, O_RDONLY);
	char text[256], *p = text;
	ssize_t len;

	if (fd < 0)
		return false;
	len = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (len <= 0)
		return false;
	text[len] = 0;
	if (strchr(text, '['))
		p = strchr(text, '[') + 1;
	p[strcspn(p, "]\n")] = 0;
	snprintf(value, 64, "%.63s", p);
	return true;
}

/* The number after @field in a file of smaps, of the VMA which contains @p. */
static inline unsigned long smaps_number_in(const char *path, const void *p,
					    const char *field)
{
	FILE *file = fopen(path, "r");
	unsigned long start, end, number;
	bool inside = false;
	char line[512];

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start <= (unsigned long)p &&
				 (unsigned long)p < end;
		else if (inside && !strncmp(line, field, strlen(field)) &&
			 sscanf(line + strlen(field), " %lu", &number) == 1)
			break;
	}
	if (!file || ferror(file) || feof(file))
		die(field);
	fclose(file);
	return number;
}

static inline unsigned long smaps_number(const void *p, const char *field)
{
	return smaps_number_in("/proc/self/smaps", p, field);
}

/* The same for a field in kB. */
static inline int smaps_pages(const void *p, const char *field)
{
	return smaps_number(p, field) * 1024 / psize();
}

/* Is this flag of two letters among the VmFlags of the VMA which contains @p? */
static inline bool has_vm_flag(const void *p, const char *flag)
{
	FILE *file = fopen("/proc/self/smaps", "r");
	bool inside = false, found = false;
	unsigned long start, end;
	char line[512];

	while (file && fgets(line, sizeof(line), file)) {
		if (sscanf(line, "%lx-%lx ", &start, &end) == 2)
			inside = start <= (unsigned long)p &&
				 (unsigned long)p < end;
		else if (inside && !strncmp(line, "VmFlags:", 8))
			found = strstr(line + 8, flag);
	}
	if (!file)
		die("/proc/self/smaps");
	fclose(file);
	return found;
}

/* The VMAs in a range; if there is one, its permissions go to @perms. */
static inline int count_vmas(const void *p, size_t pages, char *perms)
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
		    start < last && first < end) {
			count++;
			if (perms)
				sscanf(line, "%*s %4s", perms);
		}
	}
	fclose(file);
	return count;
}

#define KSM "/sys/kernel/mm/ksm/"

/* Merge until a counter of this process is there; a scan may just miss it. */
static inline bool ksm_scan_until(const char *counter, long pages)
{
	bool done = false;
	char run[64];

	if (!file_text(KSM "run", "", run) || !file_write(KSM "run", "1"))
		die(KSM "run");
	for (int tries = 0; tries < 5 && !done; tries++) {
		long scans = file_number(KSM "full_scans", "");

		while (file_number(KSM "full_scans", "") < scans + 3)
			sched_yield();
		done = file_number("/proc/self/ksm_stat", counter) >= pages;
	}
	file_write(KSM "run", run);
	return done;
}

/* Pages are put on the lists of reclaim in batches; have that done now. */
static inline void drain_batches(void)
{
	if (!file_write("/proc/sys/vm/drop_caches", "1"))
		die("drop_caches");
}

/* -- A memory cgroup for child processes ---------------------------------- */

#define CGROUP		"/sys/fs/cgroup/"
#define MEMCG		CGROUP "refpage-test/"

static bool memcg_enabled_before;

static inline bool memcg_controller(const char *file)
{
	char text[64];

	return get_setting(file, text) && strstr(text, "memory");
}

static inline void memcg_remove(void)
{
	if (access(MEMCG, F_OK))
		return;
	file_write(MEMCG "cgroup.kill", "1");
	for (int tries = 0; tries < 500 && rmdir(MEMCG); tries++)
		usleep(10000);
	if (!memcg_enabled_before)
		file_write(CGROUP "cgroup.subtree_control", "-memory");
}

static inline const char *memcg_create(void)
{
	if (!memcg_controller(CGROUP "cgroup.controllers"))
		return "no memory controller in cgroup v2 at " CGROUP;
	if (!file_write(CGROUP "cgroup.subtree_control", "+memory") ||
	    mkdir(MEMCG, 0755))
		die(MEMCG);
	return NULL;
}

static inline long memcg_number(const char *file, const char *field)
{
	char path[128];
	long value;

	snprintf(path, sizeof(path), MEMCG "%s", file);
	value = file_number(path, field);
	if (value < 0)
		die(path);
	return value;
}

static inline void memcg_join(void)
{
	if (!file_write(MEMCG "cgroup.procs", "0"))
		die(MEMCG "cgroup.procs");
}

/* -- Core dump ------------------------------------------------------------ */

#define CORE_PATTERN "/proc/sys/kernel/core_pattern"

/*
 * The core of a child that has just aborted, mapped; NULL if it has none. The
 * pattern is the system's, and is restored.
 */
static inline unsigned char *dump_core(void)
{
	char dir[] = "/tmp/refpage.XXXXXX", pattern[64], path[64];
	char saved[256] = "";
	struct stat stat;
	void *core = NULL;
	pid_t pid;
	int fd;

	fd = open(CORE_PATTERN, O_RDONLY);
	if (fd < 0 || read(fd, saved, sizeof(saved) - 1) <= 0 || !mkdtemp(dir))
		die(CORE_PATTERN);
	close(fd);
	sprintf(pattern, "%s/core.%%p", dir);
	if (!file_write(CORE_PATTERN, pattern))
		return NULL;

	pid = fork();
	if (!pid) {
		struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };

		setrlimit(RLIMIT_CORE, &limit);
		signal(SIGABRT, SIG_DFL);
		abort();
	}
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

#endif /* REFPAGE_BASE_H */
