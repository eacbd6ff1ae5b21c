package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestProblems reads testdata/problems/*.toml. Each file ends with a comment
// that says which problems it has, a line each, as `weir check` shows them.
func TestProblems(t *testing.T) {
	files, err := filepath.Glob("testdata/problems/*.toml")
	if err != nil || len(files) == 0 {
		t.Fatal("no files to read", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".toml"), func(t *testing.T) {
			text, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			body, comment, ok := strings.Cut("\n"+string(text), "\n#! problems\n")
			body = strings.TrimPrefix(body, "\n")
			if !ok {
				t.Fatal("the file does not say which problems it has")
			}
			var want []string
			for line := range strings.Lines(comment) {
				want = append(want, strings.TrimSpace(strings.TrimPrefix(line, "#!")))
			}
			_, _, problems := Parse("weir.toml", []byte(body))
			if got := problems.Error(); got != strings.Join(want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", got, strings.Join(want, "\n"))
			}
		})
	}
}

// A file from an editor of Windows is read as it was meant, and edited without
// its mark; one in UTF-16 is told what it is.
func TestFilesOfWindows(t *testing.T) {
	const good = "hostname = \"mx1.example.net\"\r\n[backend.office]\r\nurl = \"smtp://mail.example.com\"\r\n[domain.\"example.com\"]\r\nbackends = [\"office\"]\r\n"
	f, c, problems := Parse("weir.toml", []byte("\ufeff"+good))
	if len(problems) > 0 || c.Hostname != "mx1.example.net" || string(f.Text) != good {
		t.Errorf("%v, hostname %q", problems, c.Hostname)
	}
	c, left, ok := Usable("weir.toml", []byte("\ufeff"+strings.TrimPrefix(good, "hostname = \"mx1.example.net\"\r\n")), "mx2.example.net", nil)
	if !ok || len(left) != 1 || c.Hostname != "mx2.example.net" || len(c.Domains) != 1 {
		t.Errorf("of one without a hostname is left %+v, %v", c.Domains, left)
	}
	_, _, problems = Parse("weir.toml", []byte("\xff\xfeh\x00o\x00"))
	if got := problems.Error(); got != "weir.toml:1:1: the file is in UTF-16 (save it as UTF-8)" {
		t.Error(got)
	}
}
