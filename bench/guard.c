// SPDX-License-Identifier: GPL-2.0
/*
 * guard: what guard pages cost.
 *
 * A guard is a page that gives SIGSEGV, between pages that are used. The
 * methods differ in how it becomes one: by a mapping of its own, or by a
 * marker in the page table. See print_help() for the rest.
 *
 * bench/run builds and runs this in an emulated machine. By hand, with the
 * headers of a kernel that has both guard regions and refpage_create(),
 * installed by "make headers":
 *
 *   cc -std=gnu11 -O2 -static -isystem LINUX/usr/include \
 *      {guard,common}.c -o guard
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <linux/mman.h>

#include "common.h"

#define MAX_ROUNDS	100
#define MAX_COUNTS	8
#define MAX_DISTANCES	4
#define MAX_CHECKS	1000
#define WARM_UP		1024	/* guards, the most in one vector */

#define LIMIT		"/proc/sys/vm/max_map_count"

/* NORESERVE: there is more of it than a small machine would promise to have */
#define MAP_FLAGS	(MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE)

enum { INSTALL, TOUCH, REMOVE, UNMAP, NR_PHASES };

static const char *const phase_names[NR_PHASES] = {
	[INSTALL] = "install",
	[TOUCH] = "touch",
	[REMOVE] = "remove",
	[UNMAP] = "unmap",
};

/* --- methods -------------------------------------------------------------- */

static size_t mmap_pages(unsigned char *page, size_t n, size_t every, int prot)
{
	size_t done = 0;

	while (done < n && mmap(page + done * every, page_size, prot,
				MAP_FLAGS | MAP_FIXED, -1, 0) != MAP_FAILED)
		done++;
	return done;
}

static size_t madvise_pages(unsigned char *page, size_t n, size_t every,
			    int advice)
{
	size_t done = 0;

	while (done < n && !madvise(page + done * every, page_size, advice))
		done++;
	return done;
}

/* @change is called with @install or @remove, see common.h */
struct method {
	const char *name;
	size_t (*change)(unsigned char *page, size_t n, size_t every, int how);
	int install;
	int remove;
	bool splits;		/* needs mappings, of which there is a limit */
	bool selected;
};

enum { MMAP, MPROTECT, GUARD, VECTOR, NR_METHODS };

static struct method methods[NR_METHODS] = {
	[MMAP] = {
		"mmap", mmap_pages, PROT_NONE, PROT_READ | PROT_WRITE, true
	},
	[MPROTECT] = {
		"mprotect", mprotect_pages, PROT_NONE, PROT_READ | PROT_WRITE,
		true
	},
	[GUARD] = {
		"guard", madvise_pages, MADV_GUARD_INSTALL, MADV_GUARD_REMOVE
	},
	[VECTOR] = {
		"vector", process_madvise_pages, MADV_GUARD_INSTALL,
		MADV_GUARD_REMOVE
	},
};

/* --- one case ------------------------------------------------------------- */

static unsigned int counts[MAX_COUNTS];
static unsigned int nr_counts;

static struct distance {
	const char *name;
	size_t bytes;
} distances[MAX_DISTANCES];

static unsigned int nr_distances;

struct guard_case {
	const struct method *method;
	size_t guards;
	size_t every;
};

/* What a child finds out */
struct memory {
	size_t done;		/* guards, before the limit of mappings */
	long vmas;		/* with guards, and the pages beside them used */
	long vmas_removed;	/* without guards again */
	long page_tables_installed;
	long page_tables;	/* KiB more than before */
	bool has_slabs;
	long slabs;		/* KiB more than before */
};

struct times {
	size_t done;
	unsigned long long ns[NR_PHASES];
};

/* What was measured of a case */
struct result {
	struct memory memory;
	unsigned long long ns[NR_PHASES][MAX_ROUNDS];
};

static struct result results[MAX_COUNTS][MAX_DISTANCES][NR_METHODS];
static unsigned long map_limit;

/* A usable page is the last one, too: N guards make 2N + 1 mappings */
static size_t region_size(const struct guard_case *c)
{
	return c->guards * c->every + page_size;
}

