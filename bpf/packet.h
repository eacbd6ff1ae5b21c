// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * packet.h: from an Ethernet frame to who sends, and to which TCP port
 *
 * Every end but REASON_LOOK ends the packet's way; see filter.c.
 */
#define MAX_VLAN_TAGS 2
#define MAX_EXT_HEADERS 6
#define IP_FRAG_OFFSET 0x1fff /* RFC 791: in units of 8 bytes */
#define IP6_FRAG_OFFSET 0xfff8 /* RFC 8200 section 4.5 */
#define VLAN_HLEN 4
#define PORTS_LEN 4 /* source and destination port lead the TCP header */
#define FLAGS_AT 13 /* of the TCP header */
#define TCP_SYN 0x02
#define TCP_ACK 0x10

/* Where reading has got to. left counts to the end of the frame first, then,
 * once an IP header has said so, to the end of the packet: what lies between
 * them is padding, in which a stranger could hide a port number. Of a frame in
 * several pieces it counts the first alone until a header says that there is
 * more: to ask the kernel takes a call, and nearly no frame is one. */
struct cursor {
	struct xdp_md *ctx;
	void *pos;
	void *end;  /* of what can be read directly */
	__u32 left; /* bytes from pos */
	__u32 first; /* bytes of the frame's first piece */
};

/* Who sends, and to which port. A v4 address is addr[0]. */
struct flow {
	__u32 addr[4];
	__u64 mode;  /* cfg.mode, as it was when the packet came */
	__u64 now;   /* the coarse clock, once somebody has asked */
	__u32 local; /* whom it is for; of IPv6 the words XORed */
	__u16 port;
	__u16 from;  /* source port, in network order */
	__u8 family; /* 4 or 6 */
	__u8 found;  /* whether port is known */
	__u8 late;   /* it opens no connection: not a SYN, or not the first fragment */
	__u8 group;  /* of the port */
	__u32 pad;
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

/* left counts to the end of the frame from here on. */
static __always_inline void whole(struct cursor *c)
{
	c->left += bpf_xdp_get_buff_len(c->ctx) - c->first;
}

/* TCP ports at the cursor. A packet too short for them leaves found at 0: a
 * first fragment that hides its port must not get past a ban. */
static __always_inline int read_port(const struct cursor *c, struct flow *f)
{
	if (readable(c, PORTS_LEN)) {
		f->port = bpf_ntohs(((__be16 *)c->pos)[1]);
		f->from = ((__be16 *)c->pos)[0];
		f->found = 1;
	}
	if (readable(c, FLAGS_AT + 1))
		f->late = (((__u8 *)c->pos)[FLAGS_AT] & (TCP_SYN | TCP_ACK)) != TCP_SYN;
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
	if (!len || len > c->left)
		whole(c);
	if (!len) /* an aggregate beyond 64 KiB (BIG TCP): the frame says how long */
		len = c->left;
	if (ip->version != 4 || hlen < sizeof(*ip) || len < hlen || len > c->left)
		return REASON_MALFORMED;
	f->family = 4;
	f->addr[0] = ip->saddr;
	f->local = ip->daddr;
	if (local4(ip->saddr))
		return REASON_LOCAL;
	if (ip->protocol != IPPROTO_TCP)
		return REASON_NOT_TCP;
	if (ip->frag_off & bpf_htons(IP_FRAG_OFFSET)) {
		f->late = 1;
		return REASON_LOOK;
	}
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

#define WALK_ENDS (1 << 16) /* added to a reason */
#define WALK_LATE (1 << 17)

/* Walks extension headers from the first, which is of kind proto and begins at
 * byte at of a frame that has left more: to where the TCP header begins, or to
 * a reason. A function of its own, since few packets have one and the verifier
 * looks at a global function once, not on each way that leads here. */
__attribute__((noinline)) int walk_extensions(struct xdp_md *ctx, __u32 at, __u32 left, __u32 proto)
{
	void *data = (void *)(long)ctx->data, *end = (void *)(long)ctx->data_end;

	for (int i = 0; i < MAX_EXT_HEADERS && is_extension(proto); i++) {
		struct ext_header *h;
		__u32 len;

		if (at > 0x7fff || left < 8)
			return WALK_ENDS | REASON_LOOK;
		h = data + at;
		if ((void *)h + 8 > end)
			return WALK_ENDS | REASON_LOOK;
		if (proto == IPPROTO_FRAGMENT && h->frag_off & bpf_htons(IP6_FRAG_OFFSET)) {
			proto = h->next;
			if (proto == IPPROTO_TCP || is_extension(proto))
				return WALK_ENDS | WALK_LATE | REASON_LOOK;
			return WALK_ENDS | REASON_NOT_TCP;
		}
		len = extension_len(proto, h);
		if (left < len)
			return WALK_ENDS | REASON_LOOK;
		at += len;
		left -= len;
		proto = h->next;
	}
	if (is_extension(proto))
		return WALK_ENDS | REASON_LOOK;
	if (proto != IPPROTO_TCP)
		return WALK_ENDS | REASON_NOT_TCP;
	return at & 0x7fff; /* six headers of 2 KiB are less */
}

static __always_inline int read_ip6(struct cursor *c, struct flow *f)
{
	struct ipv6hdr *ip = c->pos;
	__u32 len, at;
	int end;

	if (!readable(c, sizeof(*ip)))
		return REASON_MALFORMED;
	len = bpf_ntohs(ip->payload_len);
	if ((!len && ip->nexthdr == IPPROTO_HOPOPTS) || len > c->left - sizeof(*ip))
		whole(c);
	if (!len && ip->nexthdr == IPPROTO_HOPOPTS) /* a jumbogram, RFC 2675 */
		len = c->left - sizeof(*ip);
	if (ip->version != 6 || len > c->left - sizeof(*ip))
		return REASON_MALFORMED;
	f->family = 6;
	__builtin_memcpy(f->addr, &ip->saddr, sizeof(f->addr));
	f->local = ip->daddr.in6_u.u6_addr32[0] ^ ip->daddr.in6_u.u6_addr32[1] ^ ip->daddr.in6_u.u6_addr32[2] ^ ip->daddr.in6_u.u6_addr32[3];
	if (local6(f->addr))
		return REASON_LOCAL;
	skip(c, sizeof(*ip));
	c->left = len;
	if (ip->nexthdr == IPPROTO_TCP)
		return read_port(c, f);
	if (!is_extension(ip->nexthdr))
		return REASON_NOT_TCP;
	at = c->pos - (void *)(long)c->ctx->data;
	end = walk_extensions(c->ctx, at, len, ip->nexthdr);
	if (end >= WALK_ENDS) {
		f->late = end & WALK_LATE ? 1 : 0;
		return end & 0xff;
	}
	c->pos = (void *)(long)c->ctx->data + (end & 0x7fff);
	c->left = len - (end - at);
	return read_port(c, f);
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
