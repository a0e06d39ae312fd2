// SPDX-License-Identifier: Apache-2.0

package exec

import (
	"strings"

	"golang.org/x/sys/unix"

	pb "microvm.internal/guest/gen/microvmv1"
)

// search calls try with each file that name may mean, in the order of path, until one can be executed: execvp(3)
// without its fall back to a shell. The words of the errors are Docker's. It runs with the new process's working
// directory, against which a relative name with a slash in it is resolved.
func search(name, path string, try func(file string) error) error {
	if name == "" {
		return fail(pb.ExecFailed_REASON_NOT_FOUND, `exec: "": executable file not found in $PATH`)
	}
	if strings.Contains(name, "/") {
		if err := executable(name); err != nil {
			return pathFailure(name, err)
		}
		return tryFailure(name, try(name))
	}
	denied := ""
	for directory := range strings.SplitSeq(path, ":") {
		if !strings.HasPrefix(directory, "/") {
			continue // never a program that happens to lie in the working directory
		}
		file := directory + "/" + name
		err := executable(file)
		if err == nil {
			err = try(file)
		} else if err != unix.EACCES {
			continue
		}
		if err != unix.EACCES {
			return tryFailure(file, err)
		}
		denied = file
	}
	if denied != "" {
		return fail(pb.ExecFailed_REASON_NOT_EXECUTABLE, "exec: %q: permission denied", denied)
	}
	return fail(pb.ExecFailed_REASON_NOT_FOUND, "exec: %q: executable file not found in $PATH", name)
}

// executable says whether somebody may execute file; whether the user may is for execve to say.
func executable(file string) error {
	var stat unix.Stat_t
	if err := unix.Stat(file, &stat); err != nil {
		return err
	}
	switch {
	case stat.Mode&unix.S_IFMT == unix.S_IFDIR:
		return unix.EISDIR
	case stat.Mode&unix.S_IFMT != unix.S_IFREG, stat.Mode&0o111 == 0:
		return unix.EACCES
	}
	return nil
}

// pathFailure is about a file named by its path that was found wanting before any attempt.
func pathFailure(file string, err error) error {
	switch err {
	case unix.ENOENT, unix.ENOTDIR:
		return fail(pb.ExecFailed_REASON_NOT_FOUND, "exec: %q: stat %s: %v", file, file, err)
	default:
		return fail(pb.ExecFailed_REASON_NOT_EXECUTABLE, "exec: %q: %v", file, err)
	}
}

// tryFailure is about an attempt.
func tryFailure(file string, err error) error {
	switch err {
	case nil:
		return nil
	case unix.EACCES, unix.EPERM:
		return fail(pb.ExecFailed_REASON_NOT_EXECUTABLE, "exec: %q: %v", file, err)
	case unix.ENOEXEC:
		return fail(pb.ExecFailed_REASON_NOT_EXECUTABLE, "exec %s: %v", file, err)
	case unix.ENOENT: // its interpreter
		return fail(pb.ExecFailed_REASON_NOT_FOUND, "exec %s: %v", file, err)
	case unix.EINVAL:
		return fail(pb.ExecFailed_REASON_UNSPECIFIED, "exec %s: an argument or variable contains a NUL byte", file)
	}
	failure := asFailure(err)
	return fail(failure.Reason, "exec %s: %s", file, failure.Message)
}
