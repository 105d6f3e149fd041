/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * The one source of every number and layout that the kernel side shares with its driver. Owns no code.
 * Python reads the numbers from this file and checks every layout against the object's BTF (tests/component/test_abi.py).
 *
 * Byte order: addresses and MACs as on the wire; everything else in host order, except the port in policy_key.
 * IPv4 addresses stand as ::ffff:a.b.c.d; a real IPv6 packet with such an address is dropped, so the two never meet.
 *
 * Groups: a frame whose destination is a multicast or broadcast address (or MAC) has the peer IDENTITY_GROUP at BOTH
 * ends: the sender's egress and each receiver's ingress look up GROUP, never the other VM. So groups are denied at both
 * ends until a `group` rule opens them, and one such rule says nothing about unicast. They make no connection.
 */
#ifndef BUCKLER_ABI_H
#define BUCKLER_ABI_H

#include <linux/types.h>

#define MARK_JUDGED 0x00800000 /* in skb->mark: a program of ours let this frame into a bridge */
#define MARK_ANSWER                                                                                                    \
	0x01000000 /* on its way into a tap's ingress: an answer of the shield itself. No guest sets a mark */

#define MAX_TAPS 4096
#define MAX_PORTS 4096
#define MAX_SERVICES 16384         /* virtual addresses, of all networks */
#define MOST_MEMBERS 32            /* behind one of them */
#define MOST_PORTS 16              /* ranges of one of them */
#define MAX_RATES 65536            /* buckets of rules that limit new connections, of all taps */
#define ANSWERS_PER_SECOND 100     /* to what rules reject: per tap and direction; as many at once */
#define LOGGED_PER_SECOND 1000     /* events of rules that log: per tap, beside the budget of all others */
#define CONNECTIONS_HALF_OPEN 4096 /* = HALF_OPEN_SETS * HALF_OPEN_WAYS */
#define HALF_OPEN_SETS 512
#define HALF_OPEN_WAYS 8
#define FRAGMENTS_PER_TAP 1024
#define MAX_CLAIM_MESSAGE 1024 /* of a DHCP message; what stands behind them is not told */
#define CLAIMS_PER_SECOND 5    /* and tap */
#define DNS_PER_SECOND 50      /* messages of either way, and tap */
#define NOBODY 0xffffffff      /* the pair bucket for what found no room */

enum direction { DIR_EGRESS = 0, DIR_INGRESS = 1 }; /* seen from the VM */

enum action { ACT_ALLOW = 1, ACT_DENY = 2, ACT_REJECT = 3 }; /* any other number is a denial */

enum port_role { PORT_TUNNEL = 1, PORT_OUTSIDE = 2 };

enum address_flag { ADDR_DHCP_SERVER = 1, ADDR_ROUTER = 2, ADDR_RESOLVER = 4 };

enum claim_source {
	CLAIM_DHCP = 1,
	CLAIM_DHCPV6 = 2,
	CLAIM_DETECTED = 3,
	CLAIM_DNS_QUERY = 4,
	CLAIM_DNS_ANSWER = 5,
};

enum identity {
	IDENTITY_ANY = 0,
	IDENTITY_HOST = 1,
	IDENTITY_WORLD = 2,
	IDENTITY_GROUP = 3,
	IDENTITY_INFRA = 4,
};

enum shield_mode { MODE_ENFORCE = 0, MODE_OBSERVE = 1 };

