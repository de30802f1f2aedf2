// SPDX-License-Identifier: GPL-2.0
/*
 * mte: what it costs to get memory with one MTE tag.
 *
 * A round is what an allocator does for a large object: map memory, tag it,
 * use a part of it, unmap it. Variants of the same round differ in where the
 * tag comes from. See print_help() for the rest.
 *
 * bench/run builds and runs this in an emulated machine. By hand, with the
 * headers of a kernel that has refpage_create(), installed by "make headers":
 *
 *   cc -std=gnu11 -O2 -static -isystem LINUX/usr/include \
 *      {mte,common}.c -o mte
 */
#define _GNU_SOURCE
#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>

#include <linux/mman.h>

#include "common.h"

#ifndef __aarch64__
#error "MTE is a feature of arm64"
#endif

#define HEAP_SIZE	4096000UL
#define LARGE_SIZE	(64UL << 20)

#define GRANULE		16UL
#define GRANULE_SHIFT	4	/* of a pattern of one granule */
#define TAG_SHIFT	56
#define TAG		5UL	/* of the variants that have one */
#define CONTENT		0	/* of all memory until something is stored */
#define STORED		0x55	/* what a round stores in each page it uses */

#define MAX_BLOCKS	20

/* Before each instruction of MTE: no option of the compiler is needed then */
#define MEMTAG		".arch armv8.5-a+memtag\n\t"

static size_t gva_size;		/* bytes that DC GVA tags; set by init_gva() */

/* --- tags ----------------------------------------------------------------- */

static unsigned char *with_tag(const unsigned char *p, unsigned long tag)
{
	unsigned long address = (unsigned long)p & ~(0xffUL << TAG_SHIFT);

	return (unsigned char *)(address | tag << TAG_SHIFT);
}

static unsigned long read_tag(const unsigned char *p)
{
	unsigned long address = 0;

	asm volatile(MEMTAG "ldg %0, [%1]"
		     : "+r" (address) : "r" (p) : "memory");
	return address >> TAG_SHIFT;
}

/* Each of these gives the memory from @p to @end the tag that @p has */

static void tag_by_stg(unsigned char *p, const unsigned char *end)
{
	while (p < end)
		asm volatile(MEMTAG "stg %0, [%0], #16"
			     : "+r" (p) : : "memory");
}

static void tag_by_st2g(unsigned char *p, const unsigned char *end)
{
	while (p < end)
		asm volatile(MEMTAG "st2g %0, [%0], #32"
			     : "+r" (p) : : "memory");
}

static void tag_by_gva(unsigned char *p, const unsigned char *end)
{
	size_t size = gva_size;

	for (; p < end; p += size)
		asm volatile(MEMTAG "dc gva, %0" : : "r" (p) : "memory");
}

/* --- cases ---------------------------------------------------------------- */

/* How a round gets its memory */
struct variant {
	const char *name;
	int map_flags;
	int fd;
	unsigned long tag;
	void (*set_tags)(unsigned char *p, const unsigned char *end);
	bool selected;
};

enum { ANON, STG, ST2G, GVA, REFPAGE, NR_VARIANTS };

static struct variant variants[NR_VARIANTS] = {
	[ANON] = { "anon", MAP_PRIVATE | MAP_ANONYMOUS, -1 },
	[STG] = { "stg", MAP_PRIVATE | MAP_ANONYMOUS, -1, TAG, tag_by_stg },
	[ST2G] = { "st2g", MAP_PRIVATE | MAP_ANONYMOUS, -1, TAG, tag_by_st2g },
	[GVA] = { "gva", MAP_PRIVATE | MAP_ANONYMOUS, -1, TAG, tag_by_gva },
	[REFPAGE] = { "refpage", MAP_PRIVATE, -1, TAG },
};

/* How much memory a round gets, and how much of that it uses */
struct touch {
	const char *name;
	size_t map_size;
	size_t bytes;
	unsigned int fewer;	/* one round for so many that are asked for */
	bool selected;
	unsigned int block_rounds;
	unsigned int nr_blocks;
};

