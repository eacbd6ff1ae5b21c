package harvest

import (
	"bufio"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// A snapshot is the state as bytes, so that a restart forgets nobody: a header,
// sections of entries, each with its length before it, and a checksum of all.
// Sessions and the guesses of the last ten minutes that others share are left
// out: they would be over by the time it is read.
//
//	magic version | (kind length bytes)… | end | CRC-32C
const (
	snapshotMagic   = "weir-harvest\n"
	snapshotVersion = 4
	snapshotBefore  = 3 // is read, too: an upgrade forgets nobody
)

// Kinds of entries.
const (
	entryEnd = iota
	entrySource
	entryValid
	entryDomain
	entryNetwork // or a crowd
	entryGuests
)

// errDamaged says that a snapshot is not what was written.
var errDamaged = errors.New("the snapshot is damaged")

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// savedSource, savedDomain and savedNetwork are the parts of fixed size.
type savedSource struct {
	Key         key
	First, Last instant
	Accepted    instant
	Convicted   instant
	Mails       uint16
	Good, Bad   uint16
	Days, Ring  uint8
	Seen        uint16 // entries that follow
	Guesses     uint16 // bytes that follow them; what is left is offences, as JSON
}

// savedSince is what stands behind savedSource since version 4.
type savedSince struct {
	Phase uint16
	Met   bool
}

type savedDomain struct {
	Hot, Taken           instant
	Minute, Hour, Taking savedFlow
	Average              float64
	Attack, Broken       bool
}

type savedFlow struct{ Begun, Now, Before uint32 }

func (f *flow) saved() savedFlow { return savedFlow{f.Begun, f.Now, f.Before} }

func (f savedFlow) flow() flow { return flow{Begun: f.Begun, Now: f.Now, Before: f.Before} }

type savedNetwork struct {
	Key    key
	Hot    instant
	Oldest uint16
	Seen   uint16
}

// Save writes the state. It holds events up for a few thousand sources at a
// time only.
func (w *Watch) Save(out io.Writer) error {
	sum := crc32.New(castagnoli)
	buf := bufio.NewWriterSize(io.MultiWriter(out, sum), 1<<16)
	buf.WriteString(snapshotMagic)
	buf.WriteByte(snapshotVersion)
	for i := 0; ; i++ {
		chunk, more := w.saveChunk(i)
		if _, err := buf.Write(chunk); err != nil {
			return fmt.Errorf("write the snapshot of harvest: %w", err)
		}
		if !more {
			break
		}
	}
	buf.Write(w.saveOthers())
	buf.WriteByte(entryEnd)
	if err := buf.Flush(); err != nil {
		return fmt.Errorf("write the snapshot of harvest: %w", err)
	}
	if _, err := out.Write(binary.LittleEndian.AppendUint32(nil, sum.Sum32())); err != nil {
		return fmt.Errorf("write the snapshot of harvest: %w", err)
	}
	return nil
}

// saveChunk is chunk i of the sources, as entries.
func (w *Watch) saveChunk(i int) (b []byte, more bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := w.e.sources
	if i >= len(t.slab) {
		return nil, false
	}
	for n := range t.slab[i] {
		if s := &t.slab[i][n]; s.key != (key{}) {
			b = appendEntry(b, entrySource, s.append(nil))
		}
	}
	return b, i+1 < len(t.slab)
}

func (w *Watch) saveOthers() (b []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.e.valid.each(func(h uint64, at instant) {
		b = appendEntry(b, entryValid, binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint64(nil, h), at))
	})
	w.e.domains.each(func(name string, d *domain) {
		e := appendFixed(nil, savedDomain{
			d.hot, d.taken, d.minute.saved(), d.hour.saved(), d.taking.saved(), d.average, d.attack, d.isBroken(),
		})
		b = appendEntry(b, entryDomain, append(e, name...))
	})
	network := func(k key, n *network) {
		e := appendFixed(nil, savedNetwork{k, n.hot, uint16(n.oldest), uint16(len(n.seen))})
		e = appendSeen(e, n.seen)
		b = appendEntry(b, entryNetwork, appendJSON(e, n.members))
	}
	w.e.networks.each(network)
	w.e.crowds.each(network)
	w.e.guests.each(func(k key, list []guest) {
		b = appendEntry(b, entryGuests, appendJSON(k[:8:8], list))
	})
	return b
}

