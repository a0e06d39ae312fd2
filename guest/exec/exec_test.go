// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	pb "microvm.internal/guest/gen/microvmv1"
)

func TestCompleteEnv(t *testing.T) {
	defaults := envDefaults{home: "/home/u", hostname: "vm"}
	terminal := envDefaults{home: "/home/u", hostname: "vm", tty: true}
	path := "PATH=" + DefaultPath
	for _, test := range []struct {
		name     string
		env      []string
		defaults envDefaults
		want     []string
	}{
		{"nothing", nil, defaults, []string{path, "HOSTNAME=vm", "HOME=/home/u"}},
		{"terminal", nil, terminal, []string{path, "HOSTNAME=vm", "TERM=xterm", "HOME=/home/u"}},
		{"all given", []string{"PATH=/x", "HOSTNAME=h", "TERM=t", "HOME=/y"}, terminal, []string{"PATH=/x", "HOSTNAME=h", "TERM=t", "HOME=/y"}},
		{"last wins", []string{"A=1", "B=2", "A=3"}, envDefaults{home: "/"}, []string{path, "B=2", "A=3", "HOME=/"}},
		{"empty home", []string{"HOME="}, envDefaults{home: "/h"}, []string{path, "HOME=/h"}},
		{"empty path is kept", []string{"PATH=", "HOME=/"}, envDefaults{}, []string{"PATH=", "HOME=/"}},
		{"odd entries", []string{"=x", "novalue", "A=b=c\nd"}, envDefaults{home: "/"}, []string{path, "=x", "novalue", "A=b=c\nd", "HOME=/"}},
	} {
		if got := completeEnv(test.env, test.defaults); !slices.Equal(got, test.want) {
			t.Errorf("%s: got %q, want %q", test.name, got, test.want)
		}
	}
}

func TestSearchTriesLikeExecvp(t *testing.T) {
	dir := t.TempDir()
	for _, file := range []struct {
		path string
		mode os.FileMode
	}{{"a/tool", 0o644}, {"b/tool", 0o755}, {"c/tool", 0o755}} {
		path := filepath.Join(dir, file.path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, nil, file.mode)); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.MkdirAll(filepath.Join(dir, "d/tool"), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Chdir(filepath.Join(dir, "b"))
	in := func(names ...string) (path string) {
		for _, name := range names {
			path += ":" + filepath.Join(dir, name)
		}
		return path[1:]
	}
	for _, test := range []struct {
		name, file, path string
		refused          []string // what execve refuses with EACCES
		want             string   // what is executed in the end
		reason           pb.ExecFailed_Reason
	}{
		{"first", "tool", in("b", "c"), nil, in("b") + "/tool", 0},
		{"skips what nobody may execute", "tool", in("a", "b"), nil, in("b") + "/tool", 0},
		{"skips directories and what is missing", "tool", in("d", "none", "c"), nil, in("c") + "/tool", 0},
		{"goes on after a refusal", "tool", in("b", "c"), []string{in("b") + "/tool"}, in("c") + "/tool", 0},
		{"remembers a refusal", "tool", in("b", "none"), []string{in("b") + "/tool"}, "", pb.ExecFailed_REASON_NOT_EXECUTABLE},
		{"an empty path finds nothing", "tool", "", nil, "", pb.ExecFailed_REASON_NOT_FOUND},
		{"relative elements find nothing", "tool", ":.:../b", nil, "", pb.ExecFailed_REASON_NOT_FOUND},
		{"a relative name", "./tool", "/none", nil, "./tool", 0},
		{"a directory is not found", "tool", in("d"), nil, "", pb.ExecFailed_REASON_NOT_FOUND},
	} {
		executed := ""
		err := search(test.file, test.path, func(file string) error {
			if slices.Contains(test.refused, file) {
				return unix.EACCES
			}
			executed = file
			return nil
		})
		if executed != test.want {
			t.Errorf("%s: executed %q (%v), want %q", test.name, executed, err, test.want)
		}
		if test.want == "" && asFailure(err).Reason != test.reason {
			t.Errorf("%s: got %v", test.name, err)
		}
	}
}