enum { SPARSE, HALF, FULL, LARGE, NR_TOUCHES };

static struct touch touches[NR_TOUCHES] = {
	[SPARSE] = { "sparse", HEAP_SIZE, 4096, 1 },
	[HALF] = { "half", HEAP_SIZE, HEAP_SIZE / 2, 1 },
	[FULL] = { "full", HEAP_SIZE, HEAP_SIZE, 1 },
	[LARGE] = { "large", LARGE_SIZE, 1, LARGE_SIZE / HEAP_SIZE },
};

/* What a child finds out about one variant with one touch */
struct memory {
	long rss;		/* KiB, of the mapping at the end of a round */
	long faults;
};

/* What was measured of them */
struct result {
	unsigned long long ns[MAX_BLOCKS];
	struct summary us;	/* for one round */
	struct memory memory;
};

static struct result results[NR_TOUCHES][NR_VARIANTS];

/* --- a round -------------------------------------------------------------- */

static unsigned char *map_memory(const struct variant *v, size_t size)
{
	unsigned char *p;

	p = mmap(NULL, size, PROT_READ | PROT_WRITE | PROT_MTE, v->map_flags,
		 v->fd, 0);
	if (p == MAP_FAILED)
		err(1, "%s: mmap with PROT_MTE", v->name);
	return p;
}

static unsigned char *begin_round(const struct variant *v,
				  const struct touch *t)
{
	unsigned char *p = with_tag(map_memory(v, t->map_size), v->tag);

	if (v->set_tags)
		v->set_tags(p, p + t->map_size);
	for (size_t i = 0; i < t->bytes; i += page_size)
		p[i] = STORED;
	/* The compiler must not know what is there now */
	asm volatile("" : : : "memory");
	return p;
}

static void end_round(const struct variant *v, const struct touch *t,
		      unsigned char *p)
{
	if (munmap(with_tag(p, 0), t->map_size))
		err(1, "%s: munmap", v->name);
}

/*
 * Do not look at pages that the round leaves alone: this is timed, and must
 * fault in nothing. What remains costs every variant the same. The processor
 * compares the tag of each page that is used with that of the pointer.
 */
static void run_rounds(const struct variant *v, const struct touch *t,
		       unsigned int n)
{
	size_t last = div_round_up(t->bytes, page_size) * page_size - 1;

	if (last >= t->map_size)
		last = t->map_size - 1;

	while (n--) {
		unsigned char *p = begin_round(v, t);

		if (p[0] != STORED || p[1] != CONTENT || p[last] != CONTENT)
			errx(1, "%s: wrong data in a page just stored to",
			     v->name);
		end_round(v, t, p);
	}
}

/* @first is what the first byte should be, if not CONTENT */
static void check_granule(const struct variant *v, const unsigned char *p,
			  unsigned char first)
{
	const unsigned long *words = (const unsigned long *)p;

	if (read_tag(p) != v->tag)
		errx(1, "%s: tag %lu at %p, which should be %lu", v->name,
		     read_tag(p), p, v->tag);
	if (words[0] != first || words[1] != CONTENT)
		errx(1, "%s: wrong data at %p", v->name, p);
}

/* Does the processor compare tags here? Stores zero. */
static void check_faults(const struct variant *v, unsigned char *p)
{
	unsigned char *wrong = with_tag(p, v->tag + 1);

	if (count_faults(p))
		errx(1, "%s: SIGSEGV at %p, of the right tag", v->name, p);
	if (count_faults(wrong) != 2)
		errx(1, "%s: no SIGSEGV at %p, of a wrong tag", v->name, wrong);
}

/* Looks at every byte and every tag */
static void check(const struct variant *v, const struct touch *t,
		  unsigned char *p)
{
	for (size_t i = 0; i < t->map_size; i += GRANULE)
		check_granule(v, p + i, i < t->bytes && i % page_size == 0 ?
					STORED : CONTENT);
	check_faults(v, p);
	check_faults(v, p + t->map_size / 2);
	check_faults(v, p + t->map_size - GRANULE);
}

