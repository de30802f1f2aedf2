// SPDX-License-Identifier: GPL-2.0
/*
 * slots: a heap of slots that have content, with a guard after each.
 *
 * What reference pages and guard regions do together, for an allocator that
 * wants both. See print_help().
 *
 * bench/run builds and runs this in an emulated machine. By hand, with the
 * headers of a kernel that has both, installed by "make headers":
 *
 *   cc -std=gnu11 -O2 -static -isystem LINUX/usr/include \
 *      {slots,common}.c -o slots
 */
#define _GNU_SOURCE
#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <linux/mman.h>

#include "common.h"

#define HEAP_SIZE	(64UL << 20)
#define SLOT_SIZE	(64UL << 10)
#define SLOTS		(HEAP_SIZE / SLOT_SIZE)
#define CONTENT		0xaa
#define STORED		0x55	/* in each page touched */

#define MAX_ROUNDS	100

/* Without refpage the content comes from memset(), without guards mprotect() */
struct variant {
	const char *name;
	bool refpage;
	bool guards;
	bool selected;
};

enum { MPROTECT, MEMSET, REFPAGE, NR_VARIANTS };

static struct variant variants[NR_VARIANTS] = {
	[MPROTECT] = { "memset+mprotect", false, false },
	[MEMSET] = { "memset+guards", false, true },
	[REFPAGE] = { "refpage+guards", true, true },
};

/* How much of each slot is used */
enum { NONE, PAGE, ALL, NR_TOUCHES };

static struct {
	const char *name;
	bool selected;
} touches[NR_TOUCHES] = {
	[NONE] = { "none" },
	[PAGE] = { "page" },
	[ALL] = { "all" },
};

enum { MAKE, TOUCH, UNMAP, TOTAL, NR_PHASES };

static const char *const phase_names[NR_PHASES] = {
	[MAKE] = "make",
	[TOUCH] = "touch",
	[UNMAP] = "unmap",
	[TOTAL] = "total",
};

struct slots_case {
	const struct variant *variant;
	size_t touched;		/* bytes of each slot */
};

/* What a child finds out */
struct memory {
	long rss;		/* all in KiB and more than before */
	long vmas;
	long page_tables;
};

struct times {
	unsigned long long ns[NR_PHASES];
};

/* What was measured of a case */
struct result {
	struct memory memory;
	unsigned long long ns[NR_PHASES][MAX_ROUNDS];
};

static struct result results[NR_TOUCHES][NR_VARIANTS];
static unsigned int nr_rounds;
static int refpage_fd = -1;

/* The last page of a slot is the guard */
static size_t usable_size(void)
{
	return SLOT_SIZE - page_size;
}

/* --- one case ------------------------------------------------------------- */

static unsigned char *make_heap(const struct variant *v)
{
	unsigned char *heap, *guard;
	size_t done;

	heap = mmap(NULL, HEAP_SIZE, PROT_READ | PROT_WRITE,
		    v->refpage ? MAP_PRIVATE : MAP_PRIVATE | MAP_ANONYMOUS,
		    v->refpage ? refpage_fd : -1, 0);
	if (heap == MAP_FAILED)
		err(1, "%s: mmap", v->name);
	if (!v->refpage)
		for (size_t i = 0; i < HEAP_SIZE; i += SLOT_SIZE)
			memset(heap + i, CONTENT, usable_size());

	guard = heap + usable_size();
	if (v->guards)
		done = process_madvise_pages(guard, SLOTS, SLOT_SIZE,
					     MADV_GUARD_INSTALL);
	else
		done = mprotect_pages(guard, SLOTS, SLOT_SIZE, PROT_NONE);
	if (done < SLOTS)
		err(1, "%s: guard %zu of %lu", v->name, done + 1, SLOTS);
	return heap;
}

static void touch(unsigned char *heap, size_t bytes)
{
	for (size_t i = 0; i < HEAP_SIZE; i += SLOT_SIZE)
		for (size_t j = 0; j < bytes; j += page_size)
			heap[i + j] = STORED;
	/* The compiler must not know what is there now */
	asm volatile("" : : : "memory");
}

static void unmap_heap(const struct variant *v, unsigned char *heap)
{
	if (munmap(heap, HEAP_SIZE))
		err(1, "%s: munmap", v->name);
}

/* --- measuring ------------------------------------------------------------ */

static void measure_times(const void *arg, void *result)
{
	const struct slots_case *c = arg;
	struct times *times = result;
	unsigned long long start, made, touched, end;
	unsigned char *heap;

	unmap_heap(c->variant, make_heap(c->variant));
	start = now();
	heap = make_heap(c->variant);
	made = now();
	touch(heap, c->touched);
	touched = now();
	unmap_heap(c->variant, heap);
	end = now();

	times->ns[MAKE] = made - start;
	times->ns[TOUCH] = touched - made;
	times->ns[UNMAP] = end - touched;
	times->ns[TOTAL] = end - start;
}

