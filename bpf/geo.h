// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * geo.h: where a source is, and whether new connections from there are dropped
 *
 * The whole world is loaded as one value, struct geo_world, which package geo
 * compiles from a database and user space writes whole into the slot that is
 * not in force; a bit of cfg then turns to it. Of an address it tells a kind:
 * the country's class in the low half and, in the high half, a network that a
 * rule names (an autonomous system), or 0. Classes are the same for ever; the
 * numbers of networks are those of one world, so each slot has a half of the
 * rows behind GEO_CLASSES for its own.
 *
 * What happens to a class is one word in class_action: bit g is set when new
 * connections to ports of group g are dropped. A country is switched by one
 * store.
 *
 * IPv4: one byte for each /16, and where that is not of one kind one for each
 * /24, names one of the 254 most frequent kinds, or says that the /24 is looked
 * up in split4. IPv6: a bounded binary search in sorted
 * runs of /64s, and for the few /64s that are split another one.
 */
#define GEO_CLASSES 2048
#define GEO_NETWORKS 1024 /* of a slot; the first number is not used */
#define GEO_ROWS (GEO_CLASSES + 2 * GEO_NETWORKS)
#define GEO_SPLIT_BYTE 255
#define GEO_MIXED_BYTE 254
#define GEO_SPLIT_KIND 0xffffffff
#define GEO_SPLITS (1 << 18)
#define GEO_RUNS6 (1 << 20)
#define GEO_DEEP6 (1 << 16)
#define GEO_BUCKETS (1 << 16)
#define GEO_BUCKETS6 (1 << 20)

struct geo_run4 {
	__u32 start;
	__u32 kind;
};

struct geo_deep6 {
	__u64 hi;
	__u64 lo;
	__u64 kind;
};

struct geo_world {
	__u8 v4[1 << 24];
	__u8 wide4[1 << 16];
	__u32 kinds[256];
	__u32 index4[GEO_BUCKETS + 2]; /* by /16: the run its first address is in */
	struct geo_run4 split4[GEO_SPLITS];
	__u32 index6[GEO_BUCKETS6 + 2]; /* likewise, by bits 3 to 22 within 2000::/3 */
	__u64 start6[GEO_RUNS6];
	__u32 kind6[GEO_RUNS6];
	struct geo_deep6 deep6[GEO_DEEP6];
	__u32 count6;
	__u32 count_deep6;
};

struct geo_count {
	__u64 seen;   /* new connections to protected ports, banned sources aside */
	__u64 denied; /* of these, by a rule on this class; observed ones too */
};

struct geo_slot {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct geo_world));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, 2);
	__type(key, __u32);
	__array(values, struct geo_slot);
} geo SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, GEO_ROWS);
	__type(key, __u32);
	__type(value, __u64);
} class_action SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, GEO_ROWS);
	__type(key, __u32);
	__type(value, struct geo_count);
} class_count SEC(".maps");

/* The last of `low` and the `left` behind it that begins at or before what is
 * looked for; low does. Bounded by the bits of a table's size. */
#define GEO_SEARCH(low, left, bits, begins)                                   \
	for (int step = 0; step < (bits) && left; step++) {                   \
		__u32 half = (left + 1) / 2;                                  \
		__u32 at = (low + half) & ((1U << (bits)) - 1);               \
		if (begins) {                                                 \
			low = at;                                             \
			left -= half;                                         \
		} else {                                                      \
			left = half - 1;                                      \
		}                                                             \
	}

static __always_inline __u32 geo_kind4(const struct geo_world *w, __u32 addr)
{
	__u8 place = w->wide4[addr >> 16];
	__u32 low, left;

	if (place == GEO_MIXED_BYTE)
		place = w->v4[addr >> 8];
	if (place != GEO_SPLIT_BYTE)
		return w->kinds[place];
	low = w->index4[addr >> 16];
	left = w->index4[(addr >> 16) + 1] - low;
	GEO_SEARCH(low, left, 18, w->split4[at].start <= addr)
	return w->split4[low & (GEO_SPLITS - 1)].kind;
}

