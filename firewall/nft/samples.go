package nft

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"mailweir/firewall"
)

// Some of the packets that are dropped, or would be in observe, go to a group of
// nfnetlink_log, as many a second as XDP shows; a packet beyond that costs no
// more than the question whether it is. Its prefix is the reason. One process can
// read a group; while nobody does the kernel drops what would go there.
const (
	sampleGroup     = 25025
	samplesASecond  = 250
	sampleBurst     = 5
	sampleBytes     = 80 // of a packet: the addresses and, mostly, the ports
	maxSamples      = 4096
	configCommand   = 1 // NFULA_CFG_CMD
	configMode      = 2 // NFULA_CFG_MODE
	commandBind     = 1 // NFULNL_CFG_CMD_BIND
	copyPacket      = 2 // NFULNL_COPY_PACKET
	messagePacket   = 0 // NFULNL_MSG_PACKET
	messageConfig   = 1 // NFULNL_MSG_CONFIG
	attributePacket = 9 // NFULA_PAYLOAD
	attributePrefix = 10
)

// sample has some of what comes to this place of chain logged under a reason.
func (t *Table) sample(c *nftables.Conn, chain *nftables.Chain, reason string) {
	if t.unsampled {
		return
	}
	rule(c, chain, []expr.Any{
		&expr.Limit{Type: expr.LimitTypePkts, Unit: expr.LimitTimeSecond, Rate: samplesASecond, Burst: sampleBurst},
		&expr.Log{
			Key:   1<<unix.NFTA_LOG_GROUP | 1<<unix.NFTA_LOG_SNAPLEN | 1<<unix.NFTA_LOG_PREFIX,
			Group: sampleGroup, Snaplen: sampleBytes, Data: []byte(reason),
		},
	})
}

// Samples are some of the packets that were dropped since it was last called: at
// the most 250 a second for each reason.
func (t *Table) Samples(ctx context.Context) (list []firewall.Sample, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if err := t.usable(ctx); err != nil || t.unsampled || !t.configured {
		return nil, err
	}
	if t.log == nil {
		if t.log, err = listenForSamples(); err != nil {
			return nil, err
		}
	}
	buf := make([]byte, 256<<10)
	for len(list) < maxSamples {
		n, _, err := unix.Recvfrom(t.log.fd, buf, unix.MSG_DONTWAIT)
		switch {
		case errors.Is(err, unix.EAGAIN):
			return list, nil
		case errors.Is(err, unix.EINTR), errors.Is(err, unix.ENOBUFS): // some are lost
			continue
		case err != nil:
			return list, fmt.Errorf("read samples of drops: %w", err)
		}
		list = appendSamples(list, buf[:n])
	}
	return list, nil
}

func listenForSamples() (*socket, error) {
	s, err := dial()
	if err != nil {
		return nil, err
	}
	// The mode: command 4 bytes long, how much of a packet in front of it.
	mode := append(binary.BigEndian.AppendUint32(nil, sampleBytes), copyPacket, 0)
	for _, a := range []struct {
		typ  uint16
		data []byte
	}{{configCommand, []byte{commandBind}}, {configMode, mode}} {
		b := s.message(nil, unix.NFNL_SUBSYS_ULOG<<8|messageConfig, unix.NLM_F_REQUEST|unix.NLM_F_ACK, unix.AF_UNSPEC, sampleGroup)
		b = appendAttr(b, a.typ, a.data...)
		seal(b, 0)
		if err = s.send(b); err == nil {
			err = s.answers(s.seq, nil)
		}
		if errors.Is(err, unix.EBUSY) {
			err = fmt.Errorf("another process reads group %d of nfnetlink_log: no drops of nftables are shown (stop it): %w", sampleGroup, err)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("listen for samples of drops: %w", err), s.close())
		}
	}
	return s, nil
}

// appendSamples reads the messages of one datagram.
func appendSamples(list []firewall.Sample, b []byte) []firewall.Sample {
	for len(b) >= unix.NLMSG_HDRLEN {
		size := int(binary.NativeEndian.Uint32(b))
		if size < unix.NLMSG_HDRLEN || size > len(b) {
			return list
		}
		if typ := binary.NativeEndian.Uint16(b[4:]); typ == unix.NFNL_SUBSYS_ULOG<<8|messagePacket && size >= headerSize {
			if s, ok := readSample(b[headerSize:size]); ok {
				list = append(list, s)
			}
		}
		b = b[min(len(b), align(size)):]
	}
	return list
}

func readSample(attributes []byte) (s firewall.Sample, ok bool) {
	eachAttr(attributes, func(typ uint16, data []byte) {
		switch typ {
		case attributePrefix:
			s.Reason = strings.TrimRight(string(data), "\x00")
		case attributePacket:
			s.Source, s.Port, ok = readPacket(data)
		}
	})
	return s, ok && slices.Contains(counterNames, s.Reason)
}

// readPacket reads the source and, where the TCP header follows, the port of a
// packet that begins with its IP header.
func readPacket(b []byte) (source netip.Addr, port uint16, ok bool) {
	tcp, protocol := 0, byte(0)
	switch {
	case len(b) >= 20 && b[0]>>4 == 4:
		source, tcp, protocol = netip.AddrFrom4([4]byte(b[12:])), int(b[0]&15)*4, b[9]
		if binary.BigEndian.Uint16(b[6:])&0x1fff != 0 {
			protocol = 0 // not the first fragment
		}
	case len(b) >= 40 && b[0]>>4 == 6:
		source, tcp, protocol = netip.AddrFrom16([16]byte(b[8:])), 40, b[6]
	default:
		return source, 0, false
	}
	if protocol == unix.IPPROTO_TCP && len(b) >= tcp+4 {
		port = binary.BigEndian.Uint16(b[tcp+2:])
	}
	return source, port, true
}