/* Looks at every byte of every slot, and at every guard */
static void check(const struct slots_case *c, unsigned char *heap)
{
	const char *name = c->variant->name;

	for (size_t slot = 0; slot < SLOTS; slot++) {
		unsigned char *p = heap + slot * SLOT_SIZE;

		for (size_t i = 0; i < usable_size(); i += page_size)
			if (p[i] != (i < c->touched ? STORED : CONTENT) ||
			    p[i + 1] != CONTENT ||
			    memcmp(p + i + 1, p + i + 2, page_size - 2))
				errx(1, "%s: wrong data in slot %zu at %zu",
				     name, slot, i);
		if (count_faults(p + usable_size()) != 2)
			errx(1, "%s: slot %zu has no guard", name, slot);
	}
}

static void measure_memory(const void *arg, void *result)
{
	const struct slots_case *c = arg;
	struct memory *memory = result;
	long rss, page_tables;
	unsigned char *heap;

	/* The first time faults in code and data, which is not to be counted */
	unmap_heap(c->variant, make_heap(c->variant));
	count_vmas(NULL, 0);
	read_rss();
	page_tables = read_page_tables();
	rss = read_rss();
	heap = make_heap(c->variant);
	touch(heap, c->touched);
	memory->rss = read_rss() - rss;
	memory->page_tables = read_page_tables() - page_tables;
	memory->vmas = count_vmas(heap, HEAP_SIZE);
	check(c, heap);
	unmap_heap(c->variant, heap);
}

typedef void (*use_case)(const struct slots_case *c, unsigned int t,
			 unsigned int v, unsigned int round);

static void measure_case_memory(const struct slots_case *c, unsigned int t,
				unsigned int v, unsigned int round)
{
	struct memory *memory = &results[t][v].memory;

	(void)round;
	measure_in_child(c->variant->name, measure_memory, c, memory,
			 sizeof(*memory));
}

static void measure_case_times(const struct slots_case *c, unsigned int t,
			       unsigned int v, unsigned int round)
{
	struct times times;

	measure_in_child(c->variant->name, measure_times, c, &times,
			 sizeof(times));
	for (unsigned int p = 0; p < NR_PHASES; p++)
		results[t][v].ns[p][round] = times.ns[p];
}

/* Each round begins at another case, so that noise hits all alike */
static void with_all_cases(use_case use, unsigned int round)
{
	const size_t bytes[NR_TOUCHES] = {
		[NONE] = 0,
		[PAGE] = page_size,
		[ALL] = usable_size(),
	};
	unsigned int n = NR_TOUCHES * NR_VARIANTS;

	for (unsigned int i = 0; i < n; i++) {
		unsigned int t = (round + i) % n / NR_VARIANTS;
		unsigned int v = (round + i) % n % NR_VARIANTS;
		const struct slots_case c = { &variants[v], bytes[t] };

		if (touches[t].selected && variants[v].selected)
			use(&c, t, v, round);
	}
}

/* --- output --------------------------------------------------------------- */

static FILE *csv;

static void print_case(const struct slots_case *c, unsigned int t,
		       unsigned int v, unsigned int round)
{
	const struct result *result = &results[t][v];
	const char *name = c->variant->name;

	(void)round;
	for (unsigned int p = 0; p < NR_PHASES; p++)
		for (unsigned int i = 0; i < nr_rounds; i++)
			fprintf(csv, "%s,%s,%s_ns,%llu\n", touches[t].name,
				name, phase_names[p], result->ns[p][i]);
	fprintf(csv, "%s,%s,rss_kib,%ld\n", touches[t].name, name,
		result->memory.rss);
	fprintf(csv, "%s,%s,vmas,%ld\n", touches[t].name, name,
		result->memory.vmas);
	fprintf(csv, "%s,%s,page_tables_kib,%ld\n", touches[t].name, name,
		result->memory.page_tables);
}

static void print_csv(const char *clock)
{
	print_machine(csv, "# ", clock);
	fputs("touched,variant,metric,value\n", csv);
	with_all_cases(print_case, 0);
}

static void print_row(const struct slots_case *c, unsigned int t,
		      unsigned int v, unsigned int round)
{
	const struct result *result = &results[t][v];
	const struct memory *memory = &result->memory;
	struct summary total = summarise(result->ns[TOTAL], nr_rounds);

	(void)round;
	printf("%-7s %-15s", touches[t].name, c->variant->name);
	for (unsigned int p = 0; p < NR_PHASES; p++)
		printf(" %7.2f",
		       summarise(result->ns[p], nr_rounds).median / 1e6);
	printf(" %5.1f%%", 100 * total.iqr / total.median);
	if (variants[MPROTECT].selected)
		printf(" %7.3f", total.median /
		       summarise(results[t][MPROTECT].ns[TOTAL],
				 nr_rounds).median);
	else
		printf(" %7s", "-");
	printf(" %6ld %5ld %6ld\n", memory->rss, memory->vmas,
	       memory->page_tables);
}