/* --- measuring ------------------------------------------------------------ */

/*
 * One round that is not timed lets the page allocator settle after whatever
 * ran before.
 */
static unsigned long long time_block(const struct variant *v,
				     const struct touch *t)
{
	unsigned long long start;

	run_rounds(v, t, 1);
	start = now();
	run_rounds(v, t, t->block_rounds);
	return now() - start;
}

/* Each block begins at another case, so that noise hits all alike */
static void measure_times(void)
{
	unsigned int n = NR_TOUCHES * NR_VARIANTS;

	for (unsigned int block = 0; block < MAX_BLOCKS; block++) {
		for (unsigned int i = 0; i < n; i++) {
			unsigned int t = (block + i) % n / NR_VARIANTS;
			unsigned int v = (block + i) % n % NR_VARIANTS;

			if (!touches[t].selected || !variants[v].selected ||
			    block >= touches[t].nr_blocks)
				continue;
			results[t][v].ns[block] =
				time_block(&variants[v], &touches[t]);
		}
	}
}

struct memory_case {
	const struct variant *variant;
	const struct touch *touch;
};

static void measure_memory(const void *arg, void *result)
{
	const struct memory_case *c = arg;
	const struct variant *v = c->variant;
	const struct touch *t = c->touch;
	struct memory *memory = result;
	struct rusage before, after;
	unsigned char *p;

	/* The first time faults in code and data, which is not to be counted */
	run_rounds(v, t, 1);
	read_rss();
	getrusage(RUSAGE_SELF, &before);
	p = begin_round(v, t);
	getrusage(RUSAGE_SELF, &after);
	memory->faults = after.ru_minflt - before.ru_minflt;
	memory->rss = read_rss();
	end_round(v, t, p);
	memory->rss -= read_rss();

	p = begin_round(v, t);
	check(v, t, p);
	end_round(v, t, p);
}

static void measure_memories(void)
{
	for (unsigned int t = 0; t < NR_TOUCHES; t++) {
		for (unsigned int v = 0; v < NR_VARIANTS; v++) {
			const struct memory_case c = {
				&variants[v], &touches[t]
			};
			struct memory *memory = &results[t][v].memory;

			if (touches[t].selected && variants[v].selected)
				measure_in_child(variants[v].name,
						 measure_memory, &c, memory,
						 sizeof(*memory));
		}
	}
}

static void summarise_blocks(const struct touch *t, struct result *result)
{
	double scale = 1 / 1e3 / t->block_rounds;

	result->us = summarise(result->ns, t->nr_blocks);
	result->us.median *= scale;
	result->us.iqr *= scale;
}

static void summarise_all(void)
{
	for (unsigned int t = 0; t < NR_TOUCHES; t++)
		for (unsigned int v = 0; v < NR_VARIANTS; v++)
			if (touches[t].selected && variants[v].selected)
				summarise_blocks(&touches[t], &results[t][v]);
}

/* --- output --------------------------------------------------------------- */

static void print_csv(FILE *out, const char *clock)
{
	print_machine(out, "# ", clock);
	fputs("touched,variant,metric,rounds,value\n", out);
	for (unsigned int t = 0; t < NR_TOUCHES; t++) {
		for (unsigned int v = 0; v < NR_VARIANTS; v++) {
			const struct result *result = &results[t][v];
			const char *touched = touches[t].name;
			const char *name = variants[v].name;

			if (!touches[t].selected || !variants[v].selected)
				continue;
			for (unsigned int i = 0; i < touches[t].nr_blocks; i++)
				fprintf(out, "%s,%s,ns,%u,%llu\n", touched,
					name, touches[t].block_rounds,
					result->ns[i]);
			fprintf(out, "%s,%s,rss_kib,1,%ld\n", touched, name,
				result->memory.rss);
			fprintf(out, "%s,%s,minor_faults,1,%ld\n", touched,
				name, result->memory.faults);
		}
	}
}

