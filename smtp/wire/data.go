package wire

// dataFilter turns what a client sends behind DATA into the canonical form of
// the same text: lines that end in CRLF, dots stuffed (RFC 5321 section 4.5.2),
// and CRLF . CRLF once, at its end.
//
// It reads as the RFC says, so that it sees an end of data nowhere but in
// CRLF . CRLF: a line begins behind CRLF only, and a dot there is the client's
// stuffing. What is then left of bare LF and bare CR is made line ends, and
// lines that begin with a dot are stuffed again. A server behind us that takes
// LF . LF, CR . CR or any mixture for an end of data gets none (SMTP smuggling,
// CVE-2023-51764 and its kin), and go-smtp's reader sees the same text.
//
// CR CR LF, which broken senders make of every line, is one line end.
type dataFilter struct {
	state   dataState
	crs     int   // CRs that wait for what follows them
	midLine bool  // of what was written: no dot needs stuffing
	size    int64 // octets written, without stuffing and end
	length  int   // of the line being read
	longest int

	bareLF, bareCR bool
}

type dataState int

const (
	lineStart dataState = iota // behind CRLF
	lineDot                    // and a dot
	lineDotCR                  // and a CR
	inLine                     //
	dataEnd                    // CRLF . CRLF has been read
)

// stepRoom is the room that one step needs in the destination.
const stepRoom = 3

// run filters src into dst, until src is used up, dst is full, or the end of
// data has been seen; it says how much of each was used.
func (f *dataFilter) run(dst, src []byte) (written, used int) {
	for used < len(src) && f.state != dataEnd && len(dst)-written >= stepRoom {
		if f.state == inLine && f.midLine && f.crs == 0 {
			n := f.plain(dst[written:], src[used:])
			written, used = written+n, used+n
			if used == len(src) || len(dst)-written < stepRoom {
				break
			}
		}
		n, taken := f.step(dst[written:], src[used])
		written += n
		if taken {
			used++
		}
	}
	return written, used
}

// step takes b, or writes a line end for a CR that turned out to be bare, and
// wants b again.
func (f *dataFilter) step(dst []byte, b byte) (n int, taken bool) {
	switch {
	case f.state == lineStart && b == '.':
		f.state = lineDot
		return 0, true
	case f.state == lineDot && b == '\r':
		f.state = lineDotCR
		return 0, true
	case f.state == lineDotCR && b == '\n':
		f.state = dataEnd
		return copy(dst, ".\r\n"), true
	case f.state == lineDotCR:
		f.state, f.crs = inLine, 1
		return 0, false
	}
	f.state = inLine
	if f.crs > 0 && b != '\r' && b != '\n' {
		f.bareCR = true
		f.crs--
		return f.endLine(dst), false
	}
	return f.content(dst, b), true
}

// plain copies octets from the middle of a line: nearly all there are.
func (f *dataFilter) plain(dst, src []byte) int {
	n := 0
	for n < len(src) && n < len(dst) && src[n] != '\r' && src[n] != '\n' {
		n++
	}
	copy(dst, src[:n])
	f.size += int64(n)
	f.length += n
	f.longest = max(f.longest, f.length)
	return n
}

// content takes an octet of a line.
func (f *dataFilter) content(dst []byte, b byte) int {
	f.length++
	f.longest = max(f.longest, f.length)
	switch b {
	case '\r':
		f.crs++
		return 0
	case '\n':
		f.bareLF = f.bareLF || f.crs == 0
		f.bareCR = f.bareCR || f.crs > 1
		if f.crs > 0 {
			f.state = lineStart
		}
		f.crs = 0
		return f.endLine(dst)
	}
	f.size++
	n := 0
	if b == '.' && !f.midLine {
		dst[0] = '.'
		n = 1
	}
	dst[n] = b
	f.midLine = true
	return n + 1
}

func (f *dataFilter) endLine(dst []byte) int {
	f.midLine = false
	f.length = 0
	f.size += 2
	return copy(dst, "\r\n")
}
