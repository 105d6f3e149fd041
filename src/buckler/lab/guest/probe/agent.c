/* SPDX-License-Identifier: Apache-2.0 */
/* `probe agent DEVICE`: the lab's command channel over a virtio serial port; outlives migrations.
 *
 *   request  EXEC <id> <timeout s> <CRC-32> <command in hex>\n
 *   answer   DONE <id> <exit code> <CRC-32> <length>\n<output>
 *
 * Bytes are lost where the host's end closes: the port never says so. A request is one line between two line ends, so
 * half of one costs nothing but itself; one that is asked again under its id is answered again and not run again. */
#include "probe.h"

#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST_COMMAND (1 << 16)
#define MOST_OUTPUT (1 << 20)

static char output[MOST_OUTPUT], command[MOST_COMMAND], line[2 * MOST_COMMAND + 128];

/* The port sends SIGIO when a host comes, goes or speaks: an agent without one sleeps, and does not ask all the time.
 */
static void ask_for_signals(int fd, sigset_t *signals)
{
	sigemptyset(signals);
	sigaddset(signals, SIGIO);
	sigprocmask(SIG_BLOCK, signals, NULL);
	fcntl(fd, F_SETOWN, getpid());
	fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC);
}

static char next_byte(int fd, const sigset_t *signals)
{
	static const struct timespec patience = {.tv_sec = 1};
	static char bytes[4096];
	static ssize_t at, count;

	while (at >= count) {
		at = 0;
		count = read(fd, bytes, sizeof(bytes));
		if (count <= 0)
			sigtimedwait(signals, NULL, &patience);
	}
	return bytes[at++];
}

static void read_line(int fd, const sigset_t *signals)
{
	size_t at = 0;
	char byte;

	while ((byte = next_byte(fd, signals)) != '\n')
		if (at < sizeof(line) - 1)
			line[at++] = byte;
	line[at] = 0;
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

static uint32_t crc32(const char *bytes, size_t length)
{
	uint32_t sum = ~0u;

	for (size_t i = 0; i < length; i++) {
		sum ^= (unsigned char)bytes[i];
		for (int bit = 0; bit < 8; bit++)
			sum = sum >> 1 ^ (sum & 1 ? 0xedb88320 : 0);
	}
	return ~sum;
}

static int digit(char letter)
{
	static const char digits[] = "0123456789abcdef";
	const char *found = letter ? strchr(digits, letter) : NULL;

	return found ? found - digits : -1;
}

/* False when it is not the whole of what was sent. */
static bool decode(const char *hex, uint32_t sum)
{
	size_t length = 0;

	for (; hex[0] && length < sizeof(command) - 1; hex += 2) {
		if (digit(hex[0]) < 0 || digit(hex[1]) < 0)
			return false;
		command[length++] = digit(hex[0]) << 4 | digit(hex[1]);
	}
	command[length] = 0;
	return !hex[0] && crc32(command, length) == sum;
}

static pid_t start(int *from)
{
	int ends[2];
	sigset_t none;
	pid_t child;

	if (pipe(ends))
		return -1;
	child = fork();
	if (child == 0) {
		setsid();
		sigemptyset(&none);
		sigprocmask(SIG_SETMASK, &none, NULL);
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
static int run_command(int seconds, size_t *length)
{
	int64_t end = now_ms() + seconds * 1000LL;
	int from = -1, status = 0, ended = 0;
	pid_t child = start(&from);
	struct pollfd waits[2] = {{.fd = from, .events = POLLIN},
				  {.fd = syscall(SYS_pidfd_open, child, 0), .events = POLLIN}};

	*length = 0;
	if (child < 0)
		return 126;
	while (!ended) {
		int64_t left = end - now_ms();
		ssize_t more = -1;

		poll(waits, 2, left > 0 ? left : 0);
		ended = waitpid(child, &status, WNOHANG) == child;
		while (*length < MOST_OUTPUT && (more = read(from, output + *length, MOST_OUTPUT - *length)) > 0)
			*length += more;
		if (more == 0)
			waits[0].fd = -1; /* closed by all who wrote: only the end is awaited */
		if (!ended && (left <= 0 || *length == MOST_OUTPUT)) {
			kill(-child, SIGKILL);
			waitpid(child, &status, 0);
			status = 124 << 8;
			break;
		}
	}
	close(from);
	close(waits[1].fd);
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void answer(int fd, const char *id, int code, size_t length)
{
	char header[128];

	snprintf(header, sizeof(header), "DONE %s %d %08x %zu\n", id, code, crc32(output, length), length);
	write_fully(fd, header, strlen(header));
	write_fully(fd, output, length);
}

int run_agent(int argc, char **argv)
{
	int fd = argc == 1 ? open(argv[0], O_RDWR | O_CLOEXEC) : -1, code = 0;
	char last[40] = "";
	size_t length = 0;
	sigset_t signals;

	if (fd < 0)
		return 2;
	ask_for_signals(fd, &signals);
	for (;;) {
		unsigned int seconds, sum;
		char id[40];
		int at = 0;

		read_line(fd, &signals);
		if (sscanf(line, "EXEC %39s %u %x %n", id, &seconds, &sum, &at) != 3 || !at || !decode(line + at, sum))
			continue;
		if (strcmp(id, last)) {
			code = run_command(seconds, &length);
			strcpy(last, id);
		}
		answer(fd, id, code, length);
	}
}
