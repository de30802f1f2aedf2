// SPDX-License-Identifier: GPL-2.0
/*
 * content: what it costs to get memory with content.
 *
 * A round is what an allocator does for a large object: map memory, give it
 * content, use a part of it, unmap it. Variants of the same round differ in
 * where the content comes from, workloads in how the memory is used, and all
 * of it is measured with folios of several sizes. See print_help().
 *
 * "bench/run --build content" makes a static program of this, for any machine.
 * By hand, with the headers of a kernel that has refpage_create(), installed by
 * "make headers":
 *
 *   cc -std=gnu11 -O2 -static -pthread -isystem LINUX/usr/include \
 *      {content,folios,common}.c -o content
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
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
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <asm/unistd.h>
#include <linux/perf_event.h>
#include <linux/userfaultfd.h>

#include "common.h"
#include "folios.h"

#define CONTENT		0xaa	/* of the variants that have content */
#define STORED		0x55	/* what a round stores in each page it uses */
#define CHILD_STORED	0x33	/* the same, by the child of fork */

#define DEFAULT_SIZE	(8UL << 20)
#define LARGE_SIZE	(64UL << 20)
#define MAX_SIZE	(1UL << 30)

/*
 * Where the memory of all variants is: aligned for folios of any size, and in
 * nobody's way, even with 39 bits of addresses.
 */
#define NEIGHBOUR	0x1000000000UL
#define MEMORY		(NEIGHBOUR + (2UL << 20))

#define MAX_BLOCKS	20
#define MIN_BLOCKS	5
#define MORE_ROUNDS	10	/* at most, of cases that are cheap */
#define CHILD_ROUNDS	2
#define MAX_THREADS	4
#define MAX_FOLIOS	8

/* How a round gets its memory */
struct variant {
	const char *name;
	int prot;
	int map_flags;
	int fd;
	unsigned char content;
	bool fill;
	bool any_folio;		/* its memory depends on the size of folios */
	unsigned int cost;	/* of a page, if that of anon is 1, about */
	bool selected;
};

enum { ANON, MEMSET, REFPAGE, UFFD, SEGV, MEMFD, NR_VARIANTS };

#define RW		(PROT_READ | PROT_WRITE)
#define PRIVATE_ANON	(MAP_PRIVATE | MAP_ANONYMOUS)

static struct variant variants[NR_VARIANTS] = {
	[ANON] = { "anon", RW, PRIVATE_ANON, -1, 0, false, true, 1 },
	[MEMSET] = { "memset", RW, PRIVATE_ANON, -1, CONTENT, true, true, 1 },
	[REFPAGE] = { "refpage", RW, MAP_PRIVATE, -1, CONTENT, false, true, 1 },
	[UFFD] = { "uffd", RW, PRIVATE_ANON, -1, CONTENT, false, false, 8 },
	[SEGV] = {
		"sigsegv", PROT_NONE, PRIVATE_ANON, -1, CONTENT, false, false, 8
	},
	[MEMFD] = { "memfd", RW, MAP_PRIVATE, -1, CONTENT, false, false, 1 },
};

struct round;

/* What it does with that */
struct workload {
	const char *name;
	void (*use)(const struct round *round);
	size_t map_size;	/* 0: what --size says */
	unsigned int part;	/* stores to one page of so many; 0: to none */
	unsigned int visits;	/* of all pages, besides */
	unsigned int threads;
	unsigned int without;	/* bits: variants for which it makes no sense */
	bool selected;
};

struct round {
	const struct variant *variant;
	const struct workload *workload;
	unsigned char *memory;
	size_t pages;
	size_t stored;		/* pages */
};

/* What a child finds out about one case */
struct memory {
	long rss;		/* KiB, of the mapping at the end of a round */
	long max_rss;		/* KiB, of the process, by getrusage() */
	long page_tables;	/* KiB, of the mapping at the end of a round */
	long faults;		/* in CHILD_ROUNDS rounds, as the next two */
	long long folios;	/* of the size that is measured */
	long long in_folios;	/* bytes in such folios */
};

/* A case and what was measured of it */
struct result {
	size_t folio;
	const struct workload *workload;
	const struct variant *variant;
	unsigned int block_rounds, nr_blocks;
	unsigned long long ns[MAX_BLOCKS];
	unsigned long long instructions[MAX_BLOCKS];
	struct memory memory;
};

static struct result *results;
static unsigned int nr_results;

static size_t folios[MAX_FOLIOS];
static unsigned int nr_folios;

static size_t default_size;
static bool clock_is_instructions;
static cpu_set_t cpus;		/* on which this may run */

/* --- perf ----------------------------------------------------------------- */

static int perf = -1;

static unsigned long long read_perf(void)
{
	unsigned long long n;

	if (perf < 0)
		return 0;
	if (read(perf, &n, sizeof(n)) != sizeof(n))
		err(1, "reading the instruction counter");
	return n;
}

