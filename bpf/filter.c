// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//go:build ignore

/*
 * filter.c: drop TCP packets of banned sources before they cost anything
 *
 * An XDP program. Of everything that comes in at an interface it drops four
 * things: IP packets whose header contradicts itself (the kernel would drop
 * them a moment later), TCP packets to a protected port from a source that is
 * banned and not allowed, those that open a connection to one from where the
 * operator denies it, and those that open more than a source may. Everything
 * else passes and is only counted.
 *
 * The way of a packet, and the reason it is counted under when it ends there:
 *
 *   1  Ethernet, up to two VLAN tags      not_ip, vlan (a third tag)
 *   2  IP header: version, lengths        malformed (dropped)
 *   3  the source is of this link only    local
 *   4  walk to the TCP ports              not_tcp; not found: group "unknown"
 *   5  the port's group                   unprotected
 *   6  bans, longest prefix first         go on to 9; explained, where a banned
 *                                         source may hear why
 *   7  new connections: where from        go on to 9
 *   8  new connections: how many          go on to 9, else clean; no_port in
 *                                         group "unknown"
 *   9  allow, asked only for who is       allowed
 *      about to be dropped
 *  10  observe                            observed, else banned, geo, syn_limit
 *                                         or flood (dropped)
 *
 * A ban ends here, against the kernel's own clock, whether or not anything of
 * ours is alive. User space writes the maps (package firewall/xdp); the layouts
 * below are a contract with it and with maps that outlive an upgrade: a change
 * of meaning needs a new pin directory, not only a new type.
 *
 * packet.h reads the packet, bans.h and prefixes.h know who is banned,
 * geo.h where sources are, limits.h how much they open; samples.h tells of drops.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

/* Groups of ports. A group that is not 0 is protected. */
#define GROUP_NONE 0
#define GROUP_UNKNOWN 255 /* no port could be read; bans apply */

/* The reasons a packet is counted under; firewall/xdp has their names. */
enum reason {
	REASON_NOT_IP,
	REASON_VLAN,
	REASON_MALFORMED,
	REASON_LOCAL,
	REASON_NOT_TCP,
	REASON_UNPROTECTED,
	REASON_CLEAN,
	REASON_NO_PORT,
	REASON_ALLOWED,
	REASON_OBSERVED,
	REASON_BANNED,
	REASON_GEO,
	REASON_SYN_LIMIT,
	REASON_FLOOD,
	REASON_EXPLAINED,
	REASON_COUNT,
	REASON_LOOK, /* not an end: go on to the bans */
};

/* Bits of cfg.mode. One aligned word, so that a packet sees rules and tables
 * change at once. */
#define CFG_GENERATION 1ULL /* which half of ports and allow is in force */
#define CFG_OBSERVE 2ULL
/* A table that holds nothing is not asked. Set before the first ban goes in. */
#define CFG_BAN4 (1ULL << 8)
#define CFG_BAN128 (1ULL << 9)
#define CFG_BAN64 (1ULL << 10)
#define CFG_BAN56 (1ULL << 11)
#define CFG_BAN48 (1ULL << 12)
#define CFG_BAN6 (CFG_BAN128 | CFG_BAN64 | CFG_BAN56 | CFG_BAN48)
#define CFG_PREFIX4 (1ULL << 13)
#define CFG_PREFIX6 (1ULL << 14)
/* Shifts of 6 bits each: which of the tables is in force. */
#define CFG_TABLE4 16
#define CFG_TABLE6 24
/* Whether a world is loaded, and in which slot. */
#define CFG_GEO (1ULL << 32)
#define CFG_GEO_SLOT (1ULL << 33)
#define CFG_FLOOD (1ULL << 34) /* the flood guard is active */
#define CFG_EXPLAIN (1ULL << 35)

struct config {
	__u64 mode;
	__u64 key[2]; /* of the hash; odd, and the same as long as the tables live */
	__u32 syn_gap;   /* what a SYN costs its source, in units of 2^20 ns; 0: no limit */
	__u32 syn_burst; /* how much of that a source may owe */
	__u32 explain;   /* connections an hour of a banned source, at most 255 */
	__u32 pad;
};

#include "packet.h"
#include "prefixes.h"
#include "bans.h"
#include "geo.h"
#include "samples.h"