static unsigned char *map_region(const struct guard_case *c)
{
	unsigned char *region = mmap(NULL, region_size(c),
				     PROT_READ | PROT_WRITE, MAP_FLAGS, -1, 0);

	if (region == MAP_FAILED)
		err(1, "mmap");
	return region;
}

static void unmap_region(const struct guard_case *c, unsigned char *region)
{
	if (munmap(region, region_size(c)))
		err(1, "%s: munmap", c->method->name);
}

/* The last page of each stretch is the guard */
static unsigned char *first_guard(const struct guard_case *c,
				  unsigned char *region)
{
	return region + c->every - page_size;
}

/* Returns how many there are, errno says why not all: see settle() */
static size_t place(const struct guard_case *c, unsigned char *region)
{
	return c->method->change(first_guard(c, region), c->guards, c->every,
				 c->method->install);
}

/*
 * After @done guards were placed: less than all is an error, unless the method
 * needs more mappings than there may be. Returns how many guards there are.
 */
static size_t settle(const struct guard_case *c, unsigned char *region,
		     size_t done)
{
	const struct method *m = c->method;

	if (done == c->guards)
		return done;

	/* A guard is two mappings more */
	if (!done || !m->splits || errno != ENOMEM ||
	    count_vmas(NULL, 0) + 3UL < map_limit)
		err(1, "%s: guard %zu of %zu", m->name, done + 1, c->guards);
	/* At the limit mmap() cannot even replace one: leave it room */
	done--;
	if (mprotect(first_guard(c, region) + done * c->every, page_size,
		     PROT_READ | PROT_WRITE))
		err(1, "%s: mprotect", m->name);
	return done;
}

static size_t install(const struct guard_case *c, unsigned char *region)
{
	return settle(c, region, place(c, region));
}

/* Use the page before each guard */
static void touch(const struct guard_case *c, unsigned char *region,
		  size_t done)
{
	unsigned char *page = first_guard(c, region) - page_size;

	for (size_t i = 0; i < done; i++)
		page[i * c->every] = 1;
}

static void remove_guards(const struct guard_case *c, unsigned char *region,
			  size_t done)
{
	const struct method *m = c->method;

	if (m->change(first_guard(c, region), done, c->every, m->remove) < done)
		err(1, "%s: removal", m->name);
}

/* --- measuring ------------------------------------------------------------ */

/* What the first use of code and data faults in is not to be measured */
static void warm_up(const struct guard_case *c)
{
	struct guard_case few = *c;
	unsigned char *region;

	if (few.guards > WARM_UP)
		few.guards = WARM_UP;
	region = map_region(&few);
	touch(&few, region, install(&few, region));
	remove_guards(&few, region, few.guards);
	unmap_region(&few, region);
}

/*
 * Guards are in the way when memory is unmapped, so that needs a second
 * region; one that never had others, as merging leaves its traces.
 */
static void measure_times(const void *arg, void *result)
{
	const struct guard_case *c = arg;
	struct times *times = result;
	unsigned long long start, end;
	unsigned char *region;

	warm_up(c);
	region = map_region(c);
	start = now();
	times->done = place(c, region);
	end = now();
	times->ns[INSTALL] = end - start;
	times->done = settle(c, region, times->done);

	start = now();
	touch(c, region, times->done);
	end = now();
	times->ns[TOUCH] = end - start;

	start = now();
	remove_guards(c, region, times->done);
	end = now();
	times->ns[REMOVE] = end - start;
	unmap_region(c, region);

	region = map_region(c);
	touch(c, region, install(c, region));
	start = now();
	unmap_region(c, region);
	end = now();
	times->ns[UNMAP] = end - start;
}

/* Up to MAX_CHECKS of the guards, the first one too */
static void check(const struct guard_case *c, unsigned char *region,
		  size_t done, bool guarded)
{
	unsigned char *guard = first_guard(c, region);
	size_t step = div_round_up(done, MAX_CHECKS);

	for (size_t i = 0; i < done; i += step) {
		unsigned char *p = guard + i * c->every;

		if (count_faults(p) != (guarded ? 2 : 0))
			errx(1, "%s: guard %zu is %s", c->method->name, i,
			     guarded ? "none" : "still one");
		if (count_faults(p - page_size) || count_faults(p + page_size))
			errx(1, "%s: a page beside guard %zu cannot be used",
			     c->method->name, i);
	}
}