/* For this process, and the threads and children that it will have */
static void open_perf(void)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_HW_INSTRUCTIONS,
		.inherit = 1,
		.exclude_hv = 1,
	};

	perf = syscall(__NR_perf_event_open, &attr, 0, -1, -1,
		       PERF_FLAG_FD_CLOEXEC);
	if (perf < 0) {
		printf("instructions: not counted here, as perf_event_open() says: %s\n",
		       strerror(errno));
		return;
	}
	/* Some virtual machines have a counter that stands still */
	if (read_perf() == read_perf()) {
		printf("instructions: not counted here, as the counter stands still\n");
		close(perf);
		perf = -1;
	}
}

/* --- variant uffd --------------------------------------------------------- */

static struct {
	int fd;
	pthread_t thread;
	bool roams;		/* as do the threads that use the memory */
	unsigned char *content;	/* a page */
	unsigned char *stop;	/* a page; a fault there ends the thread */
} uffd;

static void *map_pages(size_t size)
{
	void *p = mmap(NULL, size, RW, PRIVATE_ANON, -1, 0);

	if (p == MAP_FAILED)
		err(1, "mmap");
	return p;
}

static void register_uffd(unsigned char *memory, size_t size)
{
	struct uffdio_register range = {
		.range = { (unsigned long)memory, size },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};

	if (ioctl(uffd.fd, UFFDIO_REGISTER, &range))
		err(1, "ioctl(UFFDIO_REGISTER)");
}

static void *handle_uffd(void *unused)
{
	struct uffd_msg msg;
	unsigned long page;

	if (uffd.roams && sched_setaffinity(0, sizeof(cpus), &cpus))
		err(1, "sched_setaffinity");
	do {
		if (read(uffd.fd, &msg, sizeof(msg)) != sizeof(msg))
			err(1, "reading from userfaultfd");
		if (msg.event != UFFD_EVENT_PAGEFAULT)
			errx(1, "userfaultfd: unexpected event %#x", msg.event);
		page = msg.arg.pagefault.address & -page_size;

		struct uffdio_copy copy = {
			.dst = page,
			.src = (unsigned long)uffd.content,
			.len = page_size,
		};

		if (ioctl(uffd.fd, UFFDIO_COPY, &copy))
			err(1, "ioctl(UFFDIO_COPY)");
	} while (page != (unsigned long)uffd.stop);
	return unused;
}

/* Only faults in user mode are asked for, which needs no privilege */
static void open_uffd(void)
{
	struct uffdio_api api = { .api = UFFD_API };

	uffd.fd = syscall(__NR_userfaultfd, O_CLOEXEC | UFFD_USER_MODE_ONLY);
	if (uffd.fd < 0)
		err(1, "no userfaultfd() (--variant chooses those without)");
	if (ioctl(uffd.fd, UFFDIO_API, &api))
		err(1, "ioctl(UFFDIO_API)");
}

static void start_uffd(bool roams)
{
	open_uffd();
	uffd.roams = roams;
	uffd.content = map_pages(2 * page_size);
	uffd.stop = uffd.content + page_size;
	memset(uffd.content, CONTENT, page_size);
	register_uffd(uffd.stop, page_size);
	if (pthread_create(&uffd.thread, NULL, handle_uffd, NULL))
		errx(1, "pthread_create failed");
}

static void stop_uffd(void)
{
	*uffd.stop = 0;
	/* The compiler must do that first */
	asm volatile("" : : : "memory");
	pthread_join(uffd.thread, NULL);
	munmap(uffd.content, 2 * page_size);
	close(uffd.fd);
}

/* --- variant sigsegv ------------------------------------------------------ */

static struct {
	unsigned long start, end;
} no_access;			/* the mapping of the round */

static void give_page(int sig, siginfo_t *info, void *context)
{
	unsigned long page = (unsigned long)info->si_addr & -page_size;

	(void)context;
	/* A bug: it happens again on return, and ends the program */
	if (page < no_access.start || page >= no_access.end ||
	    mprotect((void *)page, page_size, RW)) {
		signal(sig, SIG_DFL);
		return;
	}
	memset((void *)page, CONTENT, page_size);
}

static void start_sigsegv(void)
{
	struct sigaction action = {
		.sa_sigaction = give_page,
		.sa_flags = SA_SIGINFO,
	};

	sigaction(SIGSEGV, &action, NULL);
}

static void stop_sigsegv(void)
{
	signal(SIGSEGV, SIG_DFL);
}

/* --- variant memfd -------------------------------------------------------- */

/* Enough for all workloads */
static size_t memfd_size(void)
{
	return default_size > LARGE_SIZE ? default_size : LARGE_SIZE;
}

