// SPDX-License-Identifier: GPL-2.0
/*
 * heap: what it costs to get memory with content.
 *
 * A round is what an allocator does for a large object: map memory, give it
 * content, use a part of it, unmap it. Variants of the same round differ in
 * where the content comes from. See print_help() for the rest.
 *
 * bench/run builds and runs this in an emulated machine. By hand, with the
 * headers of a kernel that has refpage_create(), installed by "make headers":
 *
 *   cc -std=gnu11 -O2 -static -isystem LINUX/usr/include \
 *      {heap,common}.c -o heap
 */
#define _GNU_SOURCE
#include <err.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>

#include "common.h"

#define MAP_SIZE	4096000UL
#define CONTENT		0xaa	/* of the variants that have content */
#define STORED		0x55	/* what a round stores in each page it uses */

#define SCALE		1000	/* times are given for so many rounds */
#define MAX_BLOCKS	20
#define MAX_TOUCHES	16
#define CHILD_ROUNDS	10

/* How a round gets its memory */
struct variant {
	const char *name;
	int map_flags;
	int fd;
	bool fill;
	unsigned char content;
	bool selected;
};

enum { ANON, MEMSET, REFPAGE, NR_VARIANTS };

static struct variant variants[NR_VARIANTS] = {
	[ANON] = { "anon", MAP_PRIVATE | MAP_ANONYMOUS, -1 },
	[MEMSET] = { "memset", MAP_PRIVATE | MAP_ANONYMOUS, -1, true, CONTENT },
	[REFPAGE] = { "refpage", MAP_PRIVATE, -1, false, CONTENT },
};

/* How much of it a round uses */
struct touch {
	const char *name;
	size_t bytes;
};

static const struct touch known_touches[] = {
	{ "sparse", 4096 },
	{ "half", MAP_SIZE / 2 },
	{ "full", MAP_SIZE },
};

static struct touch touches[MAX_TOUCHES];
static unsigned int nr_touches;

/* What a child finds out about one variant with one touch */
struct memory {
	long rss;		/* KiB, of the mapping at the end of a round */
	long max_rss;		/* KiB, of the process, by getrusage() */
	long faults;		/* in CHILD_ROUNDS rounds */
};

/* What was measured of them */
struct result {
	unsigned long long ns[MAX_BLOCKS];
	struct summary ms;	/* for SCALE rounds */
	struct memory memory;
};

static struct result results[MAX_TOUCHES][NR_VARIANTS];
static unsigned int block_rounds, nr_blocks;

/* --- a round -------------------------------------------------------------- */

static unsigned char *begin_round(const struct variant *v, size_t bytes)
{
	unsigned char *p;

	p = mmap(NULL, MAP_SIZE, PROT_READ | PROT_WRITE, v->map_flags, v->fd,
		 0);
	if (p == MAP_FAILED)
		err(1, "%s: mmap", v->name);
	if (v->fill)
		memset(p, v->content, MAP_SIZE);
	for (size_t i = 0; i < bytes; i += page_size)
		p[i] = STORED;
	/* The compiler must not know what is there now */
	asm volatile("" : : : "memory");
	return p;
}

static void end_round(const struct variant *v, unsigned char *p)
{
	if (munmap(p, MAP_SIZE))
		err(1, "%s: munmap", v->name);
}

/*
 * Do not look at pages that the round leaves alone: this is timed, and must
 * fault in nothing. What remains costs every variant the same.
 */
static void run_rounds(const struct variant *v, size_t bytes, unsigned int n)
{
	size_t last = div_round_up(bytes, page_size) * page_size - 1;

	if (last >= MAP_SIZE)
		last = MAP_SIZE - 1;

	while (n--) {
		unsigned char *p = begin_round(v, bytes);

		if (p[0] != STORED || p[1] != v->content ||
		    p[last] != v->content)
			errx(1, "%s: wrong data in a page just stored to", v->name);
		end_round(v, p);
	}
}

/* A round that looks at every byte */
static void check_round(const struct variant *v, size_t bytes)
{
	unsigned char *p = begin_round(v, bytes);

	for (size_t i = 0; i < MAP_SIZE; i += page_size) {
		size_t left = MAP_SIZE - i;
		size_t size = left < page_size ? left : page_size;

		if (p[i] != (i < bytes ? STORED : v->content) ||
		    p[i + 1] != v->content ||
		    memcmp(p + i + 1, p + i + 2, size - 2))
			errx(1, "%s: wrong data at offset %zu ... %zu, of which %zu were stored to",
			     v->name, i, i + size - 1, bytes);
	}
	end_round(v, p);
}

/* --- measuring ------------------------------------------------------------ */

