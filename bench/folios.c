// SPDX-License-Identifier: GPL-2.0
/* Folio sizes by sysfs; see folios.h. */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "common.h"
#include "folios.h"

#define SIZES		THP_DIR "hugepages-"
#define KHUGEPAGED	THP_DIR "khugepaged/"

/* khugepaged sleeps as long between two scans */
#define HOURS		"10000000"	/* milliseconds */

#define MAX_SETTINGS	32

static struct setting {
	char *path;
	char *saved;
	size_t size;		/* what it is about; 0 if not about one size */
	const char *quiet;	/* its value while something else is measured */
} settings[MAX_SETTINGS];
static unsigned int nr_settings;

/* The word in brackets, if there are any, or the first line */
static char *read_setting(const char *path)
{
	const char *choice = read_choice(path);
	char line[64] = "";
	FILE *file;

	if (choice)
		return strdup(choice);
	file = fopen(path, "re");
	if (!file)
		return NULL;
	if (!fgets(line, sizeof(line), file))
		line[0] = 0;
	fclose(file);
	line[strcspn(line, "\n")] = 0;
	return strdup(line);
}

static void save_setting(const char *path, size_t size, const char *quiet)
{
	struct setting *setting = &settings[nr_settings];
	char *value = read_setting(path);

	if (!value)
		return;
	if (nr_settings++ == MAX_SETTINGS)
		errx(1, "more than %d settings of THP", MAX_SETTINGS);
	*setting = (struct setting){ strdup(path), value, size, quiet };
}

static void save_settings(void)
{
	glob_t paths;

	/* The first one: what sizes inherit that are set to "inherit" */
	save_setting(THP_DIR "enabled", 0, "never");
	save_setting(KHUGEPAGED "scan_sleep_millisecs", 0, HOURS);
	/* It scans once before it sleeps: let it find nothing to collapse */
	save_setting(KHUGEPAGED "max_ptes_none", 0, "0");
	if (glob(SIZES "*/enabled", 0, NULL, &paths))
		return;
	for (size_t i = 0; i < paths.gl_pathc; i++) {
		const char *path = paths.gl_pathv[i];
		size_t kib = strtoul(path + strlen(SIZES), NULL, 10);

		save_setting(path, kib * 1024, "never");
	}
	globfree(&paths);
}

static bool has_value(const struct setting *setting, const char *value)
{
	char *now = read_setting(setting->path);
	bool same = now && !strcmp(now, value);

	free(now);
	return same;
}

/* Returns 0 or an error number; does not write what is there anyway */
static int change_setting(const struct setting *setting, const char *value)
{
	int fd, error = 0;

	if (has_value(setting, value))
		return 0;
	fd = open(setting->path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return errno;
	if (write(fd, value, strlen(value)) < 0)
		error = errno;
	close(fd);
	return error;
}

static void restore_settings(void)
{
	for (unsigned int i = 0; i < nr_settings; i++) {
		const struct setting *setting = &settings[i];
		int error = change_setting(setting, setting->saved);

		if (error)
			warnx("%s cannot be set back to '%s': %s",
			      setting->path, setting->saved, strerror(error));
	}
}

static pid_t worker;

static void end_worker(int sig)
{
	(void)sig;
	kill(worker, SIGTERM);
}

static int wait_for_worker(void)
{
	struct sigaction action = { .sa_handler = end_worker };
	int status;

	sigaction(SIGINT, &action, NULL);
	sigaction(SIGTERM, &action, NULL);
	sigaction(SIGHUP, &action, NULL);
	while (waitpid(worker, &status, 0) != worker)
		if (errno != EINTR)
			err(1, "waitpid");
	if (!WIFSIGNALED(status))
		return WEXITSTATUS(status);
	warnx("ended by a signal: %s", strsignal(WTERMSIG(status)));
	return 128 + WTERMSIG(status);
}

int with_folio_settings(int (*measure)(const void *arg), const void *arg)
{
	int status;

	save_settings();
	worker = fork();
	if (worker < 0)
		err(1, "fork");
	if (!worker) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		exit(measure(arg));
	}
	status = wait_for_worker();
	restore_settings();
	return status;
}

/*
 * For who may not write: nothing here asks for folios by madvise(), and where
 * no size is enabled, khugepaged has nothing to do.
 */
static bool is_quiet(const struct setting *setting)
{
	if (!setting->size && strcmp(setting->path, THP_DIR "enabled"))
		return true;
	if (has_value(setting, "inherit"))
		return is_quiet(&settings[0]);
	return has_value(setting, "never") || has_value(setting, "madvise");
}

const char *choose_folios(size_t size)
{
	static char reason[256];
	bool found = size == page_size;

	for (unsigned int i = 0; i < nr_settings; i++) {
		const struct setting *setting = &settings[i];
		bool chosen = setting->size == size;
		int error = change_setting(setting, chosen ? "always" :
							setting->quiet);

		found |= chosen;
		if (!error || (!chosen && is_quiet(setting)))
			continue;
		snprintf(reason, sizeof(reason), "%s cannot be set to '%s': %s",
			 setting->path, chosen ? "always" : setting->quiet,
			 strerror(error));
		return reason;
	}
	return found ? NULL : "this kernel has no folios of that size";
}

long long count_folios(size_t size)
{
	char path[128];
	long long n = -1;
	FILE *file;

	snprintf(path, sizeof(path), SIZES "%zukB/stats/anon_fault_alloc",
		 size / 1024);
	file = fopen(path, "re");
	if (!file)
		return -1;
	if (fscanf(file, "%lld", &n) != 1)
		n = -1;
	fclose(file);
	return n;
}

long long count_larger_bytes(void)
{
	long long bytes = 0;

	for (unsigned int i = 0; i < nr_settings; i++) {
		size_t size = settings[i].size;
		long long n = size ? count_folios(size) : 0;

		if (n > 0)
			bytes += n * size;
	}
	return bytes;
}