static int create_memfd(void)
{
	size_t size = memfd_size();
	int fd = memfd_create("content", MFD_CLOEXEC);
	void *p;

	if (fd < 0)
		err(1, "no memfd_create() (--variant chooses those without)");
	if (ftruncate(fd, size))
		err(1, "ftruncate of a memfd");
	p = mmap(NULL, size, RW, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		err(1, "mmap of a memfd");
	memset(p, CONTENT, size);
	munmap(p, size);
	return fd;
}

/* --- workloads ------------------------------------------------------------ */

static unsigned int *random_pages;

/* A shuffle that is the same everywhere and every time */
static void init_random_pages(void)
{
	unsigned int n = default_size / page_size;
	unsigned int x = 2463534242U;	/* xorshift */

	random_pages = map_pages(n * sizeof(*random_pages));
	for (unsigned int i = 0; i < n; i++)
		random_pages[i] = i;
	for (unsigned int i = n; i > 1; i--) {
		unsigned int *a = &random_pages[i - 1], *b, page = *a;

		x ^= x << 13;
		x ^= x >> 17;
		x ^= x << 5;
		b = &random_pages[x % i];
		*a = *b;
		*b = page;
	}
}

static unsigned char *page_at(const struct round *r, size_t i)
{
	return r->memory + i * page_size;
}

static void store(const struct round *r, size_t from, size_t to,
		  unsigned char byte)
{
	for (size_t i = from; i < to; i++)
		*page_at(r, i) = byte;
	/* The compiler must not know what is there now */
	asm volatile("" : : : "memory");
}

static void fill(const struct round *r, size_t from, size_t to)
{
	if (r->variant->fill)
		memset(page_at(r, from), r->variant->content,
		       (to - from) * page_size);
}

/*
 * Do not look at pages that the round leaves alone: this is timed, and must
 * fault in nothing.
 */
static void check_page(const struct round *r, size_t i, unsigned char first)
{
	const unsigned char *page = page_at(r, i);
	unsigned char content = r->variant->content;

	if (page[0] != first || page[1] != content ||
	    page[page_size - 1] != content)
		errx(1, "%s, %s: wrong data in page %zu, just stored to",
		     r->workload->name, r->variant->name, i);
}

static void use_first(const struct round *r)
{
	fill(r, 0, r->pages);
	store(r, 0, r->stored, STORED);
	check_page(r, 0, STORED);
	check_page(r, r->stored - 1, STORED);
}

static void use_random(const struct round *r)
{
	fill(r, 0, r->pages);
	for (size_t i = 0; i < r->stored; i++)
		*page_at(r, random_pages[i]) = STORED;
	asm volatile("" : : : "memory");
	check_page(r, random_pages[0], STORED);
	check_page(r, random_pages[r->stored - 1], STORED);
}

static void scan(const struct round *r)
{
	unsigned char different = 0;

	fill(r, 0, r->pages);
	for (unsigned int pass = 0; pass < r->workload->visits; pass++) {
		asm volatile("" : : : "memory");
		for (size_t i = 0; i < r->pages; i++)
			different |= *page_at(r, i) ^ r->variant->content;
	}
	if (different)
		errx(1, "%s, %s: wrong data", r->workload->name,
		     r->variant->name);
}

static void use_and_fork(const struct round *r)
{
	int status;
	pid_t pid;

	fill(r, 0, r->pages);
	store(r, 0, r->stored, STORED);
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		store(r, 0, r->pages, CHILD_STORED);
		check_page(r, 0, CHILD_STORED);
		check_page(r, r->pages - 1, CHILD_STORED);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		errx(1, "%s, %s: the child failed", r->workload->name,
		     r->variant->name);
	/* What the child has stored is not here */
	check_page(r, 0, STORED);
	check_page(r, r->stored - 1, STORED);
}

/* Helpers wait for a round, do their parts of it, and wait for the next */
static struct {
	pthread_t threads[MAX_THREADS];
	pthread_barrier_t start, end;
	const struct round *round;	/* NULL: there are no more */
} team;

static void use_part(const struct round *r, unsigned int n)
{
	unsigned int parts = r->workload->threads;
	size_t from = r->pages * n / parts, to = r->pages * (n + 1) / parts;

	fill(r, from, to);
	store(r, from, to, STORED);
	check_page(r, from, STORED);
	check_page(r, to - 1, STORED);
}

/* The @n-th of all processors, counted from this one and in a circle */
static void move_to_cpu(unsigned int n)
{
	unsigned int cpu = sched_getcpu();
	cpu_set_t set;

	n %= CPU_COUNT(&cpus);
	while (n) {
		cpu = (cpu + 1) % CPU_SETSIZE;
		n -= !!CPU_ISSET(cpu, &cpus);
	}
	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "sched_setaffinity");
}

static void *help(void *arg)
{
	uintptr_t n = (uintptr_t)arg;

	move_to_cpu(n);
	for (;;) {
		pthread_barrier_wait(&team.start);
		if (!team.round)
			return NULL;
		use_part(team.round, n);
		pthread_barrier_wait(&team.end);
	}
}

static void start_team(unsigned int n)
{
	pthread_barrier_init(&team.start, NULL, n);
	pthread_barrier_init(&team.end, NULL, n);
	for (uintptr_t i = 1; i < n; i++)
		if (pthread_create(&team.threads[i], NULL, help, (void *)i))
			errx(1, "pthread_create failed");
}

