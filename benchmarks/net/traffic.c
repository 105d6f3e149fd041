/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Traffic for ./bench dataplane: frames through a tap's descriptor, TCP streams and connections. Owns no namespace.
 *
 *   traffic frames OUT IN SECONDS known|new  write 64-byte UDP frames into the tap OUT and read the tap IN: prints frames
 *                                         per second written, read, and written per second of the sender's own time
 *   traffic packets INTERFACE SECONDS known|new  the same frames into an interface, 64 a call; prints frames per second
 *                                         and per second of the sender's own time
 *   traffic drain PORT                    take TCP connections and what they bring, until killed
 *   traffic sink PORT                     the same, and UDP, unread
 *   traffic stream ADDRESS PORT SECONDS   one TCP connection, as fast as it goes; prints bytes per second
 *   traffic connect ADDRESS PORT SECONDS  one TCP connection after the other; prints connections per second
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FRAME 60 /* and four bytes of check sum on a wire */
#define IP 14
#define UDP (IP + 20)
#define CHUNK 64
#define SENDERS 64  /* 10.9.1.1 … 10.9.1.64 */
#define SINKS 2048  /* bytes of buffer of a sink that nobody reads */
#define PORTS 60000 /* of the sender, from 2000 on */
#define TARGETS 16  /* ports of the receiver, from 5008 on */
#define FIRST_TARGET 5008

static double now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

/* Of this thread: a frame's whole way through taps and bridge is walked in the sender's write. */
static double used(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

static void pin(int cpu)
{
	cpu_set_t set;
	CPU_ZERO(&set);
	CPU_SET(cpu % (int)sysconf(_SC_NPROCESSORS_ONLN), &set);
	sched_setaffinity(0, sizeof(set), &set);
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static void put16(uint8_t *at, uint16_t value)
{
	at[0] = value >> 8;
	at[1] = value & 255;
}

static void sum_header(uint8_t *ip)
{
	uint32_t sum = 0;
	put16(ip + 10, 0);
	for (int i = 0; i < 20; i += 2)
		sum += ip[i] << 8 | ip[i + 1];
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	put16(ip + 10, ~sum);
}

/* 52:54:00:00:00:0a, 10.9.1.1 → 52:54:00:00:00:0b, 10.9.0.2 */
static void make_frame(uint8_t *frame)
{
	static const uint8_t head[] = {0x52,       0x54, 0, 0, 0, 0x0b, 0x52, 0x54, 0, 0,  0, 0x0a, 8, 0,  0x45, 0, 0,
				       FRAME - IP, 0,    0, 0, 0, 64,   17,   0,    0, 10, 9, 1,    1, 10, 9,    0, 2};
	memset(frame, 0, FRAME);
	memcpy(frame, head, sizeof(head));
	sum_header(frame + IP);
	put16(frame + UDP, 2000);
	put16(frame + UDP + 2, FIRST_TARGET);
	put16(frame + UDP + 4, FRAME - UDP);
}

/* The next of SENDERS * PORTS * TARGETS flows; addresses change most often. */
static void make_new(uint8_t *frame, uint64_t number)
{
	frame[IP + 15] = 1 + number % SENDERS;
	sum_header(frame + IP);
	put16(frame + UDP, 2000 + number / SENDERS % PORTS);
	put16(frame + UDP + 2, FIRST_TARGET + number / SENDERS / PORTS % TARGETS);
}

struct reader {
	int fd;
	atomic_int stop;
	uint64_t frames;
};

/* Take what arrives, as a hypervisor that polls: a sleeping reader would make the sender pay for each wake-up. */
static void *swallow(void *argument)
{
	struct reader *reader = argument;
	static uint8_t frame[70000];
	pin(1);
	while (!atomic_load(&reader->stop)) {
		while (read(reader->fd, frame, sizeof(frame)) > 0)
			reader->frames++;
		usleep(50);
	}
	return 0;
}

static int send_frames(int out, int in, double seconds, int is_new)
{
	struct reader reader = {.fd = in};
	uint8_t frame[FRAME];
	uint64_t sent = 0, number = (uint64_t)(now() * 1e6);
	double start, end, spent;
	pthread_t thread;
	pin(0);
	make_frame(frame);
	if (pthread_create(&thread, 0, swallow, &reader))
		die("thread");
	start = now();
	spent = used();
	end = start + seconds;
	while (now() < end)
		for (int i = 0; i < CHUNK; i++) {
			if (is_new)
				make_new(frame, number++);
			if (write(out, frame, FRAME) != FRAME && errno != EAGAIN)
				die("write to the tap");
			sent++;
		}
	spent = used() - spent;
	end = now();
	usleep(2000);
	atomic_store(&reader.stop, 1);
	pthread_join(thread, 0);
	printf("%.1f %.1f %.1f\n", sent / (end - start), reader.frames / (end - start), sent / spent);
	return 0;
}

static int send_packets(const char *interface, double seconds, int is_new)
{
	static uint8_t frames[CHUNK][FRAME];
	struct mmsghdr messages[CHUNK] = {0};
	struct iovec parts[CHUNK];
	struct sockaddr_ll to = {.sll_family = AF_PACKET, .sll_halen = 6, .sll_protocol = htons(ETH_P_IP)};
	int fd = socket(AF_PACKET, SOCK_RAW, 0);
	uint64_t sent = 0, number = (uint64_t)(now() * 1e6);
	double start, end, spent;
	pin(0);
	to.sll_ifindex = if_nametoindex(interface);
	for (int i = 0; i < CHUNK; i++) {
		make_frame(frames[i]);
		parts[i] = (struct iovec){frames[i], FRAME};
		messages[i].msg_hdr = (struct msghdr){
			.msg_name = &to, .msg_namelen = sizeof(to), .msg_iov = &parts[i], .msg_iovlen = 1};
	}
	start = now();
	spent = used();
	end = start + seconds;
	while (now() < end) {
		int n;
		if (is_new)
			for (int i = 0; i < CHUNK; i++)
				make_new(frames[i], number++);
		n = sendmmsg(fd, messages, CHUNK, 0);
		if (n < 0 && errno != ENOBUFS)
			die("sendmmsg");
		sent += n > 0 ? n : 0;
	}
	spent = used() - spent;
	printf("%.1f %.1f\n", sent / (now() - start), sent / spent);
	return 0;
}

static struct sockaddr_in get_address(const char *address, const char *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(atoi(port))};
	if (!inet_aton(address, &a.sin_addr))
		die(address);
	return a;
}

/* What comes there is judged, delivered and dropped at a full buffer: no answer, no reader. */
static void open_sinks(void)
{
	for (int i = 0; i < TARGETS; i++) {
		struct sockaddr_in a = {.sin_family = AF_INET, .sin_port = htons(FIRST_TARGET + i)};
		int fd = socket(AF_INET, SOCK_DGRAM, 0), size = SINKS;
		setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
		if (bind(fd, (void *)&a, sizeof(a)))
			die("bind");
	}
}

/* With `sinks`, take UDP too: two of these must not wait for one another. */
static int drain(const char *port, int sinks)
{
	struct sockaddr_in a = get_address("0.0.0.0", port);
	int listener = socket(AF_INET, SOCK_STREAM, 0), one = 1;
	pin(1);
	if (sinks)
		open_sinks();
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(listener, (void *)&a, sizeof(a)) || listen(listener, 4096))
		die("listen");
	while (1) {
		int fd = accept(listener, 0, 0);
		if (fd < 0)
			continue;
		while (recv(fd, 0, 1 << 20, MSG_TRUNC) > 0)
			;
		close(fd);
	}
	return 0;
}

