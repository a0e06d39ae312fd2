// SPDX-License-Identifier: Apache-2.0

package netcfg

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestHostsFile(t *testing.T) {
	for _, test := range []struct {
		name      string
		hostname  string
		addresses []string
		more      []Host
		want      string // after the fixed lines
	}{
		{"nothing", "", nil, nil, ""},
		{"no network", "vm", nil, nil, "127.0.1.1\tvm\n"},
		{"both families", "vm", []string{"192.168.127.2/24", "fd00::2/64"}, nil, "192.168.127.2\tvm\nfd00::2\tvm\n"},
		{"more", "vm", nil, []Host{{"10.0.0.1", []string{"a", "b"}}}, "10.0.0.1\ta b\n127.0.1.1\tvm\n"},
		{"injection", "", nil, []Host{{"10.0.0.1", []string{"a\n6.6.6.6 bank", "b#c"}}}, "10.0.0.1\ta6.6.6.6bank bc\n"},
	} {
		got := HostsFile(test.hostname, test.addresses, test.more)
		_, rest, _ := strings.Cut(got, "ff02::2\tip6-allrouters\n")
		if !strings.HasPrefix(got, "127.0.0.1\tlocalhost\n") || rest != test.want {
			t.Errorf("%s: got %q, want %q", test.name, rest, test.want)
		}
	}
}

func TestResolvFile(t *testing.T) {
	for _, test := range []struct {
		nameservers, search []string
		want                string
	}{
		{nil, nil, ""},
		{[]string{"192.168.127.1"}, nil, "nameserver 192.168.127.1\n"},
		{[]string{"1.1.1.1", "::1"}, []string{"a.test", "b.test"}, "search a.test b.test\nnameserver 1.1.1.1\nnameserver ::1\n"},
		{[]string{"1.1.1.1\noptions x"}, nil, "nameserver 1.1.1.1optionsx\n"},
	} {
		if got := ResolvFile(test.nameservers, test.search); got != test.want {
			t.Errorf("got %q, want %q", got, test.want)
		}
	}
}

func TestReplaceFollowsNoLink(t *testing.T) {
	dir := t.TempDir()
	victim := filepath.Join(dir, "victim")
	path := filepath.Join(dir, "hosts")
	if err := os.WriteFile(victim, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, prepare := range map[string]func() error{
		"missing":       func() error { return nil },
		"file":          func() error { return os.WriteFile(path, []byte("old and longer"), 0o600) },
		"link":          func() error { return os.Symlink(victim, path) },
		"dangling link": func() error { return os.Symlink(filepath.Join(dir, "nowhere"), path) },
		"hard link":     func() error { return os.Link(victim, path) },
	} {
		if err := prepare(); err != nil {
			t.Fatal(err)
		}
		if err := Replace(path, "new"); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		info, err := os.Lstat(path)
		if err != nil || info.Mode() != 0o644 {
			t.Errorf("%s: got %v %v", name, info.Mode(), err)
		}
		if text, err := os.ReadFile(path); err != nil || string(text) != "new" {
			t.Errorf("%s: got %q %v", name, text, err)
		}
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
	}
	if text, err := os.ReadFile(victim); err != nil || string(text) != "mine" {
		t.Errorf("the link's target became %q %v", text, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("left %v %v", entries, err)
	}
}
