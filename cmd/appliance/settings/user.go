package settings

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"
	"syscall"
)

// LookupUser finds the user of a role. Users of the system only: the roles are
// built without cgo and read /etc/passwd.
func LookupUser(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, fmt.Errorf("there is no user %q to run the mail role as: make it with `useradd --system --no-create-home --shell /usr/sbin/nologin %[1]s`, or name another with users = { mail = … }", name)
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return nil, fmt.Errorf("read the ids of user %q: %w", name, err)
	}
	if uid == 0 {
		return nil, fmt.Errorf("users.mail = %q is root: the mail role reads what strangers send and must have no privilege, so name another user", name)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
