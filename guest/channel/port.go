// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

const portClass = "/sys/class/virtio-ports"

// OpenPort opens the virtio-serial port called name, waiting for the kernel to announce it if it is not there
// yet. /sys and /dev must be mounted.
func OpenPort(name string) (*os.File, error) {
	if node, err := findPort(portClass, name); err == nil {
		return openPort(node)
	}
	// The name arrives in a control message of its own after the device, so both are announced; subscribe
	// first, then look again.
	events, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("watch for port %q: %w", name, err)
	}
	defer unix.Close(events)
	if err := unix.Bind(events, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: 1}); err != nil {
		return nil, fmt.Errorf("watch for port %q: %w", name, err)
	}
	buffer := make([]byte, 8192)
	for {
		node, err := findPort(portClass, name)
		if err == nil {
			return openPort(node)
		}
		if !errors.Is(err, os.ErrNotExist) {
			return nil, err
		}
		if _, err := unix.Read(events, buffer); err != nil && err != unix.EINTR && err != unix.ENOBUFS {
			return nil, fmt.Errorf("watch for port %q: %w", name, err)
		}
	}
}

func findPort(class, name string) (string, error) {
	entries, err := os.ReadDir(class)
	if err != nil {
		return "", fmt.Errorf("port %q: %w", name, err)
	}
	for _, entry := range entries {
		text, err := os.ReadFile(class + "/" + entry.Name() + "/name")
		if err == nil && strings.TrimSuffix(string(text), "\n") == name {
			return "/dev/" + entry.Name(), nil
		}
	}
	return "", fmt.Errorf("port %q: %w", name, os.ErrNotExist)
}

func openPort(node string) (*os.File, error) {
	// Non-blocking, so that reads go through the runtime's poller and hold no thread.
	return os.OpenFile(node, os.O_RDWR|unix.O_NONBLOCK, 0)
}
