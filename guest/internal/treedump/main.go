// SPDX-License-Identifier: Apache-2.0

// Command treedump prints what a file tree holds, one JSON object a line: for comparing what a guest sees with what
// another tool unpacked. Nothing is followed, and the given directories are listed but not entered.
//
//	treedump ROOT [SKIPPED...]
package main

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

type entry struct {
	Path   string            `json:"path"` // quoted: a name may hold any byte
	Mode   string            `json:"mode"` // octal, with the file type
	UID    uint32            `json:"uid"`
	GID    uint32            `json:"gid"`
	Size   int64             `json:"size"`
	Mtime  string            `json:"mtime"`
	Rdev   uint64            `json:"rdev"`
	Links  uint64            `json:"links"`
	Target string            `json:"target,omitempty"`
	SHA256 string            `json:"sha256,omitempty"`
	Xattrs map[string]string `json:"xattrs,omitempty"`
}

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: treedump ROOT [SKIPPED...]")
		os.Exit(2)
	}
	out := bufio.NewWriter(os.Stdout)
	if err := dump(os.Args[1], "/", os.Args[2:], json.NewEncoder(out)); err != nil {
		fmt.Fprintln(os.Stderr, "treedump:", err)
		os.Exit(1)
	}
	if err := out.Flush(); err != nil {
		os.Exit(1)
	}
}

func dump(root, name string, skipped []string, out *json.Encoder) error {
	file := path.Join(root, name)
	found, err := describe(file, name)
	if err != nil {
		return fmt.Errorf("%q: %w", name, err)
	}
	if err := out.Encode(found); err != nil {
		return err
	}
	if !strings.HasPrefix(found.Mode, "4") || slices.Contains(skipped, name) {
		return nil
	}
	children, err := os.ReadDir(file) // sorted by name
	if err != nil {
		return err
	}
	for _, child := range children {
		if err := dump(root, path.Join(name, child.Name()), skipped, out); err != nil {
			return err
		}
	}
	return nil
}

func describe(file, name string) (*entry, error) {
	var stat unix.Stat_t
	if err := unix.Lstat(file, &stat); err != nil {
		return nil, err
	}
	e := &entry{
		Path: strconv.QuoteToASCII(name), Mode: strconv.FormatUint(uint64(stat.Mode), 8), UID: stat.Uid, GID: stat.Gid,
		Mtime: fmt.Sprintf("%d.%09d", stat.Mtim.Sec, stat.Mtim.Nsec),
	}
	var err error
	switch stat.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		e.Size, e.Links = stat.Size, uint64(stat.Nlink)
		e.SHA256, err = hash(file)
	case unix.S_IFLNK:
		e.Links = uint64(stat.Nlink)
		e.Target, err = os.Readlink(file)
		e.Target = strconv.QuoteToASCII(e.Target)
	case unix.S_IFCHR, unix.S_IFBLK:
		e.Rdev, e.Links = stat.Rdev, uint64(stat.Nlink)
	case unix.S_IFIFO:
		e.Links = uint64(stat.Nlink)
	}
	if err != nil {
		return nil, err
	}
	e.Xattrs, err = xattrs(file)
	return e, err
}

func hash(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(sum.Sum(nil)), nil
}

func xattrs(file string) (map[string]string, error) {
	names := make([]byte, 1<<16)
	size, err := unix.Llistxattr(file, names)
	if err != nil || size == 0 {
		return nil, err
	}
	found := map[string]string{}
	value := make([]byte, 1<<16)
	for _, name := range strings.Split(strings.TrimSuffix(string(names[:size]), "\x00"), "\x00") {
		length, err := unix.Lgetxattr(file, name, value)
		if err != nil {
			return nil, fmt.Errorf("xattr %q: %w", name, err)
		}
		found[name] = hex.EncodeToString(value[:length])
	}
	return found, nil
}
