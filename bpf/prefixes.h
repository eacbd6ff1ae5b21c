// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * prefixes.h: bans of prefixes that have no table of their own, a few thousand
 *
 * A trie costs a tenth of a microsecond and more, so a bitmap stands before each:
 * a bit for every /20 of IPv4, and for a hash of every /32 of IPv6. A bit is set
 * when a prefix touches what it stands for.
 */
#define MAX_PREFIXES (1 << 14)
#define HINT_BITS (1 << 20)
#define HINT_WORDS (HINT_BITS / 64)

struct ban {
	__u64 until; /* CLOCK_MONOTONIC, ns */
	__u64 hits;  /* packets it dropped, or would have in observe */
	__u64 first; /* when it dropped the first one, CLOCK_MONOTONIC, ns */
	__u32 bits;  /* prefix length; how prefix_ban goes on to a shorter one */
	__u32 pad;
};

struct prefix4_key {
	__u32 bits;
	__u32 addr;
};

struct prefix6_key {
	__u32 bits;
	__u32 addr[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, MAX_PREFIXES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix4_key);
	__type(value, struct ban);
} prefix4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, MAX_PREFIXES);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix6_key);
	__type(value, struct ban);
} prefix6 SEC(".maps");

/* The bitmaps: of IPv4, then of IPv6. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * HINT_WORDS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} prefix_hint SEC(".maps");

/* Whether a bitmap that begins at word from has a bit. */
static __always_inline int hint_has(void *map, __u32 from, __u32 bit)
{
	__u32 i = from + bit / 64;
	__u64 *word = bpf_map_lookup_elem(map, &i);

	return word && *word >> bit % 64 & 1;
}

/* The longest prefix that matches may be over while a shorter one stands, so
 * go on to the next shorter match. Bounded by the number of lengths. */
#define PREFIX_BAN(map, key, max, now)                                            \
	for (int i = 0; i < (max); i++) {                                     \
		struct ban *b = bpf_map_lookup_elem(&(map), &(key));          \
		if (!b || b->until > (now))                                     \
			return b;                                             \
		if (!b->bits || b->bits > (key).bits)                         \
			return 0;                                             \
		(key).bits = b->bits - 1;                                     \
	}                                                                     \
	return 0

static __always_inline __u32 hint_hash(__u32 top)
{
	return bpf_ntohl(top) * 0x9e3779b1U;
}

static __always_inline int prefix4_hinted(__u32 addr)
{
	return hint_has(&prefix_hint, 0, bpf_ntohl(addr) >> 12);
}

static __always_inline struct ban *prefix4_ban(__u32 addr, __u64 now)
{
	struct prefix4_key key = { .bits = 32, .addr = addr };

	if (!prefix4_hinted(addr))
		return 0;
	PREFIX_BAN(prefix4, key, 33, now);
}

static __always_inline int prefix6_hinted(__u32 top)
{
	return hint_has(&prefix_hint, HINT_WORDS, hint_hash(top) >> 12);
}

static __always_inline struct ban *prefix6_ban(const __u32 *addr, __u64 now)
{
	struct prefix6_key key = { .bits = 128 };

	if (!prefix6_hinted(addr[0]))
		return 0;
	__builtin_memcpy(key.addr, addr, sizeof(key.addr));
	PREFIX_BAN(prefix6, key, 129, now);
}

static __always_inline void strike_prefix(struct ban *b)
{
	__sync_fetch_and_add(&b->hits, 1);
	if (!b->first)
		__sync_val_compare_and_swap(&b->first, 0, bpf_ktime_get_ns());
}
