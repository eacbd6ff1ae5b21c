package config

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// office is a file as an operator keeps it.
const office = `# the edge of example.com

hostname = "mx1.example.net" # as in DNS
users = { mail = "weir-mail" }

# strangers
[smtp]
listen = [
  "0.0.0.0:25", # everybody
  "[::]:25",
]
greet_wait = "4s"   # not longer

[smtp.timeouts]
command = "5m"

[backend.office]
url = "smtp://mail.example.com:25"

# the first customer
[domain."example.com"]
backends = ["office"] # one
`

func TestEdits(t *testing.T) {
	for _, c := range []struct {
		name, path, value string // no value: Delete
		old, new          string // what is replaced in office; "" for old: new is added at the end
	}{
		{"a text", "hostname", `"mx2.example.net"`, `"mx1.example.net" #`, `"mx2.example.net" #`},
		{"a value before a comment", "smtp.greet_wait", `"2s"`, `"4s"   #`, `"2s"   #`},
		{"a list over several lines", "smtp.listen", `["127.0.0.1:25"]`, "[\n  \"0.0.0.0:25\", # everybody\n  \"[::]:25\",\n]", `["127.0.0.1:25"]`},
		{"a key of an inline table", "users.mail", `"nobody"`, `"weir-mail" }`, `"nobody" }`},
		{"a new key at the top", "observe", `true`, "\"weir-mail\" }\n", "\"weir-mail\" }\nobserve = true\n"},
		{"a new key of a table", "smtp.max_recipients", `50`, "# not longer\n", "# not longer\nmax_recipients = 50\n"},
		{"a new key of a table below", "smtp.timeouts.session", `"1h"`, "command = \"5m\"\n", "command = \"5m\"\nsession = \"1h\"\n"},
		{"a new key of a quoted table", `domain."example.com".recipients`, `"any"`, "# one\n", "# one\nrecipients = \"any\"\n"},
		{"a new table", "dns.timeout", `"3s"`, "", "\n[dns]\ntimeout = \"3s\"\n"},
		{"a new table with a name", "backend.spare.url", `"smtp://mail2.example.com"`, "", "\n[backend.spare]\nurl = \"smtp://mail2.example.com\"\n"},
		{"a new table below", "smtp.per_source.open", `5`, "# not longer\n", "# not longer\nper_source.open = 5\n"},
		{"out goes a key with its comment", "smtp.greet_wait", "", "greet_wait = \"4s\"   # not longer\n", ""},
		{"out goes a table", "smtp.timeouts", "", "[smtp.timeouts]\ncommand = \"5m\"\n\n", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, _, problems := Parse("weir.toml", []byte(office))
			if len(problems) > 0 {
				t.Fatal(problems)
			}
			var err error
			if c.value == "" {
				f, _, problems, err = f.Delete(c.path)
			} else {
				f, _, problems, err = f.Set(c.path, c.value)
			}
			if err != nil || problems.Bad() {
				t.Fatal(err, problems)
			}
			want := office + c.new
			if c.old != "" {
				want = strings.Replace(office, c.old, c.new, 1)
			}
			if string(f.Text) != want {
				t.Errorf("got\n%s\nwant\n%s", f.Text, want)
			}
			if got, ok := f.Get(c.path); got != c.value || ok != (c.value != "") {
				t.Errorf("Get gives %q, %v", got, ok)
			}
		})
	}
}

func TestDeleteFromInlineTable(t *testing.T) {
	for text, want := range map[string]string{
		`smtp.per_source = { open = 5, new_per_minute = 6 }`: `smtp.per_source = { new_per_minute = 6 }`,
		`smtp.per_source = { new_per_minute = 6, open = 5 }`: `smtp.per_source = { new_per_minute = 6 }`,
		`smtp.per_source = {open=5}`:                         `smtp.per_source = {}`,
	} {
		f, _, _ := Parse("weir.toml", []byte(text))
		f, _, _, err := f.Delete("smtp.per_source.open")
		if err != nil || string(f.Text) != want {
			t.Errorf("%s became %s (%v), want %s", text, f.Text, err, want)
		}
	}
}

func TestSetBesideInlineTable(t *testing.T) {
	const text = "[smtp]\nper_source = { open = 5 } # few\n"
	for path, want := range map[string]string{
		"smtp.per_source.new_per_minute": "[smtp]\nper_source = { open = 5, new_per_minute = 7 } # few\n",
		"smtp.max_recipients":            "[smtp]\nper_source = { open = 5 } # few\nmax_recipients = 7\n",
	} {
		f, _, _ := Parse("weir.toml", []byte(text))
		f, _, _, err := f.Set(path, "7")
		if err != nil || string(f.Text) != want {
			t.Errorf("%s: the text became %q (%v), want %q", path, f.Text, err, want)
		}
	}
}

// TestSetRefusesMoreThanAValue: what an operator types must not bring in keys
// that he did not name.
func TestSetRefusesMoreThanAValue(t *testing.T) {
	f, _, _ := Parse("weir.toml", []byte(office))
	for _, value := range []string{"", "true\nobserve = true", "true # x\n[firewall]", "word", `"a" "b"`, "[1,\n# ]\n2"} {
		if f, _, _, err := f.Set("observe", value); err == nil {
			t.Errorf("Set took %q:\n%s", value, f.Text)
		}
	}
}

func TestCommit(t *testing.T) {
	dir := t.TempDir()
	real, link := filepath.Join(dir, "real.toml"), filepath.Join(dir, "weir.toml")
	if err := errors.Join(os.WriteFile(real, []byte(office), 0o604), os.Chmod(real, 0o604), os.Symlink(real, link)); err != nil {
		t.Fatal(err)
	}
	if os.Geteuid() == 0 {
		if err := os.Chown(real, 12, 34); err != nil {
			t.Fatal(err)
		}
	}
	before, err := os.Stat(real)
	if err != nil {
		t.Fatal(err)
	}
	f, _, _, err := Read(link)
	if err != nil {
		t.Fatal(err)
	}
	if f, _, _, err = f.Set("observe", "true"); err != nil {
		t.Fatal(err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(real)
	if err != nil || string(got) != string(f.Text) {
		t.Errorf("the file is %q, %v", got, err)
	}
	after, err := os.Stat(real)
	if err != nil || after.Mode() != before.Mode() || owner(after) != owner(before) {
		t.Errorf("mode %v and owner %v became %v and %v (%v)", before.Mode(), owner(before), after.Mode(), owner(after), err)
	}
	if info, err := os.Lstat(link); err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the symbolic link became %v, %v", info, err)
	}
	if names, _ := filepath.Glob(filepath.Join(dir, ".*")); len(names) > 0 {
		t.Errorf("left behind: %v", names)
	}
}

// TestCommitThatFailsLeavesTheFile: no room, no right, whatever: the old file
// stays whole.
func TestCommitThatFailsLeavesTheFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "gone")
	f, _, _ := Parse(filepath.Join(dir, "weir.toml"), []byte(office))
	if err := f.Commit(); err == nil {
		t.Error("a file was written into a folder that is not there")
	}
}

func owner(info fs.FileInfo) [2]uint32 {
	st := info.Sys().(*syscall.Stat_t)
	return [2]uint32{st.Uid, st.Gid}
}
