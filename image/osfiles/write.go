package osfiles

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// written is where Write keeps the list of what it wrote, a path a line.
const written = ownDir + "/written"

// Write makes the files below root, takes away those that an earlier Write made
// and that are no more, and returns the paths that are not as they were. A file
// is replaced whole, by a rename.
func Write(root string, files Files) (changed []string, err error) {
	before, err := os.ReadFile(filepath.Join(root, written))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read what was written last: %w", err)
	}
	old := strings.Fields(string(before))
	list := slices.Sorted(maps.Keys(files))
	for _, name := range list {
		was, err := put(filepath.Join(root, name), files[name])
		if err != nil {
			return changed, fmt.Errorf("write /%s: %w", name, err)
		}
		if !was {
			changed = append(changed, name)
		}
	}
	slices.Reverse(old)
	for _, name := range old {
		if _, stays := files[name]; stays {
			continue
		}
		if err := os.RemoveAll(filepath.Join(root, name)); err != nil {
			return changed, fmt.Errorf("take /%s away: %w", name, err)
		}
		changed = append(changed, name)
	}
	_, err = put(filepath.Join(root, written), text(strings.Join(list, "\n")+"\n"))
	return changed, err
}

// put makes one file and says whether it was there as it should be.
func put(name string, f File) (same bool, err error) {
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		return false, err
	}
	switch {
	case f.Dir:
		info, err := os.Lstat(name)
		if err == nil && info.IsDir() {
			return true, os.Lchown(name, f.Owner, f.Group)
		}
		return false, errors.Join(os.Mkdir(name, f.Mode.Perm()), os.Lchown(name, f.Owner, f.Group))
	case f.Link != "":
		if to, err := os.Readlink(name); err == nil && to == f.Link {
			return true, nil
		}
		tmp := name + ".new"
		os.Remove(tmp)
		return false, errors.Join(os.Symlink(f.Link, tmp), os.Rename(tmp, name))
	}
	if b, err := os.ReadFile(name); err == nil && string(b) == f.Text {
		return true, nil
	}
	tmp := name + ".new"
	os.Remove(tmp)
	return false, errors.Join(os.WriteFile(tmp, []byte(f.Text), f.Mode), os.Rename(tmp, name))
}

// Services are the commands by which the system takes up what has changed, in
// order. Interfaces come first: the others may need the network.
func Services(changed []string) (commands [][]string) {
	under := func(dir string) bool {
		return slices.ContainsFunc(changed, func(name string) bool { return strings.HasPrefix(name, dir+"/") })
	}
	if under(unitDir) {
		commands = append(commands, []string{"systemctl", "daemon-reload"})
	}
	if under(networkDir) {
		commands = append(commands, []string{"networkctl", "reload"})
	}
	if under(path.Join(ownDir, "unbound")) {
		commands = append(commands, []string{"systemctl", "restart", "unbound.service"})
	}
	if under(path.Join(ownDir, "chrony")) {
		commands = append(commands, []string{"systemctl", "restart", "chrony.service"})
	}
	if under(path.Join(unitDir, "weir-mail.socket.d")) {
		commands = append(commands, []string{"systemctl", "stop", "weir-mail.service", "weir-mail.socket"},
			[]string{"systemctl", "start", "weir-mail.socket", "weir-mail.service"})
	} else if under(path.Join(unitDir, "weir-mail.service.d")) {
		commands = append(commands, []string{"systemctl", "restart", "weir-mail.service"})
	}
	return commands
}