static void stop_team(unsigned int n)
{
	team.round = NULL;
	pthread_barrier_wait(&team.start);
	for (unsigned int i = 1; i < n; i++)
		pthread_join(team.threads[i], NULL);
	pthread_barrier_destroy(&team.start);
	pthread_barrier_destroy(&team.end);
}

static void use_with_team(const struct round *r)
{
	team.round = r;
	pthread_barrier_wait(&team.start);
	use_part(r, 0);
	pthread_barrier_wait(&team.end);
}

#define ONE_PAGE	~0U

/*
 * Who just reads has nothing that a handler need not provide page by page: uffd
 * and sigsegv are measured where there are stores. And the thread that resolves
 * faults by userfaultfd does not know of children.
 */
#define NOT_SCANNED	(1U << UFFD | 1U << SEGV)
#define NOT_FORKED	(1U << UFFD)

static struct workload workloads[] = {
	{ .name = "sparse", .use = use_first, .part = ONE_PAGE },
	{ .name = "half", .use = use_first, .part = 2 },
	{ .name = "full", .use = use_first, .part = 1 },
	{ .name = "large", .use = use_first, .map_size = LARGE_SIZE,
	  .part = ONE_PAGE },
	{ .name = "readscan", .use = scan, .map_size = LARGE_SIZE, .visits = 1,
	  .without = NOT_SCANNED },
	{ .name = "rescan", .use = scan, .map_size = LARGE_SIZE, .visits = 2,
	  .without = NOT_SCANNED },
	{ .name = "random", .use = use_random, .part = 8 },
	{ .name = "fork", .use = use_and_fork, .part = 2, .visits = 2,
	  .without = NOT_FORKED },
	{ .name = "threads2", .use = use_with_team, .part = 1, .threads = 2 },
	{ .name = "threads4", .use = use_with_team, .part = 1,
	  .threads = MAX_THREADS },
};

/* --- a round -------------------------------------------------------------- */

static void begin_block(const struct result *c)
{
	if (c->variant == &variants[UFFD])
		start_uffd(c->workload->threads);
	if (c->variant == &variants[SEGV])
		start_sigsegv();
	if (c->workload->threads)
		start_team(c->workload->threads);
}

static void end_block(const struct result *c)
{
	if (c->workload->threads)
		stop_team(c->workload->threads);
	if (c->variant == &variants[SEGV])
		stop_sigsegv();
	if (c->variant == &variants[UFFD])
		stop_uffd();
}

static size_t map_size(const struct workload *w)
{
	return w->map_size ? w->map_size : default_size;
}

static size_t stored_pages(const struct workload *w)
{
	size_t pages = map_size(w) / page_size;

	if (!w->part)
		return 0;
	return pages < w->part ? 1 : pages / w->part;
}

static struct round begin_round(const struct result *c)
{
	const struct workload *w = c->workload;
	const struct variant *v = c->variant;
	size_t size = map_size(w);
	struct round round = {
		.variant = v,
		.workload = w,
		.pages = size / page_size,
		.stored = stored_pages(w),
	};
	unsigned char *p;

	p = mmap((void *)MEMORY, size, v->prot,
		 v->map_flags | MAP_FIXED_NOREPLACE, v->fd, 0);
	if (p != (unsigned char *)MEMORY)
		err(1, "%s: mmap of %zu bytes at %#lx", v->name, size, MEMORY);
	if (v == &variants[UFFD])
		register_uffd(p, size);
	no_access.start = (unsigned long)p;
	no_access.end = no_access.start + size;
	round.memory = p;
	w->use(&round);
	return round;
}

static void end_round(const struct round *r)
{
	if (munmap(r->memory, r->pages * page_size))
		err(1, "%s: munmap", r->variant->name);
}

static void run_rounds(const struct result *c, unsigned int n)
{
	while (n--) {
		struct round round = begin_round(c);

		end_round(&round);
	}
}

/* A round that looks at every byte */
static void check_round(const struct result *c)
{
	struct round r = begin_round(c);
	unsigned char content = c->variant->content;
	unsigned char *stored = calloc(r.pages, 1);

	if (!stored)
		err(1, "calloc");
	for (size_t i = 0; i < r.stored; i++) {
		bool random = c->workload->use == use_random;

		stored[random ? random_pages[i] : i] = 1;
	}
	for (size_t i = 0; i < r.pages; i++) {
		const unsigned char *page = page_at(&r, i);

		if (page[0] != (stored[i] ? STORED : content) ||
		    page[1] != content ||
		    memcmp(page + 1, page + 2, page_size - 2))
			errx(1, "%s, %s, folios of %zu KiB: wrong data in page %zu of %zu, which was %sstored to",
			     c->workload->name, c->variant->name,
			     c->folio / 1024, i, r.pages,
			     stored[i] ? "" : "not ");
	}
	free(stored);
	end_round(&r);
}

