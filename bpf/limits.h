// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * limits.h: how many connections a source may open, and how many a banned one
 *
 * Both count in cells of fixed memory that a keyed hash chooses, so that nobody
 * can fill them and nobody can choose with whom he shares one. A cell belongs to
 * one source at a time.
 *
 * SYNs: a cell that belongs to another is taken over. A flood of made-up sources
 * thus makes the limit lenient and never shuts out who sent nothing: a SYN proves
 * no address, so that it is dropped, and earns nothing more. While the flood
 * guard is active, which user space says, a whole /24 or /48 has a cell too.
 *
 * The explain lane: a banned source may open so many connections an hour, to
 * hear why. There a cell stays with its owner until the hour is over: who finds
 * it taken stays dropped, as without the lane. What is admitted is one
 * connection by its four numbers, for a minute.
 */
#define MS_SHIFT 20 /* 2^20 ns, about a millisecond */
#define SYN_CELLS (1 << 17)
#define SYN_WIDE_CELLS (1 << 15)
#define SYN_OWNER 40 /* shift: below it the moment from which nothing is owed */
#define EXPLAIN_CELLS (1 << 16)
#define HOUR (3600000000000ULL >> TICK_SHIFT)
#define MINUTE (60000000000ULL >> TICK_SHIFT)

/* Cells of sources, then those of networks. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SYN_CELLS + SYN_WIDE_CELLS);
	__type(key, __u32);
	__type(value, __u64);
} syn SEC(".maps");

/* Connections opened to protected ports, by who is neither banned nor denied:
 * what the flood guard looks at. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} syns SEC(".maps");

/* Cells of sources: owner << 40 | connections << 32 | end of the hour; then of
 * connections: owner << 32 | end of the minute. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * EXPLAIN_CELLS);
	__type(key, __u32);
	__type(value, __u64);
} explain SEC(".maps");

/* Whether one more SYN is too many for the owner of a cell, by the time that it
 * owes: each SYN adds gap, and burst is how much may be owed. */
static __always_inline int syn_over(__u32 cell, __u64 hash, __u64 gap, __u64 burst)
{
	__u64 now = bpf_ktime_get_coarse_ns() >> MS_SHIFT, owner = hash >> SYN_OWNER, free = 0;
	__u64 *word = bpf_map_lookup_elem(&syn, &cell);

	if (!word)
		return 0;
	if (*word >> SYN_OWNER == owner)
		free = *word & ((1ULL << SYN_OWNER) - 1);
	if (free < now)
		free = now;
	if (free - now > burst)
		return 1;
	*word = owner << SYN_OWNER | (free + gap);
	return 0;
}

/* Whether a SYN is one too many for its source, or, while the flood guard is
 * active, for its network: the reason, or 0. hi is the IPv4 address, or the
 * first half of the IPv6 address, in network order. */
static __always_inline int syn_limited(__u64 hi, int v6, __u64 mode)
{
	__u32 zero = 0;
	struct config *c = bpf_map_lookup_elem(&cfg, &zero);
	__u64 *n = bpf_map_lookup_elem(&syns, &zero);
	__u64 hash;

	if (n)
		(*n)++;
	if (!c || !c->syn_gap)
		return 0;
	hash = hash6(hi, 0, v6 ? 64 : 32, c);
	if (syn_over(hash & (SYN_CELLS - 1), hash, c->syn_gap, c->syn_burst))
		return REASON_SYN_LIMIT;
	if (!(mode & CFG_FLOOD))
		return 0;
	hi &= bpf_cpu_to_be64(~0ULL << 16);
	if (!v6) /* the address lies in the low half of the word */
		hash = hash6(bpf_htonl(bpf_ntohl((__u32)hi) & 0xffffff00), 0, 24, c);
	else
		hash = hash6(hi, 0, 48, c);
	/* Four times what one source may. */
	return syn_over(SYN_CELLS + (hash & (SYN_WIDE_CELLS - 1)), hash, c->syn_gap / 4 ?: 1, c->syn_burst) ? REASON_FLOOD : 0;
}

/* Whether a connection of a banned source was admitted, or is now. */
__attribute__((noinline)) int explain_admits(__u64 source, __u64 flow, __u32 opens)
{
	__u32 tick = bpf_ktime_get_coarse_ns() >> TICK_SHIFT, zero = 0;
	__u32 at = EXPLAIN_CELLS + (flow & (EXPLAIN_CELLS - 1));
	__u64 *admitted = bpf_map_lookup_elem(&explain, &at), *cell, old, made;
	struct config *c = bpf_map_lookup_elem(&cfg, &zero);

	if (!admitted || !c)
		return 0;
	if (*admitted >> 32 == flow >> 32 && (__u32)*admitted > tick)
		return 1;
	at = source & (EXPLAIN_CELLS - 1);
	cell = bpf_map_lookup_elem(&explain, &at);
	if (!opens || !cell)
		return 0;
	old = *(volatile __u64 *)cell;
	made = 1ULL << 32 | (__u32)(tick + HOUR);
	if ((__u32)old > tick) {
		if (old >> 40 != source >> 40 || (__u8)(old >> 32) >= c->explain)
			return 0;
		made = (old & 0xffffffffffULL) + (1ULL << 32);
	}
	made |= source >> 40 << 40;
	if (__sync_val_compare_and_swap(cell, old, made) != old)
		return 0;
	*admitted = flow >> 32 << 32 | (__u32)(tick + MINUTE);
	return 1;
}
