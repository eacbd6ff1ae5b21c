package relay

import (
	"bufio"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"mailweir/disk"
	"mailweir/smtp/reply"
)

// journal is the outcomes on disk: a line for each that is kept or forgotten,
// written through to the kernel before the client is answered, so that nothing
// is lost when this process is killed. It is not synced: after a loss of power
// the last seconds may be missing, and a client that had not heard its answer
// may deliver a second time.
//
//   - KEY UNTIL          the recipient has the message
//     ! KEY UNTIL REFUSAL  the message was refused, as JSON
//   - KEY                forgotten
//
// A nil journal keeps nothing.
type journal struct {
	path  string
	log   *slog.Logger
	file  *os.File
	lines int
	sick  sync.Once
}

// historyLines is how many lines beyond the live ones a journal may have.
const historyLines = 20_000

type refusalLine struct {
	Reply  reply.Reply  `json:"reply"`
	Reason reply.Reason `json:"reason"`
}

// openJournal reads what is kept and goes on writing behind it. Lines that make
// no sense are left out; but for a last one that was cut off they are a sign of
// a sick disk, and the file is set aside for whoever wants to look.
func openJournal(path string, log *slog.Logger) (*journal, map[outcomeKey]outcome, error) {
	j := &journal{path: path, log: log}
	data, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, nil, fmt.Errorf("read outcomes of deliveries: %w", err)
	}
	kept, bad := readJournal(data, time.Now())
	if bad > 0 {
		aside := setAside(path, time.Now())
		log.Error("journal of deliveries is damaged: what could be read is used, a message whose client heard nothing may come twice",
			"lines", bad, "kept as", aside)
	}
	return j, kept, j.rewrite(kept)
}

// readJournal returns the outcomes that still count and how many lines were
// damaged; a torn last line is not.
func readJournal(data []byte, now time.Time) (kept map[outcomeKey]outcome, bad int) {
	kept = make(map[outcomeKey]outcome)
	for len(data) > 0 {
		line, rest, whole := bytes.Cut(data, []byte("\n"))
		data = rest
		if !whole {
			if !begun(line) {
				bad++
			}
			break
		}
		op, k, v, ok := readJournalLine(string(line))
		switch {
		case !ok:
			bad++
		case op == "-":
			delete(kept, k)
		case v.until > now.Unix():
			kept[k] = v
		}
	}
	return kept, bad
}

// begun says whether a line without its end may be one of ours that a crash cut.
func begun(line []byte) bool {
	return bytes.HasPrefix([]byte("+ "), line) || bytes.HasPrefix([]byte("- "), line) || bytes.HasPrefix([]byte("! "), line) ||
		len(line) > 2 && begun(line[:2])
}

func readJournalLine(line string) (op string, k outcomeKey, v outcome, ok bool) {
	fields := strings.SplitN(line, " ", 4)
	if len(fields) < 2 || len(fields[1]) != 2*len(k) {
		return "", k, v, false
	}
	if _, err := hex.Decode(k[:], []byte(fields[1])); err != nil {
		return "", k, v, false
	}
	op = fields[0]
	if op == "-" {
		return op, k, v, len(fields) == 2
	}
	if len(fields) < 3 || op == "+" != (len(fields) == 3) || op != "+" && op != "!" {
		return "", k, v, false
	}
	if n, err := fmt.Sscanf(fields[2], "%d", &v.until); err != nil || n != 1 {
		return "", k, v, false
	}
	if op == "!" {
		var r refusalLine
		if json.Unmarshal([]byte(fields[3]), &r) != nil || !r.Reply.Permanent() {
			return "", k, v, false
		}
		v.refused = &refusal{r.Reply, r.Reason}
	}
	return op, k, v, true
}

func journalLine(k outcomeKey, v outcome) string {
	if v.refused == nil {
		return fmt.Sprintf("+ %x %d\n", k[:], v.until)
	}
	b, err := json.Marshal(refusalLine{v.refused.reply, v.refused.reason})
	if err != nil {
		return "" // strings and numbers always marshal
	}
	return fmt.Sprintf("! %x %d %s\n", k[:], v.until, b)
}

func (j *journal) keep(k outcomeKey, v outcome) { j.append(journalLine(k, v)) }
func (j *journal) forget(k outcomeKey)          { j.append(fmt.Sprintf("- %x\n", k[:])) }

// append writes one line in one write, so that a kill leaves a whole line or
// none but the last. Mail goes on without a journal when the disk is full.
func (j *journal) append(line string) {
	if j == nil || j.file == nil {
		return
	}
	j.lines++
	if _, err := j.file.WriteString(line); err != nil {
		j.complain(err)
	}
}

func (j *journal) complain(err error) {
	j.sick.Do(func() {
		j.log.Error("outcomes of deliveries cannot be written: after a crash a message may come twice; look after the disk under state_dir", "error", err)
	})
}

func (j *journal) due(live int) bool { return j != nil && j.lines > live+historyLines }

// rewrite replaces the file by one that has only what is kept.
func (j *journal) rewrite(kept map[outcomeKey]outcome) error {
	if j == nil {
		return nil
	}
	f, err := replaceFile(j.path, func(w *bufio.Writer) {
		for k, v := range kept {
			w.WriteString(journalLine(k, v))
		}
	})
	j.lines = len(kept) // also after an error: the next try is due later
	if err != nil {
		j.complain(err)
		return fmt.Errorf("write outcomes of deliveries: %w", err)
	}
	if j.file != nil {
		j.file.Close()
	}
	j.file = f
	return nil
}

func (j *journal) close() {
	if j != nil && j.file != nil {
		j.file.Close()
	}
}

// replaceFile writes a file beside path, syncs it and renames it over path. It
// returns the file open for writing behind its end.
func replaceFile(path string, write func(*bufio.Writer)) (*os.File, error) {
	tmp := path + ".new"
	f, err := os.OpenFile(tmp, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	w := bufio.NewWriter(f)
	write(w)
	err = errors.Join(w.Flush(), f.Sync())
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close(), os.Remove(tmp))
	}
	return f, disk.SyncDir(filepath.Dir(path))
}

// setAside renames a damaged file and returns its new name.
func setAside(path string, now time.Time) string {
	aside := path + ".damaged-" + now.UTC().Format("20060102T150405Z")
	if err := os.Rename(path, aside); err != nil {
		return "nothing: " + err.Error()
	}
	return aside
}
