// SPDX-License-Identifier: Apache-2.0

package mount

import (
	"bytes"
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"
)

func TestParseOptions(t *testing.T) {
	for _, test := range []struct {
		options []string
		flags   uintptr
		data    string
	}{
		{nil, 0, ""},
		{[]string{"ro", "nosuid", "size=64m", "mode=1777"}, unix.MS_RDONLY | unix.MS_NOSUID, "size=64m,mode=1777"},
		{[]string{"ro,nodev,noexec", ""}, unix.MS_RDONLY | unix.MS_NODEV | unix.MS_NOEXEC, ""},
		{[]string{"ro", "rw", "nosuid", "suid"}, 0, ""},
		{[]string{"rbind", "defaults"}, unix.MS_BIND | unix.MS_REC, ""},
		{[]string{"noatime", "dax=always"}, unix.MS_NOATIME, "dax=always"},
	} {
		if flags, data := ParseOptions(test.options); flags != test.flags || data != test.data {
			t.Errorf("%q: got %#x %q, want %#x %q", test.options, flags, data, test.flags, test.data)
		}
	}
}

func TestReadExt4Size(t *testing.T) {
	super := func(change func([]byte)) []byte {
		image := make([]byte, superOffset+superSize)
		s := image[superOffset:]
		binary.LittleEndian.PutUint16(s[superMagic:], ext4Magic)
		binary.LittleEndian.PutUint32(s[superBlocksLow:], 5)
		binary.LittleEndian.PutUint32(s[superBlocksHigh:], 1)
		binary.LittleEndian.PutUint32(s[superLogBlock:], 2)
		change(s)
		return image
	}
	for _, test := range []struct {
		name      string
		image     []byte
		blockSize uint64
		blocks    uint64
		ok        bool
	}{
		{"32-bit", super(func([]byte) {}), 4096, 5, true},
		{"64-bit", super(func(s []byte) { s[superIncompat] = incompat64Bit }), 4096, 1<<32 + 5, true},
		{"no magic", super(func(s []byte) { s[superMagic] = 0 }), 0, 0, false},
		{"bad block size", super(func(s []byte) { s[superLogBlock] = 7 }), 0, 0, false},
		{"short", make([]byte, superOffset), 0, 0, false},
	} {
		blockSize, blocks, err := readExt4Size(bytes.NewReader(test.image))
		if blockSize != test.blockSize || blocks != test.blocks || (err == nil) != test.ok {
			t.Errorf("%s: got %d %d %v", test.name, blockSize, blocks, err)
		}
	}
}

func TestDirectoryReplacesWhatLeadsElsewhere(t *testing.T) {
	dir := t.TempDir()
	elsewhere := t.TempDir()
	for name, prepare := range map[string]func(path string) error{
		"missing":   func(string) error { return nil },
		"directory": func(path string) error { return os.Mkdir(path, 0o700) },
		"link":      func(path string) error { return os.Symlink(elsewhere, path) },
		"file":      func(path string) error { return os.WriteFile(path, nil, 0o600) },
	} {
		path := filepath.Join(dir, name)
		if err := prepare(path); err != nil {
			t.Fatal(err)
		}
		if err := directory(path); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if info, err := os.Lstat(path); err != nil || !info.IsDir() {
			t.Errorf("%s: got %v %v", name, info, err)
		}
	}
}
