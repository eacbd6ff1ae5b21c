package scout

import (
	"io"
	"mime"
	"net/mail"
	"strings"
)

// author is the domain of the one From field of a message, A-labels; "": it has
// not one such domain.
func author(from []string) string {
	if len(from) != 1 {
		return ""
	}
	var one string
	for _, address := range addresses(from[0]) {
		domain, ok := domainName(address[strings.LastIndexByte(address, '@')+1:])
		if !ok || one != "" && domain != one {
			return ""
		}
		one = domain
	}
	return one
}

// addresses are the mailboxes of a From field. The words that go with them may
// be in any charset, and are often not what RFC 5322 allows.
func addresses(field string) (list []string) {
	anything := &mime.WordDecoder{CharsetReader: func(_ string, r io.Reader) (io.Reader, error) { return r, nil }}
	parsed, err := (&mail.AddressParser{WordDecoder: anything}).ParseList(field)
	for _, a := range parsed {
		list = append(list, a.Address)
	}
	if err == nil {
		return list
	}
	words := strings.FieldsFunc(field, func(r rune) bool { return strings.ContainsRune(" \t\r\n<>,;:\"()", r) })
	for _, w := range words {
		if i := strings.IndexByte(w, '@'); i > 0 && i < len(w)-1 {
			list = append(list, w)
		}
	}
	return list
}
