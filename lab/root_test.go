package lab_test

import (
	"strings"
	"testing"

	"mailweir/lab"
)

// TestOtherMailServersRun: packages that exclude each other live on one host.
func TestOtherMailServersRun(t *testing.T) {
	h := lab.New(t).Host("a", "192.0.2.1")
	for _, test := range []struct {
		pkg     string
		command []string
		want    string
	}{
		{"exim4-daemon-light", []string{"/usr/sbin/exim4", "-bV"}, "Exim version 4."},
		{"opensmtpd", []string{"/usr/sbin/smtpd", "-h"}, "OpenSMTPD"},
		{"postfix", []string{"/usr/sbin/postconf", "-d", "mail_version"}, "mail_version = 3."},
		{"rbldnsd", []string{"/usr/sbin/rbldnsd", "-h"}, "rbldnsd"},
	} {
		root := h.Root(test.pkg, test.pkg)
		// Some print their version and leave with an error: what counts is that
		// they run, with libraries of their own.
		out, _ := h.RunCommand(t.Context(), root.Command(test.command[0], test.command[1:]...))
		if !strings.Contains(out, test.want) {
			t.Errorf("%s: %q, want %q in it", strings.Join(test.command, " "), out, test.want)
		}
	}
}
