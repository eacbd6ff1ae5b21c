// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * bans.h: the tables of single bans, made for ten million
 *
 * A table is one array that user space maps into its memory and writes by plain
 * stores. It has three parts, counted in elements of the array:
 *
 *   hint    a word of 64 bits for each bucket
 *   slots   the buckets: 8 bans of IPv4, or 4 of IPv6
 *   hits    of IPv4 only, 4 bytes a slot; a slot of IPv6 has its own
 *
 * The keyed hash of a source names its first bucket, and its tag, a number below
 * 64. Its ban is in the first bucket, or in the second, which lies from the first
 * where the tag says and the other way round. Bit tag of the first bucket's hint
 * is set when there is such a ban: of ten million bans in two million buckets
 * that is one clean source in fourteen, and the others pay for one word.
 *
 * Tables of all sizes stand in an array of maps; cfg says by one word which is
 * in force. One writer fills a new table and then turns to it, so a packet sees
 * the old one or the new one whole. In a table in force the writer sets the hint
 * before the slot and clears it after; it moves a ban by writing the new place,
 * waiting until no packet is under way, and clearing the old one. Package bpf
 * has the writer: bans.go.
 */

/* A ban ends in units of 2^27 ns, an eighth of a second: 32 bits last 18 years
 * after boot, and the last number for ever. */
#define TICK_SHIFT 27
#define FOR_EVER 0xffffffff

#define TABLES 64 /* a size has two places: 2 * log2(buckets), and the next */
#define HINT_LOG 6 /* log2 of the hint's bits for a bucket */
#define SLOTS4 8
#define SLOTS6 4
#define FIRSTS 65536

/* IPv4: a slot is the address, as it is in the packet, and the end. */
struct line4 {
	__u64 word[8];
};

struct slot6 {
	__u64 hi; /* bytes in network order; what lies beyond bits is zero */
	__u64 lo;
	__u64 meta; /* end << 32 | a number that changes with each use of the slot << 8 | bits */
	__u32 hits;
	__u32 pad;
};

union line6 {
	__u64 word[16];
	struct slot6 slot[SLOTS6];
};

/* When a ban dropped its first packet. check is the hash of the ban XOR at, so
 * that a torn stamp, or that of another ban, is told apart. */
struct first {
	__u64 check;
	__u64 at; /* CLOCK_MONOTONIC, ns */
};

#define TABLE(name, line)                                                     \
	struct name {                                                         \
		__uint(type, BPF_MAP_TYPE_ARRAY);                             \
		__uint(max_entries, 1);                                       \
		__uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP);          \
		__uint(key_size, sizeof(__u32));                              \
		__uint(value_size, sizeof(line));                             \
	}

TABLE(table4, struct line4);
TABLE(table6, union line6);

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, TABLES);
	__type(key, __u32);
	__array(values, struct table4);
} ban4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, TABLES);
	__type(key, __u32);
	__array(values, struct table6);
} ban6 SEC(".maps");

/* Of the latest bans that dropped something. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, FIRSTS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct first);
} firsts SEC(".maps");

/* The ban that was found. */
struct found {
	__u32 *hits;
	__u64 hash;
	struct ban *prefix; /* or hits */
};

static __always_inline __u32 now(void)
{
	/* The coarse clock costs a tenth of the exact one; a tick is at most 10 ms. */
	return bpf_ktime_get_coarse_ns() >> TICK_SHIFT;
}

static __always_inline int stands(__u32 end)
{
	return end > now() || end == FOR_EVER;
}

/* Sources choose their addresses, and must not choose where they collide: the
 * factors are secret, and odd, so that no two addresses have the same hash. */
static __always_inline __u64 hash4(__u32 addr, const struct config *c)
{
	__u64 h = addr * c->key[0];

	h ^= h >> 32;
	h *= c->key[1];
	return h ^ h >> 32;
}

static __always_inline __u64 hash6(__u64 hi, __u64 lo, __u32 bits, const struct config *c)
{
	__u64 h = hi * c->key[0];

	h = (h ^ h >> 32) + lo;
	h *= c->key[1];
	h = (h ^ h >> 32) + bits;
	h *= c->key[0];
	return h ^ h >> 32;
}

/* Where in a table to look. */
struct place {
	void *table;
	__u32 buckets;
	__u32 first;
	__u32 second;
	__u32 tag;
};

static __always_inline struct place place(void *table, __u32 which, __u64 hash)
{
	struct place p = { .table = table, .buckets = 1U << (which >> 1 & 31), .tag = hash >> (64 - HINT_LOG) };

	p.first = hash & (p.buckets - 1);
	p.second = (p.first ^ (p.tag + 1) * 0x9e3779b1) & (p.buckets - 1);
	return p;
}

/* The hint; words is how many of them there are in an element. */
static __always_inline int hinted(const struct place *p, __u32 words)
{
	__u32 bit = p->first << HINT_LOG | p->tag;
	__u32 i = bit / 64 / words;
	__u64 *word = bpf_map_lookup_elem(p->table, &i);

	return word && word[bit / 64 % words] >> bit % 64 & 1;
}

/* How many elements the hint has. */
static __always_inline __u32 hint_len(const struct place *p, __u32 words)
{
	return (p->buckets << HINT_LOG) / 64 / words;
}