/* --- measuring ------------------------------------------------------------ */

/*
 * One round that is not timed lets the page allocator settle after whatever
 * ran before.
 */
static void measure_block(struct result *c, unsigned int block)
{
	unsigned long long ns, instructions;

	begin_block(c);
	run_rounds(c, 1);
	instructions = read_perf();
	ns = now();
	run_rounds(c, c->block_rounds);
	ns = now() - ns;
	instructions = read_perf() - instructions;
	check_round(c);
	end_block(c);

	if (clock_is_instructions)
		instructions = ns;
	else
		c->ns[block] = ns;
	c->instructions[block] = instructions;
}

/*
 * Blocks of all cases take turns, and each turn begins at another case, so that
 * noise hits all alike. Cases with fewer blocks than others leave out turns.
 */
static void measure_costs(struct result *cases, unsigned int n)
{
	for (unsigned int turn = 0; turn < MAX_BLOCKS; turn++) {
		for (unsigned int i = 0; i < n; i++) {
			struct result *c = &cases[(turn + i) % n];
			unsigned int block = turn * c->nr_blocks / MAX_BLOCKS;
			unsigned int next = (turn + 1) * c->nr_blocks /
					    MAX_BLOCKS;

			if (block != next)
				measure_block(c, block);
		}
	}
}

static long count_minor_faults(void)
{
	struct rusage self, children;

	getrusage(RUSAGE_SELF, &self);
	getrusage(RUSAGE_CHILDREN, &children);
	return self.ru_minflt + children.ru_minflt;
}

static long read_max_rss(void)
{
	struct rusage self, children;

	getrusage(RUSAGE_SELF, &self);
	getrusage(RUSAGE_CHILDREN, &children);
	return self.ru_maxrss > children.ru_maxrss ? self.ru_maxrss :
						     children.ru_maxrss;
}

/*
 * The maximum of RSS is that of a process, so each case needs its own. It
 * starts from the RSS of the parent at fork().
 */
static void measure_memory(const void *arg, void *result)
{
	const struct result *c = arg;
	struct memory *m = result;
	struct round round;

	/* The first time faults in code and data, which is not to be counted */
	begin_block(c);
	run_rounds(c, 1);
	count_minor_faults();
	read_rss();
	m->folios = -count_folios(c->folio);
	m->in_folios = -count_larger_bytes();

	m->faults = -count_minor_faults();
	run_rounds(c, CHILD_ROUNDS);
	m->faults += count_minor_faults();
	m->max_rss = read_max_rss();
	m->in_folios += count_larger_bytes();
	m->folios += count_folios(c->folio);

	m->page_tables = -read_page_tables();
	round = begin_round(c);
	m->page_tables += read_page_tables();
	m->rss = read_rss();
	end_round(&round);
	m->rss -= read_rss();
	end_block(c);
}

/* Without another mapping nearby, each round would make all page tables */
static void map_neighbour(void)
{
	unsigned char *p = mmap((void *)NEIGHBOUR, page_size, RW,
				PRIVATE_ANON | MAP_FIXED_NOREPLACE, -1, 0);

	if (p != (unsigned char *)NEIGHBOUR)
		err(1, "mmap of a page at %#lx", NEIGHBOUR);
	*p = 1;
}

/*
 * Cheap cases get more rounds, dear ones fewer, so that each takes about as
 * long as --rounds of anon do that store to all pages.
 */
static void choose_rounds(struct result *c, unsigned int rounds)
{
	const struct workload *w = c->workload;
	size_t pages = map_size(w) / page_size;
	size_t visits = stored_pages(w) + w->visits * pages;
	size_t n;

	if (c->variant->fill && visits < pages)
		visits = pages;
	n = rounds * (default_size / page_size) /
	    ((visits + 1) * c->variant->cost);
	if (n > (size_t)rounds * MORE_ROUNDS)
		n = (size_t)rounds * MORE_ROUNDS;
	if (n < MIN_BLOCKS)
		n = rounds < MIN_BLOCKS ? rounds : MIN_BLOCKS;
	c->block_rounds = div_round_up(n, MAX_BLOCKS);
	c->nr_blocks = div_round_up(n, c->block_rounds);
}

static void add_cases(size_t folio, unsigned int rounds)
{
	for (unsigned int w = 0; w < ARRAY_SIZE(workloads); w++) {
		for (unsigned int v = 0; v < NR_VARIANTS; v++) {
			struct result *c = &results[nr_results];

			if (!workloads[w].selected || !variants[v].selected ||
			    workloads[w].without & 1U << v ||
			    (folio > page_size && !variants[v].any_folio))
				continue;
			c->folio = folio;
			c->workload = &workloads[w];
			c->variant = &variants[v];
			choose_rounds(c, rounds);
			nr_results++;
		}
	}
}

