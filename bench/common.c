// SPDX-License-Identifier: GPL-2.0
/* What the benchmarks share; see common.h. */
#define _GNU_SOURCE
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <glob.h>
#include <limits.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <asm/unistd.h>
#include <linux/mman.h>
#include <linux/refpage.h>

#include "common.h"

#define SMAPS		"/proc/self/smaps_rollup"
#define STATUS		"/proc/self/status"
#define MAPS		"/proc/self/maps"
#define SLABS		"/proc/slabinfo"
#define CPUINFO		"/proc/cpuinfo"

#ifndef SA_EXPOSE_TAGBITS	/* not in <signal.h> yet */
#define SA_EXPOSE_TAGBITS	0x00000800
#endif

size_t page_size;

static char **arguments;	/* what the program was called with */

size_t div_round_up(size_t n, size_t d)
{
	return (n + d - 1) / d;
}

/* --- options -------------------------------------------------------------- */

unsigned long parse_number(const char *text, unsigned long max)
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

static void split_list(const char *words, void (*use)(const char *word))
{
	char *rest = strdup(words);
	char *word;

	while ((word = strsep(&rest, ",")))
		use(word);
}

void parse_options(int argc, char **argv, const struct list *lists,
		   void (*print_help)(FILE *out), struct settings *settings)
{
	struct option options[MAX_LISTS + 5] = {
		{ "rounds", required_argument, NULL, 'r' },
		{ "csv", required_argument, NULL, 'c' },
		{ "clock", required_argument, NULL, 'C' },
		{ "help", no_argument, NULL, 'h' },
	};
	char letters[sizeof("r:c:h") + 2 * MAX_LISTS] = "r:c:h";
	const char *words[MAX_LISTS];
	unsigned int n, i;
	int option;

	for (n = 0; lists[n].name; n++) {
		options[4 + n] = (struct option){
			lists[n].name, required_argument, NULL, *lists[n].name
		};
		strncat(letters, lists[n].name, 1);
		strcat(letters, ":");
		words[n] = lists[n].words;
	}

	arguments = argv;
	settings->clock = "CLOCK_MONOTONIC";
	while ((option = getopt_long(argc, argv, letters, options,
				     NULL)) != -1) {
		switch (option) {
		case 'r':
			settings->rounds = parse_number(optarg,
							settings->max_rounds);
			break;
		case 'c':
			settings->csv = fopen(optarg, "we");
			if (!settings->csv)
				err(1, "%s", optarg);
			break;
		case 'C':
			settings->clock = optarg;
			break;
		case 'h':
			print_help(stdout);
			exit(0);
		default:
			for (i = 0; i < n && option != *lists[i].name; i++)
				;
			if (i == n) {
				print_help(stderr);
				exit(1);
			}
			words[i] = optarg;
		}
	}
	if (optind != argc)
		errx(1, "unexpected argument '%s'; see --help", argv[optind]);

	page_size = sysconf(_SC_PAGESIZE);
	for (i = 0; i < n; i++)
		split_list(words[i], lists[i].use);
}

/* --- measuring ------------------------------------------------------------ */

void stay_on_this_cpu(void)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(sched_getcpu(), &set);
	if (sched_setaffinity(0, sizeof(set), &set))
		err(1, "sched_setaffinity");
}

unsigned long long now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000000000ULL + ts.tv_nsec;
}

