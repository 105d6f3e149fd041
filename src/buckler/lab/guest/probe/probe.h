/* SPDX-License-Identifier: Apache-2.0 */
/* What the lab's guests speak with: targets, clocks and the entry point of each verb. */
#ifndef PROBE_H
#define PROBE_H

#include <netinet/in.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

enum kind { KIND_TCP, KIND_UDP, KIND_ICMP, KIND_STRAY };

/* "tcp/ADDRESS/PORT", "udp/ADDRESS/PORT", "icmp/ADDRESS" or "icmp/ADDRESS/ECHO-ID" (without one it is the process's
 * own), "ack/ADDRESS/PORT/FROM-PORT" or "synack/…" (see stray.c); a link-local address carries "%INTERFACE". */
struct target {
	enum kind kind;
	struct sockaddr_storage address;
	socklen_t length;
	uint16_t echo_id;
	uint16_t from_port;
	bool is_syn;
	const char *text;
};

/* True when `text` was understood; `target->text` points into it. */
bool target_parse(const char *text, struct target *target);
/* A non-blocking socket connected to the target (TCP: connecting). -1 with errno. */
int target_open(const struct target *target);
/* The same, and for TCP wait up to five seconds until the connection stands. -1 when it does not. */
int target_connect(const struct target *target);
/* One datagram of a UDP or ICMP target; `sequence` tells answers of one run apart. */
void target_send(const struct target *target, int fd, uint16_t sequence);
/* True when what waits on the socket of a UDP or ICMP target answers one of ours; consumes it. */
bool target_answered(const struct target *target, int fd);

int stray_open(const struct target *target);
void stray_send(const struct target *target, int fd);
bool stray_answered(const struct target *target, int fd);

int64_t now_ms(void);
/* Replace `path` by `text` in one step, so that a reader never sees half of it. */
void write_result(const char *path, const char *text);
/* Wait until the SIGTERM that ends an open run. */
extern volatile sig_atomic_t stopping;
void stop_on_signal(void);

int run_serve(int argc, char **argv);
int run_get(int argc, char **argv);
int run_scan(int argc, char **argv);
int run_hammer(int argc, char **argv);
int run_watch(int argc, char **argv);
int run_hold(int argc, char **argv);
int run_keep(int argc, char **argv);
int run_pour(int argc, char **argv);
int run_agent(int argc, char **argv);
int run_worm(int argc, char **argv);
/* Let a worm in that came as `text`, if this guest is susceptible and not infected yet. */
void worm_enters(char *text);

#endif
