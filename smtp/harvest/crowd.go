package harvest

import (
	"encoding/binary"
	"strings"

	"mailweir/smtp"
)

const (
	maxCrowds = 1 << 14

	// A crowd is hot when members of it guess as one source may not: many
	// addresses of one ASN, or that say one name in HELO. Both have innocents in
	// them, so that it takes more than a network does, and costs less: its
	// strangers are looked at as if all they name were under attack.
	membersOfHELO, membersOfASN = 10, 20
	timesOfASN                  = 4
	shareOfASN                  = 0.9
)

// crowdKey is a key that no source and no network has: it begins as a multicast
// address does.
func crowdKey(kind byte, of uint64) (k key) {
	k[0], k[1] = 0xff, kind
	binary.BigEndian.PutUint64(k[8:], of)
	return k
}

func (k key) isCrowd() bool { return k[0] == 0xff }

// crowdsOf are the crowds of a source (R-BX-13). An address literal names
// nobody but the source.
func (w *engine) crowdsOf(src *smtp.Source) (list [2]key, n int) {
	if h := src.HELO; h != "" && h[0] != '[' {
		list[n] = crowdKey('h', w.hash(strings.ToLower(strings.TrimSuffix(h, "."))))
		n++
	}
	if src.ASN != 0 {
		list[n] = crowdKey('a', uint64(src.ASN))
		n++
	}
	return list, n
}

// tellCrowds enters a recipient of a stranger. A crowd is remembered from its
// first unknown recipient on.
func (w *engine) tellCrowds(e *event, k kind) {
	list, n := w.crowdsOf(&e.src)
	for _, ck := range list[:n] {
		c, ok := w.crowds.get(ck)
		if !ok {
			if k.good() {
				continue
			}
			c = new(network)
			w.crowds.put(ck, c)
		}
		need := rotation{membersOfHELO, 1, w.rules.SharePerHour}
		if ck[1] == 'a' {
			need = rotation{membersOfASN, timesOfASN, max(shareOfASN, w.rules.SharePerHour)}
		}
		c.tell(e.now, e.named(k), k, keyHash(w.opts.Key, e.source.key), need, &w.rules)
	}
}

// inHotCrowd says whether a source is of a crowd that guesses.
func (w *engine) inHotCrowd(now instant, src *smtp.Source) bool {
	if w.crowds.len() == 0 {
		return false
	}
	list, n := w.crowdsOf(src)
	for _, ck := range list[:n] {
		if c, ok := w.crowds.get(ck); ok && c.isHot(now, hour) {
			return true
		}
	}
	return false
}