/* A socket that gives up after `timeout` seconds and leaves no TIME_WAIT behind. */
static int open_socket(int timeout)
{
	struct timeval patience = {.tv_sec = timeout};
	struct linger at_once = {.l_onoff = 1};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	return fd;
}

static int stream(const char *address, const char *port, double seconds)
{
	static char buffer[131072];
	struct sockaddr_in to = get_address(address, port);
	int fd = open_socket(3);
	double start, end, warm;
	uint64_t sent = 0;
	ssize_t n = 0;
	pin(0);
	if (connect(fd, (void *)&to, sizeof(to)))
		die("connect");
	warm = now() + 0.1;
	while (n >= 0 && now() < warm)
		n = send(fd, buffer, sizeof(buffer), 0);
	start = now();
	end = start + seconds;
	while (n >= 0 && now() < end) {
		n = send(fd, buffer, sizeof(buffer), 0);
		sent += n > 0 ? n : 0;
	}
	printf("%.1f\n", sent / (now() - start));
	return 0;
}

static int connect_often(const char *address, const char *port, double seconds)
{
	struct sockaddr_in to = get_address(address, port);
	uint64_t made = 0;
	double start, end;
	pin(0);
	start = now();
	end = start + seconds;
	while (now() < end) {
		int fd = open_socket(1);
		made += connect(fd, (void *)&to, sizeof(to)) == 0;
		close(fd);
	}
	printf("%.1f\n", made / (now() - start));
	return 0;
}

int main(int count, char **words)
{
	const char *mode = count > 2 ? words[1] : "";
	if (!strcmp(mode, "frames") && count == 6)
		return send_frames(atoi(words[2]), atoi(words[3]), atof(words[4]), !strcmp(words[5], "new"));
	if (!strcmp(mode, "packets") && count == 5)
		return send_packets(words[2], atof(words[3]), !strcmp(words[4], "new"));
	if (!strcmp(mode, "drain") && count == 3)
		return drain(words[2], 0);
	if (!strcmp(mode, "sink") && count == 3)
		return drain(words[2], 1);
	if (!strcmp(mode, "stream") && count == 5)
		return stream(words[2], words[3], atof(words[4]));
	if (!strcmp(mode, "connect") && count == 5)
		return connect_often(words[2], words[3], atof(words[4]));
	fprintf(stderr, "traffic: see the top of traffic.c\n");
	return 2;
}
