// SPDX-License-Identifier: GPL-2.0
/*
 * Process 1 of the guest.
 *
 * Mounts what programs expect, runs the one that /request names (arguments
 * separated by NUL) in /home, and reports how it and the kernel fared.
 *
 * Each result leaves the guest on a virtio-serial port of its own. The verdict
 * is a single line, written last: whatever stops the guest before that leaves
 * no verdict, and qemu/run takes that for a failure. Its port is open all the
 * time: a port can be opened only once, so no other program can write to it.
 * Messages of this program go to the console, among those of the kernel.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define ARRAY_SIZE(x)	(sizeof(x) / sizeof((x)[0]))
#define __noreturn	__attribute__((noreturn))
#define __printf(a, b)	__attribute__((format(printf, a, b)))

#define PORT_OUTPUT	"/dev/vport0p1"
#define PORT_VERDICT	"/dev/vport0p2"
#define PORT_FILES	"/dev/vport0p3"
#define TERMINAL	"/dev/hvc0"

#define KMEMLEAK	"/sys/kernel/debug/kmemleak"
/* kmemleak does not report objects younger than this (MSECS_MIN_AGE) */
#define KMEMLEAK_AGE	5

#define MAX_ARGS	1024

static int verdict = -1;

static const struct {
	const char *target, *type, *options;
} mounts[] = {
	{ "/proc", "proc" },
	{ "/sys", "sysfs" },
	{ "/dev", "devtmpfs" },
	{ "/dev/pts", "devpts", "ptmxmode=0666" },
	{ "/dev/shm", "tmpfs", "mode=1777" },
	{ "/dev/hugepages", "hugetlbfs" },
	{ "/tmp", "tmpfs", "mode=1777" },
	{ "/sys/fs/cgroup", "cgroup2" },
	{ "/sys/kernel/debug", "debugfs" },
	{ "/sys/kernel/tracing", "tracefs" },
};

static char *const environment[] = {
	"PATH=/bin:/sbin:/home", "HOME=/home", "TMPDIR=/tmp", "TERM=dumb", NULL
};

/* Write the verdict and switch the guest off */
static __printf(1, 2) void __noreturn finish(const char *format, ...)
{
	char line[256];
	va_list args;
	int len;

	va_start(args, format);
	len = vsnprintf(line, sizeof(line), format, args);
	va_end(args);

	printf("init: %s", line);
	sync();
	if (write(verdict, line, len) != len)
		printf("init: " PORT_VERDICT ": %m\n");
	reboot(RB_POWER_OFF);
	_exit(1);
}

static void mount_all(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
		const char *type = mounts[i].type;

		mkdir(mounts[i].target, 0755);
		/* ENODEV: not in this kernel; the program will see that */
		if (mount(type, mounts[i].target, type, 0, mounts[i].options) &&
		    errno != ENODEV)
			printf("init: mount %s: %m\n", mounts[i].target);
	}
	symlink("/proc/self/fd", "/dev/fd");
	symlink("/proc/self/fd/0", "/dev/stdin");
	symlink("/proc/self/fd/1", "/dev/stdout");
	symlink("/proc/self/fd/2", "/dev/stderr");
}

/* The driver creates ports from a work item: they may appear after we start */
static int open_device(const char *path, int flags)
{
	for (int tries = 0; tries < 1000; tries++) {
		int fd = open(path, flags | O_CLOEXEC);

		if (fd >= 0)
			return fd;
		usleep(10000);
	}
	printf("init: %s: %m\n", path);
	reboot(RB_POWER_OFF);
	return -1;
}

static void check_cpu(void)
{
	/* The kernel puts those of its parameters that it does not know here */
	const char *value = getenv("REQUIRE_HWCAP2");
	unsigned long want = value ? strtoul(value, NULL, 0) : 0;
	unsigned long have = getauxval(AT_HWCAP2);

	if (want & ~have)
		finish("unfit: AT_HWCAP2 is %#lx and lacks %#lx\n", have,
		       want & ~have);
}