/* Why a frame passed (below REASON_FIRST_REFUSAL) or was refused. From REASON_FIRST_HARD on, observe mode refuses too. */
enum reason {
	REASON_NONE = 0,
	REASON_ESTABLISHED = 1,
	REASON_NEW = 2,
	REASON_RELATED = 3,
	REASON_STATELESS = 4,
	REASON_ARP = 5,
	REASON_ND = 6,
	REASON_DHCP = 7,
	REASON_MEMBERSHIP = 8,
	REASON_RARP = 9,
	REASON_OBSERVED = 10,
	REASON_PORT = 11,
	REASON_ANSWER = 12,
	REASON_RESOLVED = 13,
	REASON_FIRST_REFUSAL = 32,
	REASON_POLICY = 32,
	REASON_NO_CONNECTION = 33,
	REASON_CONNECTIONS_FULL = 34,
	REASON_RATE = 35,
	REASON_EXPIRED = 36,
	REASON_FIRST_HARD = 40,
	REASON_UNCONFIGURED = 40,
	REASON_SPOOFED_MAC = 41,
	REASON_SPOOFED_ADDRESS = 42,
	REASON_SPOOFED_ARP = 43,
	REASON_SPOOFED_ND = 44,
	REASON_INFRA = 45,
	REASON_VLAN = 46,
	REASON_ETHERTYPE = 47,
	REASON_MALFORMED = 48,
	REASON_EXTENSION = 49,
	REASON_FRAGMENT = 50,
	REASON_ROGUE_ROUTER = 51,
	REASON_ROGUE_DHCP = 52,
	REASON_ROGUE_MEMBERSHIP = 53,
	REASON_ICMP_ERROR = 54,
	REASON_TCP_RESET = 55,
	REASON_NOT_FOR_VM = 56,
	REASON_SOURCE_ROUTE = 57,
	REASON_MARTIAN = 58,
	REASON_FOREIGN_TUNNEL = 59,
	REASON_FOREIGN_OUTSIDE = 60,
	REASON_NO_PROGRAM = 61,
	REASON_SERVICE = 62,
	REASON_NO_MEMBER = 63,
	REASON_COUNT = 64,
};

/* Aligned, else every copy goes byte by byte. */
struct address {
	__u8 bytes[16];
} __attribute__((aligned(4)));

/*
 * Map endpoints, ARRAY of 2 * MAX_TAPS: a tap owns the slot s and with it the indexes 2s and 2s+1. One of the two is in
 * force; a change writes the other one whole (endpoint, own addresses, program) and then flips tap_index: one update,
 * so no packet meets half a configuration. `ifindex` says whom it is for: a reader that raced with a flip and finds
 * somebody else drops. `generation` is new with every change, never 0, and outlives the tap: who takes the slot goes on.
 * `services`: its network has virtual addresses; where it is 0 nobody looks for one.
 */
struct endpoint {
	__u32 ifindex;
	__u32 vm;
	__u32 zone;
	__u32 identity;
	__u32 generation;
	__u16 vlan;
	__u8 mode;
	__u8 services;
	__u8 mac[6];
	__u16 quota; /* of connections, 0: 65536. For the driver alone: what holds is the room of the table */
};

/* Map own_addresses: the addresses that may stand as source behind one endpoint index. Value: __u32, not 0. */
struct own_key {
	__u32 index;
	struct address address;
};

/* Map hosts: single addresses. Zone 0 is looked up first and holds only INFRA, the same in every zone. */
struct host_key {
	__u32 zone;
	struct address address;
};

/* Map prefixes, LPM: everything wider than one address. `prefix_length` counts the zone's 32 bits too. */
struct prefix_key {
	__u32 prefix_length;
	__u32 zone;
	struct address address;
};

/* Whose address: what hosts and prefixes give. No entry at all = WORLD. */
struct owner {
	__u32 identity;
	__u32 vm;
	__u32 flags;
};

struct mac_key {
	__u32 zone;
	__u8 mac[6];
	__u8 reserved[2];
};

/*
 * Map services, by host_key: what stands behind a virtual address. A frame to it goes to one of the members, in the same
 * port and protocol, and is judged as one to that member; a change replaces the whole value, so no packet meets half of it.
 * Map service_numbers: where a number's service stands, for the way back. 0 is no service's number; all fit in 24 bits, as
 * the MAC that a shield answers for is made of them.
 */
struct service_port {
	__u16 first;
	__u16 last;
	__u8 protocol;
	__u8 reserved[3];
};

struct service_member {
	struct address address;
	__u8 mac[6];
	__u8 reserved[2];
};

struct service {
	__u32 number;
	__u32 ports;
	__u32 members;
	struct service_port port[MOST_PORTS];
	struct service_member member[MOST_MEMBERS];
};

/* Map ports: key is the port and the VLAN that a frame carries (0: untagged). A VLAN without entry is dropped. */
struct port_key {
	__u32 ifindex;
	__u32 vlan;
};

struct port {
	__u32 role;
	__u32 zone;
};