static __always_inline __u32 geo_deep(const struct geo_world *w, __u64 hi, __u64 lo)
{
	__u32 low = 0, left = w->count_deep6 - 1;

	GEO_SEARCH(low, left, 16, w->deep6[at].hi < hi || (w->deep6[at].hi == hi && w->deep6[at].lo <= lo))
	return w->deep6[low & (GEO_DEEP6 - 1)].kind;
}

static __always_inline __u32 geo_kind6(const struct geo_world *w, __u64 hi, __u64 lo)
{
	__u32 low = 0, left = w->count6 - 1, kind;

	if (hi >> 61 == 1) {
		__u32 bucket = hi >> 41 & (GEO_BUCKETS6 - 1);

		low = w->index6[bucket];
		left = w->index6[bucket + 1] - low;
	}
	GEO_SEARCH(low, left, 20, w->start6[at] <= hi)
	kind = w->kind6[low & (GEO_RUNS6 - 1)];
	return kind == GEO_SPLIT_KIND ? geo_deep(w, hi, lo) : kind;
}

/* The kind of a source in the world of a slot: an IPv4 address in hi, an IPv6
 * address in both. */
static __always_inline __u32 geo_kind(__u64 hi, __u64 lo, __u32 slot, int v6)
{
	const struct geo_world *w;
	__u32 zero = 0;
	void *world = bpf_map_lookup_elem(&geo, &slot);

	if (!world)
		return 0;
	w = bpf_map_lookup_elem(world, &zero);
	if (!w)
		return 0;
	return v6 ? geo_kind6(w, hi, lo) : geo_kind4(w, hi);
}

/* Whether the rule of a row is against this group. A packet that hides its port
 * may be for any. */
static __always_inline int geo_row_denies(__u32 row, __u8 group)
{
	__u64 *action = bpf_map_lookup_elem(&class_action, &row);

	if (!action || !*action)
		return 0;
	return group > 63 || *action >> group & 1;
}

static __always_inline int geo_count(__u32 row, int denies)
{
	struct geo_count *n = bpf_map_lookup_elem(&class_count, &row);

	if (n) {
		n->seen++;
		n->denied += denies;
	}
	return denies;
}

/* What geo_denied wants to know besides the address. */
#define GEO_ASK_GROUP 0xff
#define GEO_ASK_SLOT 0x100
#define GEO_ASK_V6 0x200

/* Whether new connections from a source are dropped. The country comes first;
 * the class that decides is the one that counts. Not inlined: the verifier
 * looks at a global function once, and not on each way that leads here. */
__attribute__((noinline)) int geo_denied(__u64 hi, __u64 lo, __u32 ask)
{
	__u32 slot = ask & GEO_ASK_SLOT ? 1 : 0;
	__u32 kind = geo_kind(hi, lo, slot, ask & GEO_ASK_V6);
	__u32 class = kind & 0xffff, network = kind >> 16;
	__u8 group = ask & GEO_ASK_GROUP;

	if (geo_count(class, geo_row_denies(class, group)))
		return 1;
	if (!network)
		return 0;
	network += GEO_CLASSES + slot * GEO_NETWORKS;
	return geo_count(network, geo_row_denies(network, group));
}

static __always_inline __u64 geo_half(const __u32 *addr)
{
	return (__u64)bpf_ntohl(addr[0]) << 32 | bpf_ntohl(addr[1]);
}

/* The same for an address in network order, as it is in a packet. */
static __always_inline int geo_denies(const __u32 *addr, __u8 family, __u8 group, __u32 slot)
{
	__u32 ask = group | (slot ? GEO_ASK_SLOT : 0);

	if (family == 4)
		return geo_denied(bpf_ntohl(addr[0]), 0, ask);
	return geo_denied(geo_half(addr), geo_half(addr + 2), ask | GEO_ASK_V6);
}