/* The last child's go after it, when RCU lets them */
static long settled_slabs(void)
{
	long before, slabs = read_vma_slabs();

	do {
		before = slabs;
		usleep(100000);
		slabs = read_vma_slabs();
	} while (slabs < before);
	return slabs;
}

static void measure_memory(const void *arg, void *result)
{
	const struct guard_case *c = arg;
	struct memory *memory = result;
	long page_tables, slabs;
	unsigned char *region;

	warm_up(c);
	slabs = settled_slabs();
	count_vmas(NULL, 0);
	page_tables = read_page_tables();
	region = map_region(c);
	memory->done = install(c, region);
	memory->page_tables_installed = read_page_tables() - page_tables;
	touch(c, region, memory->done);
	memory->page_tables = read_page_tables() - page_tables;
	memory->vmas = count_vmas(region, region_size(c));
	memory->slabs = read_vma_slabs() - slabs;
	memory->has_slabs = slabs >= 0;
	remove_guards(c, region, memory->done);
	memory->vmas_removed = count_vmas(region, region_size(c));
	check(c, region, memory->done, false);
	unmap_region(c, region);

	region = map_region(c);
	check(c, region, install(c, region), true);
}

typedef void (*use_case)(const struct guard_case *c, struct result *result,
			 unsigned int round);

static void measure_case_memory(const struct guard_case *c,
				struct result *result, unsigned int round)
{
	(void)round;
	measure_in_child(c->method->name, measure_memory, c, &result->memory,
			 sizeof(result->memory));
}

static void measure_case_times(const struct guard_case *c,
			       struct result *result, unsigned int round)
{
	struct times times;

	measure_in_child(c->method->name, measure_times, c, &times,
			 sizeof(times));
	if (times.done != result->memory.done)
		errx(1, "%s: %zu guards, but %zu before", c->method->name,
		     times.done, result->memory.done);
	for (unsigned int p = 0; p < NR_PHASES; p++)
		result->ns[p][round] = times.ns[p];
}

/* Each round begins at another case, so that noise hits all alike */
static void with_all_cases(use_case use, unsigned int round)
{
	unsigned int n = nr_counts * nr_distances * NR_METHODS;

	for (unsigned int i = 0; i < n; i++) {
		unsigned int at = (round + i) % n;
		unsigned int m = at % NR_METHODS;
		unsigned int d = at / NR_METHODS % nr_distances;
		unsigned int g = at / NR_METHODS / nr_distances;
		const struct guard_case c = {
			&methods[m], counts[g], distances[d].bytes
		};

		if (methods[m].selected)
			use(&c, &results[g][d][m], round);
	}
}

/* --- output --------------------------------------------------------------- */

static FILE *csv;
static unsigned int nr_rounds;
static bool stopped;		/* a case was */

static void print_sample(const struct guard_case *c, const char *metric,
			 size_t done, long long value)
{
	fprintf(csv, "%zu,%zu,%s,%s,%zu,%lld\n", c->guards, c->every,
		c->method->name, metric, done, value);
}

static void print_case(const struct guard_case *c, struct result *result,
		       unsigned int round)
{
	const struct memory *memory = &result->memory;
	char metric[32];

	(void)round;
	for (unsigned int p = 0; p < NR_PHASES; p++) {
		snprintf(metric, sizeof(metric), "%s_ns", phase_names[p]);
		for (unsigned int i = 0; i < nr_rounds; i++)
			print_sample(c, metric, memory->done, result->ns[p][i]);
	}
	print_sample(c, "vmas", memory->done, memory->vmas);
	print_sample(c, "vmas_removed", memory->done, memory->vmas_removed);
	print_sample(c, "page_tables_installed_kib", memory->done,
		     memory->page_tables_installed);
	print_sample(c, "page_tables_kib", memory->done, memory->page_tables);
	if (memory->has_slabs)
		print_sample(c, "vma_slabs_kib", memory->done, memory->slabs);
}

static void print_csv(const char *clock)
{
	print_machine(csv, "# ", clock);
	fprintf(csv, "# vm.max_map_count: %lu\n", map_limit);
	fputs("guards,every,method,metric,done,value\n", csv);
	with_all_cases(print_case, 0);
}