static bool measure_folio(size_t folio, unsigned int rounds)
{
	struct result *cases = &results[nr_results];
	const char *problem = choose_folios(folio);
	unsigned int n;

	if (problem) {
		printf("cannot measure folios of %zu KiB: %s\n", folio / 1024,
		       problem);
		return false;
	}
	add_cases(folio, rounds);
	n = &results[nr_results] - cases;
	printf("measuring folios of %zu KiB: %u cases\n", folio / 1024, n);
	/* What the first fork() faults in here must not look like a result */
	measure_in_child(cases->variant->name, measure_memory, cases,
			 &cases->memory, sizeof(cases->memory));
	for (unsigned int i = 0; i < n; i++)
		measure_in_child(cases[i].variant->name, measure_memory,
				 &cases[i], &cases[i].memory,
				 sizeof(cases[i].memory));
	measure_costs(cases, n);
	return true;
}

/* --- output --------------------------------------------------------------- */

/* "64k", "2m" */
static const char *folio_name(size_t size)
{
	static char name[32];
	bool mega = size >> 20;

	snprintf(name, sizeof(name), "%zu%c", size >> (mega ? 20 : 10),
		 mega ? 'm' : 'k');
	return name;
}

/*
 * What of the memory of a round is in folios of the size that is measured, in
 * percent; -1 if that is not known, or there is no such memory, and for fork,
 * whose RSS is that of one process, and whose folios are those of two.
 */
static double share_of_folios(const struct result *c)
{
	double bytes = 1024. * c->memory.rss * CHILD_ROUNDS;
	double share = 100 * c->memory.in_folios / bytes;

	if (!c->memory.rss || c->workload->use == use_and_fork)
		return -1;
	if (c->folio == page_size)
		return 100 - share;
	if (count_folios(c->folio) < 0)
		return -1;
	return 100. * c->memory.folios * c->folio / bytes;
}

static void print_samples(FILE *out, const struct result *c, const char *metric,
			  const unsigned long long *values)
{
	for (unsigned int i = 0; i < c->nr_blocks; i++)
		fprintf(out, "%s,%s,%s,%s,%u,%llu\n", folio_name(c->folio),
			c->workload->name, c->variant->name, metric,
			c->block_rounds, values[i]);
}

static void print_value(FILE *out, const struct result *c, const char *metric,
			unsigned int rounds, long long value)
{
	fprintf(out, "%s,%s,%s,%s,%u,%lld\n", folio_name(c->folio),
		c->workload->name, c->variant->name, metric, rounds, value);
}

static void print_csv(FILE *out)
{
	fputs("folio,workload,variant,metric,rounds,value\n", out);
	for (const struct result *c = results; c < &results[nr_results]; c++) {
		const struct memory *m = &c->memory;
		double share = share_of_folios(c);

		if (c->ns[0])
			print_samples(out, c, "ns", c->ns);
		if (c->instructions[0])
			print_samples(out, c, "instructions", c->instructions);
		print_value(out, c, "minor_faults", CHILD_ROUNDS, m->faults);
		print_value(out, c, "rss_kib", 1, m->rss);
		print_value(out, c, "max_rss_kib", 1, m->max_rss);
		print_value(out, c, "page_tables_kib", 1, m->page_tables);
		if (c->folio > page_size)
			print_value(out, c, "folios", CHILD_ROUNDS, m->folios);
		if (share >= 0)
			print_value(out, c, "folio_percent", 1,
				    share + 0.5);
	}
}

/* What there is of both: the table has no empty columns */
static bool has_ns(void)
{
	return results->ns[0];
}

static bool has_instructions(void)
{
	return results->instructions[0];
}

/* The clock that the table compares by: time, unless that is not known */
static struct summary cost_of(const struct result *c)
{
	return summarise(c->ns[0] ? c->ns : c->instructions, c->nr_blocks);
}

/* Of a round; 0 if @v was not measured where @c was */
static double cost_of_other(const struct result *c, unsigned int v)
{
	const struct result *end = &results[nr_results];

	for (const struct result *o = results; o < end; o++)
		if (o->folio == c->folio && o->workload == c->workload &&
		    o->variant == &variants[v])
			return cost_of(o).median / o->block_rounds;
	return 0;
}

static void print_thousands(const struct result *c,
			    const unsigned long long *values)
{
	double median = summarise(values, c->nr_blocks).median;

	printf(" %10.2f", median / c->block_rounds / 1000);
}

static void print_row(const struct result *c)
{
	const struct memory *m = &c->memory;
	struct summary cost = cost_of(c);
	double round = cost.median / c->block_rounds;
	double memset = cost_of_other(c, MEMSET);
	double anon = cost_of_other(c, ANON);
	double share = share_of_folios(c);

	printf("%-5s %-8s %-7s", folio_name(c->folio), c->workload->name,
	       c->variant->name);
	if (has_ns())
		print_thousands(c, c->ns);
	if (has_instructions())
		print_thousands(c, c->instructions);
	printf(" %5.1f%%", 100 * cost.iqr / cost.median);
	if (memset)
		printf(" %8.1f%%", 100 * (1 - round / memset));
	else
		printf(" %9s", "-");
	if (anon)
		printf(" %7.3f", round / anon);
	else
		printf(" %7s", "-");
	printf(" %8.1f %6ld %6ld %5ld", (double)m->faults / CHILD_ROUNDS,
	       m->rss, m->max_rss, m->page_tables);
	if (share < 0)
		printf(" %6s\n", "-");
	else
		printf(" %5.0f%%%s\n", share, share < 99 ? " !" : "");
}

