// SPDX-License-Identifier: Apache-2.0

package user

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

const passwd = `# comment
root:x:0:0:root:/root:/bin/sh
alice:x:1000:1000:Alice:/home/alice:/bin/sh
short:x:1001
nohome:x:1002:100

bad:x:notanumber:0::/:
1234:x:4321:4321::/home/digits:
root2:x:0:5:twin:/root2:/bin/sh
huge:x:4294967295:0::/:
`

const group = `root:x:0:
wheel:x:10:root,alice
audio:x:20:bob,alice
dup:x:20:alice
bad:x:x:alice
users:x:100:
short:x:101
`

func files(t *testing.T, passwd, group string) Files {
	t.Helper()
	dir := t.TempDir()
	f := Files{Passwd: filepath.Join(dir, "passwd"), Group: filepath.Join(dir, "group")}
	for path, text := range map[string]string{f.Passwd: passwd, f.Group: group} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return f
}

func TestLookupFollowsDocker(t *testing.T) {
	f := files(t, passwd, group)
	for _, test := range []struct {
		spec  string
		extra []string
		want  User
	}{
		{"", nil, User{0, 0, []uint32{0, 10}, "/root"}},
		{"root", nil, User{0, 0, []uint32{0, 10}, "/root"}},
		{"0", nil, User{0, 0, []uint32{0, 10}, "/root"}},
		{"alice", nil, User{1000, 1000, []uint32{10, 20, 1000}, "/home/alice"}},
		{"1000", nil, User{1000, 1000, []uint32{10, 20, 1000}, "/home/alice"}},
		{"alice:", nil, User{1000, 1000, []uint32{10, 20, 1000}, "/home/alice"}},
		{"alice:users", nil, User{1000, 100, []uint32{100}, "/home/alice"}},
		{"alice:7", nil, User{1000, 7, []uint32{7}, "/home/alice"}},
		{"alice:7", []string{"audio", "8"}, User{1000, 7, []uint32{7, 8, 20}, "/home/alice"}},
		{"alice", []string{"users"}, User{1000, 1000, []uint32{10, 20, 100, 1000}, "/home/alice"}},
		{"5555", nil, User{5555, 0, []uint32{0}, "/"}},
		{"5555:short", nil, User{5555, 101, []uint32{101}, "/"}},
		{"nohome", nil, User{1002, 100, []uint32{100}, "/"}},
		{":users", nil, User{0, 100, []uint32{100}, "/root"}},
		{"1234", nil, User{1234, 0, []uint32{0}, "/"}}, // a number is never a name
		{"2147483647", nil, User{2147483647, 0, []uint32{0}, "/"}},
	} {
		got, err := Lookup(f, test.spec, test.extra)
		if err != nil || got.UID != test.want.UID || got.GID != test.want.GID || got.Home != test.want.Home ||
			!slices.Equal(got.Groups, test.want.Groups) {
			t.Errorf("%q %q: got %+v %v, want %+v", test.spec, test.extra, got, err, test.want)
		}
	}
}

func TestLookupRefuses(t *testing.T) {
	f := files(t, passwd, group)
	for _, test := range []struct {
		spec  string
		extra []string
		want  string
	}{
		{"mallory", nil, "unable to find user mallory: no matching entries in passwd file"},
		{"short", nil, "unable to find user short: no matching entries in passwd file"},
		{"bad", nil, "unable to find user bad: no matching entries in passwd file"},
		{"huge", nil, "unable to find user huge: no matching entries in passwd file"},
		{"alice:nogroup", nil, "unable to find group nogroup: no matching entries in group file"},
		{"alice", []string{"nogroup"}, "unable to find group nogroup: no matching entries in group file"},
		{"alice", []string{""}, "empty user or group"},
		{"2147483648", nil, "2147483648: uids and gids must be in range 0-2147483647"},
		{"-1", nil, "-1: uids and gids must be in range 0-2147483647"},
		{"0:99999999999999999999", nil, "99999999999999999999: uids and gids must be in range 0-2147483647"},
	} {
		if _, err := Lookup(f, test.spec, test.extra); err == nil || err.Error() != test.want {
			t.Errorf("%q %q: got %v, want %s", test.spec, test.extra, err, test.want)
		}
	}
}

func TestLookupDoesWithoutFiles(t *testing.T) {
	missing := Files{Passwd: "/nonexistent/passwd", Group: "/nonexistent/group"}
	fifo := Files{Passwd: filepath.Join(t.TempDir(), "fifo"), Group: t.TempDir()}
	if err := unix.Mkfifo(fifo.Passwd, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, f := range []Files{missing, fifo} {
		got, err := Lookup(f, "12:34", nil)
		if err != nil || got.UID != 12 || got.GID != 34 || got.Home != "/" {
			t.Errorf("got %+v %v", got, err)
		}
		if _, err := Lookup(f, "alice", nil); err == nil {
			t.Error("found a user in no file")
		}
	}
}

func TestLookupSurvivesHostileFiles(t *testing.T) {
	long := strings.Repeat("x", 10*maxLine)
	f := files(t, long+"\nalice:x:1:2::/a:\n"+long, long+"\n\x00\x01\nstaff:x:3:"+strings.Repeat("bob,", 10000)+"alice\n"+long)
	got, err := Lookup(f, "alice:staff", nil)
	if err != nil || got.UID != 1 || got.GID != 3 {
		t.Errorf("got %+v %v", got, err)
	}
	var many strings.Builder
	for i := range maxGroups + 2 {
		fmt.Fprintf(&many, "g%d:x:%d:alice\n", i, i)
	}
	f = files(t, "alice:x:1:2::/a:\n", many.String())
	if _, err := Lookup(f, "alice", nil); err == nil {
		t.Error("accepted more groups than the kernel does")
	}
}

func FuzzLookup(f *testing.F) {
	f.Add(passwd, group, "alice:users")
	f.Add("", "", "0:0")
	f.Fuzz(func(t *testing.T, passwd, group, spec string) {
		user, err := Lookup(files(t, passwd, group), spec, nil)
		if err == nil && (user.UID > maxID || user.GID > maxID || user.Home == "" || len(user.Groups) == 0) {
			t.Errorf("got %+v", user)
		}
	})
}
