// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
//go:build ignore

/*
 * filter.c: drop TCP packets of banned sources before they cost anything
 *
 * An XDP program. Of everything that comes in at an interface it drops two
 * things: IP packets whose header contradicts itself (the kernel would drop
 * them a moment later), and TCP packets to a protected port from a source that
 * is banned and not allowed. Everything else passes and is only counted.
 *
 * The way of a packet, and the reason it is counted under when it ends there:
 *
 *   1  Ethernet, up to two VLAN tags      not_ip, vlan (a third tag)
 *   2  IP header: version, lengths        malformed (dropped)
 *   3  the source is of this link only    local
 *   4  walk to the TCP ports              not_tcp; not found: group "unknown"
 *   5  the port's group                   unprotected
 *   6  bans, longest prefix first         clean; no_port in group "unknown"
 *   7  allow, asked for the banned only   allowed
 *   8  observe                            observed, else banned (dropped)
 *
 * A ban ends here, against the kernel's own clock, whether or not anything of
 * ours is alive. User space writes the maps (package firewall/xdp); the layouts
 * below are a contract with it and with maps that outlive an upgrade: a change
 * of meaning needs a new pin directory, not only a new type.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define MAX_VLAN_TAGS 2
#define MAX_EXT_HEADERS 6
#define IP_FRAG_OFFSET 0x1fff /* RFC 791: in units of 8 bytes */
#define IP6_FRAG_OFFSET 0xfff8 /* RFC 8200 section 4.5 */
#define VLAN_HLEN 4
#define PORTS_LEN 4 /* source and destination port lead the TCP header */

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
	REASON_COUNT,
	REASON_LOOK, /* not an end: go on to the bans */
};

/* Bits of cfg. One aligned word, so that a packet sees rules change at once. */
#define CFG_GENERATION 1ULL /* which half of ports and allow is in force */
#define CFG_OBSERVE 2ULL
/* A table that holds nothing is not asked. Set before the first ban goes in. */
#define CFG_BAN4 (1ULL << 8)
#define CFG_BAN128 (1ULL << 9)
#define CFG_BAN64 (1ULL << 10)
#define CFG_BAN56 (1ULL << 11)
#define CFG_BAN48 (1ULL << 12)
#define CFG_PREFIX4 (1ULL << 13)
#define CFG_PREFIX6 (1ULL << 14)

/* What a ban is in every table. */
struct ban {
	__u64 until; /* CLOCK_MONOTONIC, ns */
	__u64 hits;  /* packets it dropped, or would have in observe */
	__u64 first; /* when it dropped the first one, CLOCK_MONOTONIC, ns */
	__u32 bits;  /* prefix length; how prefix_ban goes on to a shorter one */
	__u32 pad;
};

/* Bytes in network order; what lies beyond bits is zero. */
struct ban6_key {
	__u64 hi;
	__u64 lo;
	__u64 bits; /* 128, 64, 56 or 48 */
};

struct prefix4_key {
	__u32 bits;
	__u32 addr;
};

struct prefix6_key {
	__u32 bits;
	__u32 addr[4];
};

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
	__type(key, __u32);
	__type(value, __u64);
} cfg SEC(".maps");

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

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 20);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);
	__type(value, struct ban);
} ban4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 1 << 20);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ban6_key);
	__type(value, struct ban);
} ban6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1 << 14);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix4_key);
	__type(value, struct ban);
} prefix4 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(max_entries, 1 << 14);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct prefix6_key);
	__type(value, struct ban);
} prefix6 SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, REASON_COUNT);
	__type(key, __u32);
	__type(value, __u64);
} counters SEC(".maps");

/* Where reading has got to. left counts to the end of the frame first, then,
 * once an IP header has said so, to the end of the packet: what lies between
 * them is padding, in which a stranger could hide a port number. */
struct cursor {
	void *pos;
	void *end;  /* of what can be read directly */
	__u32 left; /* bytes from pos */
};

/* Who sends, and to which port. A v4 address is addr[0]. */
struct flow {
	__u32 addr[4];
	__u8 family; /* 4 or 6 */
	__u8 found;  /* whether port is known */
	__u16 port;
};

struct vlan_tag {
	__be16 tci;
	__be16 proto;
};

struct ext_header {
	__u8 next;
	__u8 len;
	__be16 frag_off; /* of a fragment header */
};

static __always_inline int readable(const struct cursor *c, __u32 size)
{
	return c->left >= size && c->pos + size <= c->end;
}

static __always_inline void skip(struct cursor *c, __u32 size)
{
	c->pos += size;
	c->left -= size;
}

/* TCP ports at the cursor. A packet too short for them leaves found at 0: a
 * first fragment that hides its port must not get past a ban. */
static __always_inline int read_port(const struct cursor *c, struct flow *f)
{
	if (readable(c, PORTS_LEN)) {
		f->port = bpf_ntohs(((__be16 *)c->pos)[1]);
		f->found = 1;
	}
	return REASON_LOOK;
}

