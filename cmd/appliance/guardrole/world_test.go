package guardrole

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter/mmdbtype"

	"mailweir/config"
	"mailweir/lab"
)

// What is wrong with a database is told once, however often it is looked at,
// and not any more when it is mended; meanwhile the last good one stands.
func TestWorldGoesOnWithDamagedData(t *testing.T) {
	path := filepath.Join(t.TempDir(), "country.mmdb")
	good := lab.GeoFile(t, "GeoLite2-Country", mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String("NL")}})
	at := time.Now()
	write := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(path, b, 0o644); err != nil {
			t.Fatal(err)
		}
		at = at.Add(time.Second)
		if err := os.Chtimes(path, at, at); err != nil {
			t.Fatal(err)
		}
	}
	write(good)
	w := &world{log: slog.New(slog.DiscardHandler)}
	from := config.Geo{Database: path, Drop: []string{"NL"}, Ban: []string{"AS64500"}}
	first, drop, ban := w.use(from)
	if first == nil || len(drop) != 1 || len(ban) != 1 {
		t.Fatalf("tables %v, rules %v %v", first, drop, ban)
	}
	if again, _, _ := w.use(from); again != first {
		t.Error("the same file was compiled twice")
	}
	write([]byte("damaged"))
	for range 3 {
		if tables, news := w.refresh(); news || tables != first {
			t.Fatal("a damaged file took the place of a good one")
		}
	}
	alarms := fmt.Sprint(w.alarms())
	if n := strings.Count(alarms, path); n != 1 || !strings.Contains(alarms, "geo.drop and geo.ban") {
		t.Errorf("the file is named %d times:\n%s", n, alarms)
	}
	write(good)
	if _, news := w.refresh(); !news {
		t.Error("the mended file is not taken")
	}
	if list := w.alarms(); len(list) != 1 || list[0].Name != "geo" || !strings.Contains(list[0].Text, "geo.asn") {
		t.Errorf("alarms of the mended file: %q", list)
	}
}
