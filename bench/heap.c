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
 *   cc -std=gnu11 -O2 -static heap.c -o heap -isystem LINUX/usr/include
 */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <glob.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <asm/unistd.h>
#include <linux/refpage.h>

#define ARRAY_SIZE(x)	(sizeof(x) / sizeof((x)[0]))

#define MAP_SIZE	4096000UL
#define CONTENT		0xaa	/* of the variants that have content */
#define STORED		0x55	/* what a round stores in each page it uses */

#define SCALE		1000	/* times are given for so many rounds */
#define MAX_BLOCKS	20
#define MAX_TOUCHES	16
#define CHILD_ROUNDS	10

#define SMAPS		"/proc/self/smaps_rollup"
#define THP_DIR		"/sys/kernel/mm/transparent_hugepage/"

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
	double ms_median;	/* for SCALE rounds */
	double ms_iqr;
	struct memory memory;
};

static struct result results[MAX_TOUCHES][NR_VARIANTS];
static unsigned int block_rounds, nr_blocks;
static size_t page_size;

static size_t div_round_up(size_t n, size_t d)
{
	return (n + d - 1) / d;
}

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

static unsigned long long now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

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

/*
 * The pages in the page tables. The counter behind ru_maxrss is cheaper and
 * may be wrong by 32 pages and more for each processor.
 */
static long read_rss(void)
{
	static char text[4096];
	const char *line;
	int fd;

	fd = open(SMAPS, O_RDONLY);
	if (fd < 0 || read(fd, text, sizeof(text) - 1) <= 0)
		err(1, SMAPS);
	close(fd);
	line = strstr(text, "\nRss:");
	if (!line)
		errx(1, SMAPS ": no RSS");
	return strtol(line + strlen("\nRss:"), NULL, 10);
}

