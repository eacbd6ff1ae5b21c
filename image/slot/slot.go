package slot

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Machine is the appliance whose slots these are.
type Machine struct {
	Device   string // the disk, /dev/vda
	ESP      string // where its EFI system partition is mounted
	EFIVars  string // where the firmware's variables are; it is not there on a BIOS
	Cmdline  string // of the running kernel
	Version  string // that runs
	Released int64  // when its source was made, Unix time
	Keys     []ed25519.PublicKey
}

// Status is what there is and what will be.
type Status struct {
	Running   string `json:"running"`
	Confirmed bool   `json:"confirmed"`          // it came up well once
	Other     string `json:"other,omitempty"`    // the way back; "" where there is none
	Failed    string `json:"failed,omitempty"`   // an update that did not come up
	TriesLeft int    `json:"triesleft,omitzero"` // of a running version that is not confirmed
}

// Status reads it from the disk.
func (m Machine) Status() (Status, error) {
	t, err := readTable(m.Device)
	if err != nil {
		return Status{}, err
	}
	_, other, err := t.running(m.Cmdline)
	if err != nil {
		return Status{}, err
	}
	c := esp(m.ESP).choice()
	images, err := esp(m.ESP).images()
	if err != nil {
		return Status{}, err
	}
	s := Status{Running: m.Version, Confirmed: c.Cur != m.Version || c.Tries == ""}
	if images[other.version()] != "" {
		s.Other = other.version()
	}
	if c.Tries != "" && c.Cur != m.Version {
		s.Failed = c.Cur
	}
	if !s.Confirmed {
		s.TriesLeft, _ = strconv.Atoi(c.Tries)
	}
	return s, nil
}

// Upgrade writes the version of a bundle to the other slot and has it started
// next, with three tries. Whatever happens meanwhile, the running version
// starts: the other is taken out of the boot loaders first and put back last.
func (m Machine) Upgrade(r io.Reader) (version string, err error) {
	b, err := OpenBundle(r, m.Keys)
	if err != nil {
		return "", err
	}
	t, err := readTable(m.Device)
	if err != nil {
		return "", err
	}
	now, other, err := t.running(m.Cmdline)
	if err != nil {
		return "", err
	}
	if err := m.mayFollow(b.Manifest); err != nil {
		return "", err
	}
	e := esp(m.ESP)
	for _, gone := range []string{other.version(), b.Version} {
		if err := e.forget(gone); err != nil {
			return "", err
		}
	}
	if err := e.choose(choice{Cur: now.version()}); err != nil {
		return "", err
	}
	if err := t.mark(other, partial, "", ""); err != nil {
		return "", err
	}
	if err := m.write(b, t, other); err != nil {
		return "", err
	}
	return b.Version, e.choose(choice{Cur: b.Version, Prev: now.version(), Tries: strconv.Itoa(tries)})
}

// mayFollow refuses what would take the way back away, or goes backwards.
func (m Machine) mayFollow(next Manifest) error {
	s, err := m.Status()
	switch {
	case err != nil:
		return err
	case next.Version == m.Version:
		return fmt.Errorf("%s runs already", next.Version)
	case next.Released < m.Released:
		return fmt.Errorf("%s is older than %s, which runs: to go back to the version before, say weir upgrade --back", next.Version, m.Version)
	case !s.Confirmed:
		return fmt.Errorf("%s was just started for the first time and is not confirmed yet: wait until weir upgrade --status says so", m.Version)
	}
	return nil
}

// write puts the parts where they belong. The slot gets its ids only when all
// of it is there, and the boot loaders hear of it after that.
func (m Machine) write(b *Bundle, t table, to *slot) error {
	e := esp(m.ESP)
	var uuids [2]string
	for {
		part, r, err := b.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		switch part.Name {
		case Root:
			uuids[0], err = part.UUID, fill(to.root, part, r)
		case Verity:
			uuids[1], err = part.UUID, fill(to.verity, part, r)
		case UKI:
			if err = t.mark(to, Product+"_"+b.Version, uuids[0], uuids[1]); err == nil {
				err = put(e.imagePath(b.Version, "+"+strconv.Itoa(tries)), part, r)
			}
		case Entry:
			err = put(e.entryPath(b.Version), part, r)
		}
		if err != nil {
			return errors.Join(err, e.forget(b.Version))
		}
	}
	return nil
}

// Back has the other version started next, and the running one not again.
func (m Machine) Back() (version string, err error) {
	s, err := m.Status()
	if err != nil {
		return "", err
	}
	if s.Other == "" {
		return "", errors.New("there is no version to go back to: the other slot is empty, or its update was cut")
	}
	e := esp(m.ESP)
	return s.Other, errors.Join(e.count(s.Other, ""), e.count(m.Version, "+0"), e.choose(choice{Cur: s.Other, Prev: m.Version}))
}

// Confirm keeps the running version: it came up well. failed names an update
// that did not, because of which this one runs again.
func (m Machine) Confirm() (failed string, err error) {
	s, err := m.Status()
	if err != nil {
		return "", err
	}
	e := esp(m.ESP)
	err = errors.Join(e.count(m.Version, ""), e.choose(choice{Cur: m.Version, Prev: s.Other}))
	return s.Failed, err
}