func appendEntry(b []byte, kind byte, e []byte) []byte {
	b = append(b, kind)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(e)))
	return append(b, e...)
}

// appendFixed writes what has a fixed size; nothing else is passed to it.
func appendFixed(b []byte, v any) []byte {
	b, err := binary.Append(b, binary.LittleEndian, v)
	if err != nil {
		panic(fmt.Sprintf("harvest: snapshot of %T: %v", v, err))
	}
	return b
}

const bytesOfSeen = 12

func appendSeen(b []byte, list []seen) []byte {
	for _, e := range list {
		b = binary.LittleEndian.AppendUint32(b, e.low)
		b = binary.LittleEndian.AppendUint32(b, e.high)
		b = binary.LittleEndian.AppendUint32(b, e.at)
	}
	return b
}

// loadSeen reads n of what appendSeen wrote, and returns what is behind them.
func loadSeen(b []byte, n int) ([]seen, []byte, error) {
	if n*bytesOfSeen > len(b) {
		return nil, nil, errDamaged
	}
	if n == 0 {
		return nil, b, nil
	}
	list := make([]seen, n)
	for i := range list {
		e := b[i*bytesOfSeen:]
		list[i] = seen{binary.LittleEndian.Uint32(e), binary.LittleEndian.Uint32(e[4:]), binary.LittleEndian.Uint32(e[8:])}
	}
	return list, b[n*bytesOfSeen:], nil
}

func appendJSON(b []byte, v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("harvest: snapshot of %T: %v", v, err))
	}
	return append(b, text...)
}

func (s *source) append(b []byte) []byte {
	list := s.seen()
	var guesses []byte
	if s.guesses != nil {
		guesses = *s.guesses
	}
	b = appendFixed(b, savedSource{
		s.key, s.first, s.last, s.past.accepted, s.past.convicted, s.past.mails, s.past.good, s.past.bad,
		s.past.days, s.ring, uint16(len(list)), uint16(len(guesses)),
	})
	b = appendFixed(b, savedSince{s.phase, s.past.met})
	b = appendSeen(b, list)
	b = append(b, guesses...)
	if s.offences != nil {
		b = appendJSON(b, s.offences)
	}
	return b
}

