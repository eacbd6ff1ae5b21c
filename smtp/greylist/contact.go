package greylist

import (
	"encoding/binary"
	"net/netip"
	"strings"

	"github.com/dchest/siphash"
	"golang.org/x/net/publicsuffix"
)

// Contact is one recipient of a message that is offered.
type Contact struct {
	Pool      string // who sends, see PoolOf
	HELO      string // a HELO name that resolves to the peer; "" where it does not
	Sender    string // as given, without brackets; "" is the null sender
	Recipient string
}

// Identity is what is known of the host at the other end.
type Identity struct {
	Peer netip.Addr
	// SPFDomain is the sender's domain, where SPF passes for it through a
	// network no wider than /16 (IPv6: /32), and not by all.
	SPFDomain string
	// Name is the host's confirmed name, where it is its own: neither made of
	// its address nor one of a line.
	Name string
}

// PoolOf is the widest proven identity of a host.
func PoolOf(id Identity) string {
	switch {
	case id.SPFDomain != "":
		return "spf:" + Organisation(id.SPFDomain)
	case id.Name != "":
		return "name:" + Organisation(id.Name)
	}
	bits := 64
	if id.Peer = id.Peer.Unmap(); id.Peer.Is4() {
		bits = 24
	}
	p, err := id.Peer.Prefix(bits)
	if err != nil {
		return "addr:" // no address, no pool but that of all such
	}
	return "addr:" + p.String()
}

// Organisation is the domain that was registered: the public suffix and one
// label more, in lower case. A name that is a public suffix itself, or none at
// all, is its own.
func Organisation(name string) string {
	name = strings.ToLower(strings.TrimSuffix(name, "."))
	if d, err := publicsuffix.EffectiveTLDPlusOne(name); err == nil {
		return d
	}
	return name
}

// keys are the names of the triple: the second only where HELO gives one.
func (c Contact) keys(seed [16]byte) []Key {
	sender, to := Canonical(c.Sender), strings.ToLower(c.Recipient)
	keys := []Key{hash(seed, "pool", c.Pool, sender, to)}
	if c.HELO != "" {
		keys = append(keys, hash(seed, "helo", domainOf(sender), Organisation(c.HELO), to))
	}
	return keys
}

func domainOf(mailbox string) string { return mailbox[strings.LastIndexByte(mailbox, '@')+1:] }

// hash of parts, each with its length before it, so that no two lists of parts
// are the same bytes.
func hash(seed [16]byte, parts ...string) (k Key) {
	var b []byte
	for _, p := range parts {
		b = append(binary.AppendUvarint(b, uint64(len(p))), p...)
	}
	hi, lo := siphash.Hash128(binary.LittleEndian.Uint64(seed[:]), binary.LittleEndian.Uint64(seed[8:]), b)
	binary.LittleEndian.PutUint64(k[:], hi)
	binary.LittleEndian.PutUint64(k[8:], lo)
	return k
}

// Canonical is a sender without what changes from mail to mail, in lower case:
//
//	user+tag@…                      the tag (RFC 5233)
//	prvs=1234abcdef=user@…          the signature (BATV)
//	SRS0=hash=day=domain=user@…     hash and day; SRS1 likewise
//	list-return-4711-anna=b.c@…     numbers, and the recipient inside (VERP)
//
// It is the same for the retries of one mail, and hardly ever for two people.
func Canonical(sender string) string {
	sender = strings.ToLower(sender)
	at := strings.LastIndexByte(sender, '@')
	if at < 0 {
		return sender
	}
	return canonicalLocal(sender[:at]) + sender[at:]
}

func canonicalLocal(local string) string {
	if rest, ok := strings.CutPrefix(local, "prvs="); ok {
		if _, user, ok := strings.Cut(rest, "="); ok {
			local = user
		}
	}
	if srs := strings.HasPrefix(local, "srs0") || strings.HasPrefix(local, "srs1"); srs && len(local) > 4 && strings.IndexByte("=+-", local[4]) >= 0 {
		return local[:4] + "=" + original(local[5:])
	}
	if user, _, ok := strings.Cut(local, "+"); ok && user != "" {
		local = user
	}
	if list, _, ok := strings.Cut(local, "="); ok { // anna=b.c behind the last dash
		if dash := strings.LastIndexAny(list, "-+"); dash > 0 {
			local = list[:dash+1] + "#"
		}
	}
	return numbers(local)
}

// original is whom an SRS address was made for: the domain and the user that
// stand last in hash=day=domain=user, and in forwarder==hash=day=domain=user.
func original(s string) string {
	fields := strings.Split(s, "=")
	return strings.Join(fields[max(0, len(fields)-2):], "=")
}

// numbers replaces by # the tokens that differ from mail to mail: numbers, and
// where one token is long and has digits among its letters, all that have some.
func numbers(local string) string {
	random := false
	for token := range strings.FieldsFuncSeq(local, endsToken) {
		random = random || len(token) >= longToken && digits(token) > 2
	}
	var b strings.Builder
	for local != "" {
		end := strings.IndexFunc(local, endsToken)
		if end < 0 {
			end = len(local)
		}
		token := local[:end]
		if n := digits(token); n > 0 && (n == len(token) || random) {
			token = "#"
		}
		b.WriteString(token)
		if end < len(local) {
			b.WriteByte(local[end])
			end++
		}
		local = local[end:]
	}
	return b.String()
}

// longToken is longer than the names that people have with a number in them.
const longToken = 12

func endsToken(r rune) bool { return strings.ContainsRune("-._=", r) }

func digits(token string) (n int) {
	for i := range len(token) {
		if '0' <= token[i] && token[i] <= '9' {
			n++
		}
	}
	return n
}