/*
 * A program is an LPM of its own, pinned by digest and shared by every endpoint index that the map policies points
 * from. `prefix_length` = 32 (the identity, always whole) + 8 direction + 8 protocol + 16 port. The exact peer is looked up
 * first; only when nothing matches there, IDENTITY_ANY. No match = denied.
 */
struct policy_key {
	__u32 prefix_length;
	__u32 identity;
	__u8 direction;
	__u8 protocol;
	__u16 port; /* network order */
};

/*
 * `flags` 0 says that no term follows, and nothing of them is read. `until`: seconds since 1970 after which an allowance is none (0: for
 * good); what the wall clock is, programs know from `settings`. `connections` in `within` seconds: more new ones are refused.
 */
enum verdict_flag { VERDICT_TERMS = 1, VERDICT_LOG = 2 };

struct verdict {
	__u64 until;
	__u32 rule;
	__u32 observed;
	__u32 staged_rule;
	__u32 connections;
	__u32 within;
	__u8 action;
	__u8 flags;
	__u8 staged;
	__u8 reserved;
};

/* Seen from the VM, so one look-up serves both directions. ICMP echo: both ports are the identifier. */
/* `asked` of an echo: the remote end asks. A ping the other way, with the same id, is a connection of its own. */
struct connection_key {
	struct address remote;
	struct address local;
	__u16 remote_port;
	__u16 local_port;
	__u8 protocol;
	__u8 asked;
	__u8 reserved[2];
};

/* One sender of a TCP connection: `end` follows its highest byte, `acked` the highest it acknowledged, `edge` what it will take. */
struct tcp_side {
	__u32 end;
	__u32 acked;
	__u32 edge;
	__u8 scale;
	__u8 known;
	__u8 finished;
	__u8 reserved;
};

enum connection_state { STATE_NEW = 0, STATE_REPLIED = 1, STATE_ESTABLISHED = 2, STATE_CLOSING = 3, STATE_CLOSED = 4 };

#define CONNECTION_OBSERVED 1 /* policy refuses it; observe mode lets it live */

/*
 * New connections live among the tap's half-open ones (waiting) until their originator speaks again after a reply; only then do
 * they take a place in its table (established), which never evicts: full = refused. `stamp` = the pool's generation << 32 |
 * the endpoint's; any other stamp makes the next packet be judged again, peer resolved anew, in the connection's own
 * direction and `port`. 0 never fits: an imported connection is judged first. Times are CLOCK_BOOTTIME ns. From `until` on the
 * allowance that it lives on is none: 0, as in an imported one, is always past; ~0 never is. `service`: the number of the one through
 * whose virtual address the VM speaks with this member; 0 for a direct one. The key is the member's in both.
 */
struct connection {
	__u64 expires;
	__u64 created;
	__u64 stamp;
	__u64 until;
	struct tcp_side tcp[2];
	__u32 rule;
	__u32 observed;
	__u32 peer_identity;
	__u32 peer_vm;
	__u32 staged_rule;
	__u16 port;
	__u8 direction;
	__u8 state;
	__u8 flags;
	__u8 spared; /* among the half-open: once passed over, see half_open_set */
	__u8 staged;
	__u8 reserved;
	__u32 service;
};

/*
 * Map waiting, a tap's ARRAY of HALF_OPEN_SETS: where the keyed hash of a key says, in any of the places. `tags`: the hash, 0 for a
 * free place, TAG_TAKEN while one writes it. A full set gives away its places in turn (`hand`); one that was answered is
 * spared once. Only the kernel side writes it: an imported half-open connection stands in the table (established).
 */
struct half_open {
	struct connection_key key;
	struct connection connection;
};

struct half_open_set {
	__u32 tags[HALF_OPEN_WAYS];
	__u32 hand;
	__u32 reserved[7];
	struct half_open at[HALF_OPEN_WAYS];
};

#define TAG_TAKEN 2 /* every tag of a hash is odd */

/*
 * Map secrets, one element, drawn once per host: the hash is multilinear, strongly universal, so nobody who does not know it can aim
 * at a set. One factor for each word of a key, then the summand.
 */
#define KEY_WORDS 10
struct secret {
	__u64 words[KEY_WORDS + 1];
};

/* Map fragments: what later fragments need from the first. `end` is the highest byte seen: below it is an overlap. */
struct fragment_key {
	struct address source;
	struct address destination;
	__u32 identification;
	__u8 protocol;
	__u8 direction;
	__u8 reserved[2];
};

