// SPDX-License-Identifier: Apache-2.0

// Package user resolves "name|uid[:group|gid]" against the image's /etc/passwd and /etc/group by Docker's rules.
// The files belong to the image: they are read with bounds, and may be missing when everything is numeric.
package user

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// User is whom a process runs as.
type User struct {
	UID    uint32
	GID    uint32
	Groups []uint32 // supplementary, the primary group among them
	Home   string   // "/" when unknown
}

// Files names the databases.
type Files struct {
	Passwd string
	Group  string
}

// Image is where an image keeps them.
var Image = Files{Passwd: "/etc/passwd", Group: "/etc/group"}

const (
	maxFile   = 16 << 20
	maxLine   = 64 << 10
	maxGroups = 65536 // NGROUPS_MAX
	maxID     = 1<<31 - 1
)

type passwdEntry struct {
	name     string
	uid, gid uint32
	home     string
}

type groupEntry struct {
	name    string
	gid     uint32
	members string
}

// Lookup resolves spec ("" is root) and extra groups, which are names or gids.
func Lookup(files Files, spec string, extra []string) (User, error) {
	name, group, hasGroup := strings.Cut(spec, ":")
	if name == "" {
		name = "0"
	}
	uid, numeric, err := parseID(name)
	if err != nil {
		return User{}, err
	}
	entry, err := findUser(files.Passwd, func(e *passwdEntry) bool {
		if numeric {
			return e.uid == uid
		}
		return e.name == name
	})
	switch {
	case errors.Is(err, errNoEntry) && numeric:
		entry = passwdEntry{uid: uid, home: "/"}
	case errors.Is(err, errNoEntry):
		return User{}, fmt.Errorf("unable to find user %s: no matching entries in passwd file", name)
	case err != nil:
		return User{}, err
	}

	user := User{UID: entry.uid, GID: entry.gid, Home: entry.home}
	if user.Home == "" {
		user.Home = "/"
	}
	hasGroup = hasGroup && group != ""
	if err := user.resolveGroups(files.Group, entry.name, group, hasGroup, extra); err != nil {
		return User{}, err
	}
	return user, nil
}

// resolveGroups sets the primary group if it was asked for, and the supplementary groups. As in Docker, the
// user's own groups count only if no group was asked for.
func (u *User) resolveGroups(path, name, group string, hasGroup bool, extra []string) error {
	wanted := extra
	if hasGroup {
		wanted = append([]string{group}, extra...)
	}
	gids := make([]uint32, len(wanted))
	found := make([]bool, len(wanted))
	for i, text := range wanted {
		gid, numeric, err := parseID(text)
		if err != nil {
			return err
		}
		gids[i], found[i] = gid, numeric
	}
	var own []uint32
	err := eachGroup(path, func(e *groupEntry) error {
		for i, text := range wanted {
			if !found[i] && e.name == text {
				gids[i], found[i] = e.gid, true
			}
		}
		if !hasGroup && name != "" && isMember(e.members, name) {
			own = append(own, e.gid)
			if len(own) > maxGroups {
				return fmt.Errorf("user %s is in more than %d groups", name, maxGroups)
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for i, text := range wanted {
		if !found[i] {
			return fmt.Errorf("unable to find group %s: no matching entries in group file", text)
		}
	}
	if hasGroup {
		u.GID = gids[0]
		gids = gids[1:]
	}
	u.Groups = append(append([]uint32{u.GID}, own...), gids...)
	slices.Sort(u.Groups)
	u.Groups = slices.Compact(u.Groups)
	return nil
}

// parseID tells numbers from names; a number out of range is an error, not a name.
func parseID(text string) (id uint32, numeric bool, err error) {
	if text == "" {
		return 0, false, errors.New("empty user or group")
	}
	for _, c := range text {
		if c < '0' || c > '9' {
			if c == '-' && len(text) > 1 {
				if _, err := strconv.ParseInt(text, 10, 64); err == nil {
					return 0, false, errRange(text)
				}
			}
			return 0, false, nil
		}
	}
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil || value > maxID {
		return 0, false, errRange(text)
	}
	return uint32(value), true, nil
}

func errRange(text string) error {
	return fmt.Errorf("%s: uids and gids must be in range 0-%d", text, maxID)
}

func isMember(members, name string) bool {
	for member := range strings.SplitSeq(members, ",") {
		if member == name {
			return true
		}
	}
	return false
}

var errNoEntry = errors.New("no matching entry")

func findUser(path string, match func(*passwdEntry) bool) (passwdEntry, error) {
	var result passwdEntry
	err := eachLine(path, func(line string) error {
		fields := strings.SplitN(line, ":", 7)
		if len(fields) < 4 {
			return nil
		}
		uid, uidOK := entryID(fields[2])
		gid, gidOK := entryID(fields[3])
		if !uidOK || !gidOK {
			return nil
		}
		entry := passwdEntry{name: fields[0], uid: uid, gid: gid}
		if len(fields) > 5 {
			entry.home = fields[5]
		}
		if !match(&entry) {
			return nil
		}
		result = entry
		return errStop
	})
	if errors.Is(err, errStop) {
		return result, nil
	}
	if err == nil {
		err = errNoEntry
	}
	return passwdEntry{}, err
}

func eachGroup(path string, visit func(*groupEntry) error) error {
	return eachLine(path, func(line string) error {
		fields := strings.SplitN(line, ":", 4)
		if len(fields) < 3 {
			return nil
		}
		gid, ok := entryID(fields[2])
		if !ok {
			return nil
		}
		entry := groupEntry{name: fields[0], gid: gid}
		if len(fields) > 3 {
			entry.members = fields[3]
		}
		return visit(&entry)
	})
}

func entryID(text string) (uint32, bool) {
	value, err := strconv.ParseUint(text, 10, 32)
	return uint32(value), err == nil && value <= maxID
}

var errStop = errors.New("stop")

// eachLine visits the lines of a file that may be missing. Lines that no reader of such files would accept are
// passed over; a file that is no regular file counts as missing, so that a FIFO cannot hang the caller.
func eachLine(path string, visit func(line string) error) error {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) {
		return nil
	}
	if err != nil {
		return err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !info.Mode().IsRegular() {
		return err
	}
	reader := bufio.NewReaderSize(io.LimitReader(file, maxFile), 4096)
	var long []byte
	for {
		piece, isPrefix, err := reader.ReadLine()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if isPrefix || long != nil {
			if len(long) <= maxLine {
				long = append(long, piece...)
			}
			if isPrefix {
				continue
			}
			piece = long
			long = nil
			if len(piece) > maxLine {
				continue
			}
		}
		if len(piece) == 0 || piece[0] == '#' {
			continue
		}
		if err := visit(string(piece)); err != nil {
			return err
		}
	}
}
