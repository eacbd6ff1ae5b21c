package slot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// The types of the partitions of a slot (Discoverable Partitions
// Specification, x86-64).
const (
	rootType   = "4F68BCE3-E8CD-4DB1-96E7-FBCAF984B709"
	verityType = "2C7357ED-EBD2-46D9-AEC1-23D437EC2BF5"
)

// Names of slots that hold no version.
const (
	empty   = "_empty"
	partial = "_partial" // an update is being written, or was cut
)

// slot is one of the two places for a version.
type slot struct {
	Name         string // mailweir_VERSION, or one of the above
	root, verity partition
}

// version of the slot, "" where there is none.
func (s slot) version() string {
	v, ok := strings.CutPrefix(s.Name, Product+"_")
	if !ok {
		return ""
	}
	return v
}

// partition is one as sfdisk --json tells it.
type partition struct {
	Node string `json:"node"`
	Type string `json:"type"`
	UUID string `json:"uuid"`
	Name string `json:"name"`
	Size int64  `json:"size"` // in sectors of 512 bytes
}

// table is the partition table of a disk.
type table struct {
	device string
	slots  [2]slot
}

func readTable(device string) (table, error) {
	out, err := exec.Command("sfdisk", "--json", device).Output()
	if err != nil {
		return table{}, fmt.Errorf("read the partitions of %s: %w", device, err)
	}
	return parseTable(device, out)
}

// parseTable pairs roots and hash trees in the order of the disk.
func parseTable(device string, text []byte) (table, error) {
	var in struct {
		Table struct {
			Partitions []partition `json:"partitions"`
		} `json:"partitiontable"`
	}
	if err := json.Unmarshal(text, &in); err != nil {
		return table{}, fmt.Errorf("read the partitions of %s: %w", device, err)
	}
	t := table{device: device}
	roots, trees := 0, 0
	for _, p := range in.Table.Partitions {
		switch {
		case strings.EqualFold(p.Type, rootType) && roots < len(t.slots):
			t.slots[roots].root, t.slots[roots].Name = p, p.Name
			roots++
		case strings.EqualFold(p.Type, verityType) && trees < len(t.slots):
			t.slots[trees].verity = p
			trees++
		}
	}
	if roots != len(t.slots) || trees != len(t.slots) {
		return t, fmt.Errorf("%s has %d root partitions and %d hash trees, and needs two of each: this is not the disk of an image", device, roots, trees)
	}
	return t, nil
}

// running tells the slot that runs from the other by the root hash of the
// kernel's command line: its halves are the ids of the partitions.
func (t *table) running(cmdline string) (now, other *slot, err error) {
	for word := range strings.FieldsSeq(cmdline) {
		hash, ok := strings.CutPrefix(word, "roothash=")
		if !ok || len(hash) != 64 {
			continue
		}
		for i := range t.slots {
			if strings.EqualFold(strings.ReplaceAll(t.slots[i].root.UUID, "-", ""), hash[:32]) {
				return &t.slots[i], &t.slots[1-i], nil
			}
		}
	}
	return nil, nil, errors.New("the running system is in neither slot of this disk")
}

// mark names a slot, and gives its partitions ids where uuids are given.
func (t *table) mark(s *slot, name, rootUUID, verityUUID string) error {
	for _, p := range []struct {
		node, uuid string
	}{{s.root.Node, rootUUID}, {s.verity.Node, verityUUID}} {
		number, err := os.ReadFile(filepath.Join("/sys/class/block", filepath.Base(p.node), "partition"))
		if err != nil {
			return fmt.Errorf("find the number of %s: %w", p.node, err)
		}
		n := strings.TrimSpace(string(number))
		// The kernel's table stays as it is: ids and names are read at boot.
		steps := [][]string{{"--part-label", t.device, n, name}}
		if p.uuid != "" {
			steps = append(steps, []string{"--part-uuid", t.device, n, p.uuid})
		}
		for _, step := range steps {
			args := append([]string{"--no-reread", "--no-tell-kernel", "--quiet"}, step...)
			if out, err := exec.Command("sfdisk", args...).CombinedOutput(); err != nil {
				return fmt.Errorf("name partition %s: %w: %s", p.node, err, bytes.TrimSpace(out))
			}
		}
	}
	s.Name = name
	return nil
}

// fill writes a part into a partition, zeros after it, and syncs.
func fill(p partition, part Part, r io.Reader) error {
	if part.Size > p.Size*512 {
		return fmt.Errorf("%s of %d bytes does not fit into %s of %d", part.Name, part.Size, p.Node, p.Size*512)
	}
	f, err := os.OpenFile(p.Node, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", p.Node, err)
	}
	defer f.Close()
	n, err := io.Copy(f, r)
	if err == nil && n < p.Size*512 {
		err = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_ZERO_RANGE|unix.FALLOC_FL_KEEP_SIZE, n, p.Size*512-n)
	}
	if err := errors.Join(err, f.Sync()); err != nil {
		return fmt.Errorf("write %s to %s: %w", part.Name, p.Node, err)
	}
	return nil
}