static const char *const *read_request(void)
{
	static const char *argv[MAX_ARGS + 1];
	static char buffer[1 << 16];
	int fd = open("/request", O_RDONLY);
	ssize_t len = read(fd, buffer, sizeof(buffer));
	int n = 0;

	if (len <= 0 || len == sizeof(buffer) || buffer[len - 1])
		finish("unfit: /request cannot be read or is too long\n");
	close(fd);
	for (char *p = buffer; p < buffer + len && n < MAX_ARGS;
	     p += strlen(p) + 1)
		argv[n++] = p;
	return argv;
}

/* Start @argv with the given descriptors in /home, in a session of its own */
static pid_t spawn(const char *const *argv, int in, int out)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	setsid();
	if (in == out)
		ioctl(in, TIOCSCTTY, 0);
	dup2(in, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	if (!chdir("/home"))
		execvpe(argv[0], (char *const *)argv, environment);
	if (errno != ENOENT) {
		fprintf(stderr, "init: %s: %m\n", argv[0]);
		_exit(126);
	}
	fprintf(stderr, "init: %s, its interpreter or its dynamic loader is not there\n",
		argv[0]);
	_exit(127);
}

/* Reap everything that ends until @pid has; with -1, until nothing is left */
static int wait_for(pid_t pid)
{
	int status;
	pid_t dead;

	do {
		dead = wait(&status);
	} while (dead > 0 ? dead != pid : errno == EINTR);
	return status;
}

static void install_busybox(void)
{
	static const char *const argv[] = {
		"/bin/busybox", "--install", "-s", "/bin", NULL
	};

	wait_for(spawn(argv, STDIN_FILENO, STDOUT_FILENO));
}

static int run(const char *const *argv)
{
	struct timespec now;
	int in, out, status;

	if (getenv("INTERACTIVE")) {
		in = open_device(TERMINAL, O_RDWR);
		out = in;
	} else {
		in = open("/dev/null", O_RDONLY | O_CLOEXEC);
		out = open_device(PORT_OUTPUT, O_WRONLY);
	}
	clock_gettime(CLOCK_BOOTTIME, &now);
	printf("init: running %s %ld.%03ld s after the start of the kernel\n",
	       argv[0], now.tv_sec, now.tv_nsec / 1000000);
	status = wait_for(spawn(argv, in, out));
	kill(-1, SIGKILL);
	wait_for(-1);
	close(in);
	close(out);
	return status;
}

/* qemu/run --out puts an empty /out into the guest and wants it back */
static void send_files(void)
{
	static const char *const argv[] = {
		"tar", "-C", "/out", "-cf", "-", ".", NULL
	};

	if (access("/out", F_OK))
		return;
	wait_for(spawn(argv, STDIN_FILENO, open_device(PORT_FILES, O_WRONLY)));
}

/* Return the number of leaked objects; -1 when kmemleak has given up */
static int count_leaks(void)
{
	char *line = NULL;
	size_t size = 0;
	int leaks = 0;
	FILE *report;

	report = fopen(KMEMLEAK, "r+");
	if (!report)
		return errno == ENOENT ? 0 : -1;
	setbuf(report, NULL);

	sleep(KMEMLEAK_AGE + 1);
	/* An object is reported when two scans see it unreferenced, unchanged */
	if (fputs("scan", report) < 0 || fputs("scan", report) < 0)
		return -1;
	rewind(report);
	while (getline(&line, &size, report) > 0) {
		leaks += !strncmp(line, "unreferenced object", 19);
		printf("init: kmemleak: %s", line);
	}
	fclose(report);
	return leaks;
}

static unsigned long read_taint(void)
{
	FILE *file = fopen("/proc/sys/kernel/tainted", "r");
	unsigned long taint;

	if (!file || fscanf(file, "%lu", &taint) != 1)
		finish("unfit: /proc/sys/kernel/tainted cannot be read\n");
	fclose(file);
	return taint;
}

int main(void)
{
	int status, leaks;

	setlinebuf(stdout);
	mount_all();
	verdict = open_device(PORT_VERDICT, O_WRONLY);
	check_cpu();
	install_busybox();

	status = run(read_request());
	send_files();
	leaks = count_leaks();
	finish("%s %d taint %lu leaks %d\n",
	       WIFSIGNALED(status) ? "signal" : "exit",
	       WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status),
	       read_taint(), leaks);
}
