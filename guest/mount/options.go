// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"strings"

	"golang.org/x/sys/unix"
)

// flagOf knows the words of mount(8) that set or clear a flag of mount(2). It is no map, which would be built in
// every boot.
func flagOf(option string) (flag uintptr, set, known bool) {
	switch option {
	case "defaults":
		return 0, true, true
	case "ro":
		return unix.MS_RDONLY, true, true
	case "rw":
		return unix.MS_RDONLY, false, true
	case "nosuid":
		return unix.MS_NOSUID, true, true
	case "suid":
		return unix.MS_NOSUID, false, true
	case "nodev":
		return unix.MS_NODEV, true, true
	case "dev":
		return unix.MS_NODEV, false, true
	case "noexec":
		return unix.MS_NOEXEC, true, true
	case "exec":
		return unix.MS_NOEXEC, false, true
	case "sync":
		return unix.MS_SYNCHRONOUS, true, true
	case "async":
		return unix.MS_SYNCHRONOUS, false, true
	case "dirsync":
		return unix.MS_DIRSYNC, true, true
	case "noatime":
		return unix.MS_NOATIME, true, true
	case "atime":
		return unix.MS_NOATIME, false, true
	case "nodiratime":
		return unix.MS_NODIRATIME, true, true
	case "relatime":
		return unix.MS_RELATIME, true, true
	case "norelatime":
		return unix.MS_RELATIME, false, true
	case "strictatime":
		return unix.MS_STRICTATIME, true, true
	case "lazytime":
		return unix.MS_LAZYTIME, true, true
	case "nosymfollow":
		return unix.MS_NOSYMFOLLOW, true, true
	case "bind":
		return unix.MS_BIND, true, true
	case "rbind":
		return unix.MS_BIND | unix.MS_REC, true, true
	}
	return 0, false, false
}

// ParseOptions splits mount(8) options into the flags and the data of mount(2).
func ParseOptions(options []string) (flags uintptr, data string) {
	var rest []string
	for _, list := range options {
		for option := range strings.SplitSeq(list, ",") {
			flag, set, known := flagOf(option)
			switch {
			case option == "":
			case !known:
				rest = append(rest, option)
			case set:
				flags |= flag
			default:
				flags &^= flag
			}
		}
	}
	return flags, strings.Join(rest, ",")
}
