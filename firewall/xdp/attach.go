package xdp

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Mode is where on an interface the program runs.
type Mode string

// The modes. Their text is that of firewall.xdp_mode and of status.
const (
	Auto    Mode = "auto"    // native, else generic
	Native  Mode = "native"  // in the driver
	Generic Mode = "generic" // behind it: works everywhere, at about twice the cost
)

func (m Mode) flags() link.XDPAttachFlags {
	if m == Native {
		return link.XDPDriverMode
	}
	return link.XDPGenericMode
}

// device is what the kernel says of an interface.
type device struct {
	name  string
	index int
	prog  ebpf.ProgramID // attached by XDP; 0 is none
	mode  Mode           // in which prog is
}

// kernelModes are the values of IFLA_XDP_ATTACHED.
var kernelModes = map[uint32]Mode{1: Native, 2: Generic, 3: "offloaded", 4: "several"}

func findDevice(name string) (device, error) {
	l, err := netlink.LinkByName(name)
	if errors.As(err, new(netlink.LinkNotFoundError)) {
		return device{}, fmt.Errorf("interface %s is gone (bring it back, or correct firewall.interfaces): %w", name, fs.ErrNotExist)
	}
	if err != nil {
		return device{}, fmt.Errorf("look up interface %s: %w", name, err)
	}
	return deviceOf(l), nil
}

func deviceOf(l netlink.Link) device {
	a := l.Attrs()
	d := device{name: a.Name, index: a.Index}
	if a.Xdp != nil && a.Xdp.Attached {
		d.prog, d.mode = ebpf.ProgramID(a.Xdp.ProgId), kernelModes[a.Xdp.AttachMode]
	}
	return d
}

// ForeignError says that an XDP program of somebody else is on an interface.
type ForeignError struct {
	Interface string
	ID        ebpf.ProgramID
	Name      string // "" when we may not ask for it (CAP_SYS_ADMIN)
}

func (e *ForeignError) Error() string {
	who := fmt.Sprintf("program %d", e.ID)
	if e.Name != "" {
		who = fmt.Sprintf("program %q (id %d)", e.Name, e.ID)
	}
	if strings.HasPrefix(e.Name, "mailweir_") {
		return fmt.Sprintf("interface %s: XDP %s of another Mailweir is attached (stop that one first)", e.Interface, who)
	}
	return fmt.Sprintf("interface %s: XDP %s of somebody else is attached (stop what attached it, or take %s out of firewall.interfaces)", e.Interface, who, e.Interface)
}

// nameOf asks the kernel for a program's name; "" when it may not be told.
func nameOf(id ebpf.ProgramID) string {
	prog, err := ebpf.NewProgramFromID(id)
	if err != nil {
		return ""
	}
	defer prog.Close()
	info, err := prog.Info()
	if err != nil {
		return ""
	}
	return info.Name
}

// takeForce puts our program on the interfaces of the rules, and takes it off
// all others. While older maps are in force it waits until ours are filled.
func (t *Table) takeForce() error {
	if !t.configured || t.displaces && !t.filled {
		return nil
	}
	if err := t.pin(); err != nil {
		return err
	}
	errs := t.leaveOthers()
	for _, name := range t.rules.Interfaces {
		delete(t.notes, name)
		if err := t.stand(name); err != nil {
			t.notes[name] = err.Error()
			errs = errors.Join(errs, err)
		}
	}
	if errs != nil {
		return errs
	}
	t.displaces = false
	return errors.Join(t.pins().removeOthers(t.generation), t.removeFormer())
}

// removeFormer removes the directories of other layouts, whose links are ours
// now but for those on interfaces that are not in the rules.
func (t *Table) removeFormer() error {
	var errs error
	for _, q := range t.pins().former() {
		err := q.detachAll()
		if err == nil {
			err = os.RemoveAll(string(q))
			reach(stepFormerOut)
		}
		errs = errors.Join(errs, err)
	}
	return errs
}

func (t *Table) pin() error {
	if t.generation == 0 {
		n, err := t.pins().next()
		if err != nil {
			return err
		}
		t.generation = n
	}
	tables := make(map[string]*ebpf.Map)
	for _, n := range []int{inBan4, inBan6} {
		s := t.tables[n].(*singles)
		f := t.family(s.v6)
		tables[t.pins().table(t.generation, f.name, f.place(t.word()))] = s.table.Map
	}
	return t.pins().write(t.generation, t.obj, tables)
}

// leaveOthers takes our program off the interfaces that are not in the rules,
// and forgets the links of interfaces that are gone.
func (t *Table) leaveOthers() error {
	indexes, err := t.pins().numbered(linkPrefix)
	if err != nil {
		return err
	}
	wanted, err := t.wantedIndexes()
	if err != nil {
		return err
	}
	var errs error
	for _, index := range indexes {
		if !slices.Contains(wanted, index) {
			errs = errors.Join(errs, t.leave(index))
		}
	}
	return errs
}

func (t *Table) wantedIndexes() (indexes []int, err error) {
	for _, name := range t.rules.Interfaces {
		d, err := findDevice(name)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		indexes = append(indexes, d.index)
	}
	return indexes, nil
}

func (t *Table) leave(index int) error {
	if l, held := t.links[index]; held {
		l.Close()
		delete(t.links, index)
	}
	return t.pins().detach(index)
}