/* The least that tagging in user space takes, or 0 if no loop was measured */
static double best_loop(const struct result *row)
{
	double best = 0;

	for (unsigned int v = 0; v < NR_VARIANTS; v++) {
		double us = row[v].us.median;

		if (variants[v].set_tags && variants[v].selected &&
		    (!best || us < best))
			best = us;
	}
	return best;
}

/* 0 stands for what was not measured */
static void print_less(double us, double than)
{
	if (than)
		printf(" %8.1f%%", 100 * (1 - us / than));
	else
		printf(" %9s", "-");
}

static void print_row(const struct touch *t, unsigned int v,
		      const struct result *row)
{
	const struct result *result = &row[v];
	double us = result->us.median;

	printf("%-7s %-7s %10.2f %5.1f%%", t->name, variants[v].name, us,
	       100 * result->us.iqr / us);
	print_less(us, row[STG].us.median);
	print_less(us, best_loop(row));
	if (variants[ANON].selected)
		printf(" %7.3f", us / row[ANON].us.median);
	else
		printf(" %7s", "-");
	printf(" %7ld %6ld\n", result->memory.rss, result->memory.faults);
}

static void print_rounds(const struct touch *t)
{
	printf("%s: median of %u blocks of %u rounds\n", t->name, t->nr_blocks,
	       t->block_rounds);
}

static void print_table(void)
{
	printf("\n%-7s %-7s %10s %6s %9s %9s %7s %7s %6s\n", "", "", "us per",
	       "IQR of", "less than", "less than", "times", "RSS", "minor");
	printf("%-7s %-7s %10s %6s %9s %9s %7s %7s %6s\n", "touched",
	       "variant", "round", "median", "stg", "best loop", "anon", "KiB",
	       "faults");
	for (unsigned int t = 0; t < NR_TOUCHES; t++)
		for (unsigned int v = 0; v < NR_VARIANTS; v++)
			if (touches[t].selected && variants[v].selected)
				print_row(&touches[t], v, results[t]);
	printf("\n");
	for (unsigned int t = 0; t < NR_TOUCHES; t++)
		if (touches[t].selected)
			print_rounds(&touches[t]);
	if (variants[GVA].selected)
		printf("gva: %zu bytes for each DC GVA\n", gva_size);
	printf("RSS: without tags, which QEMU keeps in a memory of their own\n");
}

/* --- options -------------------------------------------------------------- */