/* 127/8, 169.254/16, 0/8 and what no unicast source can be. */
static __always_inline int local4(__u32 addr)
{
	__u32 a = bpf_ntohl(addr);

	return a >> 24 == 127 || a >> 16 == 0xa9fe || a >> 24 == 0 || a >> 28 >= 0xe;
}

/* ::, ::1, fe80::/10 and ff00::/8. */
static __always_inline int local6(const __u32 *a)
{
	if (!a[0] && !a[1] && !a[2] && bpf_ntohl(a[3]) <= 1)
		return 1;
	return bpf_ntohl(a[0]) >> 22 == 0xfe80 >> 6 || bpf_ntohl(a[0]) >> 24 == 0xff;
}

static __always_inline int read_ip4(struct cursor *c, struct flow *f)
{
	struct iphdr *ip = c->pos;
	__u32 hlen, len;

	if (!readable(c, sizeof(*ip)))
		return REASON_MALFORMED;
	hlen = ip->ihl * 4;
	len = bpf_ntohs(ip->tot_len);
	if (!len) /* an aggregate beyond 64 KiB (BIG TCP): the frame says how long */
		len = c->left;
	if (ip->version != 4 || hlen < sizeof(*ip) || len < hlen || len > c->left)
		return REASON_MALFORMED;
	f->family = 4;
	f->addr[0] = ip->saddr;
	if (local4(ip->saddr))
		return REASON_LOCAL;
	if (ip->protocol != IPPROTO_TCP)
		return REASON_NOT_TCP;
	if (ip->frag_off & bpf_htons(IP_FRAG_OFFSET))
		return REASON_LOOK;
	c->left = len;
	skip(c, hlen);
	return read_port(c, f);
}

static __always_inline int is_extension(__u8 proto)
{
	return proto == IPPROTO_HOPOPTS || proto == IPPROTO_ROUTING || proto == IPPROTO_FRAGMENT ||
	       proto == IPPROTO_DSTOPTS || proto == IPPROTO_AH;
}

/* Length in bytes. RFC 8200 counts eights after the first eight; RFC 4302
 * counts fours and two less. */
static __always_inline __u32 extension_len(__u8 proto, const struct ext_header *h)
{
	if (proto == IPPROTO_FRAGMENT)
		return 8;
	if (proto == IPPROTO_AH)
		return (h->len + 2) * 4;
	return (h->len + 1) * 8;
}

static __always_inline int walk_extensions(struct cursor *c, struct flow *f, __u8 proto)
{
	for (int i = 0; i < MAX_EXT_HEADERS && is_extension(proto); i++) {
		struct ext_header *h = c->pos;
		__u32 len;
		__u8 next;

		if (!readable(c, 8))
			return REASON_LOOK;
		len = extension_len(proto, h);
		next = h->next;
		if (proto == IPPROTO_FRAGMENT && h->frag_off & bpf_htons(IP6_FRAG_OFFSET))
			return next == IPPROTO_TCP || is_extension(next) ? REASON_LOOK : REASON_NOT_TCP;
		if (c->left < len)
			return REASON_LOOK;
		skip(c, len);
		proto = next;
	}
	if (is_extension(proto))
		return REASON_LOOK;
	return proto == IPPROTO_TCP ? read_port(c, f) : REASON_NOT_TCP;
}

static __always_inline int read_ip6(struct cursor *c, struct flow *f)
{
	struct ipv6hdr *ip = c->pos;
	__u32 len;

	if (!readable(c, sizeof(*ip)))
		return REASON_MALFORMED;
	len = bpf_ntohs(ip->payload_len);
	if (!len && ip->nexthdr == IPPROTO_HOPOPTS) /* a jumbogram, RFC 2675 */
		len = c->left - sizeof(*ip);
	if (ip->version != 6 || len > c->left - sizeof(*ip))
		return REASON_MALFORMED;
	f->family = 6;
	__builtin_memcpy(f->addr, &ip->saddr, sizeof(f->addr));
	if (local6(f->addr))
		return REASON_LOCAL;
	skip(c, sizeof(*ip));
	c->left = len;
	return walk_extensions(c, f, ip->nexthdr);
}

static __always_inline int is_vlan(__be16 proto)
{
	return proto == bpf_htons(ETH_P_8021Q) || proto == bpf_htons(ETH_P_8021AD);
}

static __always_inline int read_frame(struct cursor *c, struct flow *f)
{
	struct ethhdr *eth = c->pos;
	__be16 proto;

	if (!readable(c, sizeof(*eth)))
		return REASON_NOT_IP;
	proto = eth->h_proto;
	skip(c, sizeof(*eth));
	for (int i = 0; i < MAX_VLAN_TAGS && is_vlan(proto); i++) {
		if (!readable(c, VLAN_HLEN))
			return REASON_NOT_IP;
		proto = ((struct vlan_tag *)c->pos)->proto;
		skip(c, VLAN_HLEN);
	}
	if (is_vlan(proto))
		return REASON_VLAN;
	if (proto == bpf_htons(ETH_P_IP))
		return read_ip4(c, f);
	return proto == bpf_htons(ETH_P_IPV6) ? read_ip6(c, f) : REASON_NOT_IP;
}

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