static void print_table(void)
{
	printf("\n%-7s %-15s", "", "");
	for (unsigned int p = 0; p < NR_PHASES; p++)
		printf(" %7s", phase_names[p]);
	printf(" %6s %7s %6s %5s %6s\n", "IQR of", "times", "RSS", "", "PT");
	printf("%-7s %-15s", "touched", "variant");
	for (unsigned int p = 0; p < NR_PHASES; p++)
		printf(" %7s", "ms");
	printf(" %6s %7s %6s %5s %6s\n", "total", "mprot.", "KiB", "VMAs",
	       "KiB");
	with_all_cases(print_row, 0);
	printf("\nms: median of %u rounds\n", nr_rounds);
}

/* --- options -------------------------------------------------------------- */

static void print_help(FILE *out)
{
	fputs("usage: slots [OPTION]...\n"
"\n"
"Measure a heap of 64 MiB in slots of 64 KiB, in which every byte is 0xaa but\n"
"for the last page of each slot, which is a guard. Variants:\n"
"\n"
"  memset+mprotect  anonymous memory, memset() of each slot, then mprotect() of\n"
"                   each guard to PROT_NONE\n"
"  memset+guards    the same memory, then all guards by process_madvise() on\n"
"                   oneself, with MADV_GUARD_INSTALL\n"
"  refpage+guards   a mapping of a descriptor of refpage_create(), and these\n"
"                   guards\n"
"\n"
"  -r, --rounds N      rounds of each case, 1 to 100 (20)\n"
"  -t, --touch LIST    what to use of each slot: none, one page, or all of them\n"
"                      (none,page,all)\n"
"  -v, --variant LIST  variants (memset+mprotect,memset+guards,refpage+guards)\n"
"  -c, --csv FILE      write what was measured to FILE\n"
"      --clock TEXT    what the clock is, for the output (CLOCK_MONOTONIC)\n"
"  -h, --help          show this\n"
"\n"
"Columns; times are the medians of the rounds, by the clock:\n"
"\n"
"  make          map the heap, give it content and guards; the descriptor is\n"
"                there already\n"
"  touch         store a byte in each page used\n"
"  unmap         a single munmap()\n"
"  total         all three\n"
"  IQR of total  the range of the middle half of the totals, relative to their\n"
"                median\n"
"  times mprot.  total, relative to that of memset+mprotect\n"
"  RSS           of the heap after touch, counted in the page tables\n"
"                (smaps_rollup)\n"
"  VMAs          mappings in the heap after touch, from /proc/self/maps\n"
"  PT            page tables after touch that were not there before, from VmPTE\n"
"\n"
"The last three come from one more round, which also looks at every byte, and\n"
"for SIGSEGV at every guard: if one is wrong the program ends, with no figures.\n"
"\n"
"Each case of each round has a process of its own, on the one processor on\n"
"which the program happened to start, which has made such a heap once before;\n"
"rounds of all cases take turns.\n"
"\n"
"FILE has a line for each sample: touched, variant, metric, value. Metrics:\n"
"make_ns, touch_ns, unmap_ns, total_ns, rss_kib, vmas, page_tables_kib.\n",
	      out);
}

static void select_touch(const char *word)
{
	for (unsigned int t = 0; t < NR_TOUCHES; t++) {
		if (!strcmp(word, touches[t].name)) {
			touches[t].selected = true;
			return;
		}
	}
	errx(1, "'%s' is not none, page or all", word);
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

int main(int argc, char **argv)
{
	static const struct list lists[] = {
		{ "touch", "none,page,all", select_touch },
		{ "variant", "memset+mprotect,memset+guards,refpage+guards",
		  select_variant },
		{ }
	};
	struct settings settings = { .rounds = 20, .max_rounds = MAX_ROUNDS };

	parse_options(argc, argv, lists, print_help, &settings);
	csv = settings.csv;
	nr_rounds = settings.rounds;
	if (page_size > SLOT_SIZE / 2)
		errx(1, "a slot of 64 KiB has no page to use");
	if (variants[MEMSET].selected || variants[REFPAGE].selected)
		need_guards(true);
	if (variants[REFPAGE].selected)
		refpage_fd = create_refpage(CONTENT);
	stay_on_this_cpu();

	setlinebuf(stdout);
	print_machine(stdout, "", settings.clock);
	with_all_cases(measure_case_memory, 0);
	for (unsigned int round = 0; round < nr_rounds; round++)
		with_all_cases(measure_case_times, round);
	print_table();
	if (csv) {
		print_csv(settings.clock);
		close_csv(csv);
	}
	return 0;
}