/* The four leading bytes always match whole: bits counts them too. */
struct allow_key {
	__u32 bits;
	__u8 generation;
	__u8 family; /* 4 or 6 */
	__u8 pad[2];
	__u32 addr[4];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct config);
} cfg SEC(".maps");

#include "limits.h"

/* Eight ports a word, one byte each: the group. Two generations. */
#define PORT_WORDS (65536 / 8)
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 2 * PORT_WORDS);
	__type(key, __u32);
	__type(value, __u64);
} ports SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 2 * 4096);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct allow_key);
	__type(value, __u32);
} allow SEC(".maps");

/* Before it, as before the tries of prefixes, but a bit for every /16 of IPv4.
 * Of each generation the bits of IPv4, then of IPv6. */
#define ALLOW_WORDS (65536 / 64)
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 4 * ALLOW_WORDS);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, __u64);
} allow_hint SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASON_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

static __always_inline __u8 port_group(const struct flow *f, __u64 mode)
{
	__u32 word = f->port / 8;
	__u64 *groups;

	if (!f->found)
		return GROUP_UNKNOWN;
	if (mode & CFG_GENERATION)
		word += PORT_WORDS;
	groups = bpf_map_lookup_elem(&ports, &word);
	return groups ? *groups >> f->port % 8 * 8 : GROUP_NONE;
}

/* Whether allow holds the source. Only who is about to be dropped is looked
 * up, so clean traffic does not pay for it. */
static __always_inline int allow_holds(const struct flow *f, __u64 mode)
{
	struct allow_key key = { .generation = mode & CFG_GENERATION, .family = f->family };
	__u32 from = (mode & CFG_GENERATION ? 2 * ALLOW_WORDS : 0) + (f->family == 4 ? 0 : ALLOW_WORDS);
	__u32 bit = (f->family == 4 ? bpf_ntohl(f->addr[0]) : hint_hash(f->addr[0])) >> 16;

	if (!hint_has(&allow_hint, from, bit))
		return 0;
	key.bits = 32 + (f->family == 4 ? 32 : 128);
	__builtin_memcpy(key.addr, f->addr, sizeof(key.addr));
	return bpf_map_lookup_elem(&allow, &key) != 0;
}

/* A source as two words. What counts as one is an IPv4 address, or the /64 of
 * an IPv6 address: the first. */
static __always_inline __u64 source_hi(const struct flow *f)
{
	__u64 hi;

	if (f->family == 4)
		return f->addr[0];
	__builtin_memcpy(&hi, f->addr, sizeof(hi));
	return hi;
}

static __always_inline __u64 source_lo(const struct flow *f)
{
	__u64 lo;

	__builtin_memcpy(&lo, &f->addr[2], sizeof(lo));
	return lo;
}

/* Whether the source may be banned. It touches one word of a hint for each
 * length that is banned, all at once: nothing that is read says what to read
 * next. */
static __always_inline __u64 suspected(const struct flow *f, const struct config *c, __u64 mode)
{
	__u64 some = 0;

	if (f->family == 4) {
		if (mode & CFG_BAN4)
			some = hinted(&hint4, mode >> CFG_TABLE4 & (TABLES - 1), hash4(f->addr[0], c));
		if (mode & CFG_PREFIX4)
			some |= prefix4_hinted(f->addr[0]);
		return some;
	}
	some = hinted6(source_hi(f), source_lo(f), c, mode);
	if (mode & CFG_PREFIX6)
		some |= prefix6_hinted(f->addr[0]);
	return some;
}

static __always_inline int find_ban(const struct flow *f, const struct config *c, __u64 mode, struct found *b)
{
	if (f->family == 4) {
		if (mode & CFG_BAN4 && find4(f->addr[0], c, mode, f->now, b))
			return 1;
		b->prefix = mode & CFG_PREFIX4 ? prefix4_ban(f->addr[0], f->now) : 0;
		return b->prefix != 0;
	}
	if (mode & CFG_BAN6 && find6(source_hi(f), source_lo(f), c, mode, f->now, b))
		return 1;
	b->prefix = mode & CFG_PREFIX6 ? prefix6_ban(f->addr, f->now) : 0;
	return b->prefix != 0;
}

/* Whether a banned source is let in to hear why. */
static __always_inline int explained(const struct flow *f, const struct config *c)
{
	__u64 hi = source_hi(f), lo = f->family == 6 ? source_lo(f) : 0;

	if (!f->found)
		return 0;
	return explain_admits(hash6(hi, 0, 64, c), hash6(hi ^ (__u64)f->local << 32, lo ^ ((__u64)f->from << 16 | f->port), 0, c), !f->late);
}

