// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"strings"

	"golang.org/x/sys/unix"
)

type flagOption struct {
	flag  uintptr
	clear bool
}

// The words of mount(8) that are flags of mount(2); the rest is for the file system.
var flagOptions = map[string]flagOption{
	"defaults":      {},
	"ro":            {flag: unix.MS_RDONLY},
	"rw":            {flag: unix.MS_RDONLY, clear: true},
	"nosuid":        {flag: unix.MS_NOSUID},
	"suid":          {flag: unix.MS_NOSUID, clear: true},
	"nodev":         {flag: unix.MS_NODEV},
	"dev":           {flag: unix.MS_NODEV, clear: true},
	"noexec":        {flag: unix.MS_NOEXEC},
	"exec":          {flag: unix.MS_NOEXEC, clear: true},
	"sync":          {flag: unix.MS_SYNCHRONOUS},
	"async":         {flag: unix.MS_SYNCHRONOUS, clear: true},
	"dirsync":       {flag: unix.MS_DIRSYNC},
	"noatime":       {flag: unix.MS_NOATIME},
	"atime":         {flag: unix.MS_NOATIME, clear: true},
	"nodiratime":    {flag: unix.MS_NODIRATIME},
	"relatime":      {flag: unix.MS_RELATIME},
	"strictatime":   {flag: unix.MS_STRICTATIME},
	"lazytime":      {flag: unix.MS_LAZYTIME},
	"nosymfollow":   {flag: unix.MS_NOSYMFOLLOW},
	"bind":          {flag: unix.MS_BIND},
	"rbind":         {flag: unix.MS_BIND | unix.MS_REC},
	"norelatime":    {flag: unix.MS_RELATIME, clear: true},
	"nostrictatime": {flag: unix.MS_STRICTATIME, clear: true},
}

// ParseOptions splits mount(8) options into the flags and the data of mount(2).
func ParseOptions(options []string) (flags uintptr, data string) {
	var rest []string
	for _, list := range options {
		for option := range strings.SplitSeq(list, ",") {
			known, ok := flagOptions[option]
			switch {
			case option == "":
			case !ok:
				rest = append(rest, option)
			case known.clear:
				flags &^= known.flag
			default:
				flags |= known.flag
			}
		}
	}
	return flags, strings.Join(rest, ",")
}