static bool lacks_folios(void)
{
	for (const struct result *c = results; c < &results[nr_results]; c++) {
		double share = share_of_folios(c);

		if (share >= 0 && share < 99)
			return true;
	}
	return false;
}

static void print_table(void)
{
	const struct result *last = NULL;

	printf("\n%-5s %-8s %-7s%s%s %6s %9s %7s %8s %6s %6s %5s %6s\n",
	       "", "", "", has_ns() ? "     us per" : "",
	       has_instructions() ? " 1000 instr" : "", "IQR of",
	       "less than", "times", "minor", "RSS", "max", "PT", "in fo-");
	printf("%-5s %-8s %-7s%s%s %6s %9s %7s %8s %6s %6s %5s %6s\n",
	       "folio", "workload", "variant", has_ns() ? "      round" : "",
	       has_instructions() ? "  per round" : "", "median", "memset",
	       "anon", "faults/r", "KiB", "RSS", "KiB", "lios");
	for (const struct result *c = results; c < &results[nr_results]; c++) {
		if (last && last->workload != c->workload)
			printf("\n");
		print_row(c);
		last = c;
	}
	printf("\n");
	if (lacks_folios())
		printf("! has not got folios of that size: what the row says is about smaller ones\n");
	if (variants[MEMFD].selected)
		printf("memfd: its file has %zu KiB of page cache besides, for as long as it is open\n",
		       memfd_size() / 1024);
}

/* --- options -------------------------------------------------------------- */

static void print_help(FILE *out)
{
	fputs("usage: content [OPTION]...\n"
"\n"
"Measure what it costs to get private memory with content. A round maps memory,\n"
"gives it content, uses it, and unmaps it. Variants:\n"
"\n"
"  anon     anonymous memory, left at zero: the lower bound\n"
"  memset   anonymous memory, all of it set to 0xaa by memset()\n"
"  refpage  a mapping of a descriptor of refpage_create(), of the byte 0xaa\n"
"  uffd     anonymous memory registered with userfaultfd: a thread gives a page\n"
"           of 0xaa to each fault by UFFDIO_COPY; on the same processor, but for\n"
"           threads2 and threads4, where it runs on any\n"
"  sigsegv  anonymous memory, PROT_NONE; a handler of SIGSEGV calls mprotect() and\n"
"           memset() for one page\n"
"  memfd    a private mapping of a memfd that has been filled with 0xaa before\n"
"\n"
"Workloads; a store is one byte, to a page:\n"
"\n"
"  sparse    a store to the first page\n"
"  half      stores to the pages of the first half\n"
"  full      stores to all pages\n"
"  large     sparse, but 64 MiB are mapped\n"
"  readscan  maps 64 MiB, loads a byte of each page and stores nothing\n"
"  rescan    the same, but loads twice; not for uffd and sigsegv, as readscan\n"
"  random    stores to an eighth of the pages, in an order that is random and\n"
"            always the same\n"
"  fork      half; then a child stores to all pages, and ends; not for uffd\n"
"  threads2  full, by two threads, each in its own half; with memset() also\n"
"            divided. They are there before, on one processor each, if possible\n"
"  threads4  the same by four\n"
"\n"
"  -f, --folio LIST     sizes of folios, 4k,64k,1m,2m by default; the base page\n"
"                       stands for what is smaller. Needs root: sets sizes in\n"
"                       " THP_DIR ", for the whole\n"
"                       machine, and back in the end. Variants uffd, sigsegv and\n"
"                       memfd get base pages anyway, and are measured with the\n"
"                       base page only\n"
"  -w, --workload LIST  default: all\n"
"  -v, --variant LIST   default: all\n"
"  -s, --size BYTES     to map, where the workload does not say it (8388608)\n"
"  -r, --rounds N       rounds of a case where anon stores to all pages (20);\n"
"                       cases that are cheaper get up to ten times as many,\n"
"                       dearer ones less, but at least 5\n"
"  -u, --unit UNIT      of the clock: ns (default), or instructions, with -icount\n"
"                       of QEMU\n"
"  -c, --csv FILE       write what was measured to FILE\n"
"      --clock TEXT     what the clock is, for the output (CLOCK_MONOTONIC)\n"
"  -h, --help           show this\n"
"\n"
"Rounds are measured in up to 20 blocks; blocks of all cases with one size of\n"
"folios take turns. The table has the median of the blocks and the range of the\n"
"middle half of them (IQR), relative to the median. Where there is a clock and\n"
"a counter of instructions, by perf_event_open(), the clock decides the columns\n"
"that compare. Data is looked at in each round, where it stored; and a round that\n"
"is not timed ends each block and looks at every byte. Wrong data ends the\n"
"program, with no figures.\n"
"\n"
"The other columns come from a child process for each case. RSS, which smaps_rollup\n"
"counts in the page tables, and page tables (VmPTE) are those of the mapping at the\n"
"end of a round; max RSS is ru_maxrss of getrusage(), in KiB: it includes the\n"
"program itself, and the kernel counts it in steps of 32 pages or more. The last\n"
"column is what part of that RSS is in folios of the size, according to the\n"
"counters of the kernel (hugepages-*/stats/anon_fault_alloc); in the row of the\n"
"base page, in base pages.\n"
"\n"
"All runs on the one processor on which the program happened to start, but for\n"
"threads2 and threads4.\n"
"\n"
"FILE has a line for each sample: folio, workload, variant, metric, rounds that\n"
"the value is for, value. Metrics: ns, instructions (of a block), minor_faults,\n"
"rss_kib, max_rss_kib, page_tables_kib, folios, folio_percent.\n",
	      out);
}

