// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * samples.h: a few of the packets that are dropped, for who wants to see whom
 *
 * Each processor tells of one drop in about four milliseconds at the most, and
 * of none when nobody reads: a flood must not pay for its own description.
 */
#define SAMPLE_SHIFT 22

struct sample {
	__u32 addr[4];
	__u16 port; /* 0: not known */
	__u8 family;
	__u8 reason;
	__u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 16);
} samples SEC(".maps");

/* When the last one was told, in units of 2^SAMPLE_SHIFT ns. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} sampled SEC(".maps");

static __always_inline void sample(const struct flow *f, __u8 reason)
{
	__u64 now = (f->now ?: bpf_ktime_get_coarse_ns()) >> SAMPLE_SHIFT;
	__u32 zero = 0;
	__u64 *last = bpf_map_lookup_elem(&sampled, &zero);
	struct sample s = { .port = f->port, .family = f->family, .reason = reason };

	if (!last || *last == now)
		return;
	*last = now;
	__builtin_memcpy(s.addr, f->addr, sizeof(s.addr));
	bpf_ringbuf_output(&samples, &s, sizeof(s), BPF_RB_NO_WAKEUP);
}