/* The coarse clock costs a tenth of the exact one; a tick is at most 10 ms. */
static __always_inline int stands(const struct ban *b)
{
	return b && b->until > bpf_ktime_get_coarse_ns();
}

/* The longest prefix that matches may be over while a shorter one stands, so
 * go on to the next shorter match. Bounded by the number of lengths. */
#define PREFIX_BAN(map, key, max)                                             \
	for (int i = 0; i < (max); i++) {                                     \
		struct ban *b = bpf_map_lookup_elem(&(map), &(key));          \
		if (!b || b->until > bpf_ktime_get_coarse_ns())               \
			return b;                                             \
		if (!b->bits || b->bits > (key).bits)                         \
			return 0;                                             \
		(key).bits = b->bits - 1;                                     \
	}                                                                     \
	return 0

static __always_inline struct ban *prefix4_ban(const struct flow *f)
{
	struct prefix4_key key = { .bits = 32, .addr = f->addr[0] };

	PREFIX_BAN(prefix4, key, 33);
}

static __always_inline struct ban *prefix6_ban(const struct flow *f)
{
	struct prefix6_key key = { .bits = 128 };

	__builtin_memcpy(key.addr, f->addr, sizeof(key.addr));
	PREFIX_BAN(prefix6, key, 129);
}

static __always_inline struct ban *find_ban4(const struct flow *f, __u64 mode)
{
	if (mode & CFG_BAN4) {
		struct ban *b = bpf_map_lookup_elem(&ban4, &f->addr[0]);

		if (stands(b))
			return b;
	}
	return mode & CFG_PREFIX4 ? prefix4_ban(f) : 0;
}

#define LOOK6(flag, h, l, n)                                                  \
	if (mode & (flag)) {                                                  \
		struct ban6_key key = { .hi = (h), .lo = (l), .bits = (n) };  \
		struct ban *b = bpf_map_lookup_elem(&ban6, &key);             \
		if (stands(b))                                                \
			return b;                                             \
	}

static __always_inline struct ban *find_ban6(const struct flow *f, __u64 mode)
{
	__u64 hi, lo;

	__builtin_memcpy(&hi, &f->addr[0], sizeof(hi));
	__builtin_memcpy(&lo, &f->addr[2], sizeof(lo));
	LOOK6(CFG_BAN128, hi, lo, 128)
	LOOK6(CFG_BAN64, hi, 0, 64)
	LOOK6(CFG_BAN56, hi & bpf_cpu_to_be64(~0ULL << 8), 0, 56)
	LOOK6(CFG_BAN48, hi & bpf_cpu_to_be64(~0ULL << 16), 0, 48)
	return mode & CFG_PREFIX6 ? prefix6_ban(f) : 0;
}

/* Whether allow holds the source. Only who is about to be dropped is looked
 * up, so clean traffic does not pay for it. */
static __always_inline int allowed(const struct flow *f, __u64 mode)
{
	struct allow_key key = { .generation = mode & CFG_GENERATION, .family = f->family };

	key.bits = 32 + (f->family == 4 ? 32 : 128);
	__builtin_memcpy(key.addr, f->addr, sizeof(key.addr));
	return bpf_map_lookup_elem(&allow, &key) != 0;
}

/* The first drop is stamped with the exact clock, once in the life of a ban:
 * from the verdict to here is a figure we publish. */
static __always_inline void strike(struct ban *b)
{
	__sync_fetch_and_add(&b->hits, 1);
	if (!b->first)
		__sync_val_compare_and_swap(&b->first, 0, bpf_ktime_get_ns());
}

static __always_inline int judge(const struct flow *f, __u64 mode)
{
	__u8 group = port_group(f, mode);
	struct ban *b;

	if (group == GROUP_NONE)
		return REASON_UNPROTECTED;
	b = f->family == 4 ? find_ban4(f, mode) : find_ban6(f, mode);
	if (!b)
		return group == GROUP_UNKNOWN ? REASON_NO_PORT : REASON_CLEAN;
	if (allowed(f, mode))
		return REASON_ALLOWED;
	strike(b);
	return REASON_BANNED;
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
		.pos = (void *)(long)ctx->data,
		.end = (void *)(long)ctx->data_end,
		.left = bpf_xdp_get_buff_len(ctx),
	};
	struct flow f = {};
	__u32 zero = 0;
	__u64 *word = bpf_map_lookup_elem(&cfg, &zero);
	__u64 mode = word ? *(volatile __u64 *)word : 0;
	int reason = read_frame(&c, &f);
	int drop;

	if (reason == REASON_LOOK)
		reason = judge(&f, mode);
	drop = reason == REASON_BANNED || reason == REASON_MALFORMED;
	if (drop && mode & CFG_OBSERVE) {
		reason = REASON_OBSERVED;
		drop = 0;
	}
	count(reason);
	return drop ? XDP_DROP : XDP_PASS;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