// detach takes the pinned link of an interface out. It is detached before it
// is unpinned: another process may hold it too.
func (p pins) detach(index int) error {
	l, err := link.LoadPinnedLink(p.link(index), nil)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("open our link on interface %d: %w", index, err)
	}
	defer l.Close()
	if err := l.Detach(); err != nil && !errors.Is(err, unix.ENOLINK) {
		return fmt.Errorf("detach from interface %d: %w", index, err)
	}
	reach(stepDetached)
	if err := os.Remove(p.link(index)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("unpin our link on interface %d: %w", index, err)
	}
	return nil
}

// stand makes our program the one on the interface: by updating the link that
// is there, without a packet unfiltered, or by a new one.
func (t *Table) stand(name string) error {
	d, err := findDevice(name)
	if err != nil {
		return err
	}
	l, err := t.ourLink(d)
	if err != nil {
		return err
	}
	if l == nil && d.prog != 0 {
		return &ForeignError{Interface: name, ID: d.prog, Name: nameOf(d.prog)}
	}
	if l != nil && t.opt.Mode != Auto && t.opt.Mode != d.mode {
		// The mode of a link is for life, and an interface takes one link.
		if err := t.leave(d.index); err != nil {
			return err
		}
		l = nil
	}
	if l == nil {
		return t.attach(d)
	}
	return t.takeOver(l, d)
}

// ourLink returns the link by which a program of ours is on the interface, nil
// when there is none. One that leads nowhere any more is removed.
func (t *Table) ourLink(d device) (link.Link, error) {
	l, held := t.links[d.index]
	if !held {
		var err error
		if l, err = t.pinnedLink(d); err != nil {
			return nil, err
		}
		if l == nil {
			return t.adoptStray(d)
		}
		t.links[d.index] = l
	}
	info, err := l.Info()
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", d.name, err)
	}
	if d.prog != 0 && int(info.XDP().Ifindex) == d.index && info.Program == d.prog {
		return l, nil
	}
	return nil, t.leave(d.index)
}

// pinnedLink opens our link on an interface. One in the directory of another
// layout is moved to ours.
func (t *Table) pinnedLink(d device) (link.Link, error) {
	ours := t.pins()
	for _, p := range append([]pins{ours}, ours.former()...) {
		l, err := link.LoadPinnedLink(p.link(d.index), nil)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil && p != ours {
			err = l.Pin(ours.link(d.index))
			reach(stepLinkMoved)
		}
		if err != nil {
			return nil, fmt.Errorf("interface %s: open our link: %w", d.name, err)
		}
		return l, nil
	}
	return nil, nil
}

// ourName says whether a program has the name of ours, of any layout.
func (t *Table) ourName(name string) bool {
	return slices.ContainsFunc(append(t.pins().former(), t.pins()), func(p pins) bool { return name == programName(string(p)) })
}

// adoptStray finds a link of ours whose pin somebody has removed.
func (t *Table) adoptStray(d device) (link.Link, error) {
	if d.prog == 0 || !t.ourName(nameOf(d.prog)) {
		return nil, nil
	}
	l, err := linkOf(d.prog)
	if l != nil {
		t.links[d.index] = l
	}
	return l, err
}

// linkOf finds the link that runs a program.
func linkOf(id ebpf.ProgramID) (link.Link, error) {
	var it link.Iterator
	defer it.Close()
	for it.Next() {
		info, err := it.Link.Info()
		if err == nil && info.Type == link.XDPType && info.Program == id {
			return it.Take(), nil
		}
	}
	if err := it.Err(); err != nil {
		return nil, fmt.Errorf("list links: %w", err)
	}
	return nil, nil
}

func (t *Table) takeOver(l link.Link, d device) error {
	if d.prog != t.progID {
		if err := l.Update(t.obj.Mailweir); err != nil {
			return fmt.Errorf("interface %s: put the new program in the old one's place: %w", d.name, err)
		}
		reach(stepUpdated)
	}
	if t.opt.Mode == Auto && d.mode == Generic {
		t.notes[d.name] = "attached in generic mode before, and kept so to leave no gap"
	}
	return keep(l, t.pins().link(d.index))
}

// attach puts our program on an interface that has none: native where the
// driver can, unless the operator wants otherwise.
func (t *Table) attach(d device) error {
	first := t.opt.Mode
	if first == Auto {
		first = Native
	}
	l, err := t.attachIn(d, first)
	if err != nil && t.opt.Mode == Auto && !errors.Is(err, unix.EPERM) {
		t.notes[d.name] = fmt.Sprintf("not native: %v", err)
		l, err = t.attachIn(d, Generic)
	}
	if err != nil {
		return explain("interface "+d.name+": attach", err)
	}
	t.links[d.index] = l
	reach(stepAttached)
	return keep(l, t.pins().link(d.index))
}

func (t *Table) attachIn(d device, m Mode) (link.Link, error) {
	l, err := link.AttachXDP(link.XDPOptions{Program: t.obj.Mailweir, Interface: d.index, Flags: m.flags()})
	if errors.Is(err, unix.EOPNOTSUPP) {
		return nil, fmt.Errorf("its driver has no XDP in %s mode: %w", m, err)
	}
	if err != nil {
		return nil, fmt.Errorf("in %s mode: %w", m, err)
	}
	return l, nil
}
