// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * bans.h: the tables of single bans, made for ten million
 *
 * A table is one array that user space maps into its memory and writes by plain
 * stores. Its elements are the buckets: 8 bans of IPv4 with their hits beside
 * them, or 4 of IPv6. Before it stands its hint, a word of 64 bits for each
 * bucket, in pieces of a fixed size: such maps the kernel looks up without a
 * call, and for most packets the hint is all that is looked at.
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
#define HINT_PIECE_LOG 24 /* log2 of the bits of a piece: 2 MiB */
#define HINT_PIECES 64 /* of a table, at most */
#define FIRSTS 65536

/* IPv4: a slot is the address, as it is in the packet, and the end. The hits lie
 * in the same page, and in one of the two cache lines that the slots are in or
 * in the next: who is banned is not waited for twice. */
struct line4 {
	__u64 word[SLOTS4];
	__u32 hits[SLOTS4];
};

struct key6 {
	__u64 hi;
	__u64 lo;
	__u32 bits;
	__u64 flag; /* the bit of cfg.mode that says whether there are any */
};

struct slot6 {
	__u64 hi; /* bytes in network order; what lies beyond bits is zero */
	__u64 lo;
	__u64 meta; /* end << 32 | a number that changes with each use of the slot << 8 | bits */
	__u32 hits;
	__u32 pad;
};

struct line6 {
	struct slot6 slot[SLOTS6];
};

struct hint_piece {
	__u64 word[(1 << HINT_PIECE_LOG) / 64];
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
TABLE(table6, struct line6);

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

struct hint_table {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct hint_piece));
};

/* The pieces of the tables, by the place of the table and then in order. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, TABLES * HINT_PIECES);
	__type(key, __u32);
	__array(values, struct hint_table);
} hint4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, TABLES * HINT_PIECES);
	__type(key, __u32);
	__array(values, struct hint_table);
} hint6 SEC(".maps");

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

/* The coarse clock costs a tenth of the exact one; a tick is at most 10 ms. */
static __always_inline int stands(__u32 end, __u64 now)
{
	return end > (__u32)(now >> TICK_SHIFT) || end == FOR_EVER;
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
	__u32 first;
	__u32 second;
	__u32 tag;
};

/* which is the place of the table in the array of tables, which says its size. */
static __always_inline struct place place(__u32 which, __u64 hash)
{
	struct place p = { .tag = hash >> (64 - HINT_LOG) };
	__u32 mask = (1U << (which >> 1 & 31)) - 1;

	p.first = hash & mask;
	p.second = (p.first ^ ((p.tag + 1) * 0x9e3779b1 | 1)) & mask;
	return p;
}

/* Whether a ban with this hash may be in a table: 0 when there is none. */
static __always_inline __u64 hinted(void *pieces, __u32 which, __u64 hash)
{
	struct place p = place(which, hash);
	__u64 bit = (__u64)p.first << HINT_LOG | p.tag;
	__u32 i = which * HINT_PIECES + (bit >> HINT_PIECE_LOG & (HINT_PIECES - 1)), zero = 0;
	void *piece = bpf_map_lookup_elem(pieces, &i);
	struct hint_piece *h = piece ? bpf_map_lookup_elem(piece, &zero) : 0;

	return h ? h->word[bit / 64 & ((1 << HINT_PIECE_LOG) / 64 - 1)] >> (bit & 63) & 1 : 0;
}

/* All ones where x is 0, a number below 2^63, else 0: for choosing without a
 * branch that nobody can predict, and the verifier has to follow. */
static __always_inline __u64 if_zero(__u64 x)
{
	return -((x - 1) >> 63);
}

/* Makes n less than max, a power of two. It is so already; but clang, which
 * knows, leaves out what would tell the verifier. */
#define BOUND(n, max) asm volatile("%0 &= %1" : "+r"(n) : "i"((max) - 1))

static __always_inline __u32 *look4(void *table, __u32 bucket, __u32 addr, __u64 now)
{
	struct line4 *line = bpf_map_lookup_elem(table, &bucket);
	__u64 found = 0, at = 0;
	__u32 early;

	if (!line)
		return 0;
	early = *(volatile __u32 *)&line->hits[0]; /* on its way while we compare */
	asm volatile("" ::"r"(early));
#pragma unroll
	for (int n = 0; n < SLOTS4; n++) { /* in a bucket there is one ban of an address */
		__u64 slot = *(volatile __u64 *)&line->word[n], same = if_zero(slot >> 32 ^ addr);

		found |= slot & same;
		at |= n & same;
	}
	BOUND(at, SLOTS4);
	return stands(found, now) ? line->hits + at : 0;
}