static void print_help(FILE *out)
{
	fputs("usage: mte [OPTION]...\n"
"\n"
"Measure what it costs to get private memory of zeros with one MTE tag. A round\n"
"maps memory with PROT_MTE, tags all of it, stores one byte in each page of a\n"
"part of it, and unmaps it. Variants:\n"
"\n"
"  anon     anonymous memory, left at tag 0: the lower bound\n"
"  stg      anonymous memory, tagged by a loop of STG: 16 bytes, three\n"
"           instructions\n"
"  st2g     the same by ST2G: 32 bytes, three instructions\n"
"  gva      the same by DC GVA: as many bytes as the processor has in one, four\n"
"           instructions; left out where DCZID_EL0 prohibits it\n"
"  refpage  a mapping of a descriptor of refpage_create(), of a granule of zeros\n"
"           that has the tag\n"
"\n"
"  -r, --rounds N      rounds of each case (1000); for large, a sixteenth of\n"
"                      them, as each maps 16 times as much\n"
"  -t, --touch LIST    what to map and to use, separated by commas; default\n"
"                      sparse,half,full,large:\n"
"                        sparse  4,096,000 bytes, a store to the first 4096\n"
"                        half    4,096,000 bytes, stores to the first 2,048,000\n"
"                        full    4,096,000 bytes, stores to all\n"
"                        large   64 MiB, a store to the first byte\n"
"  -v, --variant LIST  variants, separated by commas\n"
"                      (anon,stg,st2g,gva,refpage)\n"
"  -c, --csv FILE      write what was measured to FILE\n"
"      --clock TEXT    what the clock is, for the output (CLOCK_MONOTONIC)\n"
"  -h, --help          show this\n"
"\n"
"Tag checks are on, and synchronous. Memory is used through a pointer that has\n"
"its tag. Before anything is timed, every byte and every tag of a round of each\n"
"case is looked at, and an access through a pointer with another tag must fault\n"
"at its begin, middle and end: if one is wrong the program ends, with no\n"
"figures.\n"
"\n"
"Rounds are timed in up to 20 blocks; blocks of all cases take turns. The table\n"
"has the median of the blocks, the range of the middle half of them (IQR),\n"
"relative to the median, and how the median compares with those of stg, of the\n"
"best of stg, st2g and gva, and of anon.\n"
"\n"
"RSS and minor faults come from a child process for each case. RSS is that of\n"
"the mapping at the end of a round, counted in the page tables (smaps_rollup).\n"
"Where tags are stored is not in it: QEMU keeps them in a memory of their own.\n"
"\n"
"All runs on the one processor on which the program happened to start.\n"
"\n"
"FILE has a line for each sample: touched, variant, metric, rounds that the\n"
"value is for, value. Metrics: ns (a block), rss_kib, minor_faults.\n",
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
	errx(1, "'%s' is not sparse, half, full or large", word);
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

static void divide_rounds(struct touch *t, unsigned int rounds)
{
	rounds = div_round_up(rounds, t->fewer);
	t->block_rounds = div_round_up(rounds, MAX_BLOCKS);
	t->nr_blocks = div_round_up(rounds, t->block_rounds);
}

/* --- what the processor and the kernel can do ----------------------------- */

static void enable_mte(void)
{
	if (!(getauxval(AT_HWCAP2) & HWCAP2_MTE))
		errx(1, "this processor, or this kernel, has no MTE");
	if (prctl(PR_SET_TAGGED_ADDR_CTRL, PR_TAGGED_ADDR_ENABLE |
		  PR_MTE_TCF_SYNC | PR_MTE_TAG_MASK, 0, 0, 0))
		err(1, "prctl(PR_SET_TAGGED_ADDR_CTRL)");
}

/* The low bits are log2 of the words that DC GVA tags; bit 4 prohibits it */
static void init_gva(void)
{
	unsigned long dczid;

	asm("mrs %0, dczid_el0" : "=r" (dczid));
	gva_size = 4UL << (dczid & 0xf);
	if (!(dczid & 0x10))
		return;
	warnx("gva is left out: DCZID_EL0 prohibits DC GVA");
	variants[GVA].selected = false;
}

static int create_tagged_refpage(void)
{
	unsigned char *p = map_memory(&variants[ANON], page_size);
	int fd;

	p = with_tag(p, TAG);
	tag_by_stg(p, p + GRANULE);
	fd = create_pattern_refpage(p, GRANULE_SHIFT);
	munmap(with_tag(p, 0), page_size);
	return fd;
}

int main(int argc, char **argv)
{
	static const struct list lists[] = {
		{ "touch", "sparse,half,full,large", select_touch },
		{ "variant", "anon,stg,st2g,gva,refpage", select_variant },
		{ }
	};
	struct settings settings = {
		.rounds = 1000, .max_rounds = 1000000000
	};

	parse_options(argc, argv, lists, print_help, &settings);
	for (unsigned int t = 0; t < NR_TOUCHES; t++)
		divide_rounds(&touches[t], settings.rounds);
	enable_mte();
	if (variants[GVA].selected)
		init_gva();
	if (variants[REFPAGE].selected)
		variants[REFPAGE].fd = create_tagged_refpage();
	stay_on_this_cpu();

	setlinebuf(stdout);
	print_machine(stdout, "", settings.clock);
	measure_memories();
	measure_times();
	summarise_all();
	print_table();
	if (settings.csv) {
		print_csv(settings.csv, settings.clock);
		close_csv(settings.csv);
	}
	return 0;
}
