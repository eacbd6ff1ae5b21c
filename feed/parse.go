package feed

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"

	"mailweir/prefix"
)

// longestLine is far above any line of a list, and far below a page of HTML.
const longestLine = 4096

var errTooMany = errors.New("it has too many entries")

// Parse reads a list of addresses and prefixes: one a line, with what stands
// behind "#" or ";" left out, as plain lists and Spamhaus DROP in text have them;
// or a JSON object a line with its "cidr", as DROP has them now. That ends with
// an object of type "metadata", whose count must be right.
//
// A line that is anything else makes the whole a list no more: half a list, or the
// page of a web server, must not take the place of one that was whole. Nor is more
// read than most entries.
func Parse(r io.Reader, most int) ([]netip.Prefix, error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(nil, longestLine)
	var list []netip.Prefix
	for n := 1; lines.Scan(); n++ {
		p, ok, err := parseLine(lines.Text(), len(list))
		if err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		if !ok {
			continue
		}
		if len(list) >= most {
			return nil, errTooMany
		}
		list = append(list, p)
	}
	return list, lines.Err()
}

// object is a line of a list in JSON.
type object struct {
	CIDR    string `json:"cidr"`
	Type    string `json:"type"`
	Records *int   `json:"records"`
}

// parseLine reads a line behind so many entries; false: it has none.
func parseLine(line string, before int) (p netip.Prefix, ok bool, err error) {
	line = strings.TrimSpace(line)
	if strings.HasPrefix(line, "{") {
		var o object
		if err := json.Unmarshal([]byte(line), &o); err != nil {
			return p, false, fmt.Errorf("%.40q is no JSON", line)
		}
		if o.Type == "metadata" {
			if o.Records != nil && *o.Records != before {
				return p, false, fmt.Errorf("it has %d entries, and says that it has %d", before, *o.Records)
			}
			return p, false, nil
		}
		line = o.CIDR
	} else if line, _, _ = strings.Cut(line, "#"); line != "" {
		line, _, _ = strings.Cut(line, ";")
		if line = strings.TrimSpace(line); line == "" {
			return p, false, nil
		}
	} else {
		return p, false, nil
	}
	if p, err = netip.ParsePrefix(line); err != nil {
		a, single := netip.ParseAddr(line)
		if single != nil {
			return p, false, fmt.Errorf("%.40q is no address and no prefix", line)
		}
		p = netip.PrefixFrom(a, a.BitLen())
	}
	if p = prefix.Canonical(p); !p.IsValid() {
		return p, false, fmt.Errorf("%.40q is no prefix", line)
	}
	return p, true, nil
}
