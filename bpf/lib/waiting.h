/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* The half-open connections of one tap: found, put, taken away, without a lock. Owns no state of a connection. */
#ifndef BUCKLER_WAITING_H
#define BUCKLER_WAITING_H

#include "frame.h"

INLINE __u32 hash_key(const struct connection_key *key)
{
	__u32 zero = 0;
	const __u32 *words = (const __u32 *)key;
	const struct secret *secret = bpf_map_lookup_elem(&secrets, &zero);
	__u64 sum;
	if (!secret)
		return 1;
	sum = secret->words[KEY_WORDS];
	UNROLL
	for (int i = 0; i < KEY_WORDS; i++)
		sum += secret->words[i] * words[i];
	return sum >> 32 | 1;
}

INLINE struct half_open_set *get_set(void *table, __u32 hash)
{
	__u32 number = hash >> 1 & (HALF_OPEN_SETS - 1);
	return bpf_map_lookup_elem(table, &number);
}

INLINE int same_key(const struct connection_key *a, const struct connection_key *b)
{
	const __u32 *x = (const __u32 *)a, *y = (const __u32 *)b;
	__u32 difference = 0;
	UNROLL
	for (int i = 0; i < KEY_WORDS; i++)
		difference |= x[i] ^ y[i];
	return !difference;
}

/* A miss reads one line. What was found may be given away meanwhile, as any half-open one: see is_still_there. */
INLINE struct connection *find_waiting(void *table, const struct connection_key *key, __u32 hash)
{
	struct half_open_set *set = get_set(table, hash);
	if (!set)
		return 0;
	UNROLL
	for (int i = 0; i < HALF_OPEN_WAYS; i++)
		if (set->tags[i] == hash && same_key(&set->at[i].key, key))
			return &set->at[i].connection;
	return 0;
}

/* Asked after a connection was copied: was it that key's the whole time? */
INLINE int is_still_there(void *table, const struct connection_key *key, __u32 hash, const struct connection *c)
{
	return find_waiting(table, key, hash) == c;
}

INLINE void delete_waiting(void *table, const struct connection_key *key, __u32 hash)
{
	struct half_open_set *set = get_set(table, hash);
	if (!set)
		return;
	UNROLL
	for (int i = 0; i < HALF_OPEN_WAYS; i++)
		if (set->tags[i] == hash && same_key(&set->at[i].key, key))
			__sync_val_compare_and_swap(&set->tags[i], hash, 0);
}

/* Free places first; then in turn, but one that was answered and has not expired is passed over once. */
INLINE __u32 pick_place(struct half_open_set *set, __u64 now)
{
	__u32 place = HALF_OPEN_WAYS;
	UNROLL
	for (int i = HALF_OPEN_WAYS - 1; i >= 0; i--)
		if (!set->tags[i])
			place = i; /* the first: so the hand begins with the oldest */
	if (place < HALF_OPEN_WAYS)
		return place;
	for (int i = 0; i <= HALF_OPEN_WAYS; i++) { /* once round: then the first one is spared no more */
		struct connection *c;
		place = set->hand++ & (HALF_OPEN_WAYS - 1);
		c = &set->at[place].connection;
		if (!c->spared || c->expires < now)
			return place;
		c->spared = 0;
	}
	return place;
}

/*
 * Whoever turns a tag into TAG_TAKEN owns the place until it writes the new tag: no two CPUs write one place, and nobody finds
 * a key before all of its connection stands there. Returns 0, or 1 if other CPUs were faster at every try.
 */
INLINE int put_waiting(void *table, const struct connection_key *key, __u32 hash, const struct connection *c)
{
	struct half_open_set *set = get_set(table, hash);
	if (!set)
		return 1;
	for (int i = 0; i < 4; i++) {
		__u32 place = pick_place(set, c->created) & (HALF_OPEN_WAYS - 1);
		__u32 seen = set->tags[place];
		if (seen == TAG_TAKEN || __sync_val_compare_and_swap(&set->tags[place], seen, TAG_TAKEN) != seen)
			continue;
		set->at[place].key = *key;
		set->at[place].connection = *c;
		__sync_lock_test_and_set(&set->tags[place], hash);
		return 0;
	}
	return 1;
}

#endif
