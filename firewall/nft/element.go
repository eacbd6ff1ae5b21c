package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// element is a ban in a set.
type element struct {
	prefix  netip.Prefix
	left    time.Duration
	packets uint64
	bytes   uint64
}

// maxList is how long a list of elements may get: its length has 16 bits.
const maxList = 60 << 10

// transaction collects changes of elements; the kernel makes all or none.
type transaction struct {
	socket *socket
	buf    []byte
}

// begin opens a batch.
func begin() (*transaction, error) {
	s, err := dial()
	if err != nil {
		return nil, err
	}
	tx := &transaction{socket: s}
	tx.buf = s.message(tx.buf, unix.NFNL_MSG_BATCH_BEGIN, unix.NLM_F_REQUEST, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	seal(tx.buf, 0)
	return tx, nil
}

// add adds elements to a set; one that is there stays as it is.
func (tx *transaction) add(set banSet, elements []element) {
	tx.change(unix.NFT_MSG_NEWSETELEM, unix.NLM_F_CREATE, set, elements)
}

// remove removes elements. All have to be there.
func (tx *transaction) remove(set banSet, elements []element) {
	tx.change(unix.NFT_MSG_DELSETELEM, 0, set, elements)
}

func (tx *transaction) change(kind, flags uint16, set banSet, elements []element) {
	for len(elements) > 0 {
		start := len(tx.buf)
		tx.buf = tx.socket.message(tx.buf, request(kind), unix.NLM_F_REQUEST|flags, unix.NFPROTO_INET, 0)
		tx.buf = set.appendName(tx.buf)
		var n int
		tx.buf, n = set.appendList(tx.buf, elements, kind == unix.NFT_MSG_NEWSETELEM)
		elements = elements[n:]
		seal(tx.buf, start)
	}
}

// commit sends the batch and waits for the kernel's word. It closes the
// transaction.
func (tx *transaction) commit(ctx context.Context) (err error) {
	defer func() { err = errors.Join(err, tx.socket.close()) }()
	if err := ctx.Err(); err != nil {
		return err
	}
	if tx.socket.seq == 1 {
		return nil
	}
	// Asking for the last change to be acknowledged is asking for all: the
	// kernel answers when the batch is through.
	last := tx.lastMessage()
	flags := binary.NativeEndian.Uint16(tx.buf[last+6:])
	binary.NativeEndian.PutUint16(tx.buf[last+6:], flags|unix.NLM_F_ACK)
	seq := tx.socket.seq
	start := len(tx.buf)
	tx.buf = tx.socket.message(tx.buf, unix.NFNL_MSG_BATCH_END, unix.NLM_F_REQUEST, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES)
	seal(tx.buf, start)
	if err := tx.socket.send(tx.buf); err != nil {
		return err
	}
	return tx.socket.answers(seq, nil)
}

func (tx *transaction) lastMessage() (at int) {
	for next := 0; next < len(tx.buf); next += align(int(binary.NativeEndian.Uint32(tx.buf[next:]))) {
		at = next
	}
	return at
}

func (s banSet) appendName(b []byte) []byte {
	b = appendText(b, unix.NFTA_SET_ELEM_LIST_TABLE, tableName)
	return appendText(b, unix.NFTA_SET_ELEM_LIST_SET, s.name())
}

// appendList appends as many elements as fit and says how many.
func (s banSet) appendList(b []byte, elements []element, whole bool) (list []byte, n int) {
	b, start := openAttr(b, unix.NFTA_SET_ELEM_LIST_ELEMENTS|unix.NLA_F_NESTED)
	for n < len(elements) && len(b)-start < maxList {
		b = appendElement(b, elements[n], whole)
		n++
	}
	return closeAttr(b, start), n
}

func appendElement(b []byte, e element, whole bool) []byte {
	b, elem := openAttr(b, unix.NFTA_LIST_ELEM|unix.NLA_F_NESTED)
	b, key := openAttr(b, unix.NFTA_SET_ELEM_KEY|unix.NLA_F_NESTED)
	b = appendAttr(b, unix.NFTA_DATA_VALUE, e.prefix.Addr().AsSlice()...)
	b = closeAttr(b, key)
	if whole {
		b = appendUint64(b, unix.NFTA_SET_ELEM_TIMEOUT, milliseconds(e.left))
	}
	if whole && e.packets > 0 {
		b = appendCounter(b, e)
	}
	return closeAttr(b, elem)
}

// milliseconds rounds up: 0 would mean that the element never ends.
func milliseconds(d time.Duration) uint64 {
	return uint64(max(1, (d-1)/time.Millisecond+1))
}

// appendCounter makes the element's counter begin where its predecessor's was.
func appendCounter(b []byte, e element) []byte {
	b, counter := openAttr(b, unix.NFTA_SET_ELEM_EXPR|unix.NLA_F_NESTED)
	b = appendText(b, unix.NFTA_EXPR_NAME, "counter")
	b, data := openAttr(b, unix.NFTA_EXPR_DATA|unix.NLA_F_NESTED)
	b = appendUint64(b, unix.NFTA_COUNTER_BYTES, e.bytes)
	b = appendUint64(b, unix.NFTA_COUNTER_PACKETS, e.packets)
	b = closeAttr(b, data)
	return closeAttr(b, counter)
}

// flush removes whatever is in a set.
func (tx *transaction) flush(set banSet) {
	start := len(tx.buf)
	tx.buf = tx.socket.message(tx.buf, request(unix.NFT_MSG_DELSETELEM), unix.NLM_F_REQUEST, unix.NFPROTO_INET, 0)
	tx.buf = set.appendName(tx.buf)
	seal(tx.buf, start)
}

// dump hands every element of a set that stands to yield, until that says
// enough. The kernel begins anew for every few hundred elements and counts up
// to where it was, so that a list ten times as long takes a hundred times as
// long: 10 s for a million.
func (s banSet) dump(yield func(element) (more bool)) error {
	sock, err := dial()
	if err != nil {
		return err
	}
	defer sock.close()
	b := sock.message(nil, request(unix.NFT_MSG_GETSETELEM), unix.NLM_F_REQUEST|unix.NLM_F_DUMP, unix.NFPROTO_INET, 0)
	b = s.appendName(b)
	seal(b, 0)
	if err := sock.send(b); err != nil {
		return err
	}
	err = sock.answers(sock.seq, func(body []byte) (err error) {
		s.readList(body, func(e element) {
			if !yield(e) {
				err = errEnough
			}
		})
		return err
	})
	if err != nil && !errors.Is(err, errEnough) {
		return fmt.Errorf("read set %s: %w", s.name(), err)
	}
	return nil
}

// size asks how many elements a set has, with those that have ended and are
// not cleared away yet. Kernels before 6.16 do not say.
func (s banSet) size(sock *socket) (n int, known bool, err error) {
	b := sock.message(nil, request(unix.NFT_MSG_GETSET), unix.NLM_F_REQUEST, unix.NFPROTO_INET, 0)
	b = appendText(b, unix.NFTA_SET_TABLE, tableName)
	b = appendText(b, unix.NFTA_SET_NAME, s.name())
	seal(b, 0)
	if err := sock.send(b); err != nil {
		return 0, false, err
	}
	const count = 20 // NFTA_SET_COUNT
	err = sock.answers(sock.seq, func(body []byte) error {
		eachAttr(body, func(typ uint16, data []byte) {
			if typ == count && len(data) == 4 {
				n, known = int(binary.BigEndian.Uint32(data)), true
			}
		})
		return nil
	})
	if err != nil {
		return 0, false, fmt.Errorf("look up set %s: %w", s.name(), err)
	}
	return n, known, nil
}

// get looks one element up; not finding it is no error.
func (s banSet) get(sock *socket, p netip.Prefix) (e element, found bool, err error) {
	b := sock.message(nil, request(unix.NFT_MSG_GETSETELEM), unix.NLM_F_REQUEST, unix.NFPROTO_INET, 0)
	b = s.appendName(b)
	b, _ = s.appendList(b, []element{{prefix: p}}, false)
	seal(b, 0)
	if err := sock.send(b); err != nil {
		return e, false, err
	}
	err = sock.answers(sock.seq, func(body []byte) error {
		s.readList(body, func(got element) { e, found = got, true })
		return nil
	})
	if errors.Is(err, unix.ENOENT) {
		return e, false, nil
	}
	if err != nil {
		return e, false, fmt.Errorf("look up %s in set %s: %w", p, s.name(), err)
	}
	return e, found, nil
}

func (s banSet) readList(body []byte, yield func(element)) {
	eachAttr(body, func(typ uint16, list []byte) {
		if typ != unix.NFTA_SET_ELEM_LIST_ELEMENTS {
			return
		}
		eachAttr(list, func(_ uint16, attrs []byte) {
			if e, ok := s.readElement(attrs); ok {
				yield(e)
			}
		})
	})
}

func (s banSet) readElement(attrs []byte) (e element, ok bool) {
	eachAttr(attrs, func(typ uint16, data []byte) {
		switch typ {
		case unix.NFTA_SET_ELEM_KEY:
			eachAttr(data, func(_ uint16, key []byte) {
				var addr netip.Addr
				addr, ok = netip.AddrFromSlice(key)
				e.prefix = netip.PrefixFrom(addr, s.bits)
			})
		case unix.NFTA_SET_ELEM_EXPIRATION:
			e.left = time.Duration(bigEndian(data)) * time.Millisecond
		case unix.NFTA_SET_ELEM_EXPR:
			e.readCounter(data)
		}
	})
	return e, ok
}

func (e *element) readCounter(expr []byte) {
	eachAttr(expr, func(typ uint16, data []byte) {
		if typ != unix.NFTA_EXPR_DATA {
			return
		}
		eachAttr(data, func(typ uint16, v []byte) {
			switch typ {
			case unix.NFTA_COUNTER_BYTES:
				e.bytes = bigEndian(v)
			case unix.NFTA_COUNTER_PACKETS:
				e.packets = bigEndian(v)
			}
		})
	})
}

func bigEndian(b []byte) uint64 {
	if len(b) != 8 {
		return 0
	}
	return binary.BigEndian.Uint64(b)
}
