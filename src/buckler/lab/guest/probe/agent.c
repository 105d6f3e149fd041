/* SPDX-License-Identifier: Apache-2.0 */
/* `probe agent DEVICE`: the lab's command channel over a virtio serial port; outlives migrations.
 *
 *   request  EXEC <id> <timeout s> <length>\n<command>
 *   answer   DONE <id> <exit code> <length>\n<output>
 *
 * A reader that went away in mid-answer is told apart by the id; lines that make no sense are skipped. */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST_OUTPUT (1 << 20)

static char output[MOST_OUTPUT];

/* With nobody at the other end a read gives nothing at once: wait a little, then ask again. */
static void read_fully(int fd, char *bytes, size_t length)
{
	for (size_t at = 0; at < length;) {
		ssize_t more = read(fd, bytes + at, length - at);

		if (more > 0)
			at += more;
		else
			usleep(20000);
	}
}

static void write_fully(int fd, const char *bytes, size_t length)
{
	for (size_t at = 0; at < length;) {
		ssize_t more = write(fd, bytes + at, length - at);

		if (more > 0)
			at += more;
		else
			usleep(20000);
	}
}

static void read_line(int fd, char *line, size_t size)
{
	size_t at = 0;

	do {
		read_fully(fd, line + at, 1);
		at += at < size - 1;
	} while (line[at - 1] != '\n');
	line[at - 1] = 0;
}

static pid_t start(const char *command, int *from)
{
	int ends[2];
	pid_t child;

	if (pipe(ends))
		return -1;
	child = fork();
	if (child == 0) {
		setsid();
		dup2(open("/dev/null", O_RDONLY), 0);
		dup2(ends[1], 1);
		dup2(ends[1], 2);
		close(ends[0]);
		close(ends[1]);
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	close(ends[1]);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	*from = ends[0];
	return child;
}

/* What the command wrote, until its shell ends: what it left in the background may keep the pipe open. */
static int run_command(const char *command, int seconds, size_t *length)
{
	int64_t end = now_ms() + seconds * 1000LL;
	int from = -1, status = 0, ended = 0;
	pid_t child = start(command, &from);

	*length = 0;
	if (child < 0)
		return 126;
	while (!ended) {
		struct pollfd wait = {.fd = from, .events = POLLIN};
		ssize_t more;

		poll(&wait, 1, 10);
		ended = waitpid(child, &status, WNOHANG) == child;
		while (*length < MOST_OUTPUT && (more = read(from, output + *length, MOST_OUTPUT - *length)) > 0)
			*length += more;
		if (!ended && (now_ms() > end || *length == MOST_OUTPUT)) {
			kill(-child, SIGKILL);
			waitpid(child, &status, 0);
			close(from);
			return 124;
		}
	}
	close(from);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

int run_agent(int argc, char **argv)
{
	char line[128], id[40], command[65536];
	int fd = argc == 1 ? open(argv[0], O_RDWR | O_CLOEXEC) : -1;

	if (fd < 0)
		return 2;
	for (;;) {
		unsigned int seconds, size;
		size_t length;
		int code;

		read_line(fd, line, sizeof(line));
		if (sscanf(line, "EXEC %39s %u %u", id, &seconds, &size) != 3 || size >= sizeof(command))
			continue;
		read_fully(fd, command, size);
		command[size] = 0;
		code = run_command(command, seconds, &length);
		snprintf(line, sizeof(line), "DONE %s %d %zu\n", id, code, length);
		write_fully(fd, line, strlen(line));
		write_fully(fd, output, length);
	}
}