static __always_inline int find4(__u32 addr, const struct config *c, __u64 mode, __u64 now, struct found *f)
{
	__u32 which = mode >> CFG_TABLE4 & (TABLES - 1);
	void *table = bpf_map_lookup_elem(&ban4, &which);
	struct place p;

	if (!table)
		return 0;
	f->hash = hash4(addr, c);
	p = place(which, f->hash);
	f->hits = look4(table, p.first, addr, now);
	if (!f->hits)
		f->hits = look4(table, p.second, addr, now);
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
static __always_inline int held(struct slot6 *s, __u64 hi, __u64 lo, __u32 bits, __u64 now)
{
	__u32 use = *(volatile __u64 *)&s->meta;
	__u64 meta;

	fence(s);
	if (*(volatile __u64 *)&s->hi != hi || *(volatile __u64 *)&s->lo != lo)
		return 0;
	fence(s);
	meta = *(volatile __u64 *)&s->meta;
	return (__u32)meta == use && (__u8)meta == bits && meta >> 32 && stands(meta >> 32, now);
}

static __always_inline __u32 *look6(void *table, __u32 bucket, const struct key6 *k, __u64 now)
{
	struct line6 *line = bpf_map_lookup_elem(table, &bucket);
	__u64 at = 0, some = 0;
	struct slot6 *s;

	if (!line)
		return 0;
#pragma unroll
	for (int n = 0; n < SLOTS6; n++) {
		__u64 meta, same;

		s = &line->slot[n];
		meta = *(volatile __u64 *)&s->meta;
		same = (*(volatile __u64 *)&s->hi ^ k->hi) | (*(volatile __u64 *)&s->lo ^ k->lo) | (__u8)(meta ^ k->bits);
		same = if_zero((same | same << 32) >> 32) & -(__u64)(meta >> 32 != 0);
		some |= same;
		at |= n & same;
	}
	BOUND(at, SLOTS6);
	s = line->slot + at;
	return some && held(s, k->hi, k->lo, k->bits, now) ? &s->hits : 0;
}

/* The prefixes of a source that may be banned, the most frequent first. */
static __always_inline struct key6 key6(__u64 hi, __u64 lo, int n)
{
	switch (n) {
	case 0:
		return (struct key6){ hi, 0, 64, CFG_BAN64 };
	case 1:
		return (struct key6){ hi, lo, 128, CFG_BAN128 };
	case 2:
		return (struct key6){ hi & bpf_cpu_to_be64(~0ULL << 8), 0, 56, CFG_BAN56 };
	default:
		return (struct key6){ hi & bpf_cpu_to_be64(~0ULL << 16), 0, 48, CFG_BAN48 };
	}
}

#define LENGTHS6 4

static __always_inline __u64 hinted6(__u64 hi, __u64 lo, const struct config *c, __u64 mode)
{
	__u32 which = mode >> CFG_TABLE6 & (TABLES - 1);
	__u64 some = 0;

#pragma unroll
	for (int n = 0; n < LENGTHS6; n++) {
		struct key6 k = key6(hi, lo, n);

		if (mode & k.flag)
			some |= hinted(&hint6, which, hash6(k.hi, k.lo, k.bits, c));
	}
	return some;
}

static __always_inline int find6(__u64 hi, __u64 lo, const struct config *c, __u64 mode, __u64 now, struct found *f)
{
	__u32 which = mode >> CFG_TABLE6 & (TABLES - 1);
	void *table = bpf_map_lookup_elem(&ban6, &which);

	if (!table)
		return 0;
	for (int n = 0; n < LENGTHS6; n++) {
		struct key6 k = key6(hi, lo, n);
		struct place p;

		if (!(mode & k.flag))
			continue;
		f->hash = hash6(k.hi, k.lo, k.bits, c);
		if (!hinted(&hint6, which, f->hash))
			continue;
		p = place(which, f->hash);
		f->hits = look6(table, p.first, &k, now);
		if (!f->hits)
			f->hits = look6(table, p.second, &k, now);
		if (f->hits)
			return 1;
	}
	return 0;
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