static const char *distance_name(const struct guard_case *c)
{
	for (unsigned int d = 0; d < nr_distances; d++)
		if (distances[d].bytes == c->every)
			return distances[d].name;
	return "?";
}

static void print_name(const struct guard_case *c, const struct memory *memory)
{
	bool all = memory->done == c->guards;

	printf("%6zu %-7s %-8s %6zu%c", c->guards, distance_name(c),
	       c->method->name, memory->done, all ? ' ' : '*');
	stopped |= !all;
}

static void print_times(const struct guard_case *c, struct result *result,
			unsigned int round)
{
	(void)round;
	print_name(c, &result->memory);
	for (unsigned int p = 0; p < NR_PHASES; p++) {
		struct summary s = summarise(result->ns[p], nr_rounds);

		printf(" %8.0f %4.0f%%", s.median / result->memory.done,
		       100 * s.iqr / s.median);
	}
	printf("\n");
}

static void print_memory(const struct guard_case *c, struct result *result,
			 unsigned int round)
{
	const struct memory *memory = &result->memory;

	(void)round;
	print_name(c, memory);
	printf(" %9ld %9ld %10ld %10ld", memory->vmas, memory->vmas_removed,
	       memory->page_tables_installed, memory->page_tables);
	if (memory->has_slabs)
		printf(" %9ld\n", memory->slabs);
	else
		printf(" %9s\n", "-");
}

static void print_tables(void)
{
	printf("\n%6s %-7s %-8s %6s ", "", "", "", "");
	for (unsigned int p = 0; p < NR_PHASES; p++)
		printf(" %8s %5s", phase_names[p], "");
	printf("\n%6s %-7s %-8s %6s ", "guards", "every", "method", "done");
	for (unsigned int p = 0; p < NR_PHASES; p++)
		printf(" %8s %5s", "ns/guard", "IQR");
	printf("\n");
	with_all_cases(print_times, 0);

	printf("\n%6s %-7s %-8s %6s  %9s %9s %10s %10s %9s\n", "", "", "", "",
	       "", "VMAs", "PT KiB", "PT KiB", "VMA slabs");
	printf("%6s %-7s %-8s %6s  %9s %9s %10s %10s %9s\n", "guards", "every",
	       "method", "done", "VMAs", "after", "installed", "touched",
	       "KiB");
	with_all_cases(print_memory, 0);

	printf("\nns: median of %u rounds\n", nr_rounds);
	if (stopped)
		printf("* stopped by vm.max_map_count, which is %lu\n",
		       map_limit);
}

/* --- options -------------------------------------------------------------- */