static __always_inline __u32 *hits4(const struct place *p, __u32 bucket, __u32 slot)
{
	__u32 i = hint_len(p, 8) + p->buckets + bucket / 2;
	__u32 *hits = bpf_map_lookup_elem(p->table, &i);

	if (!hits)
		return 0;
	asm volatile("" : "+r"(hits)); /* or clang adds first, which the verifier refuses */
	return hits + (bucket & 1) * SLOTS4 + slot;
}

static __always_inline __u32 *look4(const struct place *p, __u32 bucket, __u32 addr)
{
	__u32 i = hint_len(p, 8) + bucket;
	struct line4 *line = bpf_map_lookup_elem(p->table, &i);

	if (!line)
		return 0;
#pragma unroll
	for (int n = 0; n < SLOTS4; n++) {
		__u64 slot = *(volatile __u64 *)&line->word[n];

		if (slot >> 32 == addr && stands(slot))
			return hits4(p, bucket, n);
	}
	return 0;
}

static __always_inline int find4(__u32 addr, const struct config *c, __u64 mode, struct found *f)
{
	__u32 which = mode >> CFG_TABLE4 & (TABLES - 1);
	void *table = bpf_map_lookup_elem(&ban4, &which);
	struct place p;

	if (!table)
		return 0;
	f->hash = hash4(addr, c);
	p = place(table, which, f->hash);
	if (!hinted(&p, 8))
		return 0;
	f->hits = look4(&p, p.first, addr);
	if (!f->hits)
		f->hits = look4(&p, p.second, addr);
	return f->hits != 0;
}

/* Every processor orders memory around an atomic operation that returns. */
static __always_inline void fence(struct slot6 *s)
{
	__u32 same = __sync_fetch_and_add(&s->hits, 0);

	asm volatile("" ::"r"(same));
}

/* Whether the slot has held this key all the while: between two keys its number
 * changes. The end may change meanwhile, and the later one counts. Only who is
 * about to be dropped pays for this. */
static __always_inline int held(struct slot6 *s, __u64 hi, __u64 lo, __u32 bits)
{
	__u32 use = *(volatile __u64 *)&s->meta;
	__u64 meta;

	fence(s);
	if (*(volatile __u64 *)&s->hi != hi || *(volatile __u64 *)&s->lo != lo)
		return 0;
	fence(s);
	meta = *(volatile __u64 *)&s->meta;
	return (__u32)meta == use && (__u8)meta == bits && meta >> 32 && stands(meta >> 32);
}

static __always_inline __u32 *look6(const struct place *p, __u32 bucket, __u64 hi, __u64 lo, __u32 bits)
{
	__u32 i = hint_len(p, 16) + bucket;
	union line6 *line = bpf_map_lookup_elem(p->table, &i);

	if (!line)
		return 0;
#pragma unroll
	for (int n = 0; n < SLOTS6; n++) {
		struct slot6 *s = &line->slot[n];

		if (*(volatile __u64 *)&s->hi == hi && *(volatile __u64 *)&s->lo == lo && held(s, hi, lo, bits))
			return &s->hits;
	}
	return 0;
}

static __always_inline int find6(void *table, __u32 which, __u64 hi, __u64 lo, __u32 bits, const struct config *c, struct found *f)
{
	struct place p;

	f->hash = hash6(hi, lo, bits, c);
	p = place(table, which, f->hash);
	if (!hinted(&p, 16))
		return 0;
	f->hits = look6(&p, p.first, hi, lo, bits);
	if (!f->hits)
		f->hits = look6(&p, p.second, hi, lo, bits);
	return f->hits != 0;
}

static __always_inline int find_any6(__u64 hi, __u64 lo, const struct config *c, __u64 mode, struct found *f)
{
	__u32 which = mode >> CFG_TABLE6 & (TABLES - 1);
	void *table = bpf_map_lookup_elem(&ban6, &which);

	if (!table)
		return 0;
	if (mode & CFG_BAN64 && find6(table, which, hi, 0, 64, c, f))
		return 1;
	if (mode & CFG_BAN128 && find6(table, which, hi, lo, 128, c, f))
		return 1;
	if (mode & CFG_BAN56 && find6(table, which, hi & bpf_cpu_to_be64(~0ULL << 8), 0, 56, c, f))
		return 1;
	return mode & CFG_BAN48 && find6(table, which, hi & bpf_cpu_to_be64(~0ULL << 16), 0, 48, c, f);
}

/* The first drop is stamped with the exact clock, once in the life of a ban:
 * from the verdict to here is a figure we publish. A ban that was moved keeps
 * its stamp. */
static __always_inline void stamp(__u64 hash)
{
	__u32 i = hash & (FIRSTS - 1);
	struct first *f = bpf_map_lookup_elem(&firsts, &i);
	__u64 at;

	if (!f || (f->check ^ f->at) == hash)
		return;
	at = bpf_ktime_get_ns();
	f->at = at;
	f->check = hash ^ at;
}

/* hits stops at its largest number. */
static __always_inline void strike(const struct found *f)
{
	if (f->prefix) {
		strike_prefix(f->prefix);
		return;
	}
	if (*(volatile __u32 *)f->hits == ~0U)
		return;
	if (!__sync_fetch_and_add(f->hits, 1))
		stamp(f->hash);
}