static void measure_memory(const struct variant *v, size_t bytes,
			   struct memory *memory)
{
	struct rusage before, after;
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

/*
 * The maximum of RSS is that of a process, so each case needs its own. It
 * starts from the RSS of this one at fork(): call this before anything that
 * makes that grow.
 */
static void measure_memory_in_child(const struct variant *v, size_t bytes,
				    struct memory *memory)
{
	struct memory *shared;
	int status;
	pid_t pid;

	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		err(1, "mmap");
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		measure_memory(v, bytes, shared);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		errx(1, "%s: the child that was measured failed", v->name);
	*memory = *shared;
	munmap(shared, sizeof(*shared));
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

static int compare(const void *a, const void *b)
{
	const unsigned long long *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* The value below which @part of the @n values at @sorted lie */
static double quantile(const unsigned long long *sorted, unsigned int n,
		       double part)
{
	double at = part * (n - 1);
	unsigned int i = at;

	if (i + 1 >= n)
		return sorted[n - 1];
	return sorted[i] + (at - i) * ((double)sorted[i + 1] - sorted[i]);
}

static void summarise(struct result *result)
{
	double scale = (double)SCALE / block_rounds / 1e6;
	unsigned long long sorted[MAX_BLOCKS];

	memcpy(sorted, result->ns, sizeof(sorted));
	qsort(sorted, nr_blocks, sizeof(sorted[0]), compare);
	result->ms_median = quantile(sorted, nr_blocks, 0.5) * scale;
	result->ms_iqr = (quantile(sorted, nr_blocks, 0.75) -
			  quantile(sorted, nr_blocks, 0.25)) * scale;
}

/* --- output --------------------------------------------------------------- */

/* The word in brackets: what is chosen from those in the file */
static const char *read_choice(const char *path)
{
	static char choice[16];
	FILE *file = fopen(path, "r");
	int n = 0;

	if (file) {
		n = fscanf(file, "%*[^[][%15[^]]", choice);
		/* ... unless it is the first */
		if (!n)
			n = fscanf(file, "[%15[^]]", choice);
		fclose(file);
	}
	return n == 1 ? choice : "none";
}

/* "madvise, 64kB always, 2048kB inherit": sizes that are "never" are left out */
static void print_thp(FILE *out)
{
	glob_t sizes;

	fputs(read_choice(THP_DIR "enabled"), out);
	if (glob(THP_DIR "hugepages-*/enabled", 0, NULL, &sizes))
		return;
	for (size_t i = 0; i < sizes.gl_pathc; i++) {
		const char *size = strrchr(sizes.gl_pathv[i], '-') + 1;
		const char *choice = read_choice(sizes.gl_pathv[i]);

		if (strcmp(choice, "never"))
			fprintf(out, ", %.*s %s", (int)strcspn(size, "/"), size,
				choice);
	}
	globfree(&sizes);
}

/* Lines of the form "NAME: VALUE", each behind @prefix */
static void print_machine(FILE *out, const char *prefix, const char *clock)
{
	struct utsname uts;

	uname(&uts);
	fprintf(out, "%skernel: %s %s\n", prefix, uts.release, uts.machine);
	fprintf(out, "%spage size: %zu\n", prefix, page_size);
	fprintf(out, "%scpus: %ld\n", prefix, sysconf(_SC_NPROCESSORS_ONLN));
	fprintf(out, "%sTHP: ", prefix);
	print_thp(out);
	fprintf(out, "\n%sclock: %s\n", prefix, clock);
}

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
	double ms = result->ms_median;

	printf("%-8s %-8s %10.2f %7.1f%%", touch->name, variants[v].name, ms,
	       100 * result->ms_iqr / ms);
	if (variants[MEMSET].selected)
		printf(" %9.1f%%", 100 * (1 - ms / row[MEMSET].ms_median));
	else
		printf(" %10s", "-");
	if (variants[ANON].selected)
		printf(" %8.3f", ms / row[ANON].ms_median);
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

static unsigned long parse_number(const char *text, unsigned long max)
{
	unsigned long value;
	char *end;

	errno = 0;
	value = strtoul(text, &end, 0);
	if (errno || end == text || *end || *text == '-' || !value ||
	    value > max)
		errx(1, "'%s' is not a number from 1 to %lu", text, max);
	return value;
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

/* Splits @list where it is */
static void split_list(char *list, void (*use)(const char *word))
{
	char *word;

	while ((word = strsep(&list, ",")))
		use(word);
}

static void create_refpage(void)
{
	static const unsigned char content = CONTENT;
	int fd;

	fd = syscall(__NR_refpage_create, &content, REFPAGE_PATTERN_SIZE(0));
	if (fd < 0)
		err(1, "no refpage_create() (--variant anon,memset does without)");
	variants[REFPAGE].fd = fd;
}

static void stay_on_this_cpu(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "sched_setaffinity");
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "rounds", required_argument, NULL, 'r' },
		{ "touch", required_argument, NULL, 't' },
		{ "variant", required_argument, NULL, 'v' },
		{ "csv", required_argument, NULL, 'c' },
		{ "clock", required_argument, NULL, 'C' },
		{ "help", no_argument, NULL, 'h' },
		{ }
	};
	char default_touches[] = "sparse,half,full";
	char default_variants[] = "anon,memset,refpage";
	char *touch_list = default_touches, *variant_list = default_variants;
	const char *clock = "CLOCK_MONOTONIC";
	unsigned int rounds = SCALE;
	FILE *csv = NULL;
	int option;

	while ((option = getopt_long(argc, argv, "r:t:v:c:h", options,
				     NULL)) != -1) {
		switch (option) {
		case 'r':
			rounds = parse_number(optarg, 1000000000);
			break;
		case 't':
			touch_list = optarg;
			break;
		case 'v':
			variant_list = optarg;
			break;
		case 'c':
			csv = fopen(optarg, "we");
			if (!csv)
				err(1, "%s", optarg);
			break;
		case 'C':
			clock = optarg;
			break;
		case 'h':
			print_help(stdout);
			return 0;
		default:
			print_help(stderr);
			return 1;
		}
	}
	if (optind != argc)
		errx(1, "unexpected argument '%s'; see --help", argv[optind]);
	split_list(touch_list, add_touch);
	split_list(variant_list, select_variant);

	block_rounds = div_round_up(rounds, MAX_BLOCKS);
	nr_blocks = div_round_up(rounds, block_rounds);
	page_size = sysconf(_SC_PAGESIZE);
	if (variants[REFPAGE].selected)
		create_refpage();
	stay_on_this_cpu();

	setlinebuf(stdout);
	print_machine(stdout, "", clock);
	measure_memories();
	measure_times();
	for (unsigned int t = 0; t < nr_touches; t++)
		for (unsigned int v = 0; v < NR_VARIANTS; v++)
			summarise(&results[t][v]);
	print_table();
	if (csv) {
		print_csv(csv, clock);
		if (ferror(csv) | fclose(csv))
			errx(1, "the CSV file cannot be written");
	}
	return 0;
}