void measure_in_child(const char *name,
		      void (*measure)(const void *arg, void *result),
		      const void *arg, void *result, size_t size)
{
	void *shared;
	int status;
	pid_t pid;

	shared = mmap(NULL, size, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		err(1, "mmap");
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		err(1, "fork");
	if (!pid) {
		measure(arg, shared);
		_exit(0);
	}
	if (waitpid(pid, &status, 0) != pid || status)
		errx(1, "%s: the child that was measured failed%s%s", name,
		     WIFSIGNALED(status) ? ": " : "",
		     WIFSIGNALED(status) ? strsignal(WTERMSIG(status)) : "");
	memcpy(result, shared, size);
	munmap(shared, size);
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

struct summary summarise(const unsigned long long *values, unsigned int n)
{
	unsigned long long sorted[n];

	memcpy(sorted, values, sizeof(sorted));
	qsort(sorted, n, sizeof(sorted[0]), compare);
	return (struct summary){
		.median = quantile(sorted, n, 0.5),
		.iqr = quantile(sorted, n, 0.75) - quantile(sorted, n, 0.25),
	};
}

/* --- observing this process ----------------------------------------------- */

/* The number behind @key in the file at @path, which must have it */
static long read_number(const char *path, const char *key)
{
	static char text[8192];
	const char *at;
	ssize_t n;
	int fd;

	fd = open(path, O_RDONLY);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n < 0)
		err(1, "%s", path);
	close(fd);
	text[n] = 0;
	at = strstr(text, key);
	if (!at)
		errx(1, "%s: no %s", path, key + 1);
	return strtol(at + strlen(key), NULL, 10);
}

/*
 * The counter behind ru_maxrss is cheaper and may be wrong by 32 pages and
 * more for each processor.
 */
long read_rss(void)
{
	return read_number(SMAPS, "\nRss:");
}

long read_page_tables(void)
{
	return read_number(STATUS, "\nVmPTE:");
}

/*
 * This may have as many mappings as it can get: the buffer must not come from
 * malloc().
 */
long count_vmas(const void *start, size_t bytes)
{
	unsigned long from = (unsigned long)start, to = from + bytes;
	static char buffer[65536], line[4096 + 256];
	FILE *file = fopen(MAPS, "re");
	long vmas = 0;

	if (!file)
		err(1, MAPS);
	setbuffer(file, buffer, sizeof(buffer));
	while (fgets(line, sizeof(line), file)) {
		unsigned long vma_start, vma_end;

		if (sscanf(line, "%lx-%lx", &vma_start, &vma_end) != 2)
			errx(1, MAPS ": unexpected: %s", line);
		vmas += !from || (vma_start < to && vma_end > from);
	}
	fclose(file);
	return vmas;
}

long read_vma_slabs(void)
{
	FILE *file = fopen(SLABS, "re");
	unsigned long objects, size;
	char line[512];
	long kib = -1;

	if (!file)
		return -1;
	while (fgets(line, sizeof(line), file))
		if (sscanf(line, "vm_area_struct %lu %*u %lu ", &objects,
			   &size) == 2)
			kib = objects * size / 1024;
	fclose(file);
	return kib;
}

static sigjmp_buf fault_return;
static void *fault_address;

static void on_fault(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	fault_address = info->si_addr;
	siglongjmp(fault_return, 1);
}

static bool faults(unsigned char *p, bool store)
{
	fault_address = NULL;
	if (!sigsetjmp(fault_return, 1)) {
		unsigned char byte = 0;

		if (store)
			*p = 0;
		else
			byte = *p;
		/* The compiler must do either */
		asm volatile("" : : "r" (byte) : "memory");
	}
	return fault_address == p;
}

unsigned int count_faults(unsigned char *p)
{
	struct sigaction action = {
		.sa_sigaction = on_fault,
		/* With its tag, if it has one, the address is that at @p */
		.sa_flags = SA_SIGINFO | SA_EXPOSE_TAGBITS,
	};
	struct sigaction before;
	unsigned int n;

	sigaction(SIGSEGV, &action, &before);
	n = faults(p, false) + faults(p, true);
	sigaction(SIGSEGV, &before, NULL);
	return n;
}

/* --- memory --------------------------------------------------------------- */

int create_pattern_refpage(const void *pattern, unsigned int n)
{
	int fd = syscall(__NR_refpage_create, pattern, REFPAGE_PATTERN_SIZE(n));

	if (fd < 0)
		err(1, "no refpage_create() (--variant chooses those without)");
	return fd;
}

int create_refpage(unsigned char content)
{
	return create_pattern_refpage(&content, 0);
}

size_t mprotect_pages(unsigned char *page, size_t n, size_t every, int prot)
{
	size_t done = 0;

	while (done < n && !mprotect(page + done * every, page_size, prot))
		done++;
	return done;
}

size_t process_madvise_pages(unsigned char *page, size_t n, size_t every,
			     int advice)
{
	static struct iovec vector[IOV_MAX];
	size_t done = 0;
	int pidfd;

	pidfd = syscall(__NR_pidfd_open, getpid(), 0);
	if (pidfd < 0)
		return 0;
	while (done < n) {
		size_t length = n - done < IOV_MAX ? n - done : IOV_MAX;
		ssize_t bytes;

		for (size_t i = 0; i < length; i++)
			vector[i] = (struct iovec){
				page + (done + i) * every, page_size
			};
		bytes = syscall(__NR_process_madvise, pidfd, vector, length,
				advice, 0);
		if (bytes <= 0)
			break;
		done += bytes / page_size;
	}
	close(pidfd);
	return done;
}

void need_guards(bool vector)
{
	unsigned char *p = mmap(NULL, page_size, PROT_READ | PROT_WRITE,
				MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		err(1, "mmap");
	if (madvise(p, page_size, MADV_GUARD_INSTALL))
		err(1, "this kernel has no guard regions: madvise(MADV_GUARD_INSTALL)");
	if (madvise(p, page_size, MADV_GUARD_REMOVE))
		err(1, "madvise(MADV_GUARD_REMOVE)");
	if (vector && !process_madvise_pages(p, 1, 0, MADV_GUARD_INSTALL))
		err(1, "this kernel has no process_madvise(MADV_GUARD_INSTALL)");
	munmap(p, page_size);
}

/* --- observing the machine ------------------------------------------------ */

const char *read_choice(const char *path)
{
	static char choice[16];
	FILE *file = fopen(path, "re");
	int n = 0;

	if (file) {
		n = fscanf(file, "%*[^[][%15[^]]", choice);
		/* ... unless it is the first */
		if (!n)
			n = fscanf(file, "[%15[^]]", choice);
		fclose(file);
	}
	return n == 1 ? choice : NULL;
}

/* The first line of the file at @path that starts with @key, or "" */
static const char *read_line(const char *path, const char *key)
{
	static char line[2048];
	FILE *file = fopen(path, "re");
	char *found = NULL;

	while (file && !found && fgets(line, sizeof(line), file))
		if (!strncmp(line, key, strlen(key)))
			found = line;
	if (file)
		fclose(file);
	if (!found)
		return "";
	found[strcspn(found, "\n")] = 0;
	return found;
}

/* The word behind @key in @text; "" if there is none */
static const char *find_word(const char *text, const char *key)
{
	static char word[64];
	const char *at = text ? strstr(text, key) : NULL;

	if (!at || sscanf(at + strlen(key), "%63[^ ,\n]", word) != 1)
		return "";
	return word;
}

#define KLOG_READ_ALL		3
#define KLOG_SIZE_BUFFER	10

/*
 * What the kernel says while it boots is what counts, but may have been
 * overwritten or be for root only. Its parameter is always there, if given.
 */
static const char *read_init_on_alloc(void)
{
	int size = klogctl(KLOG_SIZE_BUFFER, NULL, 0);
	char *text = size > 0 ? malloc(size + 1) : NULL;
	int n = text ? klogctl(KLOG_READ_ALL, text, size) : -1;
	const char *word = "";

	if (n >= 0) {
		text[n] = 0;
		word = find_word(strstr(text, "mem auto-init:"),
				 "heap alloc:");
	}
	free(text);
	if (!*word)
		word = find_word(read_line("/proc/cmdline", ""),
				 "init_on_alloc=");
	return *word ? word : "not known";
}

/* x86 has a name; arm64 has numbers */
static void print_cpu(FILE *out)
{
	const char *name = strchr(read_line(CPUINFO, "model name"), ':');

	if (name) {
		fputs(name + 2, out);
		return;
	}
	name = strchr(read_line(CPUINFO, "CPU implementer"), ':');
	fprintf(out, "implementer%s", name ? name + 1 : " unknown");
	name = strchr(read_line(CPUINFO, "CPU part"), ':');
	fprintf(out, ", part%s", name ? name + 1 : " unknown");
}

/* "madvise, 64kB always, 2048kB inherit": sizes that are "never" are left out */
static void print_thp(FILE *out)
{
	const char *choice = read_choice(THP_DIR "enabled");
	glob_t sizes;

	fputs(choice ? choice : "none", out);
	if (glob(THP_DIR "hugepages-*/enabled", 0, NULL, &sizes))
		return;
	for (size_t i = 0; i < sizes.gl_pathc; i++) {
		const char *size = strrchr(sizes.gl_pathv[i], '-') + 1;

		choice = read_choice(sizes.gl_pathv[i]);
		if (choice && strcmp(choice, "never"))
			fprintf(out, ", %.*s %s", (int)strcspn(size, "/"), size,
				choice);
	}
	globfree(&sizes);
}

/* --- output --------------------------------------------------------------- */

static void print_arguments(FILE *out)
{
	for (char **arg = arguments; *arg; arg++)
		fprintf(out, strpbrk(*arg, " ()") ? " '%s'" : " %s", *arg);
	fputs("\n", out);
}

void print_machine(FILE *out, const char *prefix, const char *clock)
{
	struct utsname uts;

	uname(&uts);
	fprintf(out, "%sprogram:", prefix);
	print_arguments(out);
	fprintf(out, "%skernel: %s %s\n", prefix, uts.release, uts.machine);
	fprintf(out, "%sparameters: %s\n", prefix,
		read_line("/proc/cmdline", ""));
	fprintf(out, "%sinit_on_alloc: %s\n", prefix,
		read_init_on_alloc());
	fprintf(out, "%spage size: %zu\n", prefix, page_size);
	fprintf(out, "%scpus: %ld, ", prefix, sysconf(_SC_NPROCESSORS_ONLN));
	print_cpu(out);
	fprintf(out, "\n%sTHP: ", prefix);
	print_thp(out);
	fprintf(out, "\n%sclock: %s\n", prefix, clock);
}

void close_csv(FILE *csv)
{
	if (ferror(csv) | fclose(csv))
		errx(1, "the CSV file cannot be written");
}
