package command

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"
)

// printJSON writes v as one line.
func (c *cli) printJSON(v any) error {
	e := json.NewEncoder(jsonOut{c.out})
	e.SetEscapeHTML(false) // for people and jq, not for browsers
	return e.Encode(v)
}

// jsonOut writes JSON, a whole value at a time, so that it does no harm to a
// terminal either: encoding/json escapes the control characters of ASCII only,
// and a stranger's Message-ID may have those above it, or turn the line round.
type jsonOut struct{ w io.Writer }

func (o jsonOut) Write(b []byte) (int, error) {
	var safe bytes.Buffer
	for rest := b; len(rest) > 0; {
		r, n := utf8.DecodeRune(rest)
		switch {
		case r == '\r': // between two tokens: nowhere else does JSON have one
		case r >= 0x7f && drives(r):
			fmt.Fprintf(&safe, "\\u%04x", r)
		default:
			safe.Write(rest[:n])
		}
		rest = rest[n:]
	}
	if _, err := o.w.Write(safe.Bytes()); err != nil {
		return 0, err
	}
	return len(b), nil
}

// say writes one line for people, without blanks where its last words are
// empty; nothing when JSON was asked for. It is cleaned as a whole: what the
// mail role answers may come from one who took it over.
func (c *cli) say(format string, args ...any) {
	if !c.json {
		fmt.Fprintln(c.out, printable(strings.TrimRight(fmt.Sprintf(format, args...), " ")))
	}
}

// flow is say, but for a terminal: there a line that is too long goes on under
// itself.
func (c *cli) flow(format string, args ...any) {
	for _, line := range flowed(printable(fmt.Sprintf(format, args...)), c.width()) {
		c.say("%s", line)
	}
}

// onScreen writes what print prints as far as it fits on a screen of height
// lines, the prompt below it included. Of the rest it says where it is to be had.
func (c *cli) onScreen(height int, all string, print func(*cli) error) error {
	sheet := &sheet{columns: c.width()}
	on := *c
	on.out = sheet
	if err := print(&on); err != nil {
		return err
	}
	lines := slices.Collect(strings.Lines(sheet.String()))
	if room := max(1, height-2); len(lines) > room+1 {
		lines = append(lines[:room], flowed(fmt.Sprintf("… and %s: %s", plural(len(lines)-room, "more line"), printable(all)), c.width())[0]+"\n")
	}
	_, err := io.WriteString(c.out, strings.Join(lines, ""))
	return err
}

// sheet is paper as wide as a screen.
type sheet struct {
	bytes.Buffer
	columns int
}

// Columns is how wide it is.
func (s *sheet) Columns() int { return s.columns }

// flowed breaks a line into those of at most width characters. It goes on under
// the text behind its label, if it has one. 0: there is no bound.
func flowed(text string, width int) []string {
	if width <= 0 || utf8.RuneCountInString(text) <= width {
		return []string{text}
	}
	rest := strings.TrimLeft(text, " ")
	indent := len(text) - len(rest)
	hang := indent + 4
	if gap := strings.Index(rest, "  "); gap >= 0 && gap <= 10 { // a label
		hang = len(text) - len(strings.TrimLeft(rest[gap:], " "))
	}
	var lines []string
	for from, line := range wrapped(strings.Split(text[min(hang, len(text)):], " "), width-hang) {
		before := strings.Repeat(" ", hang)
		if from == 0 {
			before = text[:min(hang, len(text))]
		}
		lines = append(lines, before+line)
	}
	return lines
}

// item writes one line under a label of up to nine letters. On a terminal it is
// broken between words, and goes on under itself.
func (c *cli) item(label, format string, args ...any) {
	const hang = 10
	text := fmt.Sprintf(format, args...)
	lines := []string{text}
	if w := c.width(); w > 0 {
		lines = wrapped(strings.Split(text, " "), w-hang)
	}
	for _, line := range lines {
		c.say("%-9s %s", label, line)
		label = ""
	}
}

// width is how many columns a line may take: 0 when nobody looks at it as it
// comes, so that each thing stays on a line of its own.
func (c *cli) width() int {
	if p, ok := c.out.(interface{ Columns() int }); ok { // the console's pager
		return orEighty(p.Columns())
	}
	w, _, ok := c.terminal()
	if !ok {
		return 0
	}
	return orEighty(w)
}

// orEighty leaves the last column free, at which some terminals begin a line by
// themselves. A serial line does not know its width.
func orEighty(columns int) int {
	if columns < 40 {
		columns = 80
	}
	return columns - 1
}

// warn writes to standard error, so that it never mixes with data.
func (c *cli) warn(warnings []string) {
	for _, w := range warnings {
		fmt.Fprintln(c.err, "weir: warning:", printableLines(w))
	}
}

// table writes aligned columns. Cells are cleaned of control characters: some
// were written by strangers and must not drive the operator's terminal.
type table struct{ w *tabwriter.Writer }

func newTable(out io.Writer, head ...string) *table {
	t := &table{tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)}
	if len(head) > 0 {
		t.row(head...)
	}
	return t
}

func (t *table) row(cells ...string) {
	for len(cells) > 0 && cells[len(cells)-1] == "" {
		cells = cells[:len(cells)-1] // or the line would end in blanks
	}
	for i := range cells {
		cells[i] = printable(cells[i])
	}
	fmt.Fprintln(t.w, strings.Join(cells, "\t"))
}

func (t *table) flush() error { return t.w.Flush() }

// printable replaces what is no printable character of text.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if drives(r) {
			return '?'
		}
		return r
	}, s)
}

// drives says whether r does something to a terminal in place of being shown
// there: controls, line ends, and what turns the direction of writing.
func drives(r rune) bool {
	return r < ' ' || r >= 0x7f && r < 0xa0 || r >= 0x2028 && r <= 0x202e || r >= 0x2066 && r <= 0x2069
}

// printableLines does the same to each line of a text.
func printableLines(s string) string {
	lines := strings.Split(s, "\n")
	for i := range lines {
		lines[i] = printable(lines[i])
	}
	return strings.Join(lines, "\n")
}

// stamp is a moment in the machine's zone, to the second.
func stamp(t time.Time) string { return t.Local().Format("2006-01-02 15:04:05") }

// span is a length of time in the two units that matter, rounded to the smaller: 1d23h, 47h59m, 3m2s.
func span(d time.Duration) string {
	if d = d.Round(time.Second); d >= time.Hour {
		d = d.Round(time.Minute)
	}
	if d >= 48*time.Hour {
		d = d.Round(time.Hour)
	}
	switch {
	case d < 0:
		return "0s"
	case d < time.Minute:
		return fmt.Sprintf("%ds", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%dm%ds", d/time.Minute, d%time.Minute/time.Second)
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh%dm", d/time.Hour, d%time.Hour/time.Minute)
	}
	return fmt.Sprintf("%dd%dh", d/(24*time.Hour), d%(24*time.Hour)/time.Hour)
}

// number is a number with as many decimals as it needs, three at most.
func number(f float64) string {
	return strconv.FormatFloat(math.Round(f*1000)/1000, 'f', -1, 64)
}

// plural counts things: 1 packet, 2 packets.
func plural[N int | uint64](n N, thing string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(thing, "x"):
		thing += "es"
	default:
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}