/*
 * One round that is not timed lets the page allocator settle after whatever
 * ran before.
 */
static unsigned long long time_block(const struct variant *v, size_t bytes)
{
	unsigned long long start, end;

	run_rounds(v, bytes, 1);
	start = now();
	run_rounds(v, bytes, block_rounds);
	end = now();
	check_round(v, bytes);
	return end - start;
}

/* Each block begins at another case, so that noise hits all alike */
static void measure_times(void)
{
	unsigned int n = nr_touches * NR_VARIANTS;

	for (unsigned int block = 0; block < nr_blocks; block++) {
		for (unsigned int i = 0; i < n; i++) {
			unsigned int t = (block + i) % n / NR_VARIANTS;
			unsigned int v = (block + i) % n % NR_VARIANTS;

			if (!variants[v].selected)
				continue;
			results[t][v].ns[block] =
				time_block(&variants[v], touches[t].bytes);
		}
	}
}

struct memory_case {
	const struct variant *variant;
	size_t bytes;
};

/*
 * The maximum of RSS is that of a process, so each case needs its own. It
 * starts from the RSS of the parent at fork(): do this before anything that
 * makes that grow.
 */
static void measure_memory(const void *arg, void *result)
{
	const struct memory_case *c = arg;
	const struct variant *v = c->variant;
	struct memory *memory = result;
	struct rusage before, after;
	size_t bytes = c->bytes;
	unsigned char *p;

	run_rounds(v, bytes, 1);
	getrusage(RUSAGE_SELF, &before);
	run_rounds(v, bytes, CHILD_ROUNDS);
	getrusage(RUSAGE_SELF, &after);
	memory->faults = after.ru_minflt - before.ru_minflt;
	memory->max_rss = after.ru_maxrss;

	/* The first reading faults in the code that does it */
	read_rss();
	p = begin_round(v, bytes);
	memory->rss = read_rss();
	end_round(v, p);
	memory->rss -= read_rss();
}

static void measure_memory_in_child(const struct variant *v, size_t bytes,
				    struct memory *memory)
{
	const struct memory_case c = { v, bytes };

	measure_in_child(v->name, measure_memory, &c, memory, sizeof(*memory));
}

static void measure_memories(void)
{
	/* What the first fork() faults in here must not look like a result */
	measure_memory_in_child(&variants[ANON], page_size,
				&results[0][ANON].memory);

	for (unsigned int t = 0; t < nr_touches; t++)
		for (unsigned int v = 0; v < NR_VARIANTS; v++)
			if (variants[v].selected)
				measure_memory_in_child(&variants[v],
							touches[t].bytes,
							&results[t][v].memory);
}

static void summarise_blocks(struct result *result)
{
	double scale = (double)SCALE / block_rounds / 1e6;

	result->ms = summarise(result->ns, nr_blocks);
	result->ms.median *= scale;
	result->ms.iqr *= scale;
}

/* --- output --------------------------------------------------------------- */

static void print_csv(FILE *out, const char *clock)
{
	print_machine(out, "# ", clock);
	fputs("touched,variant,metric,rounds,value\n", out);
	for (unsigned int t = 0; t < nr_touches; t++) {
		for (unsigned int v = 0; v < NR_VARIANTS; v++) {
			const struct result *result = &results[t][v];
			const char *name = variants[v].name;
			size_t bytes = touches[t].bytes;

			if (!variants[v].selected)
				continue;
			for (unsigned int i = 0; i < nr_blocks; i++)
				fprintf(out, "%zu,%s,ns,%u,%llu\n", bytes, name,
					block_rounds, result->ns[i]);
			fprintf(out, "%zu,%s,rss_kib,1,%ld\n", bytes, name,
				result->memory.rss);
			fprintf(out, "%zu,%s,max_rss_kib,%d,%ld\n", bytes,
				name, CHILD_ROUNDS, result->memory.max_rss);
			fprintf(out, "%zu,%s,minor_faults,%d,%ld\n", bytes,
				name, CHILD_ROUNDS, result->memory.faults);
		}
	}
}

static void print_row(const struct touch *touch, unsigned int v,
		      const struct result *row)
{
	const struct result *result = &row[v];
	double ms = result->ms.median;

	printf("%-8s %-8s %10.2f %7.1f%%", touch->name, variants[v].name, ms,
	       100 * result->ms.iqr / ms);
	if (variants[MEMSET].selected)
		printf(" %9.1f%%", 100 * (1 - ms / row[MEMSET].ms.median));
	else
		printf(" %10s", "-");
	if (variants[ANON].selected)
		printf(" %8.3f", ms / row[ANON].ms.median);
	else
		printf(" %8s", "-");
	printf(" %9ld %9.1f\n", result->memory.rss,
	       (double)result->memory.faults / CHILD_ROUNDS);
}