struct fragment {
	__u64 expires;
	__u32 end;
	__u16 source_port;
	__u16 destination_port;
	__u16 policy_port;
	__u8 protocol;
	__u8 icmp_type;
	__u8 reserved[4];
};

/* What changes with the packets of one slot; forgotten with the tap. `spoke`: the VM lives here (see residents). */
struct tap_state {
	__u64 budget_window;
	__u64 full_until;
	__u32 budget_used;
	__u32 spoke;
	__u64 logged_until;      /* of the bucket of rules that log; all three as `due` of struct rate */
	__u64 answered_until[2]; /* and of answers, by direction of what is answered */
};

/*
 * Map rates, preallocated, filled by first packets and freed by the driver when a bucket is full again: nobody can push another's
 * bucket, or his own, out. `due`: when the next one would come if they came evenly, one each within / connections; it may be
 * up to `within` ahead. Full map: refused.
 */
struct rate_key {
	__u32 slot;
	__u32 rule;
	__u32 direction;
};

struct rate {
	__u64 due;
};

struct count {
	__u64 packets;
	__u64 bytes;
};

/* Map counters, per CPU, by ifindex, for taps and ports: each frame is counted exactly once under exactly one reason. */
struct reason_counts {
	struct count by[2][REASON_COUNT];
};

/* Map pairs, per CPU, preallocated. `direction` is that of the rule, so both ways of a connection stand in one count. */
struct pair_key {
	__u32 vm;
	__u32 peer_vm;
	__u32 peer_identity;
	__u32 rule;
	__u8 direction;
	__u8 allowed;
	__u8 reserved[2];
};

/*
 * Map staged, per CPU, preallocated: what a staged draft would have said of packets that a rule decided, beside `pairs`. `staged` is an
 * action; only what a program with a draft says something of stands here. What finds no room goes to one bucket of its own.
 */
struct staged_key {
	struct pair_key pair;
	__u32 staged_rule;
	__u8 staged;
	__u8 reserved[3];
};

enum event_flag { EVENT_LOGGED = 1, EVENT_ANSWERED = 2 };

struct event {
	__u64 at;
	__u32 ifindex;
	__u32 vm;
	__u32 peer_vm;
	__u32 peer_identity;
	__u32 rule;
	__u32 observed;
	__u32 staged_rule;
	__u32 length;
	struct address source;
	struct address destination;
	__u16 source_port;
	__u16 destination_port;
	__u16 ethertype;
	__u8 protocol;
	__u8 direction;
	__u8 allowed;
	__u8 reason;
	__u8 staged;
	__u8 flags;
	__u32 service; /* through which the VM speaks with `destination` or `source`, its member */
};

struct shed {
	__u64 lost;
	__u64 suppressed;
};

/*
 * Map claims, ring: an address that a VM would have. CLAIM_DETECTED: it probed for `address`, which is not its own (the
 * frame was dropped all the same). CLAIM_DHCP, CLAIM_DHCPV6: `server`, a permitted one, answered it: `length` bytes of
 * `data` are the message behind the UDP header, not looked at but for whom it is meant. Bytes behind `length` are noise.
 * CLAIM_DNS_*: so passed between `address` and `port` of the VM and port 53 of `server`, a declared resolver.
 */
struct claim {
	__u64 at;
	__u32 ifindex;
	__u32 vm;
	struct address address;
	struct address server;
	__u16 length;
	__u8 source;
	__u8 reserved;
	__u16 port;
	__u8 reserved2[2];
	__u8 data[MAX_CLAIM_MESSAGE];
};

/* Map claim_budgets, by slot: a tap's share of the ring. */
struct claim_budget {
	__u64 window;
	__u32 used;
	__u32 named; /* of DNS_PER_SECOND */
};

/*
 * Map settings, one element. `build` names the object that the pinned programs came from. `book` is odd while the address
 * book changes and another even number after: a decision is remembered under the even number that was read before it. `clock` is
 * CLOCK_REALTIME - CLOCK_BOOTTIME in ns; 0: the wall clock is not believed, and every allowance with an end has ended.
 */
struct settings {
	__u64 generation;
	__u64 clock;
	__u32 events_per_second;
	__u32 book;
	__u8 build[32];
};

#endif
