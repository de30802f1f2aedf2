// SPDX-License-Identifier: GPL-2.0
/*
 * tax: what page faults cost a program that has no reference pages.
 *
 * "bench/run tax" runs this, the same binary, on the base kernel and on that of
 * the series, and compares. See print_help() for the rest.
 */
#define _GNU_SOURCE
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include "common.h"
#include "folios.h"

#define SIZE		(8UL << 20)
#define MAX_ROUNDS	100
#define RW		(PROT_READ | PROT_WRITE)

struct sample {
	unsigned long long ns;
	unsigned long long n;	/* faults, or pages for what has no faults */
};

/* What is measured: @measure, of the mapping that the rest describes */
struct fault {
	const char *name;
	void (*measure)(unsigned char *p, struct sample *sample);
	int map_flags;
	bool file;
	bool loaded;		/* before it is measured */
	bool stored;
	bool forked;		/* measured in a child, which shares the pages */
	struct sample samples[MAX_ROUNDS];
};

static unsigned int nr_rounds;
static int file;

/* --- faults --------------------------------------------------------------- */

/* The compiler must do all of it, and at that time */
static void barrier(void)
{
	asm volatile("" : : : "memory");
}

static void load_all(const unsigned char *p)
{
	unsigned char sum = 0;

	barrier();
	for (size_t i = 0; i < SIZE; i += page_size)
		sum += p[i];
	asm volatile("" : : "r" (sum) : "memory");
}

static void store_all(unsigned char *p)
{
	for (size_t i = 0; i < SIZE; i += page_size)
		p[i] = 1;
	barrier();
}

static unsigned long long count_minor_faults(void)
{
	struct rusage usage;

	getrusage(RUSAGE_SELF, &usage);
	return usage.ru_minflt;
}

static void measure_loads(unsigned char *p, struct sample *sample)
{
	unsigned long long n = count_minor_faults(), ns = now();

	load_all(p);
	sample->ns = now() - ns;
	sample->n = count_minor_faults() - n;
}

static void measure_stores(unsigned char *p, struct sample *sample)
{
	unsigned long long n = count_minor_faults(), ns = now();

	store_all(p);
	sample->ns = now() - ns;
	sample->n = count_minor_faults() - n;
}

/* Not a fault, but what it leads to */
static void measure_discard(unsigned char *p, struct sample *sample)
{
	unsigned long long ns = now();

	if (madvise(p, SIZE, MADV_DONTNEED))
		err(1, "madvise(MADV_DONTNEED)");
	sample->ns = now() - ns;
	sample->n = SIZE / page_size;
}

#define ANON		(MAP_PRIVATE | MAP_ANONYMOUS)
#define SHMEM		(MAP_SHARED | MAP_ANONYMOUS)

static struct fault faults[] = {
	{ .name = "anon load", .measure = measure_loads, .map_flags = ANON },
	{ .name = "anon store", .measure = measure_stores, .map_flags = ANON },
	{ .name = "anon store after load", .measure = measure_stores,
	  .map_flags = ANON, .loaded = true },
	{ .name = "anon store after fork", .measure = measure_stores,
	  .map_flags = ANON, .stored = true, .forked = true },
	{ .name = "file load", .measure = measure_loads,
	  .map_flags = MAP_PRIVATE, .file = true },
	{ .name = "file store", .measure = measure_stores,
	  .map_flags = MAP_PRIVATE, .file = true },
	{ .name = "file store after load", .measure = measure_stores,
	  .map_flags = MAP_PRIVATE, .file = true, .loaded = true },
	{ .name = "shmem load", .measure = measure_loads, .map_flags = SHMEM },
	{ .name = "shmem store", .measure = measure_stores,
	  .map_flags = SHMEM },
	{ .name = "anon discard", .measure = measure_discard,
	  .map_flags = ANON, .stored = true },
};

/* --- measuring ------------------------------------------------------------ */

struct request {
	const struct fault *fault;
	unsigned char *p;
};

/* In a child, the first call of anything copies what it writes to */
static void measure_one(const void *arg, void *result)
{
	const struct request *request = arg;
	struct sample sample;

	count_minor_faults();
	now();
	request->fault->measure(request->p, &sample);
	*(struct sample *)result = sample;
}

static void measure_round(struct fault *f, struct sample *sample)
{
	struct request request = { .fault = f };

	request.p = mmap(NULL, SIZE, RW, f->map_flags, f->file ? file : -1, 0);
	if (request.p == MAP_FAILED)
		err(1, "%s: mmap", f->name);
	if (f->loaded)
		load_all(request.p);
	if (f->stored)
		store_all(request.p);
	if (f->forked)
		measure_in_child(f->name, measure_one, &request, sample,
				 sizeof(*sample));
	else
		measure_one(&request, sample);
	munmap(request.p, SIZE);
	if (!sample->n)
		errx(1, "%s: no faults", f->name);
}