static void print_help(FILE *out)
{
	fputs("usage: guard [OPTION]...\n"
"\n"
"Measure what guard pages cost. A case places guards of one page each in a\n"
"region of private anonymous memory that is new: the last page of every BYTES\n"
"is one. Methods to make a page a guard, and a page that can be used again:\n"
"\n"
"  mmap      mmap() over it, of PROT_NONE; mmap() over it\n"
"  mprotect  mprotect() to PROT_NONE; mprotect()\n"
"  guard     madvise(), MADV_GUARD_INSTALL; MADV_GUARD_REMOVE\n"
"  vector    the same by process_madvise() on oneself, 1024 guards a call\n"
"\n"
"  -r, --rounds N     rounds of each case, 1 to 100 (10)\n"
"  -g, --guards LIST  how many guards (1000,20000,50000)\n"
"  -e, --every LIST   BYTES from one guard to the next: numbers, or 64KiB, or\n"
"                     2pages (64KiB,2pages)\n"
"  -m, --method LIST  methods (mmap,mprotect,guard,vector)\n"
"  -c, --csv FILE     write what was measured to FILE\n"
"      --clock TEXT   what the clock is, for the output (CLOCK_MONOTONIC)\n"
"  -h, --help         show this\n"
"\n"
"Columns of the first table, in nanoseconds of the clock for each guard: the\n"
"median of the rounds, and the range of the middle half of them (IQR),\n"
"relative to the median:\n"
"\n"
"  done      guards there were when vm.max_map_count stopped the method, less\n"
"            one, to leave mmap() room; what follows is for those\n"
"  install   make the guards, in memory that nothing has touched\n"
"  touch     store a byte in the page before each guard: a page fault\n"
"  remove    make each guard a page that can be used\n"
"  unmap     a single munmap() of another region in the state after touch, its\n"
"            guards in place; freeing the pages touched is in it\n"
"\n"
"and of the second, which one more round gives:\n"
"\n"
"  VMAs        mappings in the region after touch, from /proc/self/maps\n"
"  VMAs after  the same after remove. Stretches that were touched while apart\n"
"              do not merge again\n"
"  PT KiB      page tables after install and after touch, from VmPTE\n"
"  VMA slabs   objects struct vm_area_struct in use that there are more after\n"
"              touch, from /proc/slabinfo; - if that does not say. The whole\n"
"              machine's, and the kernel counts free ones that a processor keeps\n"
"              as used: wrong by some 100 KiB, so not for small cases. Other\n"
"              objects that a VMA needs (lock, anon_vma, maple tree) are not in\n"
"              it\n"
"\n"
"That round also looks at up to 1000 guards, and at the pages on both sides: a\n"
"load and a store must give SIGSEGV there while they are guards, and must\n"
"succeed beside them, and everywhere once they are removed. If not the program\n"
"ends, with no figures.\n"
"\n"
"Each case of each round has a process of its own, on the one processor on\n"
"which the program happened to start; rounds of all cases take turns. Huge\n"
"pages are off.\n"
"\n"
"FILE has a line for each sample: guards, BYTES, method, metric, guards that\n"
"there were, value. Metrics: install_ns, touch_ns, remove_ns, unmap_ns (of all\n"
"guards), vmas, vmas_removed, page_tables_installed_kib, page_tables_kib,\n"
"vma_slabs_kib.\n",
	      out);
}

static void add_count(const char *word)
{
	if (nr_counts == MAX_COUNTS)
		errx(1, "more than %d numbers of guards", MAX_COUNTS);
	counts[nr_counts++] = parse_number(word, 10000000);
}

static void add_distance(const char *word)
{
	size_t bytes;

	if (nr_distances == MAX_DISTANCES)
		errx(1, "more than %d distances", MAX_DISTANCES);
	if (!strcmp(word, "64KiB"))
		bytes = 65536;
	else if (!strcmp(word, "2pages"))
		bytes = 2 * page_size;
	else
		bytes = parse_number(word, 1UL << 30);
	if (bytes % page_size || bytes < 2 * page_size)
		errx(1, "%s: must be two or more pages, which have %zu bytes",
		     word, page_size);
	distances[nr_distances++] = (struct distance){ word, bytes };
}

static void select_method(const char *word)
{
	for (unsigned int m = 0; m < NR_METHODS; m++) {
		if (!strcmp(word, methods[m].name)) {
			methods[m].selected = true;
			return;
		}
	}
	errx(1, "there is no method '%s'; see --help", word);
}

static unsigned long read_limit(void)
{
	FILE *file = fopen(LIMIT, "re");
	unsigned long limit;

	if (!file || fscanf(file, "%lu", &limit) != 1)
		err(1, LIMIT);
	fclose(file);
	return limit;
}

int main(int argc, char **argv)
{
	static const struct list lists[] = {
		{ "guards", "1000,20000,50000", add_count },
		{ "every", "64KiB,2pages", add_distance },
		{ "method", "mmap,mprotect,guard,vector", select_method },
		{ }
	};
	struct settings settings = { .rounds = 10, .max_rounds = MAX_ROUNDS };

	parse_options(argc, argv, lists, print_help, &settings);
	csv = settings.csv;
	nr_rounds = settings.rounds;
	map_limit = read_limit();
	if (methods[GUARD].selected || methods[VECTOR].selected)
		need_guards(methods[VECTOR].selected);
	if (prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0))
		err(1, "prctl(PR_SET_THP_DISABLE)");
	stay_on_this_cpu();

	setlinebuf(stdout);
	print_machine(stdout, "", settings.clock);
	with_all_cases(measure_case_memory, 0);
	for (unsigned int round = 0; round < nr_rounds; round++)
		with_all_cases(measure_case_times, round);
	print_tables();
	if (csv) {
		print_csv(settings.clock);
		close_csv(csv);
	}
	return 0;
}