/* Steps 6 and 9 for who is suspected: the reason, or 0 for who is not banned.
 * A function of its own as geo_denied is one. */
__attribute__((noinline)) int condemned(struct flow *f)
{
	__u32 zero = 0;
	struct config *c = bpf_map_lookup_elem(&cfg, &zero);
	struct found b = {};

	if (!f || !c)
		return 0;
	f->now = bpf_ktime_get_coarse_ns();
	if (!find_ban(f, c, f->mode, &b))
		return 0;
	if (allow_holds(f, f->mode))
		return REASON_ALLOWED;
	if (f->mode & CFG_EXPLAIN && explained(f, c))
		return REASON_EXPLAINED;
	strike(&b);
	return REASON_BANNED;
}

/* Step 9 for the others. */
__attribute__((noinline)) int allowed(struct flow *f)
{
	return f && allow_holds(f, f->mode);
}

/* Step 7. Answers to connections of our own are late, so they always return. */
static __always_inline int from_denied(const struct flow *f, __u64 mode)
{
	if (f->late || !(mode & CFG_GEO))
		return 0;
	return geo_denies(f->addr, f->family, f->group, mode & CFG_GEO_SLOT ? 1 : 0);
}

static __always_inline int judge(struct flow *f, const struct config *c, __u64 mode)
{
	int reason = 0;

	f->group = port_group(f, mode);
	if (f->group == GROUP_NONE)
		return REASON_UNPROTECTED;
	f->mode = mode;
	if (suspected(f, c, mode)) {
		reason = condemned(f);
		if (reason)
			return reason;
	}
	if (from_denied(f, mode))
		reason = REASON_GEO;
	else if (f->found && !f->late)
		reason = syn_limited(source_hi(f), f->family == 6, mode);
	if (reason)
		return allowed(f) ? REASON_ALLOWED : reason;
	return f->group == GROUP_UNKNOWN ? REASON_NO_PORT : REASON_CLEAN;
}

static __always_inline void count(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&counters, &reason);

	if (n)
		(*n)++;
}

SEC("xdp.frags")
int mailweir(struct xdp_md *ctx)
{
	struct cursor c = {
		.ctx = ctx,
		.pos = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
	};
	struct flow f = {};
	__u32 zero = 0;
	struct config *config = bpf_map_lookup_elem(&cfg, &zero);
	__u64 mode;
	int reason, drop;

	if (!config) /* never: what the verifier cannot know */
		return XDP_PASS;
	c.left = c.first = c.end - c.pos;
	asm volatile("" : "+r"(c.first)); /* a number from here on, or clang subtracts again, in 32 bits */
	mode = *(volatile __u64 *)&config->mode;
	reason = read_frame(&c, &f);
	if (reason == REASON_LOOK)
		reason = judge(&f, config, mode);
	drop = reason == REASON_MALFORMED || (reason >= REASON_BANNED && reason <= REASON_FLOOD);
	if (drop)
		sample(&f, reason);
	if (drop && mode & CFG_OBSERVE) {
		reason = REASON_OBSERVED;
		drop = 0;
	}
	count(reason);
	return drop ? XDP_DROP : XDP_PASS;
}

/* What geo_kind says of the source of a frame, for who wants to know before a
 * world is put in force: the first byte of the frame is the slot, the source is
 * where a frame without VLAN tags has it. It is never attached. */
SEC("xdp.frags")
int mailweir_geo(struct xdp_md *ctx)
{
	void *pos = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;
	struct ethhdr *eth = pos;
	struct iphdr *ip4 = pos + sizeof(*eth);
	struct ipv6hdr *ip6 = pos + sizeof(*eth);
	__u32 addr[4];

	if ((void *)(ip6 + 1) <= end && eth->h_proto == bpf_htons(ETH_P_IPV6)) {
		__builtin_memcpy(addr, &ip6->saddr, sizeof(addr));
		return geo_kind(geo_half(addr), geo_half(addr + 2), eth->h_dest[0], 1);
	}
	if ((void *)(ip4 + 1) > end)
		return 0;
	return geo_kind(bpf_ntohl(ip4->saddr), 0, eth->h_dest[0], 0);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