// Load takes in what Save wrote, into a Watch that has seen nothing. After an
// error the Watch is as it was.
func (w *Watch) Load(in io.Reader) error {
	all, err := io.ReadAll(in)
	if err != nil {
		return fmt.Errorf("read the snapshot of harvest: %w", err)
	}
	body := len(all) - 4
	if body < len(snapshotMagic)+2 || string(all[:len(snapshotMagic)]) != snapshotMagic ||
		crc32.Checksum(all[:body], castagnoli) != binary.LittleEndian.Uint32(all[body:]) {
		return errDamaged
	}
	v := all[len(snapshotMagic)]
	if v != snapshotVersion && v != snapshotBefore {
		return fmt.Errorf("the snapshot of harvest has version %d, this release reads %d", v, snapshotVersion)
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	e := newEngine(w.e.rules, w.e.opts)
	if err := e.load(all[len(snapshotMagic)+1:body], v); err != nil {
		return err
	}
	w.e = e
	return nil
}

func (w *engine) load(b []byte, version byte) error {
	var sources []*source
	for len(b) > 0 && b[0] != entryEnd {
		if len(b) < 5 {
			return errDamaged
		}
		kind, n := b[0], int(binary.LittleEndian.Uint32(b[1:]))
		if b = b[5:]; n > len(b) {
			return errDamaged
		}
		entry := b[:n]
		b = b[n:]
		var err error
		switch kind {
		case entrySource:
			var s *source
			if s, err = loadSource(entry, version); err == nil {
				sources = append(sources, s)
			}
		case entryValid:
			err = w.loadValid(entry)
		case entryDomain:
			err = w.loadDomain(entry)
		case entryNetwork:
			err = w.loadNetwork(entry)
		case entryGuests:
			err = w.loadGuests(entry)
		}
		if err != nil {
			return err
		}
	}
	w.all = w.domain(everywhere)
	slices.SortStableFunc(sources, func(a, b *source) int { return int(a.last) - int(b.last) })
	for _, s := range sources {
		w.sources.put(s)
		if s.past.accepted != 0 {
			w.befriend(s)
		}
	}
	return nil
}

// fixed reads what appendFixed wrote, and returns what is behind it.
func fixed(b []byte, v any) ([]byte, error) {
	n, err := binary.Decode(b, binary.LittleEndian, v)
	if err != nil {
		return nil, errDamaged
	}
	return b[n:], nil
}

func loadSource(b []byte, version byte) (*source, error) {
	var f savedSource
	b, err := fixed(b, &f)
	if err != nil || f.Ring > friends {
		return nil, errDamaged
	}
	also := savedSince{Met: f.Accepted != 0} // before, mail to anybody made known
	if version > snapshotBefore {
		if b, err = fixed(b, &also); err != nil {
			return nil, err
		}
	}
	s := &source{
		key: f.Key, first: f.First, last: f.Last, ring: f.Ring, phase: also.Phase,
		past: past{f.Accepted, f.Convicted, f.Mails, f.Good, f.Bad, f.Days, also.Met},
	}
	var list []seen
	if list, b, err = loadSeen(b, int(f.Seen)); err != nil {
		return nil, err
	}
	s.remember(list)
	if int(f.Guesses) > len(b) {
		return nil, errDamaged
	}
	if f.Guesses > 0 {
		guesses := slices.Clone(b[:f.Guesses])
		s.guesses = &guesses
	}
	if b = b[f.Guesses:]; len(b) > 0 {
		s.offences = new(offences)
		if json.Unmarshal(b, s.offences) != nil {
			return nil, errDamaged
		}
	}
	return s, nil
}

func (w *engine) loadValid(b []byte) error {
	if len(b) != 12 {
		return errDamaged
	}
	w.valid.put(binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:]))
	return nil
}

func (w *engine) loadDomain(b []byte) error {
	var f savedDomain
	name, err := fixed(b, &f)
	if err != nil {
		return err
	}
	w.domains.put(string(name), &domain{
		name: string(name), hot: f.Hot, taken: f.Taken,
		minute: f.Minute.flow(), hour: f.Hour.flow(), taking: f.Taking.flow(),
		average: f.Average, attack: f.Attack, broken: f.Broken,
	})
	return nil
}

func (w *engine) loadNetwork(b []byte) error {
	var f savedNetwork
	b, err := fixed(b, &f)
	if err != nil || f.Oldest >= maxOfNetwork || f.Seen > maxOfNetwork {
		return errDamaged
	}
	n := &network{hot: f.Hot, oldest: int(f.Oldest)}
	if n.seen, b, err = loadSeen(b, int(f.Seen)); err != nil {
		return err
	}
	for i := range n.seen {
		n.tags = append(n.tags, byte(n.seen[i].high>>24))
	}
	if json.Unmarshal(b, &n.members) != nil {
		return errDamaged
	}
	if f.Key.isCrowd() {
		w.crowds.put(f.Key, n)
	} else {
		w.networks.put(f.Key, n)
	}
	return nil
}

func (w *engine) loadGuests(b []byte) error {
	var k key
	var list []guest
	if len(b) < 8 || json.Unmarshal(b[8:], &list) != nil || len(list) > maxGuests {
		return errDamaged
	}
	copy(k[:8], b)
	w.guests.put(k, list)
	return nil
}