/* All take turns; the first one of each does not count */
static void measure_all(void)
{
	for (unsigned int round = 0; round <= nr_rounds; round++)
		for (unsigned int i = 0; i < ARRAY_SIZE(faults); i++)
			measure_round(&faults[i],
				      &faults[i].samples[round - !!round]);
}

/* In ramfs, which has nothing but the page cache: no device, no shmem */
static int create_file(void)
{
	char dir[] = "/tmp/tax.XXXXXX", *name;
	void *p;
	int fd;

	if (!mkdtemp(dir) || asprintf(&name, "%s/file", dir) < 0)
		err(1, "%s", dir);
	if (mount("tax", dir, "ramfs", 0, NULL))
		err(1, "mount of ramfs");
	fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	umount2(dir, MNT_DETACH);
	rmdir(dir);
	free(name);
	if (fd < 0 || ftruncate(fd, SIZE))
		err(1, "a file of %lu bytes in ramfs", SIZE);
	p = mmap(NULL, SIZE, RW, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		err(1, "mmap of a file in ramfs");
	memset(p, 1, SIZE);
	munmap(p, SIZE);
	return fd;
}

/* --- output --------------------------------------------------------------- */

static void print_csv(FILE *out)
{
	fputs("fault,metric,faults,value\n", out);
	for (unsigned int i = 0; i < ARRAY_SIZE(faults); i++)
		for (unsigned int round = 0; round < nr_rounds; round++)
			fprintf(out, "%s,ns,%llu,%llu\n", faults[i].name,
				faults[i].samples[round].n,
				faults[i].samples[round].ns);
}

static void print_table(void)
{
	printf("\n%-22s %9s %8s %8s\n", "", "ns per", "IQR of", "faults");
	printf("%-22s %9s %8s %8s\n", "fault", "fault", "median", "a round");
	for (unsigned int i = 0; i < ARRAY_SIZE(faults); i++) {
		const struct sample *samples = faults[i].samples;
		unsigned long long values[MAX_ROUNDS];
		struct summary ns;

		for (unsigned int round = 0; round < nr_rounds; round++)
			values[round] = samples[round].ns;
		ns = summarise(values, nr_rounds);
		printf("%-22s %9.1f %7.2f%% %8llu\n", faults[i].name,
		       ns.median / samples[0].n, 100 * ns.iqr / ns.median,
		       samples[0].n);
	}
	printf("\nmedian of %u rounds of %lu pages\n", nr_rounds,
	       SIZE / page_size);
}

static void print_help(FILE *out)
{
	fputs("usage: tax [OPTION]...\n"
"\n"
"Measure what page faults cost in memory that has nothing to do with reference\n"
"pages. A round maps 8 MiB and loads or stores one byte of each page:\n"
"\n"
"  anon load              the page of zeros\n"
"  anon store             a new page\n"
"  anon store after load  a new page in place of the page of zeros\n"
"  anon store after fork  a copy\n"
"  file load              a private mapping of a file in the page cache; one fault\n"
"                         maps several pages\n"
"  file store             a copy\n"
"  file store after load  a copy in place of what is mapped\n"
"  shmem load             a new page of shared memory\n"
"  shmem store            the same\n"
"  anon discard           not a fault: MADV_DONTNEED of 8 MiB that were stored to\n"
"\n"
"Only the loads, stores and madvise() are measured. Base pages only: needs root,\n"
"to set sizes of folios in " THP_DIR "\n"
"and to mount ramfs for the file.\n"
"\n"
"  -r, --rounds N      rounds of each, which take turns (20)\n"
"  -c, --csv FILE      write what was measured to FILE\n"
"      --clock TEXT    what the clock is, for the output (CLOCK_MONOTONIC)\n"
"  -h, --help          show this\n"
"\n"
"FILE has a line for each sample: fault, metric, faults (pages, for discard) that\n"
"the value is for, value. The metric is ns.\n",
	      out);
}

static int measure(const void *arg)
{
	const struct settings *settings = arg;
	const char *problem;

	setlinebuf(stdout);
	print_machine(stdout, "", settings->clock);
	if (settings->csv)
		print_machine(settings->csv, "# ", settings->clock);
	problem = choose_folios(page_size);
	if (problem)
		errx(1, "%s", problem);
	stay_on_this_cpu();
	file = create_file();
	measure_all();
	print_table();
	if (settings->csv) {
		print_csv(settings->csv);
		close_csv(settings->csv);
	}
	return 0;
}

int main(int argc, char **argv)
{
	static const struct list none[] = { { } };
	struct settings settings = { .rounds = 20, .max_rounds = MAX_ROUNDS };

	parse_options(argc, argv, none, print_help, &settings);
	nr_rounds = settings.rounds;
	return with_folio_settings(measure, &settings);
}