static void print_table(void)
{
	unsigned int rounds = nr_blocks * block_rounds;

	printf("\n%-8s %-8s %10s %8s %10s %8s %9s %9s\n", "", "", "ms/1000",
	       "IQR of", "less than", "times", "RSS", "minor");
	printf("%-8s %-8s %10s %8s %10s %8s %9s %9s\n", "touched", "variant",
	       "rounds", "median", "memset", "anon", "KiB", "faults/r.");
	for (unsigned int t = 0; t < nr_touches; t++)
		for (unsigned int v = 0; v < NR_VARIANTS; v++)
			if (variants[v].selected)
				print_row(&touches[t], v, results[t]);
	printf("\nms: median of %u blocks of %u rounds", nr_blocks,
	       block_rounds);
	if (rounds != SCALE)
		printf("; scaled from %u rounds to %u", rounds, SCALE);
	printf("\n");
}

/* --- options -------------------------------------------------------------- */

static void print_help(FILE *out)
{
	fputs("usage: heap [OPTION]...\n"
"\n"
"Measure what it costs to get private memory with content. A round maps\n"
"4,096,000 bytes, gives them content, stores one byte in each page of the\n"
"first BYTES of them, and unmaps them. Variants:\n"
"\n"
"  anon     anonymous memory, left at zero: the lower bound\n"
"  memset   anonymous memory, all of it set to 0xaa by memset()\n"
"  refpage  a mapping of a descriptor of refpage_create(), of the byte 0xaa\n"
"\n"
"  -r, --rounds N      rounds of each case (1000). Times are always given for\n"
"                      1000; the table says so if they are scaled\n"
"  -t, --touch LIST    BYTES to store to, separated by commas: numbers, or\n"
"                      sparse (4096), half (2048000), full (4096000); default\n"
"                      sparse,half,full\n"
"  -v, --variant LIST  variants, separated by commas (anon,memset,refpage)\n"
"  -c, --csv FILE      write what was measured to FILE\n"
"      --clock TEXT    what the clock is, for the output (CLOCK_MONOTONIC)\n"
"  -h, --help          show this\n"
"\n"
"Rounds are timed in up to 20 blocks; blocks of all cases take turns. The\n"
"table has the median of the blocks and the range of the middle half of them\n"
"(IQR), relative to the median. A round that is not timed ends each block and\n"
"looks at every byte: wrong data ends the program, with no figures.\n"
"\n"
"RSS and minor faults come from a child process for each case. RSS is that of\n"
"the mapping at the end of a round, counted in the page tables (smaps_rollup).\n"
"FILE also has ru_maxrss of getrusage(): it includes the program itself, and\n"
"the kernel counts it in steps of 32 pages or more.\n"
"\n"
"All runs on the one processor on which the program happened to start.\n"
"\n"
"FILE has a line for each sample: touched bytes, variant, metric, rounds that\n"
"the value is for, value. Metrics: ns (a block), rss_kib, max_rss_kib,\n"
"minor_faults.\n",
	      out);
}

static void add_touch(const char *word)
{
	struct touch *touch = &touches[nr_touches];

	if (nr_touches++ == MAX_TOUCHES)
		errx(1, "more than %d numbers of bytes", MAX_TOUCHES);
	touch->name = word;
	for (size_t i = 0; i < ARRAY_SIZE(known_touches); i++)
		if (!strcmp(word, known_touches[i].name))
			touch->bytes = known_touches[i].bytes;
	if (!touch->bytes)
		touch->bytes = parse_number(word, MAP_SIZE);
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
		{ "touch", "sparse,half,full", add_touch },
		{ "variant", "anon,memset,refpage", select_variant },
		{ }
	};
	struct settings settings = {
		.rounds = SCALE, .max_rounds = 1000000000
	};

	parse_options(argc, argv, lists, print_help, &settings);
	block_rounds = div_round_up(settings.rounds, MAX_BLOCKS);
	nr_blocks = div_round_up(settings.rounds, block_rounds);
	if (variants[REFPAGE].selected)
		variants[REFPAGE].fd = create_refpage(CONTENT);
	stay_on_this_cpu();

	setlinebuf(stdout);
	print_machine(stdout, "", settings.clock);
	measure_memories();
	measure_times();
	for (unsigned int t = 0; t < nr_touches; t++)
		for (unsigned int v = 0; v < NR_VARIANTS; v++)
			summarise_blocks(&results[t][v]);
	print_table();
	if (settings.csv) {
		print_csv(settings.csv, settings.clock);
		close_csv(settings.csv);
	}
	return 0;
}
