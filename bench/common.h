/* SPDX-License-Identifier: GPL-2.0 */
/* What the benchmarks share. */
#ifndef BENCH_COMMON_H
#define BENCH_COMMON_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define ARRAY_SIZE(x)	(sizeof(x) / sizeof((x)[0]))

extern size_t page_size;	/* set by parse_options() */

size_t div_round_up(size_t n, size_t d);

/* --- options -------------------------------------------------------------- */

/* What every benchmark is told */
struct settings {
	unsigned int rounds;		/* the default, for parse_options() */
	unsigned int max_rounds;
	FILE *csv;
	const char *clock;
};

/* An option that takes a list; its first letter is the short option */
struct list {
	const char *name;
	const char *words;		/* the default, separated by commas */
	void (*use)(const char *word);
};

#define MAX_LISTS	5

/* @lists ends with an empty one. Does not return if it is wrong or --help. */
void parse_options(int argc, char **argv, const struct list *lists,
		   void (*print_help)(FILE *out), struct settings *settings);
unsigned long parse_number(const char *text, unsigned long max);

/* --- measuring ------------------------------------------------------------ */

void stay_on_this_cpu(void);

/* Nanoseconds, or instructions: see bench/run */
unsigned long long now(void);

/*
 * Call @measure(@arg, @result) in a child and get the @size bytes that it
 * leaves at @result. @name is for the message if the child fails.
 */
void measure_in_child(const char *name,
		      void (*measure)(const void *arg, void *result),
		      const void *arg, void *result, size_t size);

struct summary {
	double median;
	double iqr;		/* the range of the middle half */
};

struct summary summarise(const unsigned long long *values, unsigned int n);

/* --- observing this process ----------------------------------------------- */

/* KiB, counted in the page tables */
long read_rss(void);

/* KiB of all page tables */
long read_page_tables(void);

/* Mappings of which a part is in these bytes, or all there are if @start is 0 */
long count_vmas(const void *start, size_t bytes);

/* KiB of all struct vm_area_struct in use, or -1 if that cannot be read */
long read_vma_slabs(void);

/* How many of a load and a store at @p give SIGSEGV for that address */
unsigned int count_faults(unsigned char *p);

/* --- memory --------------------------------------------------------------- */

/* A descriptor of refpage_create(), of the 1 << @n bytes at @pattern */
int create_pattern_refpage(const void *pattern, unsigned int n);

/* The same of that byte */
int create_refpage(unsigned char content);

/*
 * Each of these is for @n pages, the first at @page, the next @every bytes
 * behind it. They return the number of pages done; less than @n is an error.
 */
size_t mprotect_pages(unsigned char *page, size_t n, size_t every, int prot);
size_t process_madvise_pages(unsigned char *page, size_t n, size_t every,
			     int advice);

/* Ends the program if this kernel has no guard regions, for one or for many */
void need_guards(bool vector);

/* --- observing the machine ------------------------------------------------ */

#define THP_DIR		"/sys/kernel/mm/transparent_hugepage/"

/*
 * The word in brackets in the file at @path, or NULL. It is in a buffer that
 * the next call uses again.
 */
const char *read_choice(const char *path);

/* --- output --------------------------------------------------------------- */

/* Lines of the form "NAME: VALUE", each behind @prefix */
void print_machine(FILE *out, const char *prefix, const char *clock);

void close_csv(FILE *csv);

#endif
