// SPDX-License-Identifier: Apache-2.0

// Package mount assembles the machine's file systems.
package mount

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// Mount is one mount(2).
type Mount struct {
	Type   string
	Source string
	Target string
	Flags  uintptr
	Data   string
}

// Do mounts it. Something of the kind already there is no error.
func (m Mount) Do() error {
	source := m.Source
	if source == "" {
		source = m.Type
	}
	if err := unix.Mount(source, m.Target, m.Type, m.Flags, m.Data); err != nil && err != unix.EBUSY {
		return fmt.Errorf("mount %s on %s: %w", m.Type, m.Target, err)
	}
	return nil
}

// Early are what the agent needs to find its port; Assemble carries them over to the new root.
var Early = []Mount{
	{Type: "devtmpfs", Target: "/dev", Flags: unix.MS_NOSUID | unix.MS_NOEXEC, Data: "mode=0755"},
	{Type: "sysfs", Target: "/sys", Flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
	{Type: "proc", Target: "/proc", Flags: unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC},
}

const noDevices = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// late are mounted in the new root, as Docker has them. /tmp and /run stay the image's own.
var late = []Mount{
	{Type: "devpts", Target: "/dev/pts", Flags: unix.MS_NOSUID | unix.MS_NOEXEC, Data: "newinstance,ptmxmode=0666,mode=0620,gid=5"},
	{Type: "tmpfs", Source: "shm", Target: "/dev/shm", Flags: noDevices, Data: "mode=1777,size=64m"},
	{Type: "mqueue", Target: "/dev/mqueue", Flags: noDevices},
	{Type: "cgroup2", Target: "/sys/fs/cgroup", Flags: noDevices | unix.MS_RELATIME, Data: "nsdelegate"},
}

var deviceLinks = []struct{ name, target string }{
	{"/dev/fd", "/proc/self/fd"},
	{"/dev/stdin", "/proc/self/fd/0"},
	{"/dev/stdout", "/proc/self/fd/1"},
	{"/dev/stderr", "/proc/self/fd/2"},
	{"/dev/ptmx", "pts/ptmx"},
}

// Standard mounts the rest of what a container expects to find. It runs in the new root.
func Standard() error {
	for _, m := range late {
		if err := unix.Mkdir(m.Target, 0o755); err != nil && err != unix.EEXIST {
			return fmt.Errorf("mkdir %s: %w", m.Target, err)
		}
		err := m.Do()
		// Not every kernel has them, and little needs them.
		if err != nil && (m.Type != "mqueue" && m.Type != "cgroup2" || !errors.Is(err, unix.ENODEV)) {
			return err
		}
	}
	for _, link := range deviceLinks {
		if err := replaceWithLink(link.name, link.target); err != nil {
			return err
		}
	}
	return nil
}

func replaceWithLink(name, target string) error {
	err := unix.Symlink(target, name)
	if err == unix.EEXIST {
		if err = unix.Unlink(name); err == nil {
			err = unix.Symlink(target, name)
		}
	}
	if err != nil {
		return fmt.Errorf("link %s: %w", name, err)
	}
	return nil
}

// Extra mounts something the host asked for, making its mount point.
func Extra(m Mount, options []string) error {
	m.Flags, m.Data = ParseOptions(options)
	if err := os.MkdirAll(m.Target, 0o755); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.Type, m.Target, err)
	}
	if err := unix.Mount(m.Source, m.Target, m.Type, m.Flags, m.Data); err != nil {
		return fmt.Errorf("mount %s on %s: %w", m.Type, m.Target, err)
	}
	// A bind mount takes its other flags only when it is remounted.
	if restrictions := m.Flags &^ (unix.MS_BIND | unix.MS_REC); m.Flags&unix.MS_BIND != 0 && restrictions != 0 {
		if err := unix.Mount("", m.Target, "", unix.MS_REMOUNT|unix.MS_BIND|restrictions, ""); err != nil {
			return fmt.Errorf("remount %s: %w", m.Target, err)
		}
	}
	return nil
}
