package relay

import (
	"bufio"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"

	"mailweir/smtp/reply"
)

// family is one line of testdata/families.tsv: a reply, its classes, and what
// it must mean to the relay at the stage where it is said.
type family struct {
	reply    reply.Reply
	classes  []string
	stage    Stage
	meanings []string
}

func families(t *testing.T) []family {
	t.Helper()
	f, err := os.Open("testdata/families.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var all []family
	for scan := bufio.NewScanner(f); scan.Scan(); {
		c := strings.Split(scan.Text(), "\t")
		if len(c) < 9 || c[0] == "code" {
			continue
		}
		code, err := strconv.Atoi(c[0])
		if err != nil {
			t.Fatal(err)
		}
		s := family{reply: reply.Reply{Code: code, Text: c[2]}, stage: Stage(c[7])}
		s.reply.Enhanced, _ = parseEnhanced(c[1])
		s.classes = append(strings.Split(c[4], "|"), c[3])
		s.meanings = strings.Split(c[8], "|")
		all = append(all, s)
	}
	return all
}

// TestFamilies measures classes and meanings over what servers of many
// families say (R-JF-06, R-JF-08, R-JF-10). The errors that cost most have a
// floor of their own: none.
func TestFamilies(t *testing.T) {
	all := families(t)
	classes, meanings, innocent, lost := 0, 0, 0, 0
	for _, s := range all {
		class, meaning := Classify(s.reply), MeaningOf(s.stage, s.reply)
		if slices.Contains(s.classes, string(class)) {
			classes++
		} else {
			t.Logf("class %s, want %v: %s", class, s.classes, s.reply.Line())
		}
		if slices.Contains(s.meanings, string(meaning)) {
			meanings++
			continue
		}
		t.Logf("%s means %s, want %v: %s", s.stage, meaning, s.meanings, s.reply.Line())
		switch {
		case meaning == UnknownUser:
			innocent++
		case (meaning == MessageRefused || meaning == Disabled) && s.stage != AtRcpt:
			lost++
		}
	}
	t.Logf("%d of %d classes, %d meanings; %d taken for unknown users, %d refused for good", classes, len(all), meanings, innocent, lost)
	if innocent > 0 || lost > 0 {
		t.Errorf("%d are taken for unknown users and %d refuse a message that is not at fault", innocent, lost)
	}
	if len(all) < 400 || 100*classes < 95*len(all) || 100*meanings < 95*len(all) {
		t.Errorf("%d of %d classes and %d meanings are right, want 95 %%", classes, len(all), meanings)
	}
}
