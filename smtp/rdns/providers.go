package rdns

import (
	"regexp"
	"strings"
)

// providers are access networks whose names hold neither an address nor a word
// that says so, with what their customers' names look like.
var providers = []struct {
	domain, name string
	host         *regexp.Regexp
}{
	{"comcast.net", "comcast", regexp.MustCompile(`^(computer-)?[a-z]{3}\d{5,}[a-z]{3}\.|\.hsd\d\.`)},
	{"chello.nl", "chello", regexp.MustCompile(`^[a-z]?\d{4,6}\.upc-`)},
	{"mindspring.com", "mindspring", regexp.MustCompile(`^user-[0-9a-z]{7}\.`)},
	{"roadrunner.nf.net", "roadrunner", regexp.MustCompile(`^wiley-\d+-\d+\.`)},
	{"tds.net", "tds", regexp.MustCompile(`-nrp\d+-l\d+-a\d+\.`)},
	{"shawcable.net", "shaw", regexp.MustCompile(`^s[0-9a-f]{16}\.`)},
	{"rr.com", "roadrunner", regexp.MustCompile(`^[a-z]+\d+-\d+-\d+\.|^cpe-`)},
	{"netvigator.com", "netvigator", regexp.MustCompile(`^pcd\d{6,}\.`)},
	{"t-ipconnect.de", "t-online", regexp.MustCompile(`^p[0-9a-f]{8,}\.dip`)},
	{"t-dialin.net", "t-online", regexp.MustCompile(`^p[0-9a-f]{8,}\.dip`)},
	{"googleusercontent.com", "google-cloud", regexp.MustCompile(`\.bc\.`)},
	{"amazonaws.com", "aws", regexp.MustCompile(`^ec2-`)},
}

// provider names the network whose custom the name follows, "" if none.
func (n name) provider() string {
	for _, p := range providers {
		if strings.HasSuffix(n.full, "."+p.domain) && p.host.MatchString(n.full) {
			return p.name
		}
	}
	return ""
}