static void add_folio(const char *word)
{
	char *unit;
	unsigned long size = strtoul(word, &unit, 10);

	if (!strcmp(unit, "k"))
		size <<= 10;
	else if (!strcmp(unit, "m"))
		size <<= 20;
	else
		size = 0;
	if (!size || size > MAX_SIZE || size & (size - 1))
		errx(1, "'%s' is no size of folios, such as 64k or 2m", word);
	if (size < page_size)
		size = page_size;
	for (unsigned int i = 0; i < nr_folios; i++)
		if (folios[i] == size)
			return;
	if (nr_folios == MAX_FOLIOS)
		errx(1, "more than %d sizes of folios", MAX_FOLIOS);
	folios[nr_folios++] = size;
}

static void select_workload(const char *word)
{
	for (unsigned int w = 0; w < ARRAY_SIZE(workloads); w++) {
		if (!strcmp(word, workloads[w].name)) {
			workloads[w].selected = true;
			return;
		}
	}
	errx(1, "there is no workload '%s'; see --help", word);
}

static void select_variant(const char *word)
{
	for (unsigned int v = 0; v < NR_VARIANTS; v++) {
		if (!strcmp(word, variants[v].name)) {
			variants[v].selected = true;
			return;
		}
	}
	errx(1, "there is no variant '%s'; see --help", word);
}

static void set_size(const char *word)
{
	default_size = parse_number(word, MAX_SIZE);
	if (default_size % page_size)
		errx(1, "%zu bytes are no multiple of the page size, %zu",
		     default_size, page_size);
}

static void set_unit(const char *word)
{
	clock_is_instructions = !strcmp(word, "instructions");
	if (!clock_is_instructions && strcmp(word, "ns"))
		errx(1, "the unit '%s' is not ns or instructions", word);
}

/* Early, so that what is missing is said before anything is measured */
static void prepare_variants(void)
{
	if (variants[REFPAGE].selected)
		variants[REFPAGE].fd = create_refpage(CONTENT);
	if (variants[UFFD].selected) {
		open_uffd();
		close(uffd.fd);
	}
	if (variants[MEMFD].selected)
		variants[MEMFD].fd = create_memfd();
}

static int measure(const void *arg)
{
	const struct settings *settings = arg;
	unsigned int measured = 0;

	setlinebuf(stdout);
	sched_getaffinity(0, sizeof(cpus), &cpus);
	stay_on_this_cpu();
	prepare_variants();
	init_random_pages();
	map_neighbour();
	results = map_pages(nr_folios * ARRAY_SIZE(workloads) * NR_VARIANTS *
			    sizeof(*results));
	print_machine(stdout, "", settings->clock);
	if (settings->csv)
		print_machine(settings->csv, "# ", settings->clock);
	if (!clock_is_instructions)
		open_perf();
	for (unsigned int i = 0; i < nr_folios; i++)
		measured += measure_folio(folios[i], settings->rounds);
	if (!measured)
		errx(1, "nothing was measured");
	print_table();
	if (settings->csv) {
		print_csv(settings->csv);
		close_csv(settings->csv);
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct list lists[] = {
		{ "folio", "4k,64k,1m,2m", add_folio },
		{ "workload", "sparse,half,full,large,readscan,rescan,random,fork,threads2,threads4",
		  select_workload },
		{ "variant", "anon,memset,refpage,uffd,sigsegv,memfd",
		  select_variant },
		{ "size", "8388608", set_size },
		{ "unit", "ns", set_unit },
		{ }
	};
	struct settings settings = { .rounds = 20, .max_rounds = 1000000 };

	parse_options(argc, argv, lists, print_help, &settings);
	return with_folio_settings(measure, &settings);
}
